/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a job file and, behind a line "===", as its hparams file. A job that is accepted must be written and
 * read back to the same job. */
#define _GNU_SOURCE /* memfd_create, memmem */
#include "base/file.h"
#include "jobs/job.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct hyper {
    er_int_list layers, lengths;
    double v_lr, threshold;
    int64_t steps;
    int adjust, token;
    const char *name, *file;
} hyper;

static const er_option rows[] = {
    {"layers", ER_OPT_INT_LIST, offsetof(hyper, layers), "4-8", .high = 200},
    {"context_template_length_params", ER_OPT_INT_LIST, offsetof(hyper, lengths), NULL, .help = ""},
    {"v_lr", ER_OPT_DOUBLE, offsetof(hyper, v_lr), "0.5", .high = 100},
    {"nullspace_threshold", ER_OPT_DOUBLE, offsetof(hyper, threshold), NULL, .help = ""},
    {"v_num_grad_steps", ER_OPT_INT, offsetof(hyper, steps), "25", .low = 1, .high = 1000},
    {"mom2_adjustment", ER_OPT_BOOL, offsetof(hyper, adjust), "true", .help = ""},
    {"fact_token", ER_OPT_CHOICE, offsetof(hyper, token), "last", .choices = "last|subject_last"},
    {"name", ER_OPT_TEXT, offsetof(hyper, name), NULL, .help = ""},
    {"P_loc", ER_OPT_PATH, offsetof(hyper, file), NULL, .help = ""},
};

static int table_of(void *context, const char *method, er_option_table *out, int64_t *batch_most, er_err *err)
{
    if (!*method) return er_fail(err, ER_E_INPUT, "no method");
    *batch_most = method[0] == 'r';
    *out = (er_option_table){"editor.", rows, sizeof rows / sizeof *rows, context, NULL};
    return 0;
}

static void memory_file(char path[64], int *descriptor, const char *bytes, size_t n)
{
    *descriptor = memfd_create("fuzz", 0);
    if (*descriptor < 0 || write(*descriptor, bytes, n) != (ssize_t)n) abort();
    snprintf(path, 64, "/proc/self/fd/%d", *descriptor);
}

static er_hash hash_of(const er_job *job)
{
    er_hasher *h = NULL;
    ER_ALWAYS(er_hasher_new(&h, NULL) == 0);
    er_job_hash(h, job, 0);
    er_hash out = er_hasher_end(h);
    er_hasher_free(h);
    return out;
}

static void read_back(const er_job *job, er_arena *arena)
{
    hyper h = {.v_lr = 0};
    er_job again = {.path = NULL};
    er_err err = ER_ERR_INIT;
    er_text first = ER_TEXT_INIT, second = ER_TEXT_INIT;
    char path[64];
    int descriptor = -1;
    const er_job_editor editor = {.table = table_of, .context = &h};
    ER_ALWAYS(er_job_dump(&first, job, 1, &err) == 0);
    memory_file(path, &descriptor, first.at, first.length);
    if (er_job_read(&again, path, &editor, NULL, 0, arena, &err)) {
        fprintf(stderr, "%s\n%s\n", err.text, first.at);
        abort();
    }
    er_hash a = hash_of(job), b = hash_of(&again);
    ER_ALWAYS(er_job_dump(&second, &again, 1, &err) == 0);
    ER_ALWAYS(strcmp(first.at, second.at) == 0);
    ER_ALWAYS(er_hash_equal(&a, &b));
    close(descriptor);
    er_text_free(&first);
    er_text_free(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char border[] = "\n===\n";
    hyper h = {.v_lr = 0};
    er_job job = {.path = NULL};
    er_err err = ER_ERR_INIT;
    er_arena *arena = NULL;
    char path[64], hparams[64], set[96] = "editor.hparams=null"; /* no other file is ever opened */
    int job_file = -1, hparams_file = -1;
    const char *text = (const char *)data, *cut = memmem(data, size, border, 5), *sets[] = {set};
    const er_job_editor editor = {.table = table_of, .context = &h};
    memory_file(path, &job_file, text, cut ? (size_t)(cut - text) : size);
    if (cut) {
        memory_file(hparams, &hparams_file, cut + 5, size - (size_t)(cut + 5 - text));
        snprintf(set, sizeof set, "editor.hparams=%s", hparams);
    }
    ER_ALWAYS(er_arena_new(&arena, 1 << 14, &err) == 0);
    int code = er_job_read(&job, path, &editor, sets, 1, arena, &err);
    ER_ALWAYS((code != 0) == (err.text[0] != 0));
    if (!code) read_back(&job, arena);
    er_arena_free(arena);
    close(job_file);
    if (hparams_file >= 0) close(hparams_file);
    ER_ALWAYS(er_memory_live() == 0);
    return 0;
}
