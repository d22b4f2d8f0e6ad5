/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/setup.h"

#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "editors/stabilise.h"
#include "runner/agree.h"
#include "runner/bits.h"
#include "runner/exchange.h"
#include "runner/team.h"
#include "runner/watch.h"

#include <stdio.h>
#include <string.h>

enum { SAMPLE_TOKENS = 256 }; /* tokens of a document that the model writes itself */

static int editor_table(void *context, const char *method, er_option_table *out, int64_t *batch_most, er_err *err)
{
    er_setup *s = context;
    ER_TRY(er_editor_find(&s->editor, method, err));
    *batch_most = s->editor->most_batch;
    return s->editor->options(out, &s->hyper, s->arena, err);
}

static int editor_preset(void *context, int parity, int64_t index, const char **key, const char **value)
{
    er_setup *s = context;
    const er_face_preset *p = er_editor_preset(s->editor, (enum er_parity)parity, index);
    if (!p) return 0;
    snprintf(s->preset, sizeof s->preset, "editor.%s", p->key);
    *key = s->preset;
    *value = p->value;
    return 1;
}

void er_setup_hash_rule(er_hasher *h, const er_setup *s)
{
    if (s->job.parity == ER_JOB_PARITY_EASYEDIT && er_editor_rule(s->editor, &s->model->config) == ER_RULE_BARE)
        er_hasher_text(h, "targets without a space");
}

er_job_editor er_setup_job_editor(er_setup *s) { return (er_job_editor){editor_table, s, editor_preset}; }

static void log_notes(const er_setup *s, const er_job_note *notes, int64_t count)
{
    if (s->world->rank != 0 || s->quiet) return;
    for (int64_t i = 0; i < count; i++)
        er_log(notes[i].warning ? ER_LOG_WARN : ER_LOG_INFO, "%s", notes[i].text);
}

static int is_stabilised(const er_setup *s)
{
    er_text what = ER_TEXT_INIT;
    const int any = er_stabilise_formula(&what, &s->hyper, NULL) || what.length > 0;
    er_text_free(&what);
    return any;
}

/* Choices that job files may make and this program does not know yet: refused, never ignored. */
static int check_supported(const er_setup *s, er_err *err)
{
    const er_job *j = &s->job;
    if (j->run.shards != 1 && (j->precision.compute != ER_JOB_FP32 || j->precision.update != ER_JOB_FP32))
        return er_fail(err, ER_E_UNSUPPORTED, "run.shards: only with precision.compute and precision.update fp32 yet; "
                       "expected 1");
    if (j->run.shards != 1 && (s->editor->passes || is_stabilised(s)))
        return er_fail(err, ER_E_UNSUPPORTED, "run.shards: not with stabilisers, and not with methods of several passes "
                       "yet; expected 1");
    if (s->editor->train && j->precision.optimizer != ER_JOB_FP32)
        return er_fail(err, ER_E_UNSUPPORTED, "precision.optimizer: '%s', but %s trains weights and not targets, and "
                       "it holds them and Adam's state in fp32; expected fp32 (precision.update rounds what it leaves)",
                       j->precision.optimizer == ER_JOB_BF16 ? "bf16" : "fp16", s->editor->name);
    return 0;
}

static int read_job(er_setup *s, const char *path, const char *const *sets, const er_job_setting *settings,
                    size_t count, er_err *err)
{
    er_job_editor editor = er_setup_job_editor(s);
    ER_TRY(er_arena_new(&s->arena, 0, err));
    ER_TRY(sets ? er_job_read(&s->job, path, &editor, sets, count, s->arena, err)
                : er_job_read_settings(&s->job, path, &editor, settings, count, s->arena, err));
    s->needs = s->editor->needs(&s->hyper);
    s->hyper.seed = (uint64_t)s->job.seed;
    return check_supported(s, err);
}

static int set_up(er_setup *s, er_world *w, int code, er_err *err)
{
    s->world = w;
    code = er_world_agree(w, code, err);
    if (!code) er_watch_limits(s->job.run.timeout, s->job.run.grace);
    if (!code) log_notes(s, s->job.notes, s->job.note_count);
    return code;
}

int er_setup_job(er_setup *s, er_world *w, const char *path, const char *const *sets, size_t set_count, er_err *err)
{
    return set_up(s, w, read_job(s, path, sets, NULL, set_count, err), err);
}

