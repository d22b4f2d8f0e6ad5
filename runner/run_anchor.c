/* SPDX-License-Identifier: Apache-2.0 */
/* The norm that NAS keeps values at. As the authors measure it: values of the first requests, solved on the clean model
 * for the plain prompt alone, the largest 5 % left out of the mean. Theirs come from CounterFact, whatever is edited;
 * ours from the job's own data set. */
#include "base/file.h"
#include "base/memory.h"
#include "editors/anchor.h"
#include "runner/blob.h"
#include "runner/run.h"
#include "runner/watch.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

typedef struct anchoring {
    er_run *r;
    er_templates plain;
    er_hyper hyper;
    er_edit_context edit;
    int64_t count, unit;
    er_journal *journal; /* rank 0 */
    double *norms;       /* rank 0: (count), NAN where a request has none */
} anchoring;

static void range(const anchoring *a, int64_t unit, int64_t *first, int64_t *count)
{
    *first = unit * a->unit;
    *count = a->count - *first < a->unit ? a->count - *first : a->unit;
}

/* |v*| of one request; one that fails has none. */
static int norm_of(const anchoring *a, int64_t index, er_arena *arena, double *norm, er_err *err)
{
    const er_setup *s = &a->r->setup;
    er_err why = ER_ERR_INIT;
    er_prompt prompt;
    er_target target;
    *norm = (double)NAN;
    int code = er_prompt_make(&prompt, s->model->tokenizer, &s->data.requests[index], &a->plain, a->edit.parity,
                              er_editor_rule(s->editor, &s->model->config), arena, &why);
    if (code == ER_E_INPUT) return 0;
    if (code) {
        if (err) *err = why;
        return code;
    }
    ER_TRY(s->editor->target(&a->edit, &a->r->overlay.view, &prompt, 1, &target, s->work, err));
    if (!target.failed) *norm = (double)target.target_norm;
    er_target_free(&target);
    return 0;
}

static int work_unit(void *context, int64_t unit, er_text *out, er_err *err)
{
    const anchoring *a = context;
    er_arena *arena = NULL;
    int64_t first, count;
    range(a, unit, &first, &count);
    ER_TRY(er_arena_new(&arena, 0, err));
    int code = 0;
    for (int64_t i = first; !code && i < first + count; i++) {
        double norm;
        code = norm_of(a, i, arena, &norm, err);
        if (!code) code = er_blob_put(out, &norm, sizeof norm, err);
    }
    er_arena_free(arena);
    return code;
}

static int key_of(const anchoring *a, int64_t index, er_hash *key, er_err *err)
{
    er_hasher *h = NULL;
    ER_TRY(er_hasher_new(&h, err));
    er_hasher_text(h, "anchor");
    er_hasher_hash(h, &a->r->setup.identity);
    er_request_hash(h, &a->r->setup.data.requests[index]);
    *key = er_hasher_end(h);
    er_hasher_free(h);
    return 0;
}

static int sink_unit(void *context, int64_t unit, const char *bytes, size_t n, er_err *err)
{
    anchoring *a = context;
    er_reader in = {bytes, n, 0};
    int64_t first, count;
    range(a, unit, &first, &count);
    er_blob_get(&in, a->norms + first, (size_t)count * sizeof *a->norms);
    ER_TRY(er_blob_end(&in, "norms of a unit", err));
    for (int64_t i = first; i < first + count; i++) {
        er_hash key;
        ER_TRY(key_of(a, i, &key, err));
        if (!er_journal_has(a->journal, ER_JOURNAL_TARGET, &key))
            ER_TRY(er_journal_add(a->journal, ER_JOURNAL_TARGET, &key, a->norms + i, sizeof *a->norms, err));
    }
    return er_journal_sync(a->journal, err);
}

/* Rank 0: what an interrupted run has measured. */
static int stored(anchoring *a, uint8_t *done, int64_t units, er_err *err)
{
    er_text bytes = ER_TEXT_INIT;
    int code = 0;
    for (int64_t u = 0; !code && u < units; u++) {
        int64_t first, count;
        range(a, u, &first, &count);
        done[u] = 1;
        for (int64_t i = first; !code && i < first + count; i++) {
            er_hash key;
            int found = 0;
            code = key_of(a, i, &key, err);
            if (!code) code = er_journal_read(a->journal, ER_JOURNAL_TARGET, &key, &bytes, &found, err);
            found = found && bytes.length == sizeof *a->norms;
            if (!code && found) memcpy(a->norms + i, bytes.at, sizeof *a->norms);
            done[u] &= (uint8_t)(found != 0);
        }
    }
    er_text_free(&bytes);
    return code;
}

