/* SPDX-License-Identifier: Apache-2.0 */
/* bench_growth [--quick] [--model PATH] [--facts FILE] [--templates FILE] [--csv FILE]
 * What an edit costs behind many others. growth.sh calls this.
 *
 * 1. AlphaEdit on the model, layers 4-8, batches of 100, 0 to 1,900 edits before: targets and keys of a few edits, which no
 *    history enters, and the batch's solves and rounding of all layers behind a history filled with random keys whose
 *    second moment has a spectrum, projected onto all directions but one (a larger system than any threshold leaves).
 * 2. The solve alone at f = 14336, d = 4096, batches of 100, 1,000 to 10,000 edits before: Llama-3-8B's. */
#include "phases.h"

#include "base/log.h"
#include "base/memory.h"
#include "editors/history.h"
#include "model/kernels.h"
#include "runner/cost.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 100, LAYERS = 5, JOIN = 500 };

typedef struct options {
    int quick;
    FILE *csv;
} options;

/* A history and what a solve behind it needs. */
typedef struct growth {
    int64_t f, d, drawn, joined;
    er_eigen eigen;
    er_history *history;
    float *keys, *w; /* (JOIN, f); (d, f) */
    double *v, *c;   /* (BATCH, f); (f) */
    er_update update;
} growth;

/* Keys whose mean of k k^T has the eigenpairs: coordinates of variance lambda, turned by the reflection. */
static void draw(growth *g, int64_t n)
{
    for (int64_t k = 0; k < n; k++) {
        for (int64_t i = 0; i < g->f; i++)
            g->c[i] = sqrt(12.0 * g->eigen.values[i]) * bench_uniform((uint64_t)++g->drawn);
        double dot = 0, length = 0;
        for (int64_t i = 0; i < g->f; i++) {
            const double wi = bench_uniform((uint64_t)i + 1);
            dot += wi * g->c[i];
            length += wi * wi;
        }
        for (int64_t i = 0; i < g->f; i++)
            g->keys[k * g->f + i] = (float)(g->c[i] - 2 * bench_uniform((uint64_t)i + 1) * dot / length);
    }
}

static void growth_close(growth *g)
{
    er_history_drop(g->history);
    er_eigen_free(&g->eigen);
    er_update_free(&g->update);
    er_free(g->keys);
    er_free(g->w);
    er_free(g->v);
    er_free(g->c);
}

static int growth_open(growth *g, int64_t f, int64_t d, er_err *err)
{
    const er_keep keep = {ER_KEEP_RANK, (double)(f - 1)};
    *g = (growth){.f = f, .d = d, .update = {.kind = ER_UPDATE_FACTORS, .outputs = d, .inputs = f, .rank = BATCH}};
    ER_TRY(bench_reflection(&g->eigen, f, err));
    for (int64_t i = 0; i < f; i++) g->eigen.values[i] = exp(-9.0 * (double)(f - 1 - i) / (double)f);
    int code = er_history_make(&g->history, &g->eigen, &keep, 1.0, f, err);
    if (!code) code = er_alloc(&g->keys, (size_t)(JOIN * f), err);
    if (!code) code = er_alloc(&g->w, (size_t)(d * f), err);
    if (!code) code = er_alloc(&g->v, (size_t)(BATCH * f), err);
    if (!code) code = er_alloc(&g->c, (size_t)f, err);
    if (!code) code = er_update_room(&g->update, err);
    for (int64_t i = 0; !code && i < d * BATCH; i++) g->update.u[i] = (float)bench_uniform((uint64_t)i);
    return code;
}

static int fill(growth *g, int64_t edits, er_err *err)
{
    while (g->joined < edits) {
        const int64_t n = edits - g->joined < JOIN ? edits - g->joined : JOIN;
        draw(g, n);
        ER_TRY(er_history_join(g->history, g->keys, n, err));
        g->joined += n;
    }
    return 0;
}

