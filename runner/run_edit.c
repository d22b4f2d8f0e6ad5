/* SPDX-License-Identifier: Apache-2.0 */
/* One batch: targets, then layer by layer keys, one solve, one rounding into the overlay of every rank, and at the end
 * the record. Only rank 0 holds the record, the statistics and the history. */
#include "runner/run.h"

#include "base/file.h"
#include "base/memory.h"
#include "runner/bits.h"
#include "runner/blob.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct batch {
    er_run *r;
    int64_t number, first, count;
    er_arena *arena;
    er_prompt *prompts; /* (count) */
    uint8_t *failed;    /* (count) equal on all ranks between phases */
    char (*reason)[sizeof((er_target *)0)->reason]; /* of prompts that cannot be made */
    er_hash state;      /* before the batch */
    er_record record;   /* rank 0 */
    er_journal *journal; /* rank 0: finished targets and keys of this batch */
    int64_t applied;
    int64_t *apply;     /* requests of the batch that join the solve */
    int64_t step;
    float *values;      /* rank 0: (applied, d) */
    double seconds[3];  /* targets, keys, solve */
} batch;

/* Requests of a unit: run.unit, but never so many that a rank would go without. Bits do not depend on it. */
static int64_t unit_size(const batch *b, int64_t items)
{
    int64_t share = (items + b->r->w->size - 1) / b->r->w->size, most = b->r->setup.job.run.unit;
    return share > 0 && share < most ? share : most;
}

static int64_t units_of(const batch *b, int64_t items)
{
    int64_t size = unit_size(b, items);
    return (items + size - 1) / size;
}

static void unit_range(const batch *b, int64_t items, int64_t unit, int64_t *first, int64_t *count)
{
    int64_t size = unit_size(b, items);
    *first = unit * size;
    *count = items - *first < size ? items - *first : size;
}

/* --- opening ----------------------------------------------------------------------------------------------------- */

static int new_histories(er_run *r, er_err *err)
{
    const er_editor *editor = r->setup.editor;
    if (!editor->history_new) return 0;
    for (int64_t i = 0; i < r->overlay.count; i++) {
        er_layer_stats stats = {r->eigen ? &r->eigen[i] : NULL};
        if (r->history[i]) editor->history_free(r->history[i]);
        r->history[i] = NULL;
        ER_TRY(editor->history_new(&r->history[i], &r->edit, i, &stats, err));
    }
    return 0;
}

static int read_eigenpairs(er_run *r, er_err *err)
{
    er_store *store = NULL;
    int code = 0;
    ER_TRY(er_alloc(&r->eigen, (size_t)r->overlay.count, err));
    ER_TRY(er_store_open(&store, r->setup.job.stats.store, err));
    for (int64_t i = 0; !code && i < r->overlay.count; i++) {
        er_stats_key key = er_setup_stats_key(&r->setup, r->overlay.layers[i]);
        int found = 0;
        code = er_store_eigen(store, &key, &r->eigen[i], &found, err);
        if (!code && !found)
            code = er_fail(err, ER_E_IO, "%s: the eigenpairs of layer %lld are not there", r->setup.job.stats.store,
                           (long long)key.layer);
    }
    er_store_close(store);
    return code;
}

int er_run_open_editing(er_run *r, er_err *err)
{
    int code = 0;
    if (r->w->rank == 0) {
        if (r->setup.needs & ER_NEEDS_EIGEN) code = read_eigenpairs(r, err);
        if (!code) code = er_alloc(&r->history, (size_t)r->overlay.count, err);
        if (!code) code = new_histories(r, err);
    }
    return er_world_agree(r->w, code, err);
}

/* --- prompts ----------------------------------------------------------------------------------------------------- */

/* A request that cannot be turned into rows is a failed edit, the same on every rank. */
static int make_prompts(batch *b, er_err *err)
{
    const er_setup *s = &b->r->setup;
    int rome = strcmp(s->editor->template_list, "rome") == 0;
    ER_TRY(er_arena_take(b->arena, &b->prompts, (size_t)b->count, err));
    ER_TRY(er_arena_take(b->arena, &b->failed, (size_t)b->count, err));
    ER_TRY(er_arena_take(b->arena, &b->reason, (size_t)b->count, err));
    ER_TRY(er_arena_take(b->arena, &b->apply, (size_t)b->count, err));
    for (int64_t i = 0; i < b->count; i++) {
        er_err e = ER_ERR_INIT;
        b->failed[i] = 0;
        int code = er_prompt_make(&b->prompts[i], s->model->tokenizer, &s->data.requests[b->first + i],
                                  &b->r->templates, b->r->edit.parity, rome, b->arena, &e);
        if (code && code != ER_E_INPUT) {
            if (err) *err = e;
            return code;
        }
        if (!code) continue;
        b->failed[i] = 1;
        snprintf(b->reason[i], sizeof b->reason[i], "%.*s", (int)sizeof b->reason[i] - 1, e.text);
    }
    return 0;
}

