/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "runner/run.h"

#include "base/file.h"
#include "base/memory.h"
#include "model/kernels.h"
#include "runner/bits.h"
#include "runner/drift.h"
#include "runner/guard.h"
#include "runner/team.h"
#include "runner/version.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int er_run_path(const er_run *r, char **out, const char *name, er_err *err)
{
    return er_path_join(out, r->setup.run, name, err);
}

/* --- opening ----------------------------------------------------------------------------------------------------- */

/* OUT/.NAME-HASH.lock: beside the folder, whose files are compared byte by byte. */
int er_run_lock_path(char **out, const char *folder, er_err *err)
{
    er_text path = ER_TEXT_INIT;
    size_t n = strlen(folder);
    while (n > 1 && folder[n - 1] == '/') n--;
    size_t name = n;
    while (name > 0 && folder[name - 1] != '/') name--;
    int code = er_text_format(&path, err, "%.*s.%.*s.lock", (int)name, folder, (int)(n - name), folder + name);
    if (code) er_text_free(&path);
    *out = path.at;
    return code;
}

static int lock_folder(er_run *r, er_err *err)
{
    char *path = NULL;
    ER_TRY(er_run_lock_path(&path, r->setup.run, err));
    int code = er_lock_take(&r->lock, path, err);
    er_free(path);
    return code;
}

/* Which of the job's batch and a record's requests go on where the other ends. */
enum fit { SAME, RECORD_SHORTER, RECORD_LONGER, OTHER };

static int compare_requests(const er_run *r, const er_record *head, enum fit *fit, er_err *err)
{
    int64_t first, count;
    er_setup_batch(&r->setup, head->batch, &first, &count);
    *fit = head->requests == count ? SAME : head->requests < count ? RECORD_SHORTER : RECORD_LONGER;
    for (int64_t i = 0; i < count && i < head->requests; i++) {
        er_hasher *h = NULL;
        ER_TRY(er_hasher_new(&h, err));
        er_request_hash(h, &r->setup.data.requests[first + i]);
        er_hash hash = er_hasher_end(h);
        er_hasher_free(h);
        if (!er_hash_equal(&hash, &head->request[i]) || head->index[i] != first + i) *fit = OTHER;
    }
    return 0;
}

static int fail_smaller(const er_run *r, const er_record *head, er_err *err)
{
    return er_fail(err, ER_E_INPUT, "%s holds %lld or more edits, data.count asks for %lld: a run only grows; eval, "
                   "export and ask take --at N", r->setup.run, (long long)(head->edits_before + head->requests),
                   (long long)r->setup.data.count);
}

/* A record of part of the batch, as the last one of a smaller count: the whole batch is edited afresh. */
static int drop_record(er_run *r, int64_t batch, er_err *err)
{
    char *path = NULL;
    ER_TRY(er_record_path(&path, r->ledger, batch, err));
    er_log(ER_LOG_INFO, "batch %lld was partial when data.count was smaller: edited again", (long long)batch);
    er_fault_point("before removing a record");
    int code = unlink(path) ? er_fail(err, ER_E_IO, "%s: %s", path, strerror(errno)) : 0;
    er_fault_point("after removing a record");
    er_free(path);
    return code;
}

static int check_head(er_run *r, er_record *head, int *use, er_err *err)
{
    const er_record *before = head->batch ? &r->heads[head->batch - 1] : NULL;
    er_hash none = {{0}};
    enum fit fit;
    if (!er_hash_equal(&head->weights, &r->setup.model->weights))
        return er_fail(err, ER_E_MISMATCH, "%s: record %lld was made with other weights", r->ledger,
                       (long long)head->batch);
    if (!er_hash_equal(&head->previous, before ? &before->self : &none))
        return er_fail(err, ER_E_MISMATCH, "%s: record %lld does not follow the record before it", r->ledger,
                       (long long)head->batch);
    ER_TRY(compare_requests(r, head, &fit, err));
    if (fit == RECORD_LONGER) return fail_smaller(r, head, err);
    if (fit == OTHER)
        return er_fail(err, ER_E_MISMATCH, "%s: record %lld was made from other requests", r->ledger,
                       (long long)head->batch);
    *use = fit == SAME;
    return *use ? 0 : drop_record(r, head->batch, err);
}

