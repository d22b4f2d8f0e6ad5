/* SPDX-License-Identifier: Apache-2.0 */
/* A sweep as a Slurm array: the script, and its submission. */
#define _GNU_SOURCE
#include "runner/sweep_parts.h"

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"

#include <errno.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* 'text' for a shell. */
static int put_quoted(er_text *t, const char *text, er_err *err)
{
    ER_TRY(er_text_add(t, "'", err));
    for (; *text; text++) ER_TRY(er_text_bytes(t, *text == '\'' ? "'\\''" : text, *text == '\'' ? 4 : 1, err));
    return er_text_add(t, "'", err);
}

/* --- the head ---------------------------------------------------------------------------------------------------- */

/* "--time=2:00" has the name "time". */
static int same_name(const char *a, const char *b)
{
    size_t n = strcspn(a, "= "), m = strcspn(b, "= ");
    return n == m && !strncmp(a, b, n);
}

/* A line of our own, where the user gave none of that name. */
static int put_option(er_text *t, const er_sweep_options *o, const char *option, er_err *err)
{
    for (size_t i = 0; i < o->sbatch_count; i++)
        if (same_name(o->sbatch[i], option)) return 0;
    return er_text_format(t, err, "#SBATCH %s\n", option);
}

static int put_head(er_text *t, const er_sweeping *s, const er_sweep_options *o, const char *array, er_err *err)
{
    const char *slash = strrchr(s->file.out, '/');
    char option[PATH_MAX + 64];
    ER_TRY(er_text_add(t, "#!/bin/bash\n# Written by errata sweep --slurm. One task per point; #SBATCH lines give way "
                          "to SBATCH_* variables\n# (SBATCH_TIMELIMIT, ...) and to options of sbatch.\n",
                       err));
    snprintf(option, sizeof option, "--job-name=errata-%.100s", slash ? slash + 1 : s->file.out);
    ER_TRY(put_option(t, o, option, err));
    snprintf(option, sizeof option, "--array=%s", array);
    ER_TRY(put_option(t, o, option, err));
    ER_TRY(put_option(t, o, "--ntasks=1", err));
    ER_TRY(put_option(t, o, "--requeue", err));
    ER_TRY(put_option(t, o, "--open-mode=append", err));
    ER_TRY(put_option(t, o, "--signal=USR1@120", err));
    snprintf(option, sizeof option, "--output=%.3000s/slurm-%%A_%%a.log", s->file.out);
    ER_TRY(put_option(t, o, option, err));
    for (size_t i = 0; i < o->sbatch_count; i++) ER_TRY(er_text_format(t, err, "#SBATCH %s\n", o->sbatch[i]));
    return 0;
}

/* --- the command ------------------------------------------------------------------------------------------------- */

static int put_command(er_text *t, const er_sweeping *s, const er_sweep_options *o, int64_t tasks, er_err *err)
{
    char exe[PATH_MAX] = "errata", path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n > 0) exe[n] = 0;
    ER_TRY(er_text_add(t, "\nerrata=${ERRATA:-", err));
    ER_TRY(put_quoted(t, exe, err));
    ER_TRY(er_text_add(t, "}\nsrun --mpi=\"${ERRATA_MPI:-pmix}\" \"$errata\" sweep ", err));
    ER_TRY(put_quoted(t, realpath(s->file.path, path) ? path : s->file.path, err));
    /* halving needs every process at every rung: tasks then take any point that is free */
    if (!s->file.rungs.count)
        ER_TRY(er_text_format(t, err, " --task \"$SLURM_ARRAY_TASK_ID/%lld\"", (long long)tasks));
    if (o->force) ER_TRY(er_text_add(t, " --force", err));
    if (o->retry) ER_TRY(er_text_add(t, " --retry", err));
    if (o->parallel) ER_TRY(er_text_format(t, err, " --parallel %lld", (long long)o->parallel));
    for (size_t i = 0; i < o->set_count; i++) {
        ER_TRY(er_text_add(t, " --set ", err));
        ER_TRY(put_quoted(t, o->sets[i], err));
    }
    return er_text_add(t, " &\n"
                          "step=$!\n"
                          "trap 'kill -USR1 $step 2>/dev/null' USR1 TERM # srun passes it to every rank\n"
                          "while wait $step; kill -0 $step 2>/dev/null; do :; done # a trap ends a wait early\n"
                          "wait $step; code=$?\n"
                          "# 75: everything is saved, the point goes on when it is started again. A preempted task is\n"
                          "# in the queue already, and a cancelled one would come back to life\n"
                          "state=$(scontrol -o show job \"$SLURM_JOB_ID\" | grep -o 'JobState=[A-Z]*')\n"
                          "[ $code != 75 ] || [ \"$state\" != JobState=RUNNING ] ||\n"
                          "    scontrol requeue \"${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}\"\n"
                          "exit $code\n", err);
}

static int put_script(er_text *t, const er_sweeping *s, const er_sweep_options *o, const er_table *table, er_err *err)
{
    er_text array = ER_TEXT_INIT;
    int state = o->retry ? ER_POINT_FAILED : ER_POINT_WAITING;
    int code = er_table_array(&array, table, state, err);
    if (!code && !array.length)
        code = er_fail(err, ER_E_USAGE, "%s: no point is %s", s->file.out, o->retry ? "failed" : "left");
    if (!code) code = put_head(t, s, o, array.at, err);
    if (!code) code = put_command(t, s, o, er_table_tasks(table), err);
    er_text_free(&array);
    return code;
}

/* --- submission -------------------------------------------------------------------------------------------------- */

static int submit(const char *script, er_err *err)
{
    char program[] = "sbatch", *path = NULL;
    pid_t pid = 0, ended;
    int status = 0;
    ER_TRY(er_strdup(&path, script, err));
    char *const arguments[] = {program, path, NULL};
    int failed = posix_spawnp(&pid, program, NULL, NULL, arguments, environ);
    er_free(path);
    if (failed)
        return er_fail(err, ER_E_IO, "sbatch cannot be run: %s; the script is %s", strerror(failed), script);
    do ended = waitpid(pid, &status, 0);
    while (ended < 0 && errno == EINTR);
    if (ended < 0) return er_fail(err, ER_E_IO, "sbatch: %s", strerror(errno));
    if (WIFEXITED(status) && !WEXITSTATUS(status)) return 0;
    return er_fail(err, ER_E_IO, "sbatch failed with status %d; the script is %s",
                   WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), script);
}

int er_sweep_slurm(er_sweeping *s, const er_sweep_options *o, const er_table *table, er_err *err)
{
    er_text script = ER_TEXT_INIT;
    char *path = NULL;
    int code = put_script(&script, s, o, table, err);
    if (!code && o->dry_run) {
        fwrite(script.at, 1, script.length, stdout);
        code = fflush(stdout) ? er_fail(err, ER_E_IO, "stdout: cannot be written") : 0;
    } else if (!code) {
        code = er_path_join(&path, s->file.out, "sweep.sbatch", err);
        if (!code) code = er_save_bytes(path, script.at, script.length, err);
        if (!code) code = submit(path, err);
        if (!code) er_log(ER_LOG_INFO, "submitted: errata sweep status %s", s->file.out);
    }
    er_free(path);
    er_text_free(&script);
    return code;
}
