/* SPDX-License-Identifier: Apache-2.0 */
/* Which point a group works on next: points are free until somebody holds their lock. */
#define _DEFAULT_SOURCE
#include "runner/sweep_parts.h"

#include "base/file.h"
#include "base/memory.h"

#include <string.h>
#include <unistd.h>

typedef struct seen {
    int open;    /* has to be done, as far as its file says */
    int running; /* somebody is at work on it */
    int done;
} seen;

/* Not done with this content, and not failed. */
static int look_at(const er_sweeping *s, int64_t p, seen *out, er_err *err)
{
    er_point point;
    ER_TRY(er_point_read(&point, s->file.out, s->items[p].name, err));
    int settled = er_point_settled(&point, &s->items[p].job, s->rung);
    out->running = point.state == ER_POINT_RUNNING;
    out->done = settled == ER_POINT_DONE;
    out->open = settled == ER_POINT_WAITING;
    er_point_free(&point);
    return 0;
}

/* Somebody makes the first targets of this class right now, and they are not shared yet. */
static int is_in_the_making(const er_sweeping *s, const seen *all, int64_t p)
{
    int running = 0, done = 0;
    for (int64_t q = 0; q < s->file.count; q++) {
        if (!er_hash_equal(&s->items[q].targets, &s->items[p].targets)) continue;
        running |= all[q].running;
        done |= all[q].done;
    }
    return running && !done;
}

/* *taken stays -1 when somebody holds it or it is no longer open. */
static int try_point(const er_sweeping *s, int64_t p, int64_t *taken, int *lock, int *held_points, er_err *err)
{
    char *path = NULL;
    er_err held = ER_ERR_INIT;
    seen now = {0};
    ER_TRY(er_point_lock_path(&path, s->file.out, s->items[p].name, err));
    int busy = er_lock_take(lock, path, &held);
    er_free(path);
    if (busy && strstr(held.text, "held by")) {
        ++*held_points;
        return 0;
    }
    if (busy) {
        if (err) *err = held;
        return busy;
    }
    int code = look_at(s, p, &now, err);
    if (!code && now.open) {
        *taken = p;
        return 0;
    }
    er_lock_release(*lock);
    *lock = -1;
    return code;
}

static int scan(const er_sweeping *s, seen *all, int64_t *taken, int *lock, int *held_points, er_err *err)
{
    for (int64_t p = 0; p < s->file.count; p++) ER_TRY(look_at(s, p, &all[p], err));
    for (int pass = 0; pass < 2; pass++)
        for (int64_t p = 0; p < s->file.count && *taken < 0; p++) {
            if (!s->chosen[p] || !all[p].open || (pass == 0) == is_in_the_making(s, all, p)) continue;
            ER_TRY(try_point(s, p, taken, lock, held_points, err));
        }
    return 0;
}

/* Who only looks at a point holds its lock for a moment: points that were held are looked at once more. */
int er_sweep_take(const er_sweeping *s, int64_t *taken, int *lock, er_err *err)
{
    seen *all = NULL;
    int held = 1;
    *taken = -1;
    ER_TRY(er_alloc(&all, (size_t)s->file.count, err));
    int code = 0;
    for (int look = 0; look < 2 && !code && held && *taken < 0; look++) {
        if (look) usleep(100000);
        held = 0;
        code = scan(s, all, taken, lock, &held, err);
    }
    er_free(all);
    return code;
}

int er_sweep_reopen(const er_sweeping *s, er_err *err)
{
    for (int64_t p = 0; p < s->file.count; p++) {
        er_point point;
        if (!s->chosen[p]) continue;
        ER_TRY(er_point_read(&point, s->file.out, s->items[p].name, err));
        int failed = point.state == ER_POINT_FAILED;
        er_point_free(&point);
        if (failed) ER_TRY(er_sweep_note(s, p, ER_POINT_WAITING, NULL, NULL, err));
    }
    return 0;
}
