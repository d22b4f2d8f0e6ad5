/* SPDX-License-Identifier: Apache-2.0 */
/* One batch from its first target to its record, or folded from the record that is there. */
#include "runner/batch.h"

#include "base/file.h"
#include "base/memory.h"
#include "runner/guard.h"
#include "runner/team.h"

#include <stdio.h>
#include <string.h>

/* --- opening ----------------------------------------------------------------------------------------------------- */

static int new_histories(er_run *r, er_err *err)
{
    const er_editor *editor = r->setup.editor;
    if (r->w->rank == 0) ER_TRY(er_guard_open(r, err));
    if (!editor->history_new) return 0;
    for (int64_t i = 0; i < r->overlay.count; i++) {
        if (!er_overlay_is_home(&r->overlay, r->w, i)) continue;
        er_layer_stats stats = {r->eigen ? &r->eigen[i] : NULL};
        er_edit_at at;
        er_stabilise_at(&at, &r->edit, i);
        if (r->history[i]) editor->history_free(r->history[i]);
        r->history[i] = NULL;
        ER_TRY(editor->history_new(&r->history[i], &at.edit, at.step, &stats, err));
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
        if (!er_overlay_is_home(&r->overlay, r->w, i)) continue;
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
    int code = r->setup.editor->clean_targets ? er_view_open(&r->clean, r->setup.model, err) : 0;
    if (!code && r->setup.needs & ER_NEEDS_EIGEN) code = read_eigenpairs(r, err);
    if (!code) code = er_alloc(&r->history, (size_t)r->overlay.count, err);
    if (!code && r->w->rank == 0) code = er_alloc(&r->guarded, (size_t)r->overlay.count, err);
    if (!code) code = new_histories(r, err);
    return er_world_agree(r->w, code, err);
}

/* --- a batch that is undone --------------------------------------------------------------------------------------- */

/* Rank 0. The keys of a finished batch become part of what guards hold later ones against. */
static int join_guards(er_run *r, const er_record *c, er_err *err)
{
    for (int64_t i = 0; c->applied && i < r->overlay.count; i++)
        ER_TRY(er_guard_join(r, i, c->layers[i].keys, c->applied, c->layers[i].key_floats, err));
    return 0;
}

/* A record's keys join the histories at their homes. */
static int join_history(er_run *r, er_record *record, er_err *err)
{
    const er_editor *editor = r->setup.editor;
    int64_t applied = record->applied;
    if (!editor->history_add) return 0;
    const int64_t width = editor->key_floats(&r->setup.model->config);
    ER_TRY(er_world_bcast(r->w, &applied, sizeof applied, 0, err));
    for (int64_t i = 0; applied && i < r->overlay.count; i++) {
        float *brought = NULL, *keys = r->w->rank == 0 ? record->layers[i].keys : NULL;
        const int home = er_overlay_home(&r->overlay, r->w, i);
        int code = er_batch_bring(r, home, keys, applied * width, &brought, err);
        if (!code && r->history[i])
            code = editor->history_add(r->history[i], home ? brought : keys, applied, err);
        er_free(brought);
        ER_TRY(er_world_agree(r->w, code, err));
    }
    return 0;
}

static int fold_record(er_run *r, int64_t number, int join, er_err *err)
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
    if (!code && join) code = join_history(r, &record, err);
    if (!code && join && r->w->rank == 0) code = join_guards(r, &record, err);
    er_record_free(&record);
    return er_world_agree(r->w, code, err);
}

int er_batch_undo(er_batch *b, er_err *err)
{
    er_run *r = b->r;
    if (b->marked && er_world_shards(r->w) == 1) {
        er_overlay_undo(&r->overlay);
    } else {
        er_overlay_restore(&r->overlay);
        if (r->setup.job.edit.mode != ER_JOB_SINGLE)
            for (int64_t i = 0; i < b->number; i++) ER_TRY(fold_record(r, i, 0, err));
    }
    for (int64_t i = 0; r->w->rank == 0 && i < r->overlay.count; i++) {
        er_record_layer *l = &b->record.layers[i];
        er_update_free(&l->update);
        er_free(l->keys);
        er_free(l->checks);
        *l = (er_record_layer){.which = ER_MATRIX_DOWN};
    }
    return 0;
}