/* --- targets ----------------------------------------------------------------------------------------------------- */

static int put_target(er_text *out, const er_target *t, int64_t d, er_err *err)
{
    ER_TRY(er_blob_put_floats(out, t->value, t->value ? d : 0, err));
    ER_TRY(er_blob_put_number(out, t->steps, err));
    for (int64_t s = 0; s < t->steps; s++) ER_TRY(er_blob_put(out, &t->loss[s], sizeof *t->loss, err));
    ER_TRY(er_blob_put_float(out, t->init_norm, err));
    ER_TRY(er_blob_put_float(out, t->delta_norm, err));
    ER_TRY(er_blob_put_float(out, t->target_norm, err));
    ER_TRY(er_blob_put_number(out, t->stop, err));
    ER_TRY(er_blob_put_number(out, t->flat, err));
    ER_TRY(er_blob_put_number(out, t->failed, err));
    return er_blob_put_text(out, t->reason, err);
}

static int get_target(er_target *t, const char *bytes, size_t n, int64_t d, er_err *err)
{
    er_reader r = {bytes, n, 0};
    memset(t, 0, sizeof *t);
    int64_t floats = er_blob_get_count(&r, sizeof(float));
    int code = floats > 0 && floats != d ? er_fail(err, ER_E_FORMAT, "a target of %lld values", (long long)floats) : 0;
    if (!code && floats > 0) {
        code = er_alloc(&t->value, (size_t)d, err);
        if (!code) er_blob_get(&r, t->value, (size_t)d * sizeof(float));
    }
    int64_t steps = code ? 0 : er_blob_get_count(&r, sizeof *t->loss);
    if (!code && steps >= 0) {
        code = er_alloc(&t->loss, (size_t)steps, err);
        if (!code) er_blob_get(&r, t->loss, (size_t)steps * sizeof *t->loss);
        t->steps = steps;
    }
    t->init_norm = er_blob_get_float(&r);
    t->delta_norm = er_blob_get_float(&r);
    t->target_norm = er_blob_get_float(&r);
    t->stop = (int)er_blob_get_number(&r);
    t->flat = (int)er_blob_get_number(&r);
    t->failed = (int)er_blob_get_number(&r);
    er_blob_get_text(&r, t->reason, sizeof t->reason);
    if (!code) code = er_blob_end(&r, "a stored target", err);
    if (code) er_target_free(t);
    return code;
}

static int target_key(const batch *b, int64_t i, er_hash *key, er_err *err)
{
    const er_run *r = b->r;
    er_hasher *h = NULL;
    ER_TRY(er_hasher_new(&h, err));
    er_hasher_text(h, "target");
    er_hasher_hash(h, &r->setup.identity); /* hyperparameters, parity, tokenizer, bits version */
    er_hasher_hash(h, &b->state);
    er_hasher_hash(h, &r->templates.hash);
    er_request_hash(h, &r->setup.data.requests[b->first + i]);
    *key = er_hasher_end(h);
    er_hasher_free(h);
    return 0;
}

static int optimise(const batch *b, int64_t first, int64_t count, er_target *targets, er_err *err)
{
    const er_setup *s = &b->r->setup;
    er_prompt *good = NULL;
    int64_t n = 0;
    er_target *made = NULL;
    int code = er_alloc(&good, (size_t)count, err);
    if (!code) code = er_alloc(&made, (size_t)count, err);
    for (int64_t i = 0; !code && i < count; i++)
        if (!b->failed[first + i]) good[n++] = b->prompts[first + i];
    if (!code && n) code = s->editor->target(&b->r->edit, &b->r->overlay.view, good, n, made, s->work, err);
    for (int64_t i = 0, g = 0; !code && i < count; i++) {
        if (!b->failed[first + i]) {
            targets[i] = made[g++];
            continue;
        }
        targets[i].failed = 1;
        memcpy(targets[i].reason, b->reason[first + i], sizeof targets[i].reason);
    }
    er_free(good);
    er_free(made);
    return code;
}

