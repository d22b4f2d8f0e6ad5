/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/memory.h"
#include "runner/cases.h"
#include "runner/outputs.h"
#include "runner/retention.h"
#include "runner/run.h"

#include <string.h>

static int open_job(er_run *r, const char *folder, er_err *err)
{
    const char *alone = "run.shards=1";
    char *job = NULL;
    r->setup.quiet = 1;
    ER_TRY(er_path_join(&job, folder, "job.resolved.yaml", err));
    int code = er_setup_job(&r->setup, r->w, job, &alone, 1, err);
    er_free(job);
    if (!code) code = er_setup_open(&r->setup, ER_SETUP_DATA | ER_SETUP_MODEL, err);
    if (!code) code = er_strdup(&r->setup.run, folder, err);
    if (!code) code = er_path_join(&r->ledger, folder, "ledger", err);
    if (!code) code = er_setup_overlay(&r->setup, &r->overlay, err);
    return code ? code : er_overlay_state(&r->overlay, &r->base, err);
}

static int read_heads(er_run *r, er_err *err)
{
    r->heads_room = r->setup.batches;
    ER_TRY(er_alloc(&r->heads, (size_t)r->heads_room, err));
    for (int found = 1; r->head_count < r->setup.batches;) {
        ER_TRY(er_record_read(&r->heads[r->head_count], r->ledger, r->head_count, 1, &found, err));
        if (!found) return 0;
        r->head_count++;
    }
    return 0;
}

/* The journal may grow meanwhile: what is not whole does not count. */
static int read_journal(er_run *r, er_err *err)
{
    char *path = NULL;
    er_map map = {NULL, 0};
    er_journal_record record;
    size_t at = 0;
    ER_TRY(er_run_path(r, &path, "scores.journal", err));
    int code = er_file_exists(path) ? er_map_open(&map, path, err) : 0;
    er_free(path);
    while (!code && map.data && er_journal_next(&record, &map, &at))
        if (record.kind == ER_JOURNAL_SCORES)
            code = er_scores_put(&r->scores, &record.key, (const char *)record.bytes, record.n, err);
    er_map_close(&map);
    return code;
}

static int is_whole(const er_run *r, const er_scoring *s)
{
    const er_hash *state = er_run_state(r, s->batch);
    for (int64_t c = 0; state && c < s->count; c++) {
        er_hash key;
        if (er_run_score_key(r, s->cases[c], state, &key, NULL) || !er_scores_find(&r->scores, &key)) return 0;
    }
    return state != NULL;
}

/* A scoring that is not whole is left out; of the right-after-the-batch ones the rest still says something. */
static void keep_whole(er_run *r)
{
    int64_t kept = 0;
    int before = 0;
    for (int64_t i = 0; i < r->scoring_count; i++) {
        if (!is_whole(r, &r->scorings[i])) continue;
        before |= r->scorings[i].batch < 0;
        r->scorings[kept++] = r->scorings[i];
    }
    r->scoring_count = kept;
    r->setup.job.score.before = before; /* no agreement with what is not there */
}

static int put_summary(er_text *out, er_run *r, er_err *err)
{
    er_summary s = {0};
    int code = er_outputs_summarise(&s, r, err);
    if (!code) code = er_text_add(out, "{\n  \"scores\": ", err);
    if (!code) code = er_summary_json(out, &s, err);
    if (!code) code = er_retention_summary(out, r, err);
    if (!code) code = er_text_add(out, "\n}\n", err);
    er_summary_free(&s);
    return code;
}

int er_run_so_far(er_text *out, const char *folder, er_err *err)
{
    er_world alone = {.size = 1, .node_ranks = 1, .threads = 1, .comm = MPI_COMM_NULL, .node = MPI_COMM_NULL};
    er_run r = {.w = &alone, .lock = -1};
    int code = open_job(&r, folder, err);
    if (!code) code = er_run_plan_scores(&r, err);
    if (!code) code = read_heads(&r, err);
    if (!code) code = er_run_make_case_keys(&r, err);
    if (!code) code = er_cases_load(&r, err);
    if (!code) code = read_journal(&r, err);
    if (!code) {
        keep_whole(&r);
        code = put_summary(out, &r, err);
    }
    er_run_close(&r);
    return code;
}
