/* SPDX-License-Identifier: Apache-2.0 */
/* What is left of a sweep, ready to be given again. */
#include "runner/sweep.h"

#include <stdio.h>

/* "3-5,9": numbers of the points of a state, as --array of sbatch takes them. */
static int put_array(er_text *out, const er_table *t, int state, er_err *err)
{
    int any = 0;
    for (int64_t p = 0; p < t->count; p++) {
        int64_t last = p;
        if (t->points[p].state != state) continue;
        while (last + 1 < t->count && t->points[last + 1].state == state) last++;
        ER_TRY(er_text_format(out, err, last > p ? "%s%lld-%lld" : "%s%lld", any++ ? "," : "", (long long)p + 1,
                              (long long)last + 1));
        p = last;
    }
    return 0;
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
    ER_TRY(put_array(out, t, state, err));
    return er_text_format(out, err, " with --task $SLURM_ARRAY_TASK_ID/%lld\n", (long long)t->count);
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
    return 0;
}