/* One batch: its solve behind what has joined, its rounding into the weights, and its keys join. */
static int solve(growth *g, sample *out, er_err *err)
{
    const er_config c = {.inner = g->f, .hidden = g->d};
    double condition;
    bench_watch w;
    draw(g, 1);
    ER_TRY(er_history_solve(g->history, g->keys, 1, g->v, &condition, err)); /* what of the history is not factored yet */
    draw(g, BATCH);
    bench_start(&w);
    ER_TRY(er_history_solve(g->history, g->keys, BATCH, g->v, &condition, err));
    for (int64_t i = 0; i < BATCH * g->f; i++) g->update.v[i] = (float)g->v[i];
    er_update_apply(g->w, &g->update, NULL, NULL);
    ER_TRY(er_history_join(g->history, g->keys, BATCH, err));
    bench_end(&w, out);
    out->flops = er_cost_solve_layer(&c, ER_COST_SOLVE_HISTORY, BATCH, (double)g->joined) + er_cost_apply(&c, BATCH);
    /* rows are projected by taking away the one direction that P drops; the model counts half of all directions */
    if (2 * (g->joined + BATCH) <= g->f - 1) out->flops -= 2.0 * (double)BATCH * (double)g->f * ((double)g->f - 2);
    g->joined += BATCH;
    return 0;
}

/* --- an edit of the model ---------------------------------------------------------------------------------------- */

static double least(double a, double b) { return a < b ? a : b; }

/* Targets and keys do the same work behind any history: their seconds are the least of all points, so that a busy moment
 * does not look like growth; each point's own stand beside them. */
static int of_the_model(bench *b, const options *o, er_err *err)
{
    static const int64_t all[] = {0, 500, 1000, 1900}, few[] = {0, 1900};
    enum { POINTS = sizeof all / sizeof *all };
    const int64_t *points = o->quick ? few : all;
    const int count = o->quick ? 2 : POINTS;
    const er_config *c = &b->model->config;
    const int64_t edits = o->quick ? 1 : 4;
    sample target[POINTS] = {{0}}, key[POINTS] = {{0}}, solves[POINTS] = {{0}};
    double best = INFINITY, best_cpu = INFINITY;
    growth g;
    int code = growth_open(&g, c->inner, c->hidden, err);
    for (int i = 0; !code && i < count; i++) {
        const phase targets = {.size = edits, .more = 8}, keys = {.size = edits};
        code = phase_targets(b, &targets, &target[i], err);
        if (!code) code = phase_keys(b, &keys, &key[i], err);
        if (!code) code = fill(&g, points[i], err);
        if (!code) code = solve(&g, &solves[i], err);
        best = least(best, (target[i].seconds + key[i].seconds) / (double)edits);
        best_cpu = least(best_cpu, (target[i].cpu + key[i].cpu) / (double)edits);
    }
    growth_close(&g);
    ER_TRY(code);
    printf("an edit of %s, layers 4-8, in batches of %d: seconds (CPU)\n%8s %20s %24s %22s %8s\n", b->model_path, BATCH,
           "before", "targets and keys", "solves of all layers", "together", "growth");
    if (o->csv) fprintf(o->csv, "part,f,before,seconds,cpu_seconds,growth_by_cpu\n");
    for (int i = 0; i < count; i++) {
        const double one = (target[i].seconds + key[i].seconds) / (double)edits;
        const double one_cpu = (target[i].cpu + key[i].cpu) / (double)edits;
        const double s = LAYERS * solves[i].seconds / BATCH, s_cpu = LAYERS * solves[i].cpu / BATCH;
        const double first = best_cpu + LAYERS * solves[0].cpu / BATCH;
        printf("%8lld %10.4f (%7.4f) %14.5f (%7.5f) %12.4f (%7.4f) %8.4f\n", (long long)points[i], one, one_cpu, s, s_cpu,
               best + s, best_cpu + s_cpu, (best_cpu + s_cpu) / first);
        if (o->csv)
            fprintf(o->csv, "edit,%lld,%lld,%.6g,%.6g,%.5f\n", (long long)c->inner, (long long)points[i], best + s,
                    best_cpu + s_cpu, (best_cpu + s_cpu) / first);
    }
    printf("growth: by CPU time, the best targets and keys of all points with each point's solves, against the first\n");
    return 0;
}

/* --- the solve of a large layer ---------------------------------------------------------------------------------- */