static int read_heads(er_run *r, er_err *err)
{
    r->heads_room = r->setup.batches;
    ER_TRY(er_alloc(&r->heads, (size_t)r->heads_room, err));
    for (int64_t b = 0; b <= r->setup.batches; b++) {
        er_record head;
        int found = 0, use = 0;
        ER_TRY(er_record_read(&head, r->ledger, b, 1, &found, err));
        if (!found) return 0;
        int code = b == r->setup.batches ? fail_smaller(r, &head, err) : check_head(r, &head, &use, err);
        if (code || !use) {
            er_record_free(&head);
            return code;
        }
        r->heads[b] = head;
        r->head_count = b + 1;
    }
    return 0;
}

static int open_folder(er_run *r, er_err *err)
{
    char *journal = NULL;
    int64_t cut = 0;
    if (!r->setup.quiet) ER_TRY(er_run_warn_siblings(r, err));
    ER_TRY(er_make_folders(r->ledger, err));
    ER_TRY(lock_folder(r, err));
    ER_TRY(er_save_sweep(r->setup.run, err));
    ER_TRY(er_save_sweep(r->ledger, err));
    ER_TRY(er_run_path(r, &journal, "scores.journal", err));
    int code = er_journal_open(&r->journal, journal, &cut, err);
    er_free(journal);
    ER_TRY(code);
    if (cut) er_log(ER_LOG_INFO, "the last record of the journal was unfinished: dropped");
    return read_heads(r, err);
}

int er_run_open_folder(er_run *r, er_err *err)
{
    r->lock = -1;
    int code = er_path_join(&r->ledger, r->setup.run, "ledger", err);
    if (!code && r->w->rank == 0) code = open_folder(r, err);
    ER_TRY(er_world_agree(r->w, code, err));
    return er_world_bcast(r->w, &r->head_count, sizeof r->head_count, 0, err);
}

void er_run_close(er_run *r)
{
    const er_editor *editor = r->setup.editor;
    for (int64_t i = 0; r->heads && i < r->heads_room; i++) er_record_free(&r->heads[i]);
    for (int64_t i = 0; r->eigen && i < r->overlay.count; i++) er_eigen_free(&r->eigen[i]);
    for (int64_t i = 0; r->history && i < r->overlay.count; i++)
        if (r->history[i]) editor->history_free(r->history[i]);
    er_free(r->heads);
    er_free(r->eigen);
    er_free(r->history);
    for (int64_t i = 0; r->guarded && i < r->overlay.count; i++) er_guarded_free(&r->guarded[i]);
    er_free(r->guarded);
    er_guard_close(r);
    er_states_free(r->states);
    er_drift_close(&r->drift);
    er_scores_free(&r->scores);
    er_judge_close(r->judge);
    er_journal_close(r->journal);
    er_cache_close(r->cache);
    er_overlay_close(&r->overlay);
    if (r->clean.model) er_view_close(&r->clean);
    if (r->w && r->w->rank == 0) er_lock_release(r->lock);
    er_free(r->ledger);
    er_setup_close(&r->setup);
}

/* --- small files ------------------------------------------------------------------------------------------------- */

int er_run_time_line(er_run *r, const char *line, er_err *err)
{
    char *path = NULL;
    ER_TRY(er_run_path(r, &path, "timings.jsonl", err));
    FILE *f = fopen(path, "a");
    int failed = !f || fputs(line, f) < 0;
    if (f) failed |= fclose(f) != 0;
    int code = failed ? er_fail(err, ER_E_IO, "%s: %s", path, strerror(errno)) : 0;
    er_free(path);
    return code;
}

static int add_time(er_run *r, const char *phase, int64_t batch, double seconds, const char *more, er_err *err)
{
    char line[768];
    snprintf(line, sizeof line, "{\"phase\":\"%s\",\"batch\":%lld,\"seconds\":%.3f%s}\n", phase, (long long)batch,
             seconds, more);
    return er_run_time_line(r, line, err);
}

int er_run_time(er_run *r, const char *phase, int64_t batch, double seconds, er_err *err)
{
    return add_time(r, phase, batch, seconds, "", err);
}

