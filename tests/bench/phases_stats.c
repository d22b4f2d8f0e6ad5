/* SPDX-License-Identifier: Apache-2.0 */
#include "phases.h"

#include "base/memory.h"
#include "editors/history.h"
#include "model/kernels.h"
#include "runner/cost.h"
#include "stats/corpus.h"
#include "stats/moment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const int64_t measured[] = {4, 5, 6, 7, 8};
static const er_int_list layers = {5, measured};

/* --- statistics ---------------------------------------------------------------------------------------------------- */

static int measure(bench *b, const er_corpus *corpus, er_moment *moments, double *gram, sample *out, er_err *err)
{
    const er_config *c = &b->model->config;
    const double tokens = (double)er_corpus_tokens(corpus), f = (double)c->inner;
    const int64_t blocks = er_corpus_blocks(corpus);
    bench_watch w;
    bench_start(&w);
    for (int64_t i = 0; i < blocks; i++)
        ER_TRY(er_corpus_measure(corpus, i, &b->view, layers.at, layers.count, moments, gram, b->work, err));
    bench_end(&w, out);
    out->flops = tokens * er_cost_statistics(c, &layers, tokens / (double)er_corpus_documents(corpus));
    out->fp64 = tokens * (double)layers.count * f * (f + 1);
    /* a pass of at most 1024 tokens reads the blocks' weights; a block of documents its sums, twice */
    out->bytes = tokens / 1024 * 4 * er_cost_block_matrices(c) * (double)(layers.at[layers.count - 1] + 1) +
                 (double)(blocks * layers.count) * 2 * er_cost_moment(c);
    return 0;
}

int phase_statistics(bench *b, const phase *p, sample *out, er_err *err)
{
    const er_config *c = &b->model->config;
    const er_corpus_options options = {.path = b->corpus, .documents = p->size, .max_tokens = p->more};
    er_corpus *corpus = NULL;
    er_moment moments[8] = {{0}};
    double *gram = NULL;
    ER_TRY(er_corpus_open(&corpus, &options, b->model, err));
    int code = er_alloc(&gram, (size_t)(c->inner * c->inner), err);
    for (int64_t i = 0; !code && i < layers.count; i++) code = er_moment_new(&moments[i], c->inner, err);
    if (!code) code = measure(b, corpus, moments, gram, out, err);
    for (int64_t i = 0; i < layers.count; i++) er_moment_free(&moments[i]);
    er_free(gram);
    er_corpus_close(corpus);
    return code;
}

/* --- solves -------------------------------------------------------------------------------------------------------- */

double bench_uniform(uint64_t i)
{
    uint64_t x = i * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 31) * 0xbf58476d1ce4e5b9u;
    return (double)((x ^ x >> 29) >> 11) * 0x1p-53 - 0.5;
}

int bench_reflection(er_eigen *out, int64_t n, er_err *err)
{
    double *w = NULL, length = 0;
    *out = (er_eigen){.n = n};
    int code = er_alloc(&w, (size_t)n, err);
    if (!code) code = er_alloc(&out->values, (size_t)n, err);
    if (!code) code = er_alloc(&out->vectors, (size_t)(n * n), err);
    for (int64_t i = 0; !code && i < n; i++) {
        w[i] = bench_uniform((uint64_t)i + 1);
        length += w[i] * w[i];
        out->values[i] = (double)(i + 1) / (double)n;
    }
    for (int64_t i = 0; !code && i < n; i++)
        for (int64_t j = 0; j < n; j++)
            out->vectors[i * n + j] = (i == j ? 1.0 : 0.0) - 2 * w[i] * w[j] / length;
    er_free(w);
    if (code) er_eigen_free(out);
    return code;
}

static int solve(const phase *p, er_history *h, float *keys, int64_t batch, double *v, sample *out, er_err *err)
{
    const int64_t f = p->more;
    const double all = (double)(p->size + batch), rows = 2 * all <= (double)f ? all : (double)f;
    er_config c = {.inner = f};
    double condition;
    bench_watch w;
    int64_t times = 0, drawn = 0;
    for (int64_t done = 0; done < p->size;) {
        int64_t n = p->size - done < batch ? p->size - done : batch;
        for (int64_t i = 0; i < n * f; i++) keys[i] = (float)bench_uniform((uint64_t)++drawn);
        ER_TRY(er_history_join(h, keys, n, err));
        done += n;
    }
    for (int64_t i = 0; i < batch * f; i++) keys[i] = (float)bench_uniform((uint64_t)++drawn);
    ER_TRY(er_history_solve(h, keys, batch, v, &condition, err)); /* what of the history is not factored yet */
    bench_start(&w);
    do {
        keys[0] += 0.5f; /* other keys: nothing is left of the solve before */
        ER_TRY(er_history_solve(h, keys, batch, v, &condition, err));
        out->flops += er_cost_solve_layer(&c, ER_COST_SOLVE_HISTORY, (double)batch, (double)p->size);
        out->bytes += 8 * ((double)f * (double)f / 2 + rows * (double)f + rows * rows / 2);
    } while (bench_again(&w, out, &times));
    return 0;
}

