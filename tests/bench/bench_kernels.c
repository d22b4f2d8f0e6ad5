/* SPDX-License-Identifier: Apache-2.0 */
/* Products against OpenBLAS on one thread, weights out of cache: each call takes the next of several copies that
 * together exceed the second-level cache (and BENCH_BYTES, default 256 MB). Best of repeated rounds, because machines
 * are shared. For few rows the memory rate of the weights is shown against a plain read of the same bytes.
 *
 *     bench_kernels [ISA]        a table on stdout */
#include "base/log.h"
#include "base/memory.h"
#include "model/kernels.h"

#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112, UPPER = 121 };
void cblas_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                 const float *b, int ldb, float beta, float *c, int ldc);
void cblas_dsyrk(int order, int uplo, int trans, int n, int k, double alpha, const double *a, int lda, double beta,
                 double *c, int ldc);
char *openblas_get_corename(void);

static const double round_seconds = 0.012;
enum { ROUNDS = 25 };

typedef struct shape {
    int64_t m, n, k; /* y (m, n) = x (m, k) W^T */
    int copies;
    char *weights;   /* copies of (n, k) fp32, or 16 bits in the same places */
    float *x, *y;
} shape;

static uint64_t seed = 1;

static float noise(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(int64_t)(seed >> 40) / 8388608.0f - 1.0f;
}

static void *get(size_t count, size_t size)
{
    char *p = NULL;
    if (er_alloc_at(&p, count, size, "bench", NULL)) exit(1);
    return p;
}

static er_matrix copy_of(const shape *s, int dtype, int i)
{
    return (er_matrix){dtype, s->n, s->k, s->weights + (int64_t)i * s->n * s->k * 4};
}

typedef void call(const shape *s, int copy);

static void blas_forward(const shape *s, int copy)
{
    er_matrix w = copy_of(s, ER_F32, copy);
    cblas_sgemm(ROW_MAJOR, NO_TRANS, TRANS, (int)s->m, (int)s->n, (int)s->k, 1, s->x, (int)s->k, w.data, (int)s->k, 0,
                s->y, (int)s->n);
}

static void blas_back(const shape *s, int copy)
{
    er_matrix w = copy_of(s, ER_F32, copy);
    cblas_sgemm(ROW_MAJOR, NO_TRANS, NO_TRANS, (int)s->m, (int)s->k, (int)s->n, 1, s->y, (int)s->n, w.data, (int)s->k,
                0, s->x, (int)s->k);
}

static void ours_forward(const shape *s, int copy)
{
    er_matrix w = copy_of(s, ER_F32, copy);
    er_product(s->y, s->n, s->x, s->k, s->m, &w);
}

static void ours_back(const shape *s, int copy)
{
    er_matrix w = copy_of(s, ER_F32, copy);
    er_product_back(s->x, s->k, s->y, s->n, s->m, &w);
}

static void ours_forward16(const shape *s, int copy)
{
    er_matrix w = copy_of(s, ER_BF16, copy);
    er_product(s->y, s->n, s->x, s->k, s->m, &w);
}

static void ours_back16(const shape *s, int copy)
{
    er_matrix w = copy_of(s, ER_BF16, copy);
    er_product_back(s->x, s->k, s->y, s->n, s->m, &w);
}

static volatile float sink;

/* Sums the weights in as many chains as the compiler likes: the memory rate one core can have. */
static void read_only(const shape *s, int copy)
{
    er_matrix w = copy_of(s, ER_F32, copy);
    const uint64_t *p = w.data;
    uint64_t sum[64] = {0};
    for (int64_t i = 0; i + 64 <= s->n * s->k / 2; i += 64)
        for (int j = 0; j < 64; j++) sum[j] ^= p[i + j];
    for (int j = 1; j < 64; j++) sum[0] ^= sum[j];
    sink = (float)sum[0];
}

enum { CALLS = 7 };
static call *const calls[CALLS] = {blas_forward, ours_forward, ours_forward16, blas_back,
                                    ours_back,    ours_back16,  read_only};

/* Time this thread had the CPU, or the clock where several threads work. */
static double seconds(void)
{
    struct timespec t;
    if (omp_get_max_threads() > 1 || clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t)) return er_seconds();
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of one call: the best of interleaved rounds, so that what else the machine does meets all alike. */
static void measure(const shape *s, double best[CALLS])
{
    int next = 0;
    for (int c = 0; c < CALLS; c++) best[c] = 1e30;
    for (int round = 0; round < ROUNDS; round++)
        for (int c = 0; c < CALLS; c++) {
            if (c == CALLS - 1 && s->m > 4) continue;
            double begin = seconds(), now = begin;
            int64_t n = 0;
            while (now - begin < round_seconds || n < 1) {
                calls[c](s, next++ % s->copies);
                n++;
                now = seconds();
            }
            if ((now - begin) / (double)n < best[c]) best[c] = (now - begin) / (double)n;
        }
}