static int target_unit(void *context, int64_t unit, er_text *out, er_err *err)
{
    const batch *b = context;
    int64_t first, count, d = b->r->setup.model->config.hidden;
    er_target *targets = NULL;
    er_text one = ER_TEXT_INIT;
    unit_range(b, b->count, unit, &first, &count);
    ER_TRY(er_alloc(&targets, (size_t)count, err));
    int code = optimise(b, first, count, targets, err);
    for (int64_t i = 0; !code && i < count; i++) {
        one.length = 0;
        code = put_target(&one, &targets[i], d, err);
        if (!code) code = er_blob_put_number(out, (int64_t)one.length, err);
        if (!code) code = er_blob_put(out, one.at, one.length, err);
    }
    for (int64_t i = 0; i < count; i++) er_target_free(&targets[i]);
    er_free(targets);
    er_text_free(&one);
    return code;
}

static int sink_targets(void *context, int64_t unit, const char *bytes, size_t n, er_err *err)
{
    batch *b = context;
    er_run *r = b->r;
    er_reader in = {bytes, n, 0};
    int64_t first, count;
    unit_range(b, b->count, unit, &first, &count);
    for (int64_t i = first; i < first + count; i++) {
        er_hash key;
        int64_t length = er_blob_get_count(&in, 1);
        if (length < 0) break;
        ER_TRY(target_key(b, i, &key, err));
        er_target *t = &b->record.targets[i];
        if (!t->value && !t->failed) { /* else it came from the journal, before the unit was done again */
            ER_TRY(get_target(t, in.at, (size_t)length, r->setup.model->config.hidden, err));
            er_progress_add(&r->edits, 1);
        }
        if (!er_journal_has(b->journal, ER_JOURNAL_TARGET, &key))
            ER_TRY(er_journal_add(b->journal, ER_JOURNAL_TARGET, &key, in.at, (size_t)length, err));
        in.at += length;
        in.left -= (size_t)length;
    }
    ER_TRY(er_blob_end(&in, "targets of a unit", err));
    return er_journal_sync(b->journal, err);
}

/* Targets in the journal come back; `done` says which units are complete. */
static int stored_targets(batch *b, uint8_t *done, int64_t units, er_err *err)
{
    er_run *r = b->r;
    er_text bytes = ER_TEXT_INIT;
    int code = 0;
    for (int64_t u = 0; !code && u < units; u++) {
        int64_t first, count;
        unit_range(b, b->count, u, &first, &count);
        done[u] = 1;
        for (int64_t i = first; !code && i < first + count; i++) {
            er_hash key;
            int found = 0;
            code = target_key(b, i, &key, err);
            if (!code) code = er_journal_read(b->journal, ER_JOURNAL_TARGET, &key, &bytes, &found, err);
            if (!code && found) {
                code = get_target(&b->record.targets[i], bytes.at, bytes.length, r->setup.model->config.hidden, err);
                r->edits.done++;
                r->edits.at_start++;
            }
            done[u] &= (uint8_t)(found != 0);
        }
    }
    er_text_free(&bytes);
    return code;
}

/* Everybody learns which requests have a target; rank 0 gathers the values. */
static int gather_targets(batch *b, er_err *err)
{
    er_run *r = b->r;
    const int64_t d = r->setup.model->config.hidden;
    for (int64_t i = 0; r->w->rank == 0 && i < b->count; i++) {
        er_target *t = &b->record.targets[i];
        if (!t->failed && !t->value) {
            t->failed = 1;
            snprintf(t->reason, sizeof t->reason, "no target was found");
        }
        b->failed[i] = t->failed != 0;
    }
    ER_TRY(er_world_bcast(r->w, b->failed, b->count, 0, err));
    b->applied = 0;
    for (int64_t i = 0; i < b->count; i++)
        if (!b->failed[i]) b->apply[b->applied++] = i;
    if (r->w->rank != 0) return 0;
    b->record.applied = b->applied;
    int code = er_alloc(&b->values, (size_t)(b->applied * d), err);
    for (int64_t i = 0; !code && i < b->applied; i++)
        memcpy(b->values + i * d, b->record.targets[b->apply[i]].value, (size_t)d * sizeof(float));
    return code;
}

static int make_targets(batch *b, er_err *err)
{
    er_run *r = b->r;
    int64_t units = units_of(b, b->count);
    uint8_t *done = NULL;
    er_units phase = {"targets", units, NULL, target_unit, sink_targets, b};
    double start = er_seconds();
    int code = er_alloc(&done, (size_t)units, err);
    if (!code && r->w->rank == 0) code = stored_targets(b, done, units, err);
    phase.done = done;
    code = er_world_agree(r->w, code, err);
    if (!code) code = er_world_units(r->w, &phase, err);
    er_free(done);
    b->seconds[0] = er_seconds() - start;
    if (code) return code;
    return er_world_agree(r->w, gather_targets(b, err), err);
}

