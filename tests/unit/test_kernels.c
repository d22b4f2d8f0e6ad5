/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels: every instruction set of this CPU against plain loops by memcmp, rows alone against rows in company, one
 * thread against two; gradients against differences; scalar functions against the C library. */
#include "base/tick.h"
#include "model/kernels.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const isas[] = {"scalar", "avx2", "avx512"};
enum { ISAS = 3 };

static uint64_t seed = 1;

/* in [-1, 1), with 24 bits */
static float noise(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(int64_t)(seed >> 40) / 8388608.0f - 1.0f;
}

static void *get(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size);
    assert_non_null(p);
    return p;
}

static float *noises(int64_t n)
{
    float *p = get((size_t)n, sizeof *p);
    for (int64_t i = 0; i < n; i++) p[i] = noise();
    return p;
}

static double *noises64(int64_t n)
{
    double *p = get((size_t)n, sizeof *p);
    for (int64_t i = 0; i < n; i++) p[i] = (double)noise() + (double)noise() * 0x1p-30;
    return p;
}

static int start(int isa)
{
    if (!er_kernels_start(isas[isa])) return 1;
    assert_int_not_equal(isa, 0); /* every CPU has the portable kernels */
    return 0;
}

/* --- products ------------------------------------------------------------------------------------------------------ */
static float weight(const er_matrix *w, int64_t at)
{
    if (w->dtype == ER_F32) return ((const float *)w->data)[at];
    uint16_t bits = ((const uint16_t *)w->data)[at];
    return w->dtype == ER_BF16 ? er_bf16_to_float(bits) : er_f16_to_float(bits);
}

static er_matrix make_matrix(int dtype, int64_t rows, int64_t cols)
{
    float *values = noises(rows * cols);
    er_matrix w = {dtype, rows, cols, values};
    if (dtype == ER_F32) return w;
    uint16_t *narrow = get((size_t)(rows * cols), sizeof *narrow);
    for (int64_t i = 0; i < rows * cols; i++)
        narrow[i] = dtype == ER_BF16 ? er_float_to_bf16(values[i]) : er_float_to_f16(values[i]);
    free(values);
    w.data = narrow;
    return w;
}

static void naive_product(float *y, int64_t ldy, const float *x, int64_t ldx, int64_t m, const er_matrix *w)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < w->rows; j++) {
            float s = 0;
            for (int64_t k = 0; k < w->cols; k++) s = fmaf(x[i * ldx + k], weight(w, j * w->cols + k), s);
            y[i * ldy + j] = s;
        }
}

static void naive_back(float *dx, int64_t ldx, const float *dy, int64_t ldy, int64_t m, const er_matrix *w)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t k = 0; k < w->cols; k++) {
            float s = 0;
            for (int64_t j = 0; j < w->rows; j++) s = fmaf(dy[i * ldy + j], weight(w, j * w->cols + k), s);
            dx[i * ldx + k] = s;
        }
}

/* Rows of stride n + 3: what stands behind a row must stay. */
static void check_padding(const float *y, int64_t m, int64_t n)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = n; j < n + 3; j++) assert_true(y[i * (n + 3) + j] == 7.0f);
}

static void check_product(int dtype, int64_t m, int64_t rows, int64_t cols)
{
    er_matrix w = make_matrix(dtype, rows, cols);
    int64_t ldx = cols + 3, ldy = rows + 3;
    float *x = noises(m * ldx), *dy = noises(m * ldy);
    float *want = noises(m * ldy), *want_back = noises(m * ldx), *y = noises(m * ldy), *back = noises(m * ldx);
    for (int64_t i = 0; i < m * ldy; i++) want[i] = 7.0f;
    for (int64_t i = 0; i < m * ldx; i++) want_back[i] = 7.0f;
    naive_product(want, ldy, x, ldx, m, &w);
    naive_back(want_back, ldx, dy, ldy, m, &w);
    for (int isa = 0; isa < ISAS; isa++) {
        if (!start(isa)) continue;
        for (int64_t i = 0; i < m * ldy; i++) y[i] = 7.0f;
        for (int64_t i = 0; i < m * ldx; i++) back[i] = 7.0f;
        er_product(y, ldy, x, ldx, m, &w);
        er_product_back(back, ldx, dy, ldy, m, &w);
        if (memcmp(y, want, sizeof *y * (size_t)(m * ldy)) || memcmp(back, want_back, sizeof *y * (size_t)(m * ldx)))
            fail_msg("%s %s m %ld, W %ld x %ld", isas[isa], er_dtype_name(dtype), (long)m, (long)rows, (long)cols);
        check_padding(y, m, rows);
        check_padding(back, m, cols);
    }
    free(x), free(dy), free(want), free(want_back), free(y), free(back), free((void *)(uintptr_t)w.data);
}