/* Rank 0: the mean, and anchor.json */
static int conclude(anchoring *a, const char *path, double *anchor, er_err *err)
{
    er_text t = ER_TEXT_INIT;
    int64_t measured = 0, dropped = 0;
    for (int64_t i = 0; i < a->count; i++)
        if (!isnan(a->norms[i])) a->norms[measured++] = a->norms[i];
    ER_TRY(er_anchor_mean(anchor, &dropped, a->norms, measured, err));
    int code = er_text_format(&t, err, "{\"requests\": %lld, \"failed\": %lld, \"dropped\": %lld, \"layer\": %lld, "
                              "\"norm\": %.17g}\n", (long long)a->count, (long long)(a->count - measured),
                              (long long)dropped, (long long)a->hyper.layers.at[a->hyper.layers.count - 1], *anchor);
    if (!code) code = er_save_bytes(path, t.at, t.length, err);
    er_text_free(&t);
    return code;
}

static int start(anchoring *a, uint8_t **done, int64_t units, er_err *err)
{
    char *path = NULL;
    if (a->r->w->rank != 0) return 0;
    ER_TRY(er_alloc(&a->norms, (size_t)a->count, err));
    ER_TRY(er_alloc(done, (size_t)units, err));
    ER_TRY(er_run_path(a->r, &path, "anchor.journal", err));
    int code = er_journal_open(&a->journal, path, NULL, err);
    er_free(path);
    return code ? code : stored(a, *done, units, err);
}

static int measure(er_run *r, const char *path, double *anchor, er_err *err)
{
    static const char *const plain[] = {"{}"};
    anchoring a = {.r = r, .hyper = r->setup.hyper, .edit = r->edit, .unit = r->setup.job.run.unit};
    uint8_t *done = NULL;
    a.plain = (er_templates){.count = 1, .text = (const char **)(uintptr_t)plain};
    a.edit.hyper = &a.hyper;
    a.edit.templates = &a.plain;
    a.count = a.hyper.nas_restart ? a.hyper.nas_restart : ER_NAS_RESTART;
    if (a.count > r->setup.data.count)
        return er_fail(err, ER_E_INPUT, "editor.nas_restart: NAS measures its norm on %lld requests, the job has %lld; "
                       "ask for fewer, or give editor.nas_norm", (long long)a.count, (long long)r->setup.data.count);
    er_units phase = {"norms to anchor on", (a.count + a.unit - 1) / a.unit, NULL, work_unit, sink_unit, &a};
    er_watch_work("the norm that NAS keeps", -1);
    int code = er_world_agree(r->w, start(&a, &done, phase.count, err), err);
    phase.done = done;
    if (!code) code = er_world_units(r->w, &phase, err);
    if (!code) code = er_world_agree(r->w, r->w->rank == 0 ? conclude(&a, path, anchor, err) : 0, err);
    if (!code && r->w->rank == 0) {
        code = er_journal_remove(a.journal, err);
        a.journal = NULL;
    }
    er_journal_close(a.journal);
    er_free(a.norms);
    er_free(done);
    return er_world_agree(r->w, code, err);
}

/* 0 where the file is not there or not whole. */
static double read_anchor(const char *path)
{
    json_t *json = json_load_file(path, 0, NULL);
    double norm = json_number_value(json_object_get(json, "norm"));
    json_decref(json);
    return norm > 0 && isfinite(norm) ? norm : 0;
}

int er_run_anchor(er_run *r, er_err *err)
{
    er_hyper *h = &r->setup.hyper;
    char *path = NULL;
    if (!h->use_nas) return 0;
    double anchor = h->nas_norm, began = er_seconds();
    if (!(anchor > 0)) {
        ER_TRY(er_run_path(r, &path, "anchor.json", err));
        if (r->w->rank == 0) anchor = read_anchor(path);
        int code = er_world_bcast(r->w, &anchor, sizeof anchor, 0, err);
        if (!code && !(anchor > 0)) code = measure(r, path, &anchor, err);
        if (!code) code = er_world_bcast(r->w, &anchor, sizeof anchor, 0, err);
        er_free(path);
        ER_TRY(code);
    }
    h->nas_anchor = anchor;
    if (r->w->rank != 0) return er_world_agree(r->w, 0, err);
    er_log(ER_LOG_INFO, "NAS keeps values at norm %.6g", anchor);
    return er_world_agree(r->w, h->nas_norm > 0 ? 0 : er_run_time(r, "anchor", -1, er_seconds() - began, err), err);
}