/* --- layers ------------------------------------------------------------------------------------------------------ */

static int64_t key_floats(const batch *b) { return b->r->setup.editor->key_floats(&b->r->setup.model->config); }

static int key_unit(void *context, int64_t unit, er_text *out, er_err *err)
{
    const batch *b = context;
    const er_setup *s = &b->r->setup;
    int64_t first, count, width = key_floats(b);
    er_prompt *prompts = NULL;
    float *keys = NULL;
    unit_range(b, b->applied, unit, &first, &count);
    int code = er_alloc(&prompts, (size_t)count, err);
    if (!code) code = er_alloc(&keys, (size_t)(count * width), err);
    for (int64_t i = 0; !code && i < count; i++) prompts[i] = b->prompts[b->apply[first + i]];
    if (!code) code = s->editor->keys(&b->r->edit, &b->r->overlay.view, b->step, prompts, count, keys, s->work, err);
    if (!code) code = er_blob_put(out, keys, (size_t)(count * width) * sizeof *keys, err);
    er_free(prompts);
    er_free(keys);
    return code;
}

/* Content of the key of the i-th request that joins, at the layer at work. */
static int key_key(const batch *b, int64_t i, er_hash *key, er_err *err)
{
    er_hash parts[3];
    ER_TRY(target_key(b, b->apply[i], &parts[0], err));
    ER_TRY(er_overlay_state(&b->r->overlay, &parts[1], err));
    parts[2] = er_hash_bytes(&b->step, sizeof b->step);
    *key = er_hash_bytes(parts, sizeof parts);
    return 0;
}

static int sink_keys(void *context, int64_t unit, const char *bytes, size_t n, er_err *err)
{
    batch *b = context;
    int64_t first, count, width = key_floats(b);
    float *keys = b->record.layers[b->step].keys;
    er_reader in = {bytes, n, 0};
    unit_range(b, b->applied, unit, &first, &count);
    er_blob_get(&in, keys + first * width, (size_t)(count * width) * sizeof *keys);
    ER_TRY(er_blob_end(&in, "keys of a unit", err));
    for (int64_t i = first; i < first + count; i++) {
        er_hash key;
        ER_TRY(key_key(b, i, &key, err));
        if (!er_journal_has(b->journal, ER_JOURNAL_KEY, &key))
            ER_TRY(er_journal_add(b->journal, ER_JOURNAL_KEY, &key, keys + i * width, (size_t)width * sizeof *keys,
                                  err));
    }
    return er_journal_sync(b->journal, err);
}

/* Keys in the journal come back; `done` says which units are complete. */
static int stored_keys(batch *b, uint8_t *done, int64_t units, er_err *err)
{
    er_text bytes = ER_TEXT_INIT;
    int64_t width = key_floats(b);
    int code = 0;
    for (int64_t u = 0; !code && u < units; u++) {
        int64_t first, count;
        unit_range(b, b->applied, u, &first, &count);
        done[u] = 1;
        for (int64_t i = first; !code && i < first + count; i++) {
            er_hash key;
            int found = 0;
            code = key_key(b, i, &key, err);
            if (!code) code = er_journal_read(b->journal, ER_JOURNAL_KEY, &key, &bytes, &found, err);
            found = found && bytes.length == (size_t)width * sizeof(float);
            if (!code && found) memcpy(b->record.layers[b->step].keys + i * width, bytes.at, bytes.length);
            done[u] &= (uint8_t)(found != 0);
        }
    }
    er_text_free(&bytes);
    return code;
}

static int start_keys(batch *b, uint8_t **done, int64_t units, er_err *err)
{
    er_record_layer *l = &b->record.layers[b->step];
    if (b->r->w->rank != 0) return 0;
    l->layer = b->r->overlay.layers[b->step];
    l->key_floats = key_floats(b);
    ER_TRY(er_alloc(&l->keys, (size_t)(b->applied * l->key_floats), err));
    ER_TRY(er_alloc(done, (size_t)units, err));
    return stored_keys(b, *done, units, err);
}

static int all_finite(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return 0;
    return 1;
}

