/* SPDX-License-Identifier: Apache-2.0 */
/* errata VERB ARGUMENTS: settles the environment that libraries read when they load, starts ranks and signals, calls
 * the verb, says what went wrong, and chooses the exit code. */
#define _GNU_SOURCE
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "jobs/job.h"
#include "model/kernels.h"
#include "runner/setup.h"
#include "runner/signals.h"
#include "runner/verbs.h"
#include "runner/version.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const er_verb *const verbs[] = {&er_verb_plan,   &er_verb_stats,  &er_verb_run,    &er_verb_sweep,  &er_verb_eval,
                                       &er_verb_status, &er_verb_report, &er_verb_export, &er_verb_verify,
                                       &er_verb_bundle, &er_verb_diff,   &er_verb_ask,    &er_verb_score,
                                       &er_verb_trace};
enum { VERBS = sizeof verbs / sizeof *verbs };

/* OpenBLAS, libgomp, hwloc and Open MPI read their settings when they load: the program sets what the user has not
 * and starts itself once more. */
static void settle_environment(char **argv)
{
    static const char guard[] = "ERRATA_SETTLED";
    static const char *const settings[][2] = {
#ifdef __x86_64__
        {"OPENBLAS_CORETYPE", "Haswell"}, /* eigenpairs: the same bits on every CPU with AVX2 */
#endif
        {"OPENBLAS_NUM_THREADS", "1"},
        {"OMP_WAIT_POLICY", "passive"}, /* spinning threads starve the other ranks of a shared core */
        {"HWLOC_COMPONENTS", "-gl"},    /* else hwloc looks for X servers */
        {"OMPI_MCA_mpi_yield_when_idle", "1"},
        {"OMPI_MCA_btl_vader_single_copy_mechanism", "none"}, /* needs a right that containers lack; no faster here */
    };
    if (getenv(guard)) return;
    /* most waits for another thread are shorter than going to sleep and waking: a moment's spinning first */
    if (!getenv("OMP_WAIT_POLICY")) setenv("GOMP_SPINCOUNT", "2000", 0);
    /* bits depend on the first two: the user's value does not count */
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        setenv(settings[i][0], settings[i][1], strncmp(settings[i][0], "OPENBLAS", 8) == 0);
    setenv(guard, "1", 1);
    execv("/proc/self/exe", argv);
}

static void print_usage(FILE *out)
{
    fprintf(out, "errata %s edits facts in transformer language models\n\nerrata VERB ARGUMENTS [--OPTION ...]\n\n",
            ER_VERSION);
    for (int i = 0; i < VERBS; i++)
        fprintf(out, "    %-7s %-24s %s\n", verbs[i]->name, verbs[i]->arguments, verbs[i]->help);
    fprintf(out, "\nerrata VERB --help says more. Exit codes: 0 done, 1 failed, 2 usage or job file, 3 finished but "
                 "some edits failed,\n4 stopped by a numerical guard, 5 hash mismatch, 75 stopped by a signal (run again "
                 "to continue).\n");
}

static int print_job_keys(er_err *err)
{
    er_arena *arena = NULL;
    er_hyper hyper;
    er_option_table editor = {0};
    er_text text = ER_TEXT_INIT;
    int code = er_arena_new(&arena, 0, err);
    for (int64_t i = 0; !code && er_editor_at(i); i++) {
        const er_editor *e = er_editor_at(i);
        text.length = 0;
        memset(&hyper, 0, sizeof hyper);
        memset(&editor, 0, sizeof editor);
        code = er_setup_editor_table(&editor, &hyper, e->name, arena, err);
        if (!code && i == 0) {
            code = er_job_help(&text, NULL, 0, err);
            if (!code) printf("\nKeys of the job file (--set KEY=VALUE overrides):\n\n%s", text.at);
            text.length = 0;
        }
        if (!code) code = er_options_help(&text, &editor, 1, 0, err);
        if (!code) printf("\nKeys of method %s:\n\n%s", e->name, text.at);
    }
    er_text_free(&text);
    er_arena_free(arena);
    return code;
}

static int print_help(const er_verb *v, er_err *err)
{
    printf("errata %s %s\n\n%s\n\n", v->name, v->arguments, v->help);
    for (const er_flag *f = v->flags; f->name; f++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", f->name, f->value ? " " : "", f->value ? f->value : "");
        printf("    %-24s %s\n", left, f->help);
    }
    printf("    %-24s %s\n", "--help", "this page");
    return v->job ? print_job_keys(err) : 0;
}

static const er_verb *find_verb(const char *name, er_err *err)
{
    const char *names[VERBS];
    for (int i = 0; i < VERBS; i++) {
        if (!strcmp(verbs[i]->name, name)) return verbs[i];
        names[i] = verbs[i]->name;
    }
    const char *near = er_nearest(name, names, VERBS);
    if (near) er_fail(err, ER_E_USAGE, "unknown verb '%s', did you mean '%s'?", name, near);
    else er_fail(err, ER_E_USAGE, "unknown verb '%s'; errata --help lists them", name);
    return NULL;
}

static int call_verb(er_world *w, const er_verb *v, int argc, char **argv, int *exit_code, er_err *err)
{
    er_args args;
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (!strcmp(argv[i], "--help")) return w->rank == 0 ? print_help(v, err) : 0;
    ER_TRY(er_args_parse(&args, argc, argv, v->flags, err));
    if (args.count < v->least || (v->most >= 0 && args.count > v->most))
        return er_fail(err, ER_E_USAGE, "usage: errata %s %s", v->name, v->arguments);
    if (!v->collective && w->rank != 0) return 0;
    er_world alone = *w;
    if (!v->collective) alone.size = alone.node_ranks = 1;
    return v->call(&alone, &args, exit_code, err);
}

int main(int argc, char **argv)
{
    er_world w = {.size = 1};
    er_err err = ER_ERR_INIT;
    int exit_code = 0;
    settle_environment(argv);
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "help")) {
        print_usage(argc < 2 ? stderr : stdout);
        return argc < 2 ? 2 : 0;
    }
    if (!strcmp(argv[1], "--version")) {
        printf("errata %s\n", ER_VERSION);
        return 0;
    }
    int code = er_world_open(&w, &argc, &argv, &err);
    er_log_setup(w.mpi ? w.rank : -1, ER_LOG_INFO);
    const er_verb *verb = code ? NULL : find_verb(argv[1], &err);
    if (!code && !verb) code = err.code;
    if (!code && er_kernels_start(NULL))
        code = er_fail(&err, ER_E_UNSUPPORTED, "this CPU lacks ERRATA_ISA's instructions, or a thread has an unusual "
                       "floating-point mode");
    if (!code && verb->collective) er_signals_install();
    signal(SIGPIPE, SIG_IGN);
    if (!code) code = call_verb(&w, verb, argc - 2, argv + 2, &exit_code, &err);
    /* one voice: errors are agreed, except those of the messages between ranks */
    if (code && (w.rank == 0 || code == ER_E_MPI)) er_log(ER_LOG_ERROR, "%s", err.text);
    if (code) exit_code = er_exit_code(code);
    if (code == ER_E_MPI) er_world_abort(&w, exit_code);
    er_kernels_stop();
    er_world_close(&w);
    return exit_code;
}
