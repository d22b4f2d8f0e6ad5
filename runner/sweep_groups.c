/* SPDX-License-Identifier: Apache-2.0 */
/* Several points at a time: what all of them need is made by all ranks first, then the ranks are split and each group
 * takes points by itself. */
#include "runner/sweep_parts.h"

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "runner/statistics.h"
#include "runner/team.h"

#include <string.h>

int er_sweep_points(er_sweeping *s, const er_sweep_options *o, int64_t most, er_err *err)
{
    for (int64_t n = 0; n < most; n++) {
        int64_t p = -1;
        int lock = -1;
        ER_TRY(er_world_agree(s->g, s->g->rank == 0 ? er_sweep_take(s, &p, &lock, err) : 0, err));
        ER_TRY(er_world_bcast(s->g, &p, sizeof p, 0, err));
        if (p < 0) return 0;
        int code = er_sweep_point_run(s, p, o, err);
        er_lock_release(lock);
        ER_TRY(code);
        ER_TRY(er_world_check_signal(s->g, err));
    }
    return 0;
}

/* --- what all need ----------------------------------------------------------------------------------------------- */

static int same_model(const er_sweeping *s)
{
    for (int64_t p = 1; p < s->file.count; p++)
        if (!er_hash_equal(&s->items[p].model, &s->items[0].model)) return 0;
    return 1;
}

/* Rank 0's view of which points are still to be done and whether any is done, given to all. */
static int list_open(er_sweeping *s, uint8_t *open, int *any_done, er_err *err)
{
    int code = 0;
    for (int64_t p = 0; !code && s->w->rank == 0 && p < s->file.count; p++) {
        er_point point;
        code = er_point_read(&point, s->file.out, s->items[p].name, err);
        if (code) break;
        *any_done |= er_point_settled(&point, &s->items[p].job, -1) == ER_POINT_DONE;
        open[p] = s->chosen[p] && er_point_settled(&point, &s->items[p].job, s->rung) == ER_POINT_WAITING;
        er_point_free(&point);
    }
    ER_TRY(er_world_agree(s->w, code, err));
    ER_TRY(er_world_bcast(s->w, any_done, sizeof *any_done, 0, err));
    return er_world_bcast(s->w, open, s->file.count, 0, err);
}

/* Statistics of one point by all ranks. */
static int measure_point(er_sweeping *s, int64_t p, int force, er_err *err)
{
    er_setup setup = {.quiet = 1, .share = &s->share};
    er_arena *arena = NULL;
    er_job_setting *settings = NULL;
    size_t count = 0;
    int code = er_arena_new(&arena, 1 << 14, err);
    if (!code) code = er_sweep_settings(s, p, 0, arena, &settings, &count, err);
    code = er_world_agree(s->w, code, err);
    if (!code) code = er_setup_settings(&setup, s->w, s->file.base, settings, count, err);
    if (!code) code = er_setup_open(&setup, ER_SETUP_MODEL, err);
    if (!code) code = er_measure(&setup, setup.hyper.layers.at, setup.hyper.layers.count, force, err);
    er_setup_close(&setup);
    er_arena_free(arena);
    return code;
}

/* A failure here is that of each point that needs them: it says so itself. */
static int measure_all(er_sweeping *s, const uint8_t *open, int force, er_err *err)
{
    static const er_hash none;
    for (int64_t p = 0; p < s->file.count; p++) {
        er_err why = ER_ERR_INIT;
        int seen = er_hash_equal(&s->items[p].stats, &none);
        for (int64_t q = 0; q < p && !seen; q++)
            seen = open[q] && er_hash_equal(&s->items[q].stats, &s->items[p].stats);
        int code = open[p] && !seen ? measure_point(s, p, force, &why) : 0;
        if (code != ER_E_SIGNAL && code != ER_E_MPI) continue;
        if (err) *err = why;
        return code;
    }
    return 0;
}

/* The model stays open for all groups; the first point leaves what others take from the cache. */
static int prepare(er_sweeping *s, const er_sweep_options *o, er_err *err)
{
    uint8_t *open = NULL;
    int any_done = 0;
    int64_t left = 0;
    int code = er_world_agree(s->w, er_alloc(&open, (size_t)s->file.count, err), err);
    if (!code) code = list_open(s, open, &any_done, err);
    for (int64_t p = 0; !code && p < s->file.count; p++) left += open[p];
    if (!code && left) code = measure_all(s, open, o->force, err);
    er_free(open);
    if (code || !left) return code;
    return any_done ? 0 : er_sweep_points(s, o, 1, err);
}

/* --- groups ------------------------------------------------------------------------------------------------------ */

/* Together: the model, and the shards that it was spread over. */
static void close_model(er_sweeping *s, er_world *w)
{
    er_share_close(&s->share);
    er_world_shard(w, 1, NULL);
}

/* Models are opened by all ranks together, so that a node keeps one copy, where all points have the same; else each
 * group opens its own. */
static int run_groups(er_sweeping *s, const er_sweep_options *o, int groups, int grain, er_err *err)
{
    er_world part;
    int group = 0;
    if (!same_model(s) || s->w->team) close_model(s, s->w);
    ER_TRY(er_world_split(&part, s->w, groups, grain, &group, err));
    s->g = &part;
    int code = er_sweep_points(s, o, INT64_MAX, err);
    if (code == ER_E_MPI) return code;
    if (!same_model(s) || part.team) close_model(s, &part);
    s->g = s->w;
    er_world_release(&part);
    return er_world_agree(s->w, code, err);
}

/* Ranks that the shards of every point divide, and that can be cut from all; 1 where there are none: the points will say
 * what is wrong. */
static int grain_of(const er_sweeping *s)
{
    int64_t grain = 1;
    for (int64_t p = 0; p < s->file.count; p++) {
        int64_t all = grain;
        while (all % s->items[p].shards && all <= s->w->size) all += grain;
        grain = all;
        if (grain > s->w->size) return 1;
    }
    return s->w->size % grain ? 1 : (int)grain;
}

int er_sweep_groups(er_sweeping *s, const er_sweep_options *o, er_err *err)
{
    int64_t wanted = o->parallel ? o->parallel : s->file.parallel;
    const int grain = grain_of(s), most = s->w->size / grain;
    int groups = wanted < most ? (int)wanted : most;
    if (groups > s->file.count) groups = (int)s->file.count;
    if (wanted > most && s->w->rank == 0)
        er_log(ER_LOG_INFO, "%lld points at a time need %d rank%s each, there are %d", (long long)wanted, grain,
               grain > 1 ? "s" : "", s->w->size);
    if (groups < 2) return er_sweep_points(s, o, INT64_MAX, err);
    ER_TRY(prepare(s, o, err));
    return run_groups(s, o, groups, grain, err);
}