/* The projection keeps half of the dimensions where rows are kept, and all but one where the system is kept in
 * coordinates: there er_cost_solve_layer's upper bounds are what is needed. */
int phase_solve(bench *b, const phase *p, sample *out, er_err *err)
{
    const int64_t f = p->more, batch = p->runs & RUN_LONG ? 100 : 16;
    const int many = 2 * (p->size + batch) > f;
    const er_keep keep = {ER_KEEP_RANK, (double)(many ? f - 1 : f / 2)};
    er_eigen eigen;
    er_history *h = NULL;
    float *keys = NULL;
    double *v = NULL;
    (void)b;
    ER_TRY(bench_reflection(&eigen, f, err));
    int code = er_history_make(&h, &eigen, &keep, 1.0, f, err);
    if (!code) code = er_alloc(&keys, (size_t)(batch * f), err);
    if (!code) code = er_alloc(&v, (size_t)(batch * f), err);
    if (!code) code = solve(p, h, keys, batch, v, out, err);
    er_free(v);
    er_free(keys);
    er_history_drop(h);
    er_eigen_free(&eigen);
    return code;
}

/* --- in a process of their own ------------------------------------------------------------------------------------- */

static int child(const char *arguments, const char *core, sample *out, er_err *err)
{
    char self[4096], command[9000];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0) return er_fail(err, ER_E_IO, "/proc/self/exe cannot be read");
    self[n] = 0;
    int length = snprintf(command, sizeof command, "%s%s '%s' child %s", core ? "OPENBLAS_CORETYPE=" : "",
                          core ? core : "", self, arguments);
    if (length < 0 || length >= (int)sizeof command) return er_fail(err, ER_E_INPUT, "a path is too long");
    FILE *f = popen(command, "r");
    if (!f) return er_fail(err, ER_E_IO, "popen failed");
    int got = fscanf(f, "%lf %lf %lf %lf %lf", &out->seconds, &out->cpu, &out->flops, &out->bytes, &out->peak);
    if (pclose(f) || got != 5) return er_fail(err, ER_E_IO, "'%s' failed", command);
    return 0;
}

/* Eigenpairs are stored, so errata computes them with the same OpenBLAS kernels on every CPU (runner/main.c). */
int phase_eigen(bench *b, const phase *p, sample *out, er_err *err)
{
    char text[64];
    (void)b;
    snprintf(text, sizeof text, "eigen %lld", (long long)p->size);
    return child(text, "Haswell", out, err);
}

int phase_load(bench *b, const phase *p, sample *out, er_err *err)
{
    char text[4600];
    int length = snprintf(text, sizeof text, "load %s '%s'", er_dtype_name((int)p->size), b->model_path);
    if (length < 0 || length >= (int)sizeof text) return er_fail(err, ER_E_INPUT, "a path is too long");
    return child(text, NULL, out, err);
}

static int child_eigen(int64_t n, sample *out, er_err *err)
{
    const int64_t m = n + n / 2;
    const er_config c = {.inner = n};
    float *x = NULL;
    double *gram = NULL;
    er_eigen eigen = {0};
    bench_watch w;
    int code = er_alloc(&x, (size_t)(m * n), err);
    if (!code) code = er_alloc(&gram, (size_t)(n * n), err);
    if (!code) {
        for (int64_t i = 0; i < m * n; i++) x[i] = (float)bench_uniform((uint64_t)i + 1);
        er_gram64(gram, x, n, m, n);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < i; j++) gram[i * n + j] = gram[j * n + i];
        bench_start(&w);
        code = er_eigen_solve(&eigen, gram, n, err);
        bench_end(&w, out);
    }
    out->flops = er_cost_eigen_solve(&c);
    out->bytes = 2.0 * 8 * (double)n * (double)n;
    er_eigen_free(&eigen);
    er_free(gram);
    er_free(x);
    return code;
}

static int child_load(const char *type, const char *path, sample *out, er_err *err)
{
    const int weights = strcmp(type, er_dtype_name(ER_BF16)) == 0 ? ER_BF16 : ER_F32;
    er_model *model = NULL;
    struct stat file;
    bench_watch w;
    bench_start(&w);
    ER_TRY(er_model_open(&model, path, weights, err));
    bench_end(&w, out);
    out->bytes = stat(path, &file) || !S_ISREG(file.st_mode) ? er_cost_model(&model->config, weights)
                                                             : (double)file.st_size;
    er_model_close(model);
    return 0;
}

int phase_child(int argc, char **argv)
{
    er_err err = ER_ERR_INIT;
    sample s = {0};
    int code = ER_E_USAGE;
    if (er_kernels_start(NULL)) return 1;
    if (argc == 2 && strcmp(argv[0], "eigen") == 0) code = child_eigen(atoll(argv[1]), &s, &err);
    if (argc == 3 && strcmp(argv[0], "load") == 0) code = child_load(argv[1], argv[2], &s, &err);
    if (code) {
        fprintf(stderr, "bench_phases: %s\n", err.text);
        return 1;
    }
    printf("%.9g %.9g %.9g %.9g %.9g\n", s.seconds, s.cpu, s.flops, s.bytes, s.peak);
    return 0;
}