static void test_product(void **state)
{
    (void)state;
    static const int dtypes[] = {ER_F32, ER_BF16, ER_F16};
    static const int64_t shapes[][2] = {{1, 1}, {5, 3}, {16, 16}, {33, 47}, {32, 400}, {70, 31}, {17, 601}, {48, 64}};
    for (int d = 0; d < 3; d++)
        for (int s = 0; s < 8; s++)
            for (int64_t m = 1; m <= 17; m++) check_product(dtypes[d], m, shapes[s][0], shapes[s][1]);
    check_product(ER_F32, 48, 65, 515);
    check_product(ER_BF16, 100, 97, 130);
    check_product(ER_F16, 131, 34, 33);
    check_product(ER_F32, 7, 40, 1700); /* more blocks of k than are kept packed */
    check_product(ER_F32, 6, 1700, 40);
    check_product(ER_F32, 420, 20, 35); /* more than one group of rows */
}

static void test_rows_stand_alone(void **state)
{
    (void)state;
    int64_t m = 100, rows = 75, cols = 450;
    er_matrix w = make_matrix(ER_F32, rows, cols);
    float *x = noises(m * cols), *dy = noises(m * rows), *y = noises(m * rows), *one = noises(rows + cols);
    float *back = noises(m * cols);
    for (int isa = 0; isa < ISAS; isa++) {
        if (!start(isa)) continue;
        er_product(y, rows, x, cols, m, &w);
        er_product_back(back, cols, dy, rows, m, &w);
        for (int64_t i = 0; i < m; i += 7) {
            er_product(one, rows, x + i * cols, cols, 1, &w);
            assert_memory_equal(one, y + i * rows, sizeof *y * (size_t)rows);
            er_product_back(one, cols, dy + i * rows, rows, 1, &w);
            assert_memory_equal(one, back + i * cols, sizeof *y * (size_t)cols);
        }
    }
    free(x), free(dy), free(y), free(one), free(back), free((void *)(uintptr_t)w.data);
}

static int ticks;

static void count_tick(void *context)
{
    (void)context;
    assert_int_equal(omp_get_thread_num(), 0);
    ticks++;
}

static void test_threads(void **state)
{
    (void)state;
    static const int64_t rows_of[] = {1, 3, 17, 100, 300};
    int64_t rows = 290, cols = 620, n = 130;
    int before = omp_get_max_threads();
    er_matrix w = make_matrix(ER_BF16, rows, cols);
    float *x = noises(300 * cols), *dy = noises(300 * rows), *gain = noises(cols);
    float *y[3], *back[3], *norm[3];
    double *g[3], *c[3], *a = noises64(300 * n);
    for (int t = 0; t < 3; t++) {
        y[t] = noises(300 * rows), back[t] = noises(300 * cols), norm[t] = noises(300 * cols);
        g[t] = get((size_t)(cols * cols), sizeof **g), c[t] = get(300 * 300, sizeof **c);
    }
    for (int isa = 0; isa < ISAS; isa++) {
        if (!start(isa)) continue;
        for (int s = 0; s < 5; s++)
            for (int t = 0; t < 3; t++) {
                int64_t m = rows_of[s];
                omp_set_num_threads(t + 1);
                ticks = 0;
                er_tick_set(count_tick, NULL);
                er_product(y[t], rows, x, cols, m, &w);
                er_product_back(back[t], cols, dy, rows, m, &w);
                er_rms_norm(norm[t], x, gain, m, cols, 1e-5f);
                memset(g[t], 0, sizeof **g * (size_t)(cols * cols));
                if (m < 300) er_gram64(g[t], x, cols, m, cols);
                er_product64(c[t], 300, a, n, a, n, m, 300, n, 1, 0);
                er_tick_set(NULL, NULL);
                if (m == 300 && t == 0) assert_true(ticks > 0);
                if (!t) continue;
                assert_memory_equal(y[t], y[0], sizeof **y * (size_t)(m * rows));
                assert_memory_equal(back[t], back[0], sizeof **y * (size_t)(m * cols));
                assert_memory_equal(norm[t], norm[0], sizeof **y * (size_t)(m * cols));
                assert_memory_equal(g[t], g[0], sizeof **g * (size_t)(cols * cols));
                assert_memory_equal(c[t], c[0], sizeof **c * (size_t)(m * 300));
            }
    }
    omp_set_num_threads(before);
    for (int t = 0; t < 3; t++) free(y[t]), free(back[t]), free(norm[t]), free(g[t]), free(c[t]);
    free(x), free(dy), free(gain), free(a), free((void *)(uintptr_t)w.data);
    er_kernels_stop();
}