static int of_the_solve(const bench *b, const options *o, er_err *err)
{
    static const int64_t points[] = {0, 1000, 2000, 5000, 7000, 10000};
    enum { POINTS = sizeof points / sizeof *points };
    const int64_t f = o->quick ? 1792 : 14336, d = o->quick ? 512 : 4096, part = o->quick ? 8 : 1;
    growth g;
    int code = growth_open(&g, f, d, err);
    printf("a solve of one layer, f = %lld, d = %lld, %d edits, with rounding and the keys' joining\n%8s %9s %9s %11s %9s "
           "%7s %9s\n", (long long)f, (long long)d, BATCH, "before", "seconds", "CPU s", "GF needed", "dgemm", "of CPU",
           "peak MiB");
    if (o->csv) fprintf(o->csv, "part,f,before,seconds,cpu_seconds,gflop_needed,dgemm_per_cpu_s,share_of_cpu,peak_mib\n");
    for (int i = 0; !code && i < POINTS; i++) {
        sample s = {0};
        code = fill(&g, points[i] / part, err);
        if (code) break;
        const rate before = rates_measure(RATE_DGEMM, b->threads);
        code = solve(&g, &s, err);
        const rate after = rates_measure(RATE_DGEMM, b->threads);
        const double yard = (before.cpu + after.cpu) / 2, share = s.flops / s.cpu / yard;
        if (code) break;
        printf("%8lld %9.3f %9.3f %11.3f %9.1f %6.0f%% %9.0f\n", (long long)(g.joined - BATCH), s.seconds, s.cpu,
               1e-9 * s.flops, 1e-9 * yard, 100 * share, s.peak);
        fflush(stdout);
        if (o->csv)
            fprintf(o->csv, "solve,%lld,%lld,%.6g,%.6g,%.6g,%.6g,%.4f,%.0f\n", (long long)f, (long long)(g.joined - BATCH),
                    s.seconds, s.cpu, 1e-9 * s.flops, 1e-9 * yard, share, s.peak);
    }
    growth_close(&g);
    return code;
}

/* --- main -------------------------------------------------------------------------------------------------------- */

static int read_options(bench *b, options *o, const char **csv, int argc, char **argv)
{
    const struct {
        const char *name, **to;
    } texts[] = {{"--model", &b->model_path}, {"--facts", &b->facts}, {"--templates", &b->templates}, {"--csv", csv}};
    for (int i = 1; i < argc; i++) {
        size_t k = 0;
        if (strcmp(argv[i], "--quick") == 0) {
            o->quick = 1;
            continue;
        }
        while (k < sizeof texts / sizeof *texts && strcmp(argv[i], texts[k].name) != 0) k++;
        if (k == sizeof texts / sizeof *texts || i + 1 == argc) return -1;
        *texts[k].to = argv[++i];
    }
    return 0;
}

int main(int argc, char **argv)
{
    er_err err = ER_ERR_INIT;
    bench b = {.model_path = "cache/SmolLM2-135M-Instruct.Q4_1.gguf", .facts = "jobs/facts/quickstart.json",
               .templates = "tests/fixtures/tiny-templates.json"};
    options o = {0};
    const char *csv = NULL;
    rates_choose_blas(argv);
    if (read_options(&b, &o, &csv, argc, argv))
        return fprintf(stderr, "usage: %s [--quick] [--model PATH] [--facts FILE] [--templates FILE] [--csv FILE]\n",
                       argv[0]), 2;
    b.threads = omp_get_max_threads();
    if (er_kernels_start(NULL) || rates_start(b.threads)) return fprintf(stderr, "bench_growth: cannot start\n"), 1;
    if (csv && !(o.csv = fopen(csv, "a"))) return fprintf(stderr, "bench_growth: %s cannot be written\n", csv), 1;
    int code = bench_open(&b, &err);
    if (!code) code = of_the_model(&b, &o, &err);
    bench_close(&b); /* its memory is not the solve's */
    if (!code) code = of_the_solve(&b, &o, &err);
    if (o.csv && fclose(o.csv)) code = 1;
    rates_stop();
    if (code) fprintf(stderr, "bench_growth: %s\n", err.text);
    return code != 0;
}