/* --- the batch --------------------------------------------------------------------------------------------------- */

static int start_record(er_batch *b, er_err *err)
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

static int end_record(er_batch *b, er_err *err)
{
    er_run *r = b->r;
    er_record *c = &b->record;
    ER_TRY(er_overlay_state(&r->overlay, &c->after, err));
    ER_TRY(er_record_write(c, r->ledger, err));
    er_journal *journal = b->journal;
    b->journal = NULL;
    return er_journal_remove(journal, err);
}

static int keep_head(er_batch *b, er_err *err)
{
    static const char *const phases[] = {"targets", "keys", "solve"};
    er_run *r = b->r;
    er_record *c = &b->record;
    ER_TRY(join_guards(r, c, err));
    for (int64_t i = 0; i < r->overlay.count; i++) {
        er_record_layer *l = &c->layers[i];
        er_update_free(&l->update); /* heads are kept without what is large */
        ER_FREE(l->keys);
    }
    for (int64_t i = 0; i < b->count; i++) ER_FREE(c->targets[i].value);
    const double planned[] = {er_forecast_targets(r, b->made), er_forecast_keys(r, c->applied),
                              er_forecast_solves(r, c->applied, c->edits_before)};
    for (int i = 0; i < 3; i++)
        ER_TRY(er_run_time_planned(r, phases[i], b->number, b->seconds[i], planned[i], err));
    r->heads[b->number] = *c;
    memset(c, 0, sizeof *c);
    return 0;
}

static int edit_batch(er_batch *b, er_err *err)
{
    er_run *r = b->r;
    int code = er_arena_new(&b->arena, 0, err);
    if (!code) code = er_alloc(&b->keys, (size_t)r->overlay.count, err);
    if (!code) code = er_batch_prompts(b, err);
    if (!code) code = er_overlay_state(&r->overlay, &b->state, err);
    if (!code && r->w->rank == 0) code = start_record(b, err);
    ER_TRY(er_world_agree(r->w, code, err));
    ER_TRY(er_guarded_batch(b, err));
    const int root = r->w->rank == 0;
    code = er_world_agree(r->w, root ? end_record(b, err) : 0, err);
    if (!code) code = er_batch_history(b, err);
    if (!code && root) code = keep_head(b, err);
    return er_world_agree(r->w, code, err);
}

int er_run_batch(er_run *r, int64_t number, er_err *err)
{
    int code = 0;
    if (r->setup.job.edit.mode == ER_JOB_SINGLE) {
        er_overlay_restore(&r->overlay);
        if (r->history && number >= r->head_count) code = new_histories(r, err);
        ER_TRY(er_world_agree(r->w, code, err));
    }
    if (number < r->head_count)
        return fold_record(r, number, r->history && r->setup.job.edit.mode != ER_JOB_SINGLE, err);
    er_batch b = {.r = r, .number = number};
    er_setup_batch(&r->setup, number, &b.first, &b.count);
    code = edit_batch(&b, err);
    er_record_free(&b.record);
    er_journal_close(b.journal);
    for (int64_t i = 0; b.keys && i < r->overlay.count; i++) er_free(b.keys[i]);
    er_free(b.keys);
    er_free(b.values);
    er_free(b.held);
    er_free(b.join);
    er_free(b.trips);
    for (int64_t i = 0; b.trained && i < r->overlay.count; i++) er_update_free(&b.trained[i]);
    er_free(b.trained);
    er_arena_free(b.arena);
    if (!code) r->head_count = number + 1;
    return code;
}