static void check_product64(int64_t m, int64_t n, int64_t k, int transposed, int accumulate)
{
    int64_t lda = k + 2, ldb = (transposed ? k : n) + 1, ldc = n + 3;
    double *a = noises64(m * lda), *b = noises64((transposed ? n : k) * ldb), *begin = noises64(m * ldc);
    double *want = get((size_t)(m * ldc), sizeof *want), *c = get((size_t)(m * ldc), sizeof *c);
    size_t bytes = sizeof *c * (size_t)(m * ldc);
    memcpy(want, begin, bytes);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double s = accumulate ? begin[i * ldc + j] : 0;
            for (int64_t p = 0; p < k; p++) s = fma(a[i * lda + p], transposed ? b[j * ldb + p] : b[p * ldb + j], s);
            want[i * ldc + j] = s;
        }
    for (int isa = 0; isa < ISAS; isa++) {
        if (!start(isa)) continue;
        memcpy(c, begin, bytes);
        er_product64(c, ldc, a, lda, b, ldb, m, n, k, transposed, accumulate);
        if (memcmp(c, want, bytes)) fail_msg("%s %ld x %ld x %ld", isas[isa], (long)m, (long)n, (long)k);
    }
    free(a), free(b), free(begin), free(want), free(c);
}

static void test_product64(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1}, {3, 5, 7}, {12, 16, 192}, {13, 17, 193}, {40, 33, 500}, {6, 8, 0},
                                        {100, 20, 31}, {2, 70, 1100}, {130, 9, 260}};
    for (int s = 0; s < 9; s++)
        for (int flags = 0; flags < 4; flags++)
            check_product64(shapes[s][0], shapes[s][1], shapes[s][2], flags & 1, flags >> 1);
}

static void check_gram(int64_t m, int64_t n)
{
    int64_t ldx = n + 2;
    float *x = noises(m * ldx);
    double *begin = noises64(n * n), *want = get((size_t)(n * n), sizeof *want), *g = get((size_t)(n * n), sizeof *g);
    size_t bytes = sizeof *g * (size_t)(n * n);
    memcpy(want, begin, bytes);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i; j < n; j++)
            for (int64_t t = 0; t < m; t++)
                want[i * n + j] = fma((double)x[t * ldx + i], (double)x[t * ldx + j], want[i * n + j]);
    for (int isa = 0; isa < ISAS; isa++) {
        if (!start(isa)) continue;
        memcpy(g, begin, bytes);
        er_gram64(g, x, ldx, m, n);
        if (memcmp(g, want, bytes)) fail_msg("%s gram of %ld rows of %ld", isas[isa], (long)m, (long)n);
    }
    free(x), free(begin), free(want), free(g);
}

static void test_gram64(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{1, 1}, {0, 5}, {3, 17}, {16, 16}, {50, 45}, {200, 61}, {450, 130}, {900, 35}};
    for (int s = 0; s < 8; s++) check_gram(shapes[s][0], shapes[s][1]);
}

/* --- rows ---------------------------------------------------------------------------------------------------------- */
static float tree(float lane[16])
{
    for (int step = 8; step; step /= 2)
        for (int i = 0; i < step; i++) lane[i] += lane[i + step];
    return lane[0];
}

