/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/memory.h"
#include "runner/sweep.h"
#include "runner/verbs.h"

#include <stdio.h>
#include <string.h>

static const er_flag flags[] = {
    {"set", "KEY=VALUE", "overrides a key of the base job at every point; may be repeated"},
    {"points", "A,B,C", "only these points: names or numbers"},
    {"task", "I/N", "only every N-th point from the I-th on (from 1): a task of an array"},
    {"parallel", "N", "points at a time, each on a group of ranks; default: as the file says"},
    {"slurm", NULL, "submit an array of what is left (with --retry: of what failed) instead of running it here"},
    {"sbatch", "OPTION", "a line of the array's script, as --time=1:00:00; may be repeated"},
    {"dry-run", NULL, "print the checked points, or with --slurm the array's script, and do nothing"},
    {"retry", NULL, "run failed points again"},
    {"output", "csv|json", "how the table is printed (also -o); default: text"},
    {"force", NULL, "measure statistics although there are too few tokens"},
    {0},
};

static int read_task(er_sweep_options *o, const char *text, er_err *err)
{
    char first[24];
    const char *slash = text ? strchr(text, '/') : NULL;
    if (!text) return 0;
    snprintf(first, sizeof first, "%.*s", slash && slash - text < 20 ? (int)(slash - text) : 0, text);
    if (!slash || er_parse_int(&o->task, first) || er_parse_int(&o->tasks, slash + 1) || o->task < 1 ||
        o->tasks < o->task)
        return er_fail(err, ER_E_USAGE, "--task: '%s', expected I/N with I from 1 to N", text);
    if (o->points) return er_fail(err, ER_E_USAGE, "--task beside --points: give one of them");
    return 0;
}

static int print(const er_text *t, er_err *err)
{
    if (t->at) fwrite(t->at, 1, t->length, stdout);
    return fflush(stdout) ? er_fail(err, ER_E_IO, "stdout: cannot be written") : 0;
}

/* errata sweep status DIR, errata sweep report DIR: rank 0 looks. */
static int look(er_world *w, const char *what, const char *folder, const char *format, er_err *err)
{
    er_table t;
    er_text text = ER_TEXT_INIT;
    if (w->rank != 0) return 0;
    if (!er_is_sweep(folder)) return er_fail(err, ER_E_USAGE, "%s: is no folder of a sweep", folder);
    ER_TRY(er_table_read(&t, folder, err));
    int code = 0;
    if (!strcmp(what, "report")) {
        code = er_table_report(&t, err);
        if (!code) er_log(ER_LOG_INFO, "report: %s/report.html, %s/points.csv", folder, folder);
    } else {
        code = er_table_print(&text, &t, format, err);
        if (!code && !format) code = er_table_left(&text, &t, err);
        if (!code) code = print(&text, err);
    }
    er_text_free(&text);
    er_table_free(&t);
    return code;
}

static int call(er_world *w, const er_args *args, int *exit_code, er_err *err)
{
    er_sweep_options o = {.points = er_args_get(args, "points"), .retry = er_args_get(args, "retry") != NULL,
                          .force = er_args_get(args, "force") != NULL, .table = er_args_get(args, "output")};
    const char **sets = NULL, **sbatch = NULL;
    int64_t failed = 0;
    ER_TRY(read_task(&o, er_args_get(args, "task"), err));
    if (o.table && strcmp(o.table, "csv") != 0 && strcmp(o.table, "json") != 0)
        return er_fail(err, ER_E_USAGE, "--output %s: expected csv or json", o.table);
    if (args->count == 2) {
        static const char *const words[] = {"status", "report"};
        const char *near = er_nearest(args->at[0], words, 2);
        if (!strcmp(args->at[0], "status") || !strcmp(args->at[0], "report"))
            return look(w, args->at[0], args->at[1], o.table, err);
        return er_fail(err, ER_E_USAGE, "sweep %.60s: expected status or report%s%s%s", args->at[0],
                       near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    ER_TRY(er_args_number(&o.parallel, args, "parallel", 0, 1, err));
    int code = er_args_all(&sets, &o.set_count, args, "set", err);
    if (!code) code = er_args_all(&sbatch, &o.sbatch_count, args, "sbatch", err);
    o.sets = sets;
    o.sbatch = sbatch;
    o.slurm = er_args_get(args, "slurm") != NULL;
    o.dry_run = er_args_get(args, "dry-run") != NULL;
    if (!code) code = er_sweep_run(w, args->at[0], &o, &failed, err);
    er_free(sets);
    er_free(sbatch);
    if (!code && failed) *exit_code = 3;
    return code;
}

const er_verb er_verb_sweep = {"sweep", "SWEEP|status|report DIR",
                               "run a job at many points; an unfinished sweep is continued", 1, 2, 1, 0, flags, call};
