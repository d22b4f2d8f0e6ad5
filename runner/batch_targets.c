/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/batch.h"

#include "base/memory.h"
#include "runner/blob.h"
#include "runner/team.h"

#include <stdio.h>
#include <string.h>

/* As many units as give every taker (rank, or group of shards) equally many of at most run.unit requests each; the units
 * differ by one request at most. Bits do not depend on the cut. */
int64_t er_batch_units(const er_batch *b, int64_t items)
{
    const int64_t takers = er_world_groups(b->r->w), round = takers * b->r->setup.job.run.unit;
    const int64_t units = takers * ((items + round - 1) / round);
    return units < items ? units : items;
}

void er_batch_range(const er_batch *b, int64_t items, int64_t unit, int64_t *first, int64_t *count)
{
    const int64_t units = er_batch_units(b, items);
    *first = items * unit / units;
    *count = items * (unit + 1) / units - *first;
}

/* --- prompts ----------------------------------------------------------------------------------------------------- */

/* A request that cannot be turned into rows is a failed edit, the same on every rank. */
int er_batch_prompts(er_batch *b, er_err *err)
{
    const er_setup *s = &b->r->setup;
    const enum er_target_rule rule = er_editor_rule(s->editor, &s->model->config);
    ER_TRY(er_arena_take(b->arena, &b->prompts, (size_t)b->count, err));
    ER_TRY(er_arena_take(b->arena, &b->failed, (size_t)b->count, err));
    ER_TRY(er_arena_take(b->arena, &b->reason, (size_t)b->count, err));
    ER_TRY(er_arena_take(b->arena, &b->apply, (size_t)b->count, err));
    for (int64_t i = 0; i < b->count; i++) {
        er_err e = ER_ERR_INIT;
        b->failed[i] = 0;
        b->reason[i][0] = 0; /* of requests that fail later, the record alone has it */
        int code = er_prompt_make(&b->prompts[i], s->model->tokenizer, &s->data.requests[b->first + i],
                                  &b->r->templates, b->r->edit.parity, rule, b->arena, &e);
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

int er_batch_target_key(const er_batch *b, int64_t i, er_hash *key, er_err *err)
{
    const er_run *r = b->r;
    er_hasher *h = NULL;
    ER_TRY(er_hasher_new(&h, err));
    er_hasher_text(h, "target");
    er_hasher_hash(h, &r->setup.identity); /* hyperparameters, parity, tokenizer, bits version */
    er_hasher_hash(h, &b->target_state);
    er_hasher_hash(h, &r->templates.hash);
    er_request_hash(h, &r->setup.data.requests[b->first + i]);
    if (r->edit.hyper->blue) er_hasher_number(h, b->step);
    *key = er_hasher_end(h);
    er_hasher_free(h);
    return 0;
}

/* The key of the cache: what decides the target of a request on the unedited model, and nothing else. */
static int shared_key(const er_batch *b, int64_t i, er_hash *key, er_err *err)
{
    const er_run *r = b->r;
    const er_setup *s = &r->setup;
    er_hasher *h = NULL;
    ER_TRY(er_hasher_new(&h, err));
    er_hasher_text(h, "unedited target");
    er_run_hash_unedited(h, r);
    er_hasher_hash(h, &r->templates.hash);
    er_hasher_text(h, s->editor->template_list);
    er_hasher_number(h, s->job.parity);
    er_setup_hash_rule(h, s);
    int code = er_editor_hash_target(h, s->editor, &s->job.tables[1], b->at.edit.hyper, err);
    er_request_hash(h, &s->data.requests[b->first + i]);
    *key = er_hasher_end(h);
    er_hasher_free(h);
    return code;
}

static int is_shared(const er_batch *b) { return b->r->cache && er_hash_equal(&b->target_state, &b->r->base); }

static int share_target(er_batch *b, int64_t i, const char *bytes, size_t n, er_err *err)
{
    er_hash key;
    if (!is_shared(b)) return 0;
    ER_TRY(shared_key(b, i, &key, err));
    return er_cache_add(b->r->cache, ER_JOURNAL_TARGET, &key, bytes, n, err);
}

/* From the run's own journal, else from the cache into *bytes. */
static int find_target(er_batch *b, int64_t i, er_text *bytes, int *found, er_err *err)
{
    er_hash key;
    size_t n = 0;
    ER_TRY(er_batch_target_key(b, i, &key, err));
    ER_TRY(er_journal_read(b->journal, ER_JOURNAL_TARGET, &key, bytes, found, err));
    if (*found) return share_target(b, i, bytes->at, bytes->length, err);
    if (!is_shared(b)) return 0;
    ER_TRY(shared_key(b, i, &key, err));
    const char *shared = er_cache_find(b->r->cache, ER_JOURNAL_TARGET, &key, &n);
    if (!shared) return 0;
    *found = 1;
    b->r->setup.counts.targets_reused++;
    return er_text_bytes(bytes, shared, n, err);
}

static int optimise(const er_batch *b, int64_t first, int64_t count, er_target *targets, er_err *err)
{
    const er_setup *s = &b->r->setup;
    er_prompt *good = NULL;
    int64_t n = 0;
    er_target *made = NULL;
    int code = er_alloc(&good, (size_t)count, err);
    if (!code) code = er_alloc(&made, (size_t)count, err);
    for (int64_t i = 0; !code && i < count; i++)
        if (!b->failed[first + i]) good[n++] = b->prompts[first + i];
    const er_view *view = s->editor->clean_targets ? &b->r->clean : &b->r->overlay.view;
    if (!code && n) code = s->editor->target(&b->at.edit, view, good, n, made, s->work, err);
    er_setup_warn_beyond(s);
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
    const er_batch *b = context;
    int64_t first, count, d = b->r->setup.model->config.hidden;
    er_target *targets = NULL;
    er_text one = ER_TEXT_INIT;
    er_batch_range(b, b->count, unit, &first, &count);
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
    er_batch *b = context;
    er_run *r = b->r;
    er_reader in = {bytes, n, 0};
    int64_t first, count;
    er_batch_range(b, b->count, unit, &first, &count);
    for (int64_t i = first; i < first + count; i++) {
        er_hash key;
        int64_t length = er_blob_get_count(&in, 1);
        if (length < 0) break;
        ER_TRY(er_batch_target_key(b, i, &key, err));
        er_target *t = &b->record.targets[i];
        if (!t->value && !t->failed) { /* else it came from the journal, before the unit was done again */
            ER_TRY(get_target(t, in.at, (size_t)length, r->setup.model->config.hidden, err));
            if (!b->step) er_progress_add(&r->edits, 1);
            r->setup.counts.targets++;
            b->made++;
        }
        if (!er_journal_has(b->journal, ER_JOURNAL_TARGET, &key))
            ER_TRY(er_journal_add(b->journal, ER_JOURNAL_TARGET, &key, in.at, (size_t)length, err));
        ER_TRY(share_target(b, i, in.at, (size_t)length, err));
        in.at += length;
        in.left -= (size_t)length;
    }
    ER_TRY(er_blob_end(&in, "targets of a unit", err));
    return er_journal_sync(b->journal, err);
}

/* Targets in the journal come back; `done` says which units are complete. */
static int stored_targets(er_batch *b, uint8_t *done, int64_t units, er_err *err)
{
    er_run *r = b->r;
    er_text bytes = ER_TEXT_INIT;
    int code = 0;
    for (int64_t u = 0; !code && u < units; u++) {
        int64_t first, count;
        er_batch_range(b, b->count, u, &first, &count);
        done[u] = 1;
        for (int64_t i = first; !code && i < first + count; i++) {
            int found = 0;
            bytes.length = 0;
            if (b->record.targets[i].failed) continue; /* at an earlier step */
            code = find_target(b, i, &bytes, &found, err);
            if (!code && found) {
                code = get_target(&b->record.targets[i], bytes.at, bytes.length, r->setup.model->config.hidden, err);
                r->edits.done += !b->step;
                r->edits.at_start += !b->step;
            }
            done[u] &= (uint8_t)(found != 0);
        }
    }
    er_text_free(&bytes);
    return code;
}

static int copy_values(er_batch *b, er_err *err)
{
    const int64_t d = b->r->setup.model->config.hidden;
    ER_FREE(b->values);
    ER_TRY(er_alloc(&b->values, (size_t)(b->applied * d), err));
    for (int64_t i = 0; i < b->applied; i++) {
        const float *value = b->record.targets[b->apply[i]].value;
        if (value) memcpy(b->values + i * d, value, (size_t)d * sizeof *value);
    }
    return 0;
}

/* BLUE, before its second layer: rank 0 forgets the targets of the first. */
static int forget_targets(er_batch *b, er_err *err)
{
    if (b->r->w->rank != 0) return 0;
    for (int64_t i = 0; i < b->applied; i++) {
        er_target *t = &b->record.targets[b->apply[i]];
        er_target_free(t);
        memset(t, 0, sizeof *t);
    }
    ER_FREE(b->held);
    return er_alloc(&b->held, (size_t)b->applied, err);
}

/* Its requests are in the model already: one without a target here is held where it is, and did not fail. */
static int gather_again(er_batch *b, er_err *err)
{
    if (b->r->w->rank != 0) return 0;
    for (int64_t i = 0; i < b->applied; i++) {
        er_target *t = &b->record.targets[b->apply[i]];
        b->held[i] = t->value == NULL;
        t->failed = 0;
    }
    return copy_values(b, err);
}

int er_batch_agree_applied(er_batch *b, er_err *err)
{
    er_run *r = b->r;
    for (int64_t i = 0; r->w->rank == 0 && i < b->count; i++) b->failed[i] = b->record.targets[i].failed != 0;
    ER_TRY(er_world_bcast(r->w, b->failed, b->count, 0, err));
    b->applied = 0;
    for (int64_t i = 0; i < b->count; i++)
        if (!b->failed[i]) b->apply[b->applied++] = i;
    if (r->w->rank == 0) b->record.applied = b->applied;
    return 0;
}

int er_batch_gather(er_batch *b, er_err *err)
{
    er_run *r = b->r;
    if (b->step) return gather_again(b, err);
    for (int64_t i = 0; r->w->rank == 0 && i < b->count; i++) {
        er_target *t = &b->record.targets[i];
        if (!t->failed && !t->value) {
            t->failed = 1;
            snprintf(t->reason, sizeof t->reason, "no target was found");
        }
    }
    ER_TRY(er_batch_agree_applied(b, err));
    if (r->w->rank != 0) return 0;
    return copy_values(b, err);
}

int er_batch_targets(er_batch *b, er_err *err)
{
    er_run *r = b->r;
    int64_t units = er_batch_units(b, b->count);
    uint8_t *done = NULL;
    er_units phase = {"targets", units, NULL, target_unit, sink_targets, b};
    double start = er_seconds();
    er_stabilise_at(&b->at, &r->edit, b->step);
    b->target_state = r->setup.editor->clean_targets ? r->base : b->state;
    int code = b->step ? er_overlay_state(&r->overlay, &b->target_state, err) : 0;
    if (!code && b->step) code = forget_targets(b, err);
    if (!code) code = er_alloc(&done, (size_t)units, err);
    if (!code && r->w->rank == 0 && is_shared(b)) code = er_cache_refresh(r->cache, err);
    if (!code && r->w->rank == 0) code = stored_targets(b, done, units, err);
    phase.done = done;
    code = er_world_agree(r->w, code, err);
    if (!code) code = er_world_units(r->w, &phase, err);
    er_free(done);
    b->seconds[0] += er_seconds() - start;
    if (is_shared(b)) er_run_share(r, r->setup.job.edit.mode != ER_JOB_SINGLE);
    if (code) return code;
    return er_world_agree(r->w, er_batch_gather(b, err), err);
}