static float naive_dot(const float *a, const float *b, int64_t n)
{
    float lane[16] = {0};
    for (int64_t i = 0; i < n; i++) lane[i % 16] = fmaf(a[i], b[i], lane[i % 16]);
    return tree(lane);
}

static void test_reductions(void **state)
{
    (void)state;
    float *a = noises(5000), *b = noises(5000), e[5000];
    for (int isa = 0; isa < ISAS; isa++) {
        if (!start(isa)) continue;
        for (int64_t n = 0; n < 5000; n += n < 70 ? 1 : 517) {
            float want = naive_dot(a, b, n), got = er_dot(a, b, n), lane[16] = {0};
            assert_memory_equal(&got, &want, sizeof want);
            double lane64[16] = {0};
            for (int64_t i = 0; i < n; i++) lane64[i % 16] = fma((double)a[i], (double)a[i], lane64[i % 16]);
            for (int step = 8; step; step /= 2)
                for (int i = 0; i < step; i++) lane64[i] += lane64[i + step];
            double norm = sqrt(lane64[0]), got64 = er_norm64(a, n);
            assert_memory_equal(&got64, &norm, sizeof norm);
            if (!n) continue;
            int64_t best = 0, argmax = -1;
            for (int64_t i = 1; i < n; i++)
                if (a[i] > a[best]) best = i;
            double sum = 0;
            for (int64_t i = 0; i < n; i++) {
                lane[i % 16] += er_math_expf(a[i] - a[best]);
                sum += exp((double)a[i]);
            }
            got = er_log_sum_exp(a, n, &argmax), want = a[best] + er_math_logf(tree(lane));
            assert_memory_equal(&got, &want, sizeof want);
            assert_int_equal(argmax, best);
            assert_true(fabs((double)got - log(sum)) < 1e-5);
            er_exp_shifted(e, a, 0.5f, n);
            for (int64_t i = 0; i < n; i++) assert_true(e[i] == er_math_expf(a[i] - 0.5f));
        }
    }
    free(a), free(b);
}

static void test_log_sum_exp_corners(void **state)
{
    (void)state;
    float row[40];
    int64_t at;
    for (int isa = 0; isa < ISAS; isa++) {
        if (!start(isa)) continue;
        for (int i = 0; i < 40; i++) row[i] = -INFINITY;
        assert_true(er_log_sum_exp(row, 40, &at) == -INFINITY && at == 0);
        row[17] = row[33] = 300.0f;
        assert_true(fabs((double)er_log_sum_exp(row, 40, &at) - 300.0 - log(2.0)) < 1e-4 && at == 17);
        row[20] = INFINITY;
        assert_true(er_log_sum_exp(row, 40, &at) == INFINITY && at == 20);
        row[20] = NAN;
        assert_true(isnan(er_log_sum_exp(row, 40, NULL)));
        row[17] = row[33] = -INFINITY;
        assert_true(isnan(er_log_sum_exp(row, 40, NULL)));
    }
}

static void test_element_wise(void **state)
{
    (void)state;
    enum { N = 203 };
    float *x = noises(N), *y = noises(N), got[N], want[N];
    for (int isa = 0; isa < ISAS; isa++) {
        if (!start(isa)) continue;
        for (int i = 0; i < N; i++) got[i] = y[i], want[i] = x[i] + y[i];
        er_add(got, x, N);
        assert_memory_equal(got, want, sizeof want);
        for (int i = 0; i < N; i++) got[i] = y[i], want[i] = fmaf(0.3f, x[i], y[i]);
        er_axpy(got, 0.3f, x, N);
        assert_memory_equal(got, want, sizeof want);
        for (int i = 0; i < N; i++) {
            float g = 30 * x[i];
            want[i] = g / (1.0f + er_math_expf(-g)) * y[i];
            x[i] = g;
        }
        er_swiglu(got, x, y, N);
        assert_memory_equal(got, want, sizeof want);
        for (int i = 0; i < N; i++) {
            double g = (double)x[i], silu = g / (1 + exp(-g)) * (double)y[i];
            assert_true(fabs(silu - (double)got[i]) <= 4e-7 * fabs(silu) + 1e-12);
            x[i] /= 30;
        }
    }
    free(x), free(y);
}

