/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of job files share: a folder for them, an editor of their own, good and bad jobs. */
#ifndef ER_TESTS_JOB_COMMON_H
#define ER_TESTS_JOB_COMMON_H

#include "base/file.h"
#include "jobs/job.h"
#include "jobs/job_read.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

typedef struct hyper {
    er_int_list layers, lengths;
    double v_lr, threshold, l2;
    int64_t steps, rank;
} hyper;

static const er_option alpha_rows[] = {
    {"layers", ER_OPT_INT_LIST, offsetof(hyper, layers), "4-8", .high = 200, .help = "edited layers"},
    {"v_num_grad_steps", ER_OPT_INT, offsetof(hyper, steps), "25", .low = 1, .high = 1000, .help = "steps"},
    {"v_lr", ER_OPT_DOUBLE, offsetof(hyper, v_lr), "0.5", .high = 100, .help = "Adam's step"},
    {"nullspace_threshold", ER_OPT_DOUBLE, offsetof(hyper, threshold), NULL, .high = 1e6, .help = "threshold"},
    {"nullspace_rank", ER_OPT_INT, offsetof(hyper, rank), NULL, .low = 1, .high = 1e6, .help = "rank"},
    {"L2", ER_OPT_DOUBLE, offsetof(hyper, l2), "10", .high = 1e6, .help = "ridge"},
    {"context_template_length_params", ER_OPT_INT_LIST, offsetof(hyper, lengths), "[10, 5]", .help = "pairs"},
};

static inline int table_of(void *context, const char *method, er_option_table *out, int64_t *batch_most, er_err *err)
{
    if (strcmp(method, "alphaedit") && strcmp(method, "rome"))
        return er_fail(err, ER_E_INPUT, "editor.method: '%s', expected one of rome, alphaedit", method);
    if (!strcmp(method, "rome")) *batch_most = 1;
    *out = (er_option_table){"editor.", alpha_rows, sizeof alpha_rows / sizeof *alpha_rows, context, NULL};
    return 0;
}

enum { SETS = 4 };

typedef struct world {
    er_arena *arena;
    hyper h;
    er_job job;
    er_err err;
    const char *sets[SETS];
} world;

static char folder[64]; /* a real path: messages hold it */

static inline void write_file(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(er_save_bytes(path, text, strlen(text), NULL), 0);
}

static inline int read_text(world *w, const char *text)
{
    char path[128];
    size_t n = 0;
    const er_job_editor editor = {.table = table_of, .context = &w->h};
    while (n < SETS && w->sets[n]) n++;
    if (!w->arena) assert_int_equal(er_arena_new(&w->arena, 0, NULL), 0);
    write_file("job.yaml", text);
    snprintf(path, sizeof path, "%s/job.yaml", folder);
    return er_job_read(&w->job, path, &editor, w->sets, n, w->arena, &w->err);
}

#define WORLD(...) {.sets = {__VA_ARGS__}}

static const char minimal[] = "model: {path: m}\n"
                              "editor:\n"
                              "  method: alphaedit\n"
                              "data: {format: facts, path: ../d.json}\n";

static inline void good(world *w, const char *text)
{
    if (read_text(w, text)) fail_msg("%s", w->err.text);
}

/* The message of a bad job, with the job file's name as "job". */
static inline void bad_with(const char *set, const char *text, const char *expected)
{
    world w = WORLD(set);
    char whole[1024];
    size_t n = strlen(folder) + strlen("/job.yaml");
    int code = read_text(&w, text);
    snprintf(whole, sizeof whole, "%s%s", strncmp(w.err.text, folder, strlen(folder)) ? "" : "job",
             strncmp(w.err.text, folder, strlen(folder)) ? w.err.text : w.err.text + n);
    assert_string_equal(whole, expected);
    assert_int_equal(code, ER_E_INPUT);
    assert_null(w.job.path); /* written on success only */
    er_arena_free(w.arena);
}

/* minimal with more lines behind; their first is line 5 */
static inline void bad(const char *more, const char *expected)
{
    char text[2048];
    snprintf(text, sizeof text, "%s%s", minimal, more);
    bad_with(NULL, text, expected);
}

static inline int open_folder(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    char *real = realpath(base && strlen(base) < 40 ? base : "/tmp", NULL);
    snprintf(folder, sizeof folder, "%.40s/er-job-XXXXXX", real ? real : "/tmp");
    free(real);
    return !mkdtemp(folder);
}

static inline int close_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"job.yaml", "AlphaEdit.yaml", "authors.json", "h.yaml"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

#endif