int er_setup_settings(er_setup *s, er_world *w, const char *path, const er_job_setting *settings, size_t count,
                      er_err *err)
{
    return set_up(s, w, read_job(s, path, NULL, settings, count, err), err);
}

static int open_data(er_setup *s, er_err *err)
{
    ER_TRY(er_dataset_read(&s->data, &s->job, s->arena, err));
    if (s->data.count == 0) return er_fail(err, ER_E_INPUT, "%s: no record is left to edit", s->job.data.path);
    s->batch = s->job.edit.mode == ER_JOB_BATCH ? s->data.count : s->job.edit.batch;
    if (s->editor->most_batch && s->batch > s->editor->most_batch)
        return er_fail(err, ER_E_INPUT, "edit: %s edits at most %lld at a time, not %lld", s->editor->name,
                       (long long)s->editor->most_batch, (long long)s->batch);
    s->batches = (s->data.count + s->batch - 1) / s->batch;
    return 0;
}

static const int dtypes[] = {[ER_JOB_FP32] = ER_F32, [ER_JOB_BF16] = ER_BF16, [ER_JOB_FP16] = ER_F16};

static int open_model(er_setup *s, er_err *err)
{
    const int64_t shards = s->whole ? 1 : s->job.run.shards;
    if (s->share && shards != er_world_shards(s->world)) er_share_close(s->share);
    ER_TRY(er_world_shard(s->world, shards, err));
    const int weights = dtypes[s->job.precision.weights], compute = dtypes[s->job.precision.compute];
    ER_TRY(s->share ? er_share_model(s->share, s->world, s->job.model.path, weights, &s->model, err)
                    : er_node_open_model(&s->node, s->world, &s->model, s->job.model.path, weights, err));
    if (s->share) er_share_compute(s->share, compute);
    else s->model->config.compute = compute;
    s->hyper.held = dtypes[s->job.precision.optimizer];
    ER_TRY(er_work_new(&s->work, s->model, err));
    int64_t batch = s->batch ? s->batch : s->job.edit.batch ? s->job.edit.batch : 1; /* without data: any will do */
    return er_agree_check(s, &s->model->config, batch, err);
}

/* NAME of the folder: the job file's name without its ending. */
static int run_folder(er_setup *s, er_err *err)
{
    er_text name = ER_TEXT_INIT;
    char hash[ER_HASH_TEXT];
    const char *slash = strrchr(s->job.path, '/'), *stem = slash ? slash + 1 : s->job.path;
    const char *dot = strrchr(stem, '.');
    er_hash_text(hash, &s->identity);
    int code = er_text_format(&name, err, "%.*s-%.12s", (int)(dot && dot > stem ? dot - stem : (long)strlen(stem)),
                              stem, hash);
    if (!code) code = er_path_join(&s->run, s->job.out, name.at, err);
    er_text_free(&name);
    return code;
}

static int identify(er_setup *s, er_err *err)
{
    er_hasher *h = NULL;
    er_hash file, statistics, tokenizer = er_tokenizer_hash(s->model->tokenizer);
    int imported = s->job.stats.imported && (s->needs & ER_NEEDS_EIGEN);
    if (imported) ER_TRY(er_imported_hash(&statistics, s, err));
    int templates = s->job.templates.source == ER_JOB_TEMPLATES_FILE;
    if (templates) ER_TRY(er_hash_file(&file, s->job.templates.file, err));
    ER_TRY(er_hasher_new(&h, err));
    er_hasher_text(h, "errata run");
    er_hasher_number(h, ER_BITS_VERSION);
    er_job_hash(h, &s->job, 1);
    er_job_hash_guards(h, &s->job);
    er_hasher_hash(h, &s->model->weights);
    er_hasher_hash(h, &tokenizer);
    er_hasher_hash(h, &s->data.source);
    if (templates) er_hasher_hash(h, &file);
    if (s->corpus) {
        er_hash corpus = er_corpus_hash(s->corpus);
        er_hasher_hash(h, &corpus);
    }
    if (imported) er_hasher_hash(h, &statistics);
    er_setup_hash_rule(h, s);
    s->identity = er_hasher_end(h);
    er_hasher_free(h);
    return run_folder(s, err);
}