static double rms_loss(const float *x, const float *gain, const float *dy, int64_t n, double eps)
{
    double square = 0, sum = 0;
    for (int64_t i = 0; i < n; i++) square += (double)x[i] * (double)x[i];
    for (int64_t i = 0; i < n; i++) sum += (double)gain[i] * (double)x[i] / sqrt(square / (double)n + eps) * (double)dy[i];
    return sum;
}

static void test_rms_norm(void **state)
{
    (void)state;
    enum { M = 3, N = 37 };
    float *x = noises(M * N), *gain = noises(N), *dy = noises(M * N), first[2][M * N], y[M * N], dx[M * N];
    int seen = 0;
    for (int isa = 0; isa < ISAS; isa++) {
        if (!start(isa)) continue;
        er_rms_norm(y, x, gain, M, N, 1e-5f);
        er_rms_norm_back(dx, dy, x, gain, M, N, 1e-5f, 0);
        for (int row = 0; row < M; row++) {
            float r = sqrtf(naive_dot(x + row * N, x + row * N, N) / N + 1e-5f);
            for (int i = 0; i < N; i++) assert_true(y[row * N + i] == gain[i] * (x[row * N + i] / r));
        }
        if (!seen++) {
            memcpy(first[0], dx, sizeof dx);
            for (int i = 0; i < M * N; i++) {
                float *row = x + i / N * N, keep = x[i];
                x[i] = keep + 0x1p-10f;
                double up = rms_loss(row, gain, dy + i / N * N, N, (double)1e-5f);
                x[i] = keep - 0x1p-10f;
                double down = rms_loss(row, gain, dy + i / N * N, N, (double)1e-5f);
                x[i] = keep;
                assert_true(fabs((up - down) / 0x1p-9 - (double)dx[i]) < 1e-4);
            }
        }
        assert_memory_equal(dx, first[0], sizeof dx);
        memcpy(dx, dy, sizeof dx);
        er_rms_norm_back(dx, dy, x, gain, M, N, 1e-5f, 1);
        for (int i = 0; i < M * N; i++) assert_true(dx[i] == dy[i] + first[0][i]);
    }
    free(x), free(gain), free(dy);
}

static void test_swiglu_back(void **state)
{
    (void)state;
    enum { N = 83 };
    float *gate = noises(N), *up = noises(N), *d = noises(N), dg[N], du[N], first[2][N];
    for (int i = 0; i < N; i++) gate[i] *= 8;
    int seen = 0;
    for (int isa = 0; isa < ISAS; isa++) {
        if (!start(isa)) continue;
        er_swiglu_back(dg, du, d, gate, up, N);
        for (int i = 0; i < N; i++) {
            double g = (double)gate[i], h = 1e-5, u = (double)up[i], scale = (double)d[i];
            double slope = ((g + h) / (1 + exp(-g - h)) - (g - h) / (1 + exp(-g + h))) / (2 * h);
            assert_true(fabs(slope * u * scale - (double)dg[i]) < 1e-6);
            assert_true(fabs(g / (1 + exp(-g)) * scale - (double)du[i]) < 2e-6);
        }
        if (!seen++) memcpy(first[0], dg, sizeof dg), memcpy(first[1], du, sizeof du);
        assert_memory_equal(first[0], dg, sizeof dg);
        assert_memory_equal(first[1], du, sizeof du);
    }
    free(gate), free(up), free(d);
}

/* --- positions and attention --------------------------------------------------------------------------------------- */
static void test_rope(void **state)
{
    (void)state;
    enum { HEADS = 3, WIDTH = 24, DIM = 20 };
    float *x = noises(HEADS * WIDTH), y[HEADS * WIDTH], c[DIM / 2], s[DIM / 2], want[HEADS * WIDTH];
    for (int i = 0; i < DIM / 2; i++) c[i] = cosf(0.3f * (float)i), s[i] = sinf(0.3f * (float)i);
    memcpy(want, x, sizeof want);
    for (int h = 0; h < HEADS; h++)
        for (int i = 0; i < DIM / 2; i++) {
            float a = x[h * WIDTH + i], b = x[h * WIDTH + i + DIM / 2];
            want[h * WIDTH + i] = a * c[i] - b * s[i];
            want[h * WIDTH + i + DIM / 2] = b * c[i] + a * s[i];
        }
    for (int isa = 0; isa < ISAS; isa++) {
        if (!start(isa)) continue;
        memcpy(y, x, sizeof y);
        er_rope(y, c, s, HEADS, WIDTH, DIM, 0);
        assert_memory_equal(y, want, sizeof y);
        er_rope(y, c, s, HEADS, WIDTH, DIM, 1);
        for (int i = 0; i < HEADS * WIDTH; i++) assert_true(fabsf(y[i] - x[i]) < 1e-6f);
    }
    free(x);
}

