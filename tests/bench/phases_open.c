/* SPDX-License-Identifier: Apache-2.0 */
#include "phases.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const double enough_seconds = 0.2;

static double cpu_seconds(void)
{
    struct timespec t;
    return clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) ? 0 : (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The highest resident size since it was reset, MiB. */
static double peak_now(void)
{
    char line[256];
    double kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "VmHWM:", 6) == 0) kib = atof(line + 6);
    if (f) fclose(f);
    return kib / 1024;
}

static void reset_peak(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "w");
    if (!f) return; /* then the peak is that of the whole process so far */
    fputs("5", f);
    fclose(f);
}

void bench_start(bench_watch *w)
{
    reset_peak();
    w->cpu = cpu_seconds();
    w->wall = er_seconds();
}

void bench_end(const bench_watch *w, sample *out)
{
    out->seconds = er_seconds() - w->wall;
    out->cpu = cpu_seconds() - w->cpu;
    out->peak = peak_now();
}

int bench_again(const bench_watch *w, sample *out, int64_t *times)
{
    ++*times;
    if (er_seconds() - w->wall < enough_seconds) return 1;
    bench_end(w, out);
    out->seconds /= (double)*times, out->cpu /= (double)*times;
    out->flops /= (double)*times, out->apart /= (double)*times, out->bytes /= (double)*times;
    return 0;
}

static int make_prompts(er_prompt **out, bench *b, const er_templates *templates, enum er_target_rule rule, er_err *err)
{
    ER_TRY(er_arena_take(b->arena, out, (size_t)b->data.count, err));
    for (int64_t i = 0; i < b->data.count; i++)
        ER_TRY(er_prompt_make(&(*out)[i], b->model->tokenizer, &b->data.requests[i], templates, ER_PARITY_NONE, rule,
                              b->arena, err));
    return 0;
}

int bench_open(bench *b, er_err *err)
{
    ER_TRY(er_arena_new(&b->arena, 0, err));
    ER_TRY(er_model_open(&b->model, b->model_path, ER_F32, err));
    ER_TRY(er_view_open(&b->view, b->model, err));
    ER_TRY(er_work_new(&b->work, b->model, err));
    ER_TRY(er_templates_read(&b->rome_texts, b->templates, "rome", b->arena, err));
    ER_TRY(er_templates_read(&b->memit_texts, b->templates, "memit", b->arena, err));
    b->job.data.format = ER_JOB_COUNTERFACT;
    b->job.data.path = b->facts;
    ER_TRY(er_dataset_read(&b->data, &b->job, b->arena, err));
    ER_TRY(make_prompts(&b->rome, b, &b->rome_texts, ER_RULE_ROME, err));
    return make_prompts(&b->memit, b, &b->memit_texts, ER_RULE_FAMILY, err);
}

void bench_close(bench *b)
{
    er_work_free(b->work);
    er_view_close(&b->view);
    er_model_close(b->model);
    er_arena_free(b->arena);
}
