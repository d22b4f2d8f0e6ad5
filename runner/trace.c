/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/trace.h"

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "runner/bits.h"
#include "runner/run.h"
#include "runner/watch.h"

#include <stdio.h>
#include <string.h>

/* --- opening ----------------------------------------------------------------------------------------------------- */

static int open_facts(er_tracing *t, er_err *err)
{
    ER_TRY(er_arena_new(&t->arena, 0, err));
    ER_TRY(er_knowns_read(&t->knowns, t->set.facts, t->arena, err));
    t->count = t->set.count && t->set.count < t->knowns.count ? t->set.count : t->knowns.count;
    if (t->set.count > t->knowns.count && t->w->rank == 0)
        er_log(ER_LOG_WARN, "%s: %lld facts are asked for, it holds %lld", t->set.facts, (long long)t->set.count,
               (long long)t->knowns.count);
    return 0;
}

/* Over the subjects of all facts of the file, as published: a larger count then keeps the noise. */
static int measure_deviation(er_tracing *t, er_err *err)
{
    const er_arena_mark mark = er_arena_mark_now(t->arena);
    er_ids all = {0};
    const int32_t **ids = NULL;
    int64_t *count = NULL, n = t->knowns.count;
    int code = er_arena_take(t->arena, &ids, (size_t)n, err);
    if (!code) code = er_arena_take(t->arena, &count, (size_t)n, err);
    for (int64_t i = 0; !code && i < n; i++) {
        const char *subject = t->knowns.facts[i].subject;
        int64_t before = all.count;
        code = er_encode(t->model->tokenizer, &all, subject, strlen(subject), 0, err);
        count[i] = all.count - before;
    }
    for (int64_t i = 0, at = 0; !code && i < n; at += count[i++]) ids[i] = all.at + at;
    if (!code) code = er_trace_deviation(&t->deviation, t->model, ids, count, n, err);
    er_ids_free(&all);
    er_arena_release(t->arena, mark);
    return code;
}

static int settle(er_tracing *t, er_err *err)
{
    const er_config *c = &t->model->config;
    er_trace_options *o = &t->set.options;
    ER_TRY(er_work_new(&t->work, t->model, err));
    ER_TRY(er_view_open(&t->view, t->model, err));
    ER_TRY(measure_deviation(t, err));
    o->noise = t->set.noise * t->deviation;
    if (!o->window) o->window = (10 * c->layers + 24) / 48;
    if (o->window < 1) o->window = 1;
    if (o->window > c->layers)
        return er_fail(err, ER_E_USAGE, "--window %lld: the model has %lld layers", (long long)o->window,
                       (long long)c->layers);
    if (!t->set.propose) t->set.propose = c->layers < 5 ? c->layers : 5;
    if (t->set.propose > c->layers)
        return er_fail(err, ER_E_USAGE, "--propose %lld: the model has %lld layers", (long long)t->set.propose,
                       (long long)c->layers);
    return 0;
}

/* What decides a fact's line beside the fact. */
static void hash_settings(er_hasher *h, const er_tracing *t)
{
    const er_trace_options *o = &t->set.options;
    const er_hash tokenizer = er_tokenizer_hash(t->model->tokenizer);
    er_hasher_text(h, "errata trace");
    er_hasher_number(h, ER_BITS_VERSION);
    er_hasher_hash(h, &t->model->weights);
    er_hasher_hash(h, &tokenizer);
    er_hasher_add(h, &o->noise, sizeof o->noise);
    er_hasher_number(h, (int64_t)o->seed);
    er_hasher_number(h, o->samples);
    er_hasher_number(h, o->window);
    er_hasher_number(h, o->kinds);
}

static int name_folder(er_tracing *t, er_err *err)
{
    er_text name = ER_TEXT_INIT;
    er_hasher *h = NULL;
    char hex[ER_HASH_TEXT];
    const char *slash = strrchr(t->set.facts, '/'), *stem = slash ? slash + 1 : t->set.facts;
    const char *dot = strrchr(stem, '.');
    ER_TRY(er_hasher_new(&h, err));
    hash_settings(h, t);
    er_hasher_hash(h, &t->knowns.source);
    const er_hash hash = er_hasher_end(h);
    er_hasher_free(h);
    er_hash_text(hex, &hash);
    const int length = (int)(dot && dot > stem ? dot - stem : (long)strlen(stem));
    int code = er_text_format(&name, err, "trace-%.*s-%.12s", length, stem, hex);
    if (!code) code = er_path_join(&t->folder, t->set.out, name.at, err);
    er_text_free(&name);
    return code;
}