static const float *row_of(const er_seen *seen, int64_t p, int value)
{
    const float *first = value ? seen->v0 : seen->k0, *second = value ? seen->v1 : seen->k1;
    return p < seen->split ? first + p * seen->stride : second + (p - seen->split) * seen->stride;
}

/* sum of out_grad . attention output, in doubles */
static double attend_loss(const float *q, const er_seen *seen, int64_t dim, double scale, const float *out_grad,
                          double *out)
{
    double score[64], most = -1e300, sum = 0, loss = 0;
    for (int64_t p = 0; p < seen->count; p++) {
        score[p] = 0;
        for (int64_t i = 0; i < dim; i++) score[p] += (double)q[i] * (double)row_of(seen, p, 0)[i] * scale;
        if (score[p] > most) most = score[p];
    }
    for (int64_t p = 0; p < seen->count; p++) sum += score[p] = exp(score[p] - most);
    for (int64_t i = 0; i < dim; i++) {
        double value = 0;
        for (int64_t p = 0; p < seen->count; p++) value += score[p] / sum * (double)row_of(seen, p, 1)[i];
        if (out) out[i] = value;
        loss += value * (double)out_grad[i];
    }
    return loss;
}

static void nudge(float *at, const float *q, const er_seen *seen, int64_t dim, const float *out_grad, float got)
{
    float keep = *at;
    *at = keep + 0x1p-9f;
    double up = attend_loss(q, seen, dim, 0.25, out_grad, NULL);
    *at = keep - 0x1p-9f;
    double down = attend_loss(q, seen, dim, 0.25, out_grad, NULL);
    *at = keep;
    assert_true(fabs((up - down) / 0x1p-8 - (double)got) < 2e-5);
}

static void check_attend(int64_t split, int64_t count, int64_t dim)
{
    int64_t stride = dim + 5;
    size_t bytes = sizeof(float) * (size_t)(count * stride);
    float *k = noises(count * stride), *v = noises(count * stride), *k0 = noises(count * stride),
          *v0 = noises(count * stride), *q = noises(dim), *d = noises(dim);
    float *out = noises(dim), *w = noises(count), *scratch = noises(count), *dq = noises(dim);
    float *dk = noises(count * stride), *dv = noises(count * stride), *first[5] = {NULL};
    size_t sizes[5] = {sizeof *out * (size_t)dim, sizeof *w * (size_t)count, sizeof *dq * (size_t)dim, bytes, bytes};
    er_seen seen = {k0, v0, k, v, split, count, stride};
    double *exact = get((size_t)dim, sizeof *exact);
    attend_loss(q, &seen, dim, 0.25, d, exact);
    for (int isa = 0; isa < ISAS; isa++) {
        if (!start(isa)) continue;
        memset(dk, 0, bytes), memset(dv, 0, bytes);
        er_attend(out, w, q, &seen, dim, 0.25f);
        er_attend_back(dq, dk, dv, stride, d, w, scratch, q, &seen, dim, 0.25f);
        const float *now[5] = {out, w, dq, dk, dv};
        for (int r = 0; r < 5; r++) {
            if (!first[r]) memcpy(first[r] = get(sizes[r], 1), now[r], sizes[r]);
            assert_memory_equal(first[r], now[r], sizes[r]);
        }
    }
    for (int64_t i = 0; i < dim; i++) {
        assert_true(fabs((double)out[i] - exact[i]) < 2e-6);
        nudge(q + i, q, &seen, dim, d, dq[i]);
    }
    for (int64_t p = 0; p < count - split; p += 3)
        for (int64_t i = 0; i < stride; i++) { /* what stands between heads has no gradient */
            if (i < dim) nudge(k + p * stride + i, q, &seen, dim, d, dk[p * stride + i]);
            if (i < dim) nudge(v + p * stride + i, q, &seen, dim, d, dv[p * stride + i]);
            if (i >= dim) assert_true(dk[p * stride + i] == 0 && dv[p * stride + i] == 0);
        }
    for (int r = 0; r < 5; r++) free(first[r]);
    free(k), free(v), free(k0), free(v0), free(q), free(d), free(out), free(w), free(scratch), free(dq), free(dk);
    free(dv), free(exact);
}