int er_run_time_planned(er_run *r, const char *phase, int64_t batch, double seconds, double planned, er_err *err)
{
    char more[64] = "";
    if (isfinite(planned)) snprintf(more, sizeof more, ",\"planned\":%.3f", planned);
    return add_time(r, phase, batch, seconds, more, err);
}

int er_run_time_all(er_run *r, er_err *err)
{
    const er_counts *c = &r->setup.counts;
    char more[512];
    snprintf(more, sizeof more, ",\"moments\":%lld,\"eigenpairs\":%lld,\"targets\":%lld,\"targets_reused\":%lld,"
             "\"scores\":%lld,\"scores_reused\":%lld,\"templates\":%lld,\"templates_reused\":%lld",
             (long long)c->moments, (long long)c->eigenpairs, (long long)c->targets, (long long)c->targets_reused,
             (long long)c->scores, (long long)c->scores_reused, (long long)c->templates,
             (long long)c->templates_reused);
    return add_time(r, "all", -1, er_seconds() - r->started, more, err);
}

char *openblas_get_config(void);

static int env_json(const er_run *r, er_text *t, er_err *err)
{
    char host[256] = "", mpi[MPI_MAX_LIBRARY_VERSION_STRING + 1] = "none";
    int n = 0;
    gethostname(host, sizeof host - 1);
    if (r->w->mpi) MPI_Get_library_version(mpi, &n);
    mpi[strcspn(mpi, ",\n")] = 0;
    ER_TRY(er_text_format(t, err, "{\n  \"errata\": \"%s\",\n  \"bits\": %d,\n  \"host\": ", ER_VERSION,
                          ER_BITS_VERSION));
    ER_TRY(er_text_json(t, host, err));
    ER_TRY(er_text_add(t, ",\n  \"isa\": ", err));
    ER_TRY(er_text_json(t, er_kernels_name(), err));
    ER_TRY(er_text_add(t, ",\n  \"blas\": ", err));
    ER_TRY(er_text_json(t, openblas_get_config(), err));
    ER_TRY(er_text_add(t, ",\n  \"mpi\": ", err));
    ER_TRY(er_text_json(t, mpi, err));
    return er_text_format(t, err, ",\n  \"ranks\": %d,\n  \"shards\": %d,\n  \"threads\": %d,\n  \"unit\": %lld,\n"
                          "  \"model\": \"%s\"\n}\n",
                          r->w->size, er_world_shards(r->w), r->w->threads, (long long)r->setup.job.run.unit,
                          r->setup.job.model.path);
}

int er_run_write_start(er_run *r, er_err *err)
{
    er_text t = ER_TEXT_INIT;
    int code = er_job_dump(&t, &r->setup.job, 0, err);
    if (!code) code = er_save_text(r->setup.run, "job.resolved.yaml", &t, err);
    t.length = 0;
    if (!code) code = env_json(r, &t, err);
    if (!code) code = er_save_text(r->setup.run, "env.json", &t, err);
    er_text_free(&t);
    return code;
}

static int put_hash(er_text *t, const char *before, const er_hash *hash, er_err *err)
{
    char text[ER_HASH_TEXT];
    er_hash_text(text, hash);
    return er_text_format(t, err, "%s\"%s\"", before, text);
}

/* Of an imported layer what it is and the hash of the file that it was read from. */
static int put_origin(const er_stats_key *key, er_store *store, er_text *t, er_err *err)
{
    er_stats_origin origin;
    int found = 0;
    ER_TRY(er_store_origin(store, key, &origin, &found, err));
    if (!found) return 0;
    ER_TRY(er_text_format(t, err, ", \"imported\": \"%s\"", origin.kind));
    return put_hash(t, ", \"file\": ", &origin.file, err);
}

