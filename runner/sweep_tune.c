/* SPDX-License-Identifier: Apache-2.0 */
/* Successive halving, and the winner on facts that nobody tuned on. Who goes on is decided from the state files alone,
 * so that every process, and the same command after any interruption, decides the same. */
#define _DEFAULT_SOURCE
#include "runner/sweep_parts.h"

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- rungs ------------------------------------------------------------------------------------------------------- */

/* Of the points `in` that finished rung r, the best share goes on; the first of equals. What became of a point on a
 * later rung, as a command that goes on with the sweep may find it, takes no part. */
static int choose_next(const er_table *t, int64_t r, double keep, uint8_t *in, er_err *err)
{
    int64_t count = 0, wanted = 0;
    double *value = NULL;
    uint8_t *next = NULL;
    int code = er_alloc(&value, (size_t)t->count, err);
    if (!code) code = er_alloc(&next, (size_t)t->count, err);
    for (int64_t p = 0; !code && p < t->count; p++) {
        value[p] = in[p] ? er_point_rung(&t->points[p], r) : (double)NAN;
        count += in[p];
    }
    if (!code) wanted = (int64_t)ceil(keep * (double)count - 1e-9);
    for (int64_t n = 0; !code && n < (wanted > 1 ? wanted : 1); n++) {
        int64_t best = -1;
        for (int64_t p = 0; p < t->count; p++)
            if (!isnan(value[p]) && (best < 0 || value[p] > value[best])) best = p;
        if (best < 0) break;
        next[best] = 1;
        value[best] = (double)NAN;
    }
    if (!code) memcpy(in, next, (size_t)t->count);
    er_free(value);
    er_free(next);
    return code;
}

/* Rank 0. Points of the rung that are neither done nor failed: mine, which somebody else holds, and others'. */
static int count_unsettled(const er_sweeping *s, const uint8_t *in, const uint8_t *mine, int64_t out[2], er_err *err)
{
    out[0] = out[1] = 0;
    for (int64_t p = 0; p < s->file.count; p++) {
        er_point point;
        if (!in[p]) continue;
        ER_TRY(er_point_read(&point, s->file.out, s->items[p].name, err));
        if (er_point_settled(&point, &s->items[p].job, s->rung) == ER_POINT_WAITING) out[mine[p] ? 0 : 1]++;
        er_point_free(&point);
    }
    return 0;
}

/* One rung until it is settled; *go: it is, and the next may follow. */
static int run_rung(er_sweeping *s, const er_sweep_options *o, const uint8_t *in, const uint8_t *mine, int *go,
                    er_err *err)
{
    for (;;) {
        int64_t left[2] = {0};
        for (int64_t p = 0; p < s->file.count; p++) s->chosen[p] = in[p] && mine[p];
        ER_TRY(er_sweep_groups(s, o, err));
        ER_TRY(er_world_agree(s->w, s->w->rank == 0 ? count_unsettled(s, in, mine, left, err) : 0, err));
        ER_TRY(er_world_bcast(s->w, left, sizeof left, 0, err));
        *go = !left[0] && !left[1];
        if (*go) return 0;
        if (!left[0]) {
            if (s->w->rank == 0)
                er_log(ER_LOG_INFO, "%lld points of this rung are left to other processes: run again when they are "
                       "done", (long long)left[1]);
            return 0;
        }
        usleep(500000); /* held by another process: its next rung needs ours, and ours needs its */
        ER_TRY(er_world_check_signal(s->w, err));
    }
}

static int next_rung(er_sweeping *s, uint8_t *in, er_err *err)
{
    er_table t;
    if (s->w->rank != 0) return 0;
    ER_TRY(er_table_read(&t, s->file.out, err));
    int code = choose_next(&t, s->rung, s->file.keep, in, err);
    er_table_free(&t);
    return code;
}

static int run_rungs(er_sweeping *s, const er_sweep_options *o, uint8_t *in, const uint8_t *mine, int *go, er_err *err)
{
    for (int64_t r = 0; r < s->file.rungs.count; r++) {
        long long count = 0;
        s->rung = r;
        s->facts = s->file.rungs.at[r];
        for (int64_t p = 0; p < s->file.count; p++) count += in[p];
        if (s->w->rank == 0)
            er_log(ER_LOG_INFO, "rung %lld of %lld: %lld points on %lld tuning facts", (long long)r + 1,
                   (long long)s->file.rungs.count, count, (long long)s->facts);
        ER_TRY(run_rung(s, o, in, mine, go, err));
        if (!*go || r + 1 == s->file.rungs.count) return 0;
        ER_TRY(er_world_agree(s->w, next_rung(s, in, err), err));
        ER_TRY(er_world_bcast(s->w, in, s->file.count, 0, err));
    }
    return 0;
}

/* --- the winner -------------------------------------------------------------------------------------------------- */