int er_setup_open(er_setup *s, unsigned parts, er_err *err)
{
    int code = 0;
    if (parts & ER_SETUP_DATA) code = open_data(s, err);
    ER_TRY(er_world_agree(s->world, code, err)); /* the model is opened together */
    er_watch_work("opening the model", -1);
    if (parts & ER_SETUP_MODEL) code = open_model(s, err);
    ER_TRY(er_world_agree(s->world, code, err));
    er_watch_work(NULL, -1);
    if (parts & ER_SETUP_DATA) log_notes(s, s->data.notes, s->data.note_count);
    if (parts & ER_SETUP_MODEL)
        ER_TRY(er_world_same(s->world, &s->model->weights, sizeof s->model->weights, s->job.model.path, err));
    if (!(parts & ER_SETUP_NAME)) return 0;
    if (s->needs & ER_NEEDS_EIGEN) ER_TRY(er_setup_corpus(s, err));
    ER_TRY(er_world_agree(s->world, identify(s, err), err));
    return er_world_same(s->world, &s->identity, sizeof s->identity, "the job's content", err);
}

int er_setup_corpus(er_setup *s, er_err *err)
{
    const er_job *j = &s->job;
    if (s->corpus || j->stats.imported) return 0;
    er_corpus_options o = {.max_tokens = SAMPLE_TOKENS};
    if (j->stats.corpus == ER_JOB_CORPUS_FILE) {
        o.path = j->stats.file.path;
        o.documents = j->stats.file.documents;
        o.max_tokens = j->stats.file.max_tokens;
    } else {
        o.tokens = j->stats.sample.tokens;
        o.seed = (uint64_t)j->stats.sample.seed;
        if (o.max_tokens > s->model->longest_text) o.max_tokens = s->model->longest_text;
    }
    int code = s->share ? er_share_corpus(s->share, &o, &s->corpus, err)
                        : er_corpus_open(&s->corpus, &o, s->model, err);
    return er_world_agree(s->world, code, err);
}

void er_setup_close(er_setup *s)
{
    if (!s->share) er_corpus_close(s->corpus);
    er_work_free(s->work);
    if (!s->share) er_model_close(s->model);
    if (!s->share) er_node_close(&s->node);
    if (!s->share && s->world) er_world_shard(s->world, 1, NULL);
    er_free(s->run);
    er_arena_free(s->arena);
    memset(s, 0, sizeof *s);
}

void er_setup_batch(const er_setup *s, int64_t b, int64_t *first, int64_t *count)
{
    *first = b * s->batch;
    *count = s->data.count - *first < s->batch ? s->data.count - *first : s->batch;
}

int er_setup_overlay(const er_setup *s, er_overlay *o, er_err *err)
{
    ER_TRY(er_overlay_open_method(o, s->model, s->editor, &s->hyper, err));
    int code = er_overlay_hold(o, dtypes[s->job.precision.update], s->job.precision.master, err);
    if (code) er_overlay_close(o);
    return code;
}

void er_setup_warn_beyond(const er_setup *s)
{
    int64_t layer;
    const char *what = er_work_beyond(s->work, &layer);
    if (what)
        er_log(ER_LOG_WARN, "layer %lld: %s not finite with precision.compute %s", (long long)layer, what,
               er_dtype_name(s->model->config.compute));
}

/* Moments are those of the model as the job computes with it: another precision has other ones. */
static er_hash weights_as_held(const er_setup *s)
{
    const struct {
        er_hash weights;
        int64_t held, compute;
    } all = {s->model->weights, s->job.precision.weights, s->job.precision.compute};
    const int narrow = (all.held || all.compute) && !s->job.stats.imported; /* who imports answers for the model */
    return narrow ? er_hash_bytes(&all, sizeof all) : all.weights;
}

er_hash er_setup_corpus_hash(const er_setup *s)
{
    return s->job.stats.imported ? er_store_imported(s->job.stats.imported) : er_corpus_hash(s->corpus);
}

er_stats_key er_setup_stats_key(const er_setup *s, int64_t layer)
{
    er_stats_key key = {.weights = weights_as_held(s),
                        .tokenizer = er_tokenizer_hash(s->model->tokenizer),
                        .corpus = er_setup_corpus_hash(s),
                        .layer = layer,
                        .dimension = s->model->config.inner};
    snprintf(key.matrix, sizeof key.matrix, "mlp.down_proj");
    return key;
}

int er_setup_editor_table(er_option_table *out, er_hyper *hyper, const char *method, er_arena *arena, er_err *err)
{
    const er_editor *editor = er_editor_at(0);
    if (method) ER_TRY(er_editor_find(&editor, method, err));
    return editor->options(out, hyper, arena, err);
}