/* Rank 0. ER_E_NUMERIC is a failed batch, not a failed run. */
static int solve_layer(batch *b, er_err *err)
{
    er_run *r = b->r;
    const er_editor *editor = r->setup.editor;
    er_record_layer *l = &b->record.layers[b->step];
    const er_matrix *w = &r->overlay.matrix[b->step];
    er_update *u = &l->update;
    er_layer_stats stats = {r->eigen ? &r->eigen[b->step] : NULL};
    er_history *history = r->history[b->step];
    if (history && editor->history_used) editor->history_used(history, &l->history_rows, &l->history_rank);
    if (!b->applied) {
        *u = (er_update){.kind = ER_UPDATE_FACTORS, .outputs = w->rows, .inputs = w->cols};
        ER_TRY(er_alloc(&u->u, 0, err));
        return er_alloc(&u->v, 0, err);
    }
    if (!all_finite(l->keys, b->applied * key_floats(b)))
        return er_fail(err, ER_E_NUMERIC, "layer %lld: a key is not finite", (long long)l->layer);
    if (editor->solve(&r->edit, b->step, b->values, l->keys, b->applied, &stats, history, w->data, u, err)) {
        er_prefix(err, "layer %lld: ", (long long)l->layer);
        return err ? err->code : ER_E_INTERNAL;
    }
    if (!all_finite(u->u, u->outputs * u->rank) || !all_finite(u->v, u->rank * u->inputs))
        return er_fail(err, ER_E_NUMERIC, "layer %lld: the update is not finite", (long long)l->layer);
    return 0;
}

static int edit_layer(batch *b, er_err *err)
{
    er_run *r = b->r;
    er_record_layer *l = r->w->rank == 0 ? &b->record.layers[b->step] : NULL;
    er_units phase = {"keys", units_of(b, b->applied), NULL, key_unit, sink_keys, b};
    double start = er_seconds();
    uint8_t *done = NULL;
    int code = er_world_agree(r->w, start_keys(b, &done, phase.count, err), err);
    phase.done = done;
    if (!code) code = er_world_units(r->w, &phase, err);
    er_free(done);
    b->seconds[1] += er_seconds() - start;
    if (code) return code;
    start = er_seconds();
    ER_TRY(er_world_agree(r->w, l ? solve_layer(b, err) : 0, err));
    ER_TRY(er_overlay_apply_all(&r->overlay, r->w, b->step, l ? &l->update : NULL, l ? &l->update_norm : NULL,
                                l ? &l->weight_norm : NULL, err));
    if (l) l->matrix = r->overlay.hash[b->step];
    ER_TRY(er_world_agree(r->w, l ? er_overlay_total_norm(&r->overlay, b->step, &l->total_norm, err) : 0, err));
    b->seconds[2] += er_seconds() - start;
    return 0;
}

/* --- a batch whose solve failed ---------------------------------------------------------------------------------- */

static int fold_record(er_run *r, int64_t number, int join_history, er_err *err)
{
    er_record record = {0};
    int found = 0, code = 0;
    if (r->w->rank == 0) {
        code = er_record_read(&record, r->ledger, number, 0, &found, err);
        if (!code && !found)
            code = er_fail(err, ER_E_IO, "%s: record %lld has gone", r->ledger, (long long)number);
    }
    code = er_world_agree(r->w, code, err);
    if (!code) code = er_ledger_fold(&r->overlay, r->w, &record, err);
    if (!code && r->w->rank == 0 && join_history && record.applied)
        for (int64_t i = 0; !code && i < r->overlay.count; i++)
            if (r->history[i])
                code = r->setup.editor->history_add(r->history[i], record.layers[i].keys, record.applied, err);
    er_record_free(&record);
    return er_world_agree(r->w, code, err);
}

/* Weights as before the batch; its requests have failed for the solve's reason, and the record says so. */
static int roll_back(batch *b, const er_err *why, er_err *err)
{
    er_run *r = b->r;
    er_overlay_restore(&r->overlay);
    if (r->setup.job.edit.mode != ER_JOB_SINGLE)
        for (int64_t i = 0; i < b->number; i++) ER_TRY(fold_record(r, i, 0, err));
    if (r->w->rank == 0) {
        er_log(ER_LOG_WARN, "batch %lld failed: %s", (long long)b->number, why->text);
        for (int64_t i = 0; i < b->applied; i++) {
            er_target *t = &b->record.targets[b->apply[i]];
            t->failed = 1;
            snprintf(t->reason, sizeof t->reason, "%.*s", (int)sizeof t->reason - 1, why->text);
        }
        for (int64_t i = 0; i < r->overlay.count; i++) {
            er_record_layer *l = &b->record.layers[i];
            er_update_free(&l->update);
            er_free(l->keys);
            *l = (er_record_layer){0};
        }
        b->record.applied = 0;
    }
    b->applied = 0;
    for (b->step = 0; b->step < r->overlay.count; b->step++) ER_TRY(edit_layer(b, err));
    return 0;
}