static void test_attend(void **state)
{
    (void)state;
    check_attend(0, 1, 16);
    check_attend(0, 23, 64);
    check_attend(7, 40, 64);
    check_attend(16, 33, 99);
    check_attend(12, 12, 8); /* nothing of its own */
    check_attend(1, 50, 84);
}

/* --- scalar functions ---------------------------------------------------------------------------------------------- */
/* Distance in units of the last place of the wanted value. */
static double ulps(double got, long double want, int bits, int least)
{
    int e;
    if ((isnan(got) && want != want) || (long double)got == want) return 0;
    frexpl(want, &e);
    return (double)(fabsl((long double)got - want) / ldexpl(1, e - bits < least ? least : e - bits));
}

static double ulps_f(float got, double want)
{
    return (float)want == got ? 0 : ulps((double)got, (long double)want, 24, -149);
}

static double ulps_d(double got, long double want)
{
    return (double)want == got ? 0 : ulps(got, want, 53, -1074);
}

static void test_math_float(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 0x100000000u; i += 9973) {
        uint32_t bits = (uint32_t)i;
        float x;
        memcpy(&x, &bits, sizeof x);
        assert_true(ulps_f(er_math_expf(x), exp((double)x)) < 1.5);
        if (!(x < 0)) assert_true(ulps_f(er_math_logf(x), log((double)x)) < 1.5);
        assert_true(ulps_f(er_math_tanhf(x), tanh((double)x)) < 1.5);
        assert_true(ulps_f(er_math_erff(x), erf((double)x)) < 1.5);
    }
    for (float x = -110; x < 100; x += 0.00117f) assert_true(ulps_f(er_math_expf(x), exp((double)x)) < 1.5);
    assert_true(er_math_expf(-INFINITY) == 0 && er_math_expf(INFINITY) == INFINITY && isnan(er_math_expf(NAN)));
    assert_true(er_math_expf(0) == 1 && isnan(er_math_logf(-1)) && er_math_logf(0) == -INFINITY);
    assert_true(signbit(er_math_tanhf(-0.0f)) && signbit(er_math_erff(-0.0f)) && isnan(er_math_erff(NAN)));
}

static void test_math_double(void **state)
{
    (void)state;
    for (int i = 0; i < 100000; i++) {
        double a = (double)noise() + (double)noise() * 0x1p-25, b = (double)noise();
        double x = a * 745, y = exp(a * 700), z = exp(a * 100);
        assert_true(ulps_d(er_math_exp(x), expl((long double)x)) < 2);
        assert_true(ulps_d(er_math_exp(a), expl((long double)a)) < 2);
        assert_true(ulps_d(er_math_log(y), logl((long double)y)) < 2);
        x = 1 + ldexp(a, -(i % 50) - 1);
        assert_true(ulps_d(er_math_log(x), logl((long double)x)) < 2);
        assert_true(ulps_d(er_math_pow(z, b * 7), powl((long double)z, (long double)(b * 7))) < 2);
        x = 1 + fabs(a) * 1e-3;
        assert_true(ulps_d(er_math_pow(x, b * 5e5), powl((long double)x, (long double)(b * 5e5))) < 2);
        assert_true(ulps_d(er_math_pow(1e5, -fabs(a)), powl(1e5L, -(long double)fabs(a))) < 2);
        x = ldexp(a, i % 21);
        assert_true(ulps_d(er_math_sin(x), sinl((long double)x)) < 2);
        assert_true(ulps_d(er_math_cos(x), cosl((long double)x)) < 2);
        x = (i * 6 + 1) * 1.5707963267948966; /* next to multiples of pi / 2 */
        assert_true(ulps_d(er_math_sin(x), sinl((long double)x)) < 2);
        assert_true(ulps_d(er_math_cos(x), cosl((long double)x)) < 2);
    }
    assert_true(er_math_exp(-INFINITY) == 0 && er_math_exp(INFINITY) == HUGE_VAL && isnan(er_math_exp(NAN)));
    assert_true(er_math_exp(-745.1) == 0x0.0000000000001p-1022 && er_math_exp(-746) == 0);
    assert_true(isnan(er_math_log(-1)) && er_math_log(0) == -HUGE_VAL && er_math_log(INFINITY) == HUGE_VAL);
    assert_true(isnan(er_math_log(NAN)) && ulps_d(er_math_log(0x1p-1074), -1074 * logl(2)) < 2);
    assert_true(er_math_pow(2, 10) == 1024 && er_math_pow(5, 0) == 1 && er_math_pow(1, NAN) == 1);
    assert_true(er_math_pow(0, 2) == 0 && er_math_pow(2, 2000) == HUGE_VAL && er_math_pow(2, -2000) == 0);
    assert_true(isnan(er_math_pow(NAN, 1)) && isnan(er_math_sin(NAN)) && isnan(er_math_cos(INFINITY)));
}

