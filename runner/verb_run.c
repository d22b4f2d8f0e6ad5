/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"
#include "runner/run.h"
#include "runner/verbs.h"

static const er_flag flags[] = {
    {"set", "KEY=VALUE", "overrides a key of the job file; may be repeated"},
    {"output", "md|csv|tex", "how the table is printed (also -o); default: text"},
    {"force", NULL, "measure statistics although there are too few tokens"},
    {0},
};

static int call(er_world *w, const er_args *args, int *exit_code, er_err *err)
{
    const char **sets = NULL;
    size_t set_count = 0;
    int64_t failed = 0;
    er_run_options options = {.force = er_args_get(args, "force") != NULL, .table = er_args_get(args, "output")};
    int code = er_args_all(&sets, &set_count, args, "set", err);
    if (!code) code = er_run_job(w, args->at[0], sets, set_count, &options, &failed, err);
    er_free(sets);
    if (!code && failed) *exit_code = 3;
    return code;
}

const er_verb er_verb_run = {"run", "JOB", "edit and score; an unfinished run of the same job is continued", 1, 1, 1, 1,
                             flags, call};
