/* SPDX-License-Identifier: Apache-2.0 */
/* What is left of a sweep, ready to be given again. */
#include "base/memory.h"
#include "runner/sweep.h"

#include <stdio.h>

int64_t er_table_tasks(const er_table *t)
{
    enum { ARRAY_MOST = 1000 }; /* Slurm's own default of MaxArraySize is 1001 */
    return t->count < ARRAY_MOST ? t->count : ARRAY_MOST;
}

int er_table_array(er_text *out, const er_table *t, int state, er_err *err)
{
    int64_t tasks = er_table_tasks(t);
    uint8_t *wanted = NULL;
    int any = 0;
    ER_TRY(er_alloc(&wanted, (size_t)tasks + 1, err));
    for (int64_t p = 0; p < t->count; p++) wanted[p % tasks] |= t->points[p].state == state;
    int code = 0;
    for (int64_t i = 0; !code && i < tasks; i++) {
        int64_t last = i;
        if (!wanted[i]) continue;
        while (wanted[last + 1]) last++;
        code = er_text_format(out, err, last > i ? "%s%lld-%lld" : "%s%lld", any++ ? "," : "", (long long)i + 1,
                              (long long)last + 1);
        i = last;
    }
    er_free(wanted);
    return code;
}

static int put_names(er_text *out, const er_table *t, int state, er_err *err)
{
    int any = 0;
    for (int64_t p = 0; p < t->count; p++)
        if (t->points[p].state == state)
            ER_TRY(er_text_format(out, err, "%s%s", any++ ? "," : "", t->points[p].name));
    return 0;
}

static int put_lists(er_text *out, const er_table *t, int state, const char *word, const char *option, er_err *err)
{
    ER_TRY(er_text_format(out, err, "%s: %s--points ", word, option));
    ER_TRY(put_names(out, t, state, err));
    ER_TRY(er_text_format(out, err, "\n%s: --array=", word));
    ER_TRY(er_table_array(out, t, state, err));
    return er_text_format(out, err, " with %s--task $SLURM_ARRAY_TASK_ID/%lld\n", option, (long long)er_table_tasks(t));
}

/* Which points the next rung takes is known to whoever runs it. */
static int put_halving(er_text *out, const er_table *t, er_err *err)
{
    er_point best;
    int64_t rungs = 0;
    for (int64_t p = 0; p < t->count; p++)
        if (er_point_rungs(&t->points[p]) > rungs) rungs = er_point_rungs(&t->points[p]);
    if (!rungs) return 0;
    ER_TRY(er_table_winner(&best, t, err));
    int ended = best.state == ER_POINT_DONE;
    er_point_free(&best);
    if (ended) return 0;
    return er_text_format(out, err, "halving: %lld rungs begun and no winner yet: give the sweep again to go on\n",
                          (long long)rungs);
}

int er_table_left(er_text *out, const er_table *t, er_err *err)
{
    long long n[4] = {0};
    for (int64_t p = 0; p < t->count; p++) n[t->points[p].state]++;
    ER_TRY(er_text_format(out, err, "%lld points: %lld done, %lld failed, %lld running, %lld left\n",
                          (long long)t->count, n[ER_POINT_DONE], n[ER_POINT_FAILED], n[ER_POINT_RUNNING],
                          n[ER_POINT_WAITING]));
    if (n[ER_POINT_WAITING]) ER_TRY(put_lists(out, t, ER_POINT_WAITING, "left", "", err));
    if (n[ER_POINT_FAILED]) ER_TRY(put_lists(out, t, ER_POINT_FAILED, "failed", "--retry ", err));
    return put_halving(out, t, err);
}