static void test_element_types(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 65536; i++) { /* widening and narrowing are inverse */
        float wide = er_bf16_to_float((uint16_t)i), half = er_f16_to_float((uint16_t)i);
        if (isnan(wide)) assert_true(isnan(er_bf16_to_float(er_float_to_bf16(wide))));
        else assert_int_equal(er_float_to_bf16(wide), i);
        if (isnan(half)) assert_true(isnan(er_f16_to_float(er_float_to_f16(half))));
        else assert_int_equal(er_float_to_f16(half), i);
    }
    for (uint32_t i = 0; i < 0x7bff; i++) { /* ties go to the even neighbour, everything else to the nearer one */
        float low = er_f16_to_float((uint16_t)i), high = er_f16_to_float((uint16_t)(i + 1)), middle = (low + high) / 2;
        assert_int_equal(er_float_to_f16(middle), i & 1 ? i + 1 : i);
        assert_int_equal(er_float_to_f16(nextafterf(middle, 0)), i);
        assert_int_equal(er_float_to_f16(-nextafterf(middle, 1e9f)), (i + 1) | 0x8000);
    }
    assert_int_equal(er_float_to_f16(65519.99f), 0x7bff);
    assert_int_equal(er_float_to_f16(65520.0f), 0x7c00);
    assert_int_equal(er_float_to_bf16(1.00390625f), 0x3f80); /* a tie */
    assert_int_equal(er_float_to_bf16(1.01171875f), 0x3f82);
    assert_true(er_dtype_bytes(ER_F32) == 4 && er_dtype_bytes(ER_Q4_1) == 0);
    assert_string_equal(er_dtype_name(ER_BF16), "bf16");
    assert_string_equal(er_dtype_name(-1), "unknown");
}

static void test_start(void **state)
{
    (void)state;
    assert_int_equal(er_kernels_start("sse9"), -1);
    assert_int_equal(er_kernels_start("scalar"), 0);
    assert_string_equal(er_kernels_name(), "scalar");
    setenv("ERRATA_ISA", "nothing", 1);
    assert_int_equal(er_kernels_start(NULL), -1);
    setenv("ERRATA_ISA", "scalar", 1);
    assert_int_equal(er_kernels_start(""), 0);
    unsetenv("ERRATA_ISA");
    assert_int_equal(er_kernels_start(NULL), 0);
    print_message("chosen here: %s\n", er_kernels_name());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start),        cmocka_unit_test(test_element_types),
        cmocka_unit_test(test_product),      cmocka_unit_test(test_rows_stand_alone),
        cmocka_unit_test(test_threads),      cmocka_unit_test(test_product64),
        cmocka_unit_test(test_gram64),       cmocka_unit_test(test_reductions),
        cmocka_unit_test(test_log_sum_exp_corners), cmocka_unit_test(test_element_wise),
        cmocka_unit_test(test_rms_norm),     cmocka_unit_test(test_swiglu_back),
        cmocka_unit_test(test_rope),         cmocka_unit_test(test_attend),
        cmocka_unit_test(test_math_float),   cmocka_unit_test(test_math_double),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