static void bench_shape(int64_t m, int64_t n, int64_t k, int64_t bytes)
{
    int64_t size = n * k * 4;
    shape s = {m, n, k, (int)(bytes / size < 2 ? 2 : bytes / size), NULL, NULL, NULL};
    s.weights = get((size_t)(s.copies * size), 1), s.x = get((size_t)(m * k), 4), s.y = get((size_t)(m * n), 4);
    for (int64_t i = 0; i < n * k; i++) ((float *)(void *)s.weights)[i] = noise();
    for (int i = 1; i < s.copies; i++) memcpy(s.weights + i * size, s.weights, (size_t)size);
    for (int64_t i = 0; i < m * k; i++) s.x[i] = noise();
    double t[CALLS], work = 2e-9 * (double)m * (double)n * (double)k;
    measure(&s, t);
    printf("%4ld %6ld %5ld |%7.1f %7.1f %5.2f %7.1f |%7.1f %7.1f %5.2f %7.1f", (long)m, (long)n, (long)k, work / t[0],
           work / t[1], t[0] / t[1], work / t[2], work / t[3], work / t[4], t[3] / t[4], work / t[5]);
    if (m <= 4)
        printf(" |%6.1f %6.1f %5.2f %5.2f", 1e-9 * (double)size / t[6], 1e-9 * (double)size / t[1], t[6] / t[1],
               t[6] / t[4]);
    printf("\n");
    fflush(stdout);
    er_free(s.weights), er_free(s.x), er_free(s.y);
}

static void bench_gram(int64_t m, int64_t n)
{
    float *x = get((size_t)(m * n), sizeof *x);
    double *wide = get((size_t)(m * n), sizeof *wide), *g = get((size_t)(n * n), sizeof *g), best[2] = {1e30, 1e30};
    for (int64_t i = 0; i < m * n; i++) wide[i] = (double)(x[i] = noise());
    for (int round = 0; round < 10; round++)
        for (int c = 0; c < 2; c++) {
            double begin = seconds();
            if (c) er_gram64(g, x, n, m, n);
            else cblas_dsyrk(ROW_MAJOR, UPPER, TRANS, (int)n, (int)m, 1, wide, (int)n, 1, g, (int)n);
            double took = seconds() - begin;
            if (took < best[c]) best[c] = took;
        }
    double work = 1e-9 * (double)m * (double)n * (double)(n + 1);
    printf("%6ld %6ld | %7.1f %7.1f %5.2f\n", (long)m, (long)n, work / best[0], work / best[1], best[0] / best[1]);
    er_free(x), er_free(wide), er_free(g);
}

/* OpenBLAS looks at the CPU when it is loaded and takes SSE kernels for models newer than itself: name its best. */
static void choose_blas(char **argv)
{
    if (getenv("OPENBLAS_CORETYPE")) return;
    const char *core = !er_kernels_start("avx512") ? "SkylakeX" : !er_kernels_start("avx2") ? "Haswell" : NULL;
    if (!core || setenv("OPENBLAS_CORETYPE", core, 1)) return;
    execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
    choose_blas(argv);
    static const int64_t rows[] = {1, 4, 16, 48, 96, 256};
    static const int64_t maps[][2] = {{576, 1536}, {1536, 576}, {2048, 2048}, {49152, 576}};
    const char *text = getenv("BENCH_BYTES"), *threads = getenv("BENCH_THREADS");
    int64_t bytes = text ? strtoll(text, NULL, 10) : 256000000;
    omp_set_num_threads(threads ? atoi(threads) : 1);
    if (er_kernels_start(argc > 1 ? argv[1] : NULL)) {
        fprintf(stderr, "bench_kernels: this CPU has no %s\n", argc > 1 ? argv[1] : "default floating-point mode");
        return 1;
    }
    printf("%s, %d thread(s); OpenBLAS %s, 1. GF/s; GB/s of fp32 weights for few rows\n", er_kernels_name(),
           omp_get_max_threads(), openblas_get_corename());
    printf("   m      n     k | forward: BLAS  ours ratio   bf16 |"
           " back: BLAS  ours ratio   bf16 |  read   ours  fwd  back\n");
    for (int s = 0; s < 4; s++)
        for (int r = 0; r < 6; r++) bench_shape(rows[r], maps[s][0], maps[s][1], bytes);
    printf("Gram matrix, fp64\n     m      n |  dsyrk    ours ratio\n");
    bench_gram(256, 576);
    bench_gram(256, 1536);
    bench_gram(2048, 1536);
    er_kernels_stop();
    return 0;
}