/* Rank 0. The best point once none is left, -1 before; and whether its reported run is there already. */
static int find_winner(const er_sweeping *s, int64_t *winner, er_err *err)
{
    er_table t;
    er_point best;
    *winner = -1;
    ER_TRY(er_table_read(&t, s->file.out, err));
    int64_t left = 0;
    for (int64_t p = 0; p < t.count; p++)
        left += t.points[p].state != ER_POINT_DONE && t.points[p].state != ER_POINT_FAILED;
    if (!left) *winner = er_table_best(&t);
    int code = *winner >= 0 ? er_table_winner(&best, &t, err) : 0;
    if (!code && *winner >= 0) {
        int there = best.state == ER_POINT_DONE && !strcmp(best.name, s->items[*winner].name) &&
                    er_hash_equal(&best.job, &s->items[*winner].job);
        if (there) *winner = -1;
        er_point_free(&best);
    }
    er_table_free(&t);
    return code;
}

static int lock_best(const er_sweeping *s, int *lock, int *busy, er_err *err)
{
    char *path = NULL;
    er_err held = ER_ERR_INIT;
    ER_TRY(er_path_join(&path, s->file.out, ".best.lock", err));
    int code = er_lock_take(lock, path, &held);
    er_free(path);
    *busy = code && strstr(held.text, "held by");
    if (code && !*busy && err) *err = held;
    return *busy ? 0 : code;
}

static int note_winner(const er_sweeping *s, int64_t p, int code, const er_run_outcome *o, const char *why, er_err *err)
{
    char *folder = NULL;
    ER_TRY(er_path_join(&folder, s->file.out, "best", err));
    const er_point_news news = {s->file.out, s->items[p].name, &s->file.points[p], &s->items[p].job,
                                code ? ER_POINT_FAILED : ER_POINT_DONE, s->file.objective, o, code ? why : NULL, -1,
                                folder};
    int written = er_make_folders(folder, err);
    if (!written) written = er_save_sweep(folder, err);
    if (!written) written = er_point_write(&news, err);
    er_free(folder);
    return written;
}

static int run_winner(er_sweeping *s, int64_t p, const er_sweep_options *o, er_err *err)
{
    er_run_outcome outcome = {0};
    er_err why = ER_ERR_INIT;
    er_run_options options = {.force = o->force, .share = &s->share, .outcome = &outcome};
    er_arena *arena = NULL;
    er_job_setting *settings = NULL;
    int64_t failed = 0;
    int code = er_arena_new(&arena, 1 << 14, err);
    if (!code) code = er_sweep_settings(s, p, 1, arena, &settings, &options.setting_count, err);
    code = er_world_agree(s->w, code, err);
    if (!code) {
        options.settings = settings;
        code = er_run_job(s->w, s->file.base, NULL, 0, &options, &failed, &why);
        if (code == ER_E_SIGNAL || code == ER_E_MPI) {
            if (err) *err = why;
        } else {
            code = s->w->rank == 0 ? note_winner(s, p, code, &outcome, why.text, err) : 0;
            code = er_world_agree(s->w, code, err);
        }
    }
    er_free(outcome.folder);
    er_arena_free(arena);
    return code;
}

static int report_winner(er_sweeping *s, const er_sweep_options *o, er_err *err)
{
    int64_t winner = -1;
    int lock = -1, busy = 0;
    int code = s->w->rank == 0 ? lock_best(s, &lock, &busy, err) : 0;
    if (!code && s->w->rank == 0 && !busy) code = find_winner(s, &winner, err);
    code = er_world_agree(s->w, code, err);
    if (!code) code = er_world_bcast(s->w, &winner, sizeof winner, 0, err);
    if (!code && winner >= 0) {
        if (s->w->rank == 0)
            er_log(ER_LOG_INFO, "the best point, %lld (%s), on the reported facts", (long long)winner + 1,
                   s->items[winner].name);
        code = run_winner(s, winner, o, err);
    }
    er_lock_release(lock);
    return code;
}

int er_sweep_tune(er_sweeping *s, const er_sweep_options *o, er_err *err)
{
    uint8_t *in = NULL, *mine = NULL;
    size_t n = (size_t)s->file.count;
    int go = 1;
    s->tune = s->items[0].tune;
    s->facts = s->tune;
    if (!s->tune) return er_sweep_groups(s, o, err);
    int code = er_alloc(&in, n, err);
    if (!code) code = er_alloc(&mine, n, err);
    code = er_world_agree(s->w, code, err);
    if (!code) {
        memcpy(mine, s->chosen, n);
        memset(in, 1, n);
        code = s->file.rungs.count ? run_rungs(s, o, in, mine, &go, err) : er_sweep_groups(s, o, err);
        memcpy(s->chosen, mine, n);
    }
    if (!code && go) code = report_winner(s, o, err);
    er_free(in);
    er_free(mine);
    return code;
}
