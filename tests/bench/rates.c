/* SPDX-License-Identifier: Apache-2.0 */
#include "rates.h"

#include "model/kernels.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112, UPPER = 121 };
void cblas_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                 const float *b, int ldb, float beta, float *c, int ldc);
void cblas_dgemm(int order, int trans_a, int trans_b, int m, int n, int k, double alpha, const double *a, int lda,
                 const double *b, int ldb, double beta, double *c, int ldc);
void cblas_dsyrk(int order, int uplo, int trans, int n, int k, double alpha, const double *a, int lda, double beta,
                 double *c, int ldc);

const char *const rate_names[RATE_KINDS] = {"sgemm", "dgemm", "dsyrk", "read"};

/* N x N x N products; dsyrk with the f of SmolLM2, which is near what statistics ask for. */
enum { N = 1024, SYRK_N = 1536, SYRK_K = 512, MOST_HELPERS = 1024 };
static const size_t read_bytes = 256000000; /* over all helpers: more than caches hold */
static const double least_seconds = 0.1;

typedef struct answer {
    double work, wall, cpu;
} answer;

typedef struct helper {
    pid_t pid;
    int ask, hear;
} helper;

static helper helpers[MOST_HELPERS];
static int helper_count;

static double clock_of(clockid_t id)
{
    struct timespec t;
    return clock_gettime(id, &t) ? 0 : (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- a helper ----------------------------------------------------------------------------------------------------- */

typedef struct ground {
    float *a, *b, *c; /* each as large as the largest operand in fp64 */
    uint64_t *bytes;
    size_t words;
} ground;

static volatile uint64_t sink;

/* Several streams at once, each a cache line at a time: more of them are under way than of one stream. */
static void read_streams(const ground *g)
{
    enum { STREAMS = 8, LINE = 8 };
    const size_t length = g->words / STREAMS / LINE * LINE;
    uint64_t sum[LINE] = {0};
    for (size_t i = 0; i < length; i += LINE)
        for (size_t s = 0; s < STREAMS; s++)
            for (size_t j = 0; j < LINE; j++) sum[j] ^= g->bytes[s * length + i + j];
    for (size_t j = 1; j < LINE; j++) sum[0] ^= sum[j];
    sink = sum[0];
}

static double work_once(enum rate_kind kind, ground *g)
{
    double *a = (double *)(void *)g->a, *b = (double *)(void *)g->b, *c = (double *)(void *)g->c;
    switch (kind) {
    case RATE_SGEMM:
        cblas_sgemm(ROW_MAJOR, NO_TRANS, TRANS, N, N, N, 1, g->a, N, g->b, N, 0, g->c, N);
        return 2.0 * N * N * N;
    case RATE_DGEMM: cblas_dgemm(ROW_MAJOR, NO_TRANS, TRANS, N, N, N, 1, a, N, b, N, 0, c, N); return 2.0 * N * N * N;
    case RATE_DSYRK:
        cblas_dsyrk(ROW_MAJOR, UPPER, TRANS, SYRK_N, SYRK_K, 1, a, SYRK_N, 0, c, SYRK_N);
        return 1.0 * SYRK_K * SYRK_N * (SYRK_N + 1);
    default:
        read_streams(g);
        return 8.0 * (double)g->words;
    }
}

/* 0.25 everywhere and never a denormal: no product knows the difference. */
static int prepare(ground *g, int count)
{
    const size_t doubles = (size_t)SYRK_N * SYRK_N;
    float **const at[] = {&g->a, &g->b, &g->c};
    for (int i = 0; i < 3; i++) {
        double *p = malloc(doubles * sizeof *p);
        if (!p) return -1;
        for (size_t k = 0; k < doubles; k++) p[k] = 0.25;
        *at[i] = (float *)(void *)p;
    }
    g->words = read_bytes / sizeof *g->bytes / (size_t)count / 64 * 64;
    g->bytes = malloc(g->words * sizeof *g->bytes);
    if (!g->bytes) return -1;
    memset(g->bytes, 1, g->words * sizeof *g->bytes); /* pages of its own */
    for (enum rate_kind k = RATE_SGEMM; k < RATE_KINDS; k++) work_once(k, g);
    return 0;
}

static void serve(int asked, int told, int count)
{
    ground g;
    unsigned char kind;
    if (prepare(&g, count)) return;
    while (read(asked, &kind, 1) == 1) {
        answer out = {0};
        double start = clock_of(CLOCK_MONOTONIC), used = clock_of(CLOCK_PROCESS_CPUTIME_ID);
        do {
            out.work += work_once((enum rate_kind)kind, &g);
            out.wall = clock_of(CLOCK_MONOTONIC) - start;
        } while (out.wall < least_seconds);
        out.cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID) - used;
        if (write(told, &out, sizeof out) != (ssize_t)sizeof out) return;
    }
}

/* --- the measured process ------------------------------------------------------------------------------------------ */

void rates_choose_blas(char **argv)
{
    if (getenv("OPENBLAS_CORETYPE")) return;
    const char *core = !er_kernels_start("avx512") ? "SkylakeX" : !er_kernels_start("avx2") ? "Haswell" : NULL;
    if (!core || setenv("OPENBLAS_CORETYPE", core, 1)) return;
    execv("/proc/self/exe", argv);
}

int rates_start(int count)
{
    if (count > MOST_HELPERS) count = MOST_HELPERS;
    for (int i = 0; i < count; i++) {
        int ask[2], hear[2];
        if (pipe(ask) || pipe(hear)) return -1;
        pid_t pid = fork();
        if (pid < 0) return -1;
        if (pid == 0) {
            for (int k = 0; k < i; k++) close(helpers[k].ask), close(helpers[k].hear);
            close(ask[1]), close(hear[0]);
            serve(ask[0], hear[1], count);
            _exit(0);
        }
        close(ask[0]), close(hear[1]);
        helpers[i] = (helper){pid, ask[1], hear[0]};
        helper_count = i + 1;
    }
    return 0;
}

void rates_stop(void)
{
    for (int i = 0; i < helper_count; i++) {
        close(helpers[i].ask), close(helpers[i].hear);
        waitpid(helpers[i].pid, NULL, 0);
    }
    helper_count = 0;
}

rate rates_measure(enum rate_kind kind, int workers)
{
    unsigned char byte = (unsigned char)kind;
    rate out = {0, 0};
    double work = 0, cpu = 0;
    if (workers > helper_count) workers = helper_count;
    for (int i = 0; i < workers; i++)
        if (write(helpers[i].ask, &byte, 1) != 1) return out;
    for (int i = 0; i < workers; i++) {
        answer a;
        if (read(helpers[i].hear, &a, sizeof a) != (ssize_t)sizeof a) return (rate){0, 0};
        out.wall += a.work / a.wall;
        work += a.work, cpu += a.cpu;
    }
    out.cpu = cpu > 0 ? work / cpu : 0;
    return out;
}