static int make_keys(er_tracing *t, er_err *err)
{
    ER_TRY(er_arena_take(t->arena, &t->keys, (size_t)t->count, err));
    for (int64_t i = 0; i < t->count; i++) {
        const er_known *k = &t->knowns.facts[i];
        er_hasher *h = NULL;
        ER_TRY(er_hasher_new(&h, err));
        hash_settings(h, t);
        er_hasher_number(h, k->id);
        er_hasher_text(h, k->subject);
        er_hasher_text(h, k->prompt);
        er_hasher_number(h, (int64_t)k->subject_from);
        er_hasher_text(h, k->answer);
        t->keys[i] = er_hasher_end(h);
        er_hasher_free(h);
    }
    return 0;
}

/* --- what is there ----------------------------------------------------------------------------------------------- */

static const char line_start[] = "{\"key\": \"";

/* A line that an earlier run left; one that does not begin as ours is left out: it is only saved work. */
static int load_line(er_tracing *t, const char *line, size_t n, er_err *err)
{
    char hex[ER_HASH_TEXT] = "";
    er_hash key;
    const size_t start = sizeof line_start - 1;
    if (n < start + sizeof hex || memcmp(line, line_start, start) != 0) return 0;
    memcpy(hex, line + start, sizeof hex - 1);
    return er_hash_parse(&key, hex) ? 0 : er_scores_put(&t->lines, &key, line, n, err);
}

static int load_file(er_tracing *t, er_err *err)
{
    char *path = NULL, *text = NULL;
    size_t n = 0;
    ER_TRY(er_path_join(&path, t->folder, "trace.jsonl", err));
    int code = er_file_exists(path) ? er_file_read(&text, &n, path, err) : 0;
    for (const char *at = text, *end; !code && at && (end = memchr(at, '\n', n - (size_t)(at - text))); at = end + 1)
        code = load_line(t, at, (size_t)(end - at), err);
    er_free(text);
    er_free(path);
    return code;
}

static int load_journal(er_tracing *t, er_err *err)
{
    er_text line = ER_TEXT_INIT;
    int code = 0;
    for (int64_t i = 0; !code && i < t->count; i++) {
        int found = 0;
        code = er_journal_read(t->journal, ER_JOURNAL_TRACE, &t->keys[i], &line, &found, err);
        if (!code && found) code = er_scores_put(&t->lines, &t->keys[i], line.at, line.length, err);
    }
    er_text_free(&line);
    return code;
}

static int open_folder(er_tracing *t, er_err *err)
{
    char *lock = NULL, *journal = NULL;
    ER_TRY(make_keys(t, err));
    ER_TRY(er_make_folders(t->folder, err));
    int code = er_run_lock_path(&lock, t->folder, err);
    if (!code) code = er_lock_take(&t->lock, lock, err);
    er_free(lock);
    if (!code) code = er_save_sweep(t->folder, err);
    if (!code) code = er_path_join(&journal, t->folder, "journal", err);
    if (!code) code = er_journal_open(&t->journal, journal, NULL, err);
    er_free(journal);
    if (!code) code = load_file(t, err);
    return code ? code : load_journal(t, err);
}

int er_tracing_open(er_tracing *t, er_world *w, const er_trace_settings *settings, er_err *err)
{
    t->w = w;
    t->set = *settings;
    t->lock = -1;
    ER_TRY(er_world_agree(w, open_facts(t, err), err));
    er_watch_work("opening the model", -1);
    ER_TRY(er_node_open_model(&t->node, w, &t->model, t->set.model, ER_F32, err));
    er_watch_work(NULL, -1);
    ER_TRY(er_world_same(w, &t->model->weights, sizeof t->model->weights, t->set.model, err));
    ER_TRY(er_world_same(w, &t->knowns.source, sizeof t->knowns.source, t->set.facts, err));
    int code = settle(t, err);
    if (!code) code = name_folder(t, err);
    if (!code && w->rank == 0) code = open_folder(t, err);
    return er_world_agree(w, code, err);
}