/* --- the batch --------------------------------------------------------------------------------------------------- */

static int start_record(batch *b, er_err *err)
{
    er_run *r = b->r;
    er_record *c = &b->record;
    char *path = NULL;
    ER_TRY(er_run_path(r, &path, "batch.journal", err));
    int code = er_journal_open(&b->journal, path, NULL, err);
    er_free(path);
    ER_TRY(code);
    ER_TRY(er_record_new(c, b->count, r->setup.model->config.hidden, r->overlay.count, err));
    c->batch = b->number;
    c->edits_before = r->setup.job.edit.mode == ER_JOB_SINGLE ? 0 : b->first;
    c->weights = r->setup.model->weights;
    c->before = b->state;
    if (b->number) c->previous = r->heads[b->number - 1].self;
    for (int64_t i = 0; i < b->count; i++) {
        const er_request *q = &r->setup.data.requests[b->first + i];
        er_hasher *h = NULL;
        ER_TRY(er_hasher_new(&h, err));
        er_request_hash(h, q);
        c->request[i] = er_hasher_end(h);
        er_hasher_free(h);
        c->index[i] = b->first + i;
        c->case_id[i] = q->case_id;
    }
    return 0;
}

static int end_record(batch *b, er_err *err)
{
    static const char *const phases[] = {"targets", "keys", "solve"};
    er_run *r = b->r;
    er_record *c = &b->record;
    ER_TRY(er_overlay_state(&r->overlay, &c->after, err));
    ER_TRY(er_record_write(c, r->ledger, err));
    er_journal *journal = b->journal;
    b->journal = NULL;
    ER_TRY(er_journal_remove(journal, err));
    for (int64_t i = 0; i < r->overlay.count; i++) {
        er_record_layer *l = &c->layers[i];
        if (r->history[i] && c->applied)
            ER_TRY(r->setup.editor->history_add(r->history[i], l->keys, c->applied, err));
        ER_FREE(l->update.u); /* heads are kept without what is large */
        ER_FREE(l->update.v);
        ER_FREE(l->keys);
    }
    for (int64_t i = 0; i < b->count; i++) ER_FREE(c->targets[i].value);
    for (int i = 0; i < 3; i++) ER_TRY(er_run_time(r, phases[i], b->number, b->seconds[i], err));
    r->heads[b->number] = *c;
    memset(c, 0, sizeof *c);
    return 0;
}

static int edit_batch(batch *b, er_err *err)
{
    er_run *r = b->r;
    int code = er_arena_new(&b->arena, 0, err);
    if (!code) code = make_prompts(b, err);
    if (!code) code = er_overlay_state(&r->overlay, &b->state, err);
    if (!code && r->w->rank == 0) code = start_record(b, err);
    ER_TRY(er_world_agree(r->w, code, err));
    ER_TRY(make_targets(b, err));
    er_err why = ER_ERR_INIT;
    for (b->step = 0; !code && b->step < r->overlay.count; b->step++) code = edit_layer(b, &why);
    if (code == ER_E_NUMERIC) {
        ER_TRY(roll_back(b, &why, err));
    } else if (code) {
        if (err) *err = why;
        return code;
    }
    return er_world_agree(r->w, r->w->rank == 0 ? end_record(b, err) : 0, err);
}

int er_run_batch(er_run *r, int64_t number, er_err *err)
{
    int code = 0;
    if (r->setup.job.edit.mode == ER_JOB_SINGLE) {
        er_overlay_restore(&r->overlay);
        if (r->w->rank == 0 && r->history && number >= r->head_count) code = new_histories(r, err);
        ER_TRY(er_world_agree(r->w, code, err));
    }
    if (number < r->head_count)
        return fold_record(r, number, r->history && r->setup.job.edit.mode != ER_JOB_SINGLE, err);
    batch b = {.r = r, .number = number};
    er_setup_batch(&r->setup, number, &b.first, &b.count);
    code = edit_batch(&b, err);
    er_record_free(&b.record);
    er_journal_close(b.journal);
    er_free(b.values);
    er_arena_free(b.arena);
    if (!code) r->head_count = number + 1;
    return code;
}