static int layer_inputs(const er_run *r, er_store *store, er_text *t, er_err *err)
{
    for (int64_t i = 0; i < r->setup.hyper.layers.count; i++) {
        er_stats_key key = er_setup_stats_key(&r->setup, r->setup.hyper.layers.at[i]);
        er_hash moment = {{0}}, eigen; /* an imported projection has no moment: zeros */
        int has_moment = 0, has_eigen = 0, imported = r->setup.job.stats.imported != NULL;
        ER_TRY(er_store_hash(store, &key, 0, &moment, &has_moment, err));
        ER_TRY(er_store_hash(store, &key, 1, &eigen, &has_eigen, err));
        if ((!has_moment && !imported) || !has_eigen)
            return er_fail(err, ER_E_IO, "%s: layer %lld is no longer there", r->setup.job.stats.store,
                           (long long)key.layer);
        ER_TRY(er_text_format(t, err, "%s\n      {\"layer\": %lld, ", i ? "," : "", (long long)key.layer));
        ER_TRY(put_hash(t, "\"moment\": ", &moment, err));
        ER_TRY(put_hash(t, ", \"eigen\": ", &eigen, err));
        if (imported) ER_TRY(put_origin(&key, store, t, err));
        ER_TRY(er_text_add(t, "}", err));
    }
    return 0;
}

static int stats_inputs(const er_run *r, er_text *t, er_err *err)
{
    const er_setup *s = &r->setup;
    er_store *store = NULL;
    er_moment moment = {0};
    int found = 0;
    if (!(s->needs & ER_NEEDS_EIGEN)) return er_text_add(t, "  \"stats\": null", err);
    er_stats_key key = er_setup_stats_key(s, s->hyper.layers.at[0]);
    ER_TRY(er_store_open(&store, s->job.stats.store, err));
    int code = er_store_moment(store, &key, &moment, &found, NULL, 0, err);
    int64_t tokens = found ? moment.tokens : 0;
    er_moment_free(&moment);
    if (!code) code = put_hash(t, "  \"stats\": {\n    \"corpus\": ", &key.corpus, err);
    if (!code)
        code = er_text_format(t, err, ",\n    \"tokens\": %lld,\n    \"dimension\": %lld,\n    \"layers\": [",
                              (long long)tokens, (long long)key.dimension);
    if (!code) code = layer_inputs(r, store, t, err);
    if (!code) code = er_text_add(t, "\n    ]\n  }", err);
    er_store_close(store);
    return code;
}

/* Files that consistency is judged by. */
static int reference_inputs(const er_run *r, er_text *t, er_err *err)
{
    const er_job *job = &r->setup.job;
    const char *const path[] = {job->score.snippets, job->score.tfidf_vocab, job->score.tfidf_idf};
    static const char *const name[] = {"  \"references\": {\"snippets\": ", ", \"tfidf_vocab\": ", ", \"tfidf_idf\": "};
    if (!path[0]) return 0;
    for (int i = 0; i < 3; i++) {
        er_map map;
        ER_TRY(er_map_open(&map, path[i], err));
        er_hash hash = er_hash_bytes(map.data, map.size);
        er_map_close(&map);
        ER_TRY(put_hash(t, name[i], &hash, err));
    }
    return er_text_add(t, "},\n", err);
}

static int inputs_json(const er_run *r, er_text *t, er_err *err)
{
    const er_setup *s = &r->setup;
    er_hash tokenizer = er_tokenizer_hash(s->model->tokenizer);
    ER_TRY(er_text_add(t, "{\n", err));
    ER_TRY(put_hash(t, "  \"run\": ", &s->identity, err));
    ER_TRY(put_hash(t, ",\n  \"weights\": ", &s->model->weights, err));
    ER_TRY(put_hash(t, ",\n  \"tokenizer\": ", &tokenizer, err));
    ER_TRY(put_hash(t, ",\n  \"data\": {\"file\": ", &s->data.source, err));
    ER_TRY(put_hash(t, ", \"requests\": ", &s->data.content, err));
    ER_TRY(put_hash(t, "},\n  \"templates\": ", &r->templates.hash, err));
    ER_TRY(put_hash(t, ",\n  \"unedited\": ", &r->base, err));
    ER_TRY(er_text_add(t, ",\n", err));
    ER_TRY(reference_inputs(r, t, err));
    ER_TRY(stats_inputs(r, t, err));
    return er_text_add(t, "\n}\n", err);
}

int er_run_write_inputs(er_run *r, er_err *err)
{
    er_text t = ER_TEXT_INIT;
    int code = inputs_json(r, &t, err);
    if (!code) code = er_save_text(r->setup.run, "inputs.json", &t, err);
    er_text_free(&t);
    return code;
}