void er_tracing_close(er_tracing *t)
{
    if (t->journal) er_journal_close(t->journal);
    if (t->w && t->lock >= 0) er_lock_release(t->lock);
    er_scores_free(&t->lines);
    er_work_free(t->work);
    if (t->view.model) er_view_close(&t->view);
    er_model_close(t->model);
    er_node_close(&t->node);
    er_free(t->folder);
    er_arena_free(t->arena);
    memset(t, 0, sizeof *t);
}

/* --- units ------------------------------------------------------------------------------------------------------- */

typedef struct phase {
    er_tracing *t;
    er_progress progress;
} phase;

static int trace_unit(void *context, int64_t unit, er_text *out, er_err *err)
{
    const phase *p = context;
    return er_trace_line(out, p->t, unit, err);
}

static int sink_line(void *context, int64_t unit, const char *bytes, size_t n, er_err *err)
{
    phase *p = context;
    er_tracing *t = p->t;
    er_text line = ER_TEXT_INIT;
    char hex[ER_HASH_TEXT];
    er_hash_text(hex, &t->keys[unit]);
    int code = er_text_format(&line, err, "%s%s\", ", line_start, hex);
    if (!code) code = er_text_bytes(&line, bytes, n, err);
    if (!code) code = er_journal_add(t->journal, ER_JOURNAL_TRACE, &t->keys[unit], line.at, line.length, err);
    if (!code) code = er_scores_put(&t->lines, &t->keys[unit], line.at, line.length, err);
    er_text_free(&line);
    if (!code) er_progress_add(&p->progress, 1);
    return code ? code : er_journal_sync(t->journal, err);
}

static int write_lines(er_tracing *t, er_err *err)
{
    er_text all = ER_TEXT_INIT;
    int code = er_text_add(&all, "", err);
    for (int64_t i = 0; !code && i < t->count; i++) {
        const er_text *line = er_scores_find(&t->lines, &t->keys[i]);
        ER_ALWAYS(line);
        code = er_text_bytes(&all, line->at, line->length, err);
        if (!code) code = er_text_add(&all, "\n", err);
    }
    if (!code) code = er_save_text(t->folder, "trace.jsonl", &all, err);
    er_text_free(&all);
    return code;
}

static int finish(er_tracing *t, er_err *err)
{
    const er_text **lines = NULL;
    er_trace_means means;
    ER_TRY(write_lines(t, err));
    ER_TRY(er_arena_take(t->arena, &lines, (size_t)t->count, err));
    for (int64_t i = 0; i < t->count; i++) lines[i] = er_scores_find(&t->lines, &t->keys[i]);
    ER_TRY(er_trace_average(&means, lines, t->count, t->model->config.layers, t->set.options.kinds,
                            t->set.options.window, t->set.propose, t->arena, err));
    ER_TRY(er_trace_report(t, &means, err));
    ER_TRY(er_journal_remove(t->journal, err));
    t->journal = NULL;
    return 0;
}

int er_tracing_run(er_tracing *t, er_err *err)
{
    phase p = {.t = t};
    uint8_t *done = NULL;
    int64_t known = 0;
    int code = t->w->rank == 0 ? er_alloc(&done, (size_t)t->count, err) : 0;
    for (int64_t i = 0; !code && done && i < t->count; i++) {
        done[i] = er_scores_find(&t->lines, &t->keys[i]) != NULL;
        known += done[i];
    }
    code = er_world_agree(t->w, code, err);
    const er_units units = {"traces", t->count, done, trace_unit, sink_line, &p};
    er_progress_start(&p.progress, "tracing", "facts", known, t->count);
    if (!code) code = er_world_units(t->w, &units, err);
    er_progress_end(&p.progress);
    er_free(done);
    if (code) return code;
    return er_world_agree(t->w, t->w->rank == 0 ? finish(t, err) : 0, err);
}
