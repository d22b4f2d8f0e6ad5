/* SPDX-License-Identifier: Apache-2.0 */
/* Products: every instruction set of this CPU against plain loops by memcmp, rows alone against rows in company, one
 * thread against two and three. */
#include "tests/unit/kernels_common.h"

#include "base/tick.h"

/* --- products ----------------------------------------------------------------------------------------------------- */
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
            for (int64_t m = 1; m <= 17; m += shapes[s][0] * shapes[s][1] > 2500 ? 3 : 1)
                check_product(dtypes[d], m, shapes[s][0], shapes[s][1]);
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
    static const int64_t rows_of[] = {1, 3, 17, 300};
    int64_t rows = 290, cols = 260, n = 130;
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
        for (int s = 0; s < 4; s++)
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

enum { FOLLOWED = 49, FOLLOWED_COLS = 97 };
static float followed[FOLLOWED * FOLLOWED_COLS], first_of[FOLLOWED], mirrored[FOLLOWED];

static void take_first(const void *context, int64_t from, int64_t to)
{
    const float *y = context;
    for (int64_t i = from; i < to; i++) first_of[i] = y[i * FOLLOWED_COLS] + y[i * FOLLOWED_COLS + FOLLOWED_COLS - 1];
}

static void mirror(const void *context, int64_t from, int64_t to)
{
    (void)context;
    for (int64_t i = from; i < to; i++) mirrored[i] = first_of[FOLLOWED - 1 - i];
}

/* Work behind a product sees all of it, and the second piece all of the first: columns and rows of other threads. */
static void test_work_behind_products(void **state)
{
    (void)state;
    const int before = omp_get_max_threads();
    er_matrix w = make_matrix(ER_F32, FOLLOWED_COLS, 290);
    float *x = noises(FOLLOWED * 290), *want = get(FOLLOWED * FOLLOWED_COLS, sizeof *want);
    const er_rows_work after[] = {{take_first, followed, FOLLOWED}, {mirror, NULL, FOLLOWED}};
    const er_product_call call = {followed, FOLLOWED_COLS, x, 290, FOLLOWED, &w, 0};
    naive_product(want, FOLLOWED_COLS, x, 290, FOLLOWED, &w);
    for (int round = 0; round < 60; round++) {
        omp_set_num_threads(1 + round % 15); /* from 13 threads on, 49 rows are few */
        memset(followed, 0, sizeof followed), memset(first_of, 0, sizeof first_of), memset(mirrored, 0, sizeof mirrored);
        er_products(&call, 1, after, 2);
        assert_memory_equal(followed, want, sizeof followed);
        for (int i = 0; i < FOLLOWED; i++) {
            const float *row = want + (FOLLOWED - 1 - i) * FOLLOWED_COLS;
            assert_true(mirrored[i] == row[0] + row[FOLLOWED_COLS - 1]);
        }
        memset(first_of, 0, sizeof first_of);
        er_rows_run(&after[0], round % 2 ? 1.0 : 1e6);
        for (int i = 0; i < FOLLOWED; i++) assert_true(first_of[i] == mirrored[FOLLOWED - 1 - i]);
    }
    omp_set_num_threads(before);
    free(x), free(want), free((void *)(uintptr_t)w.data);
}

/* Additions and copies that are long enough for threads. */
static void test_long_rows(void **state)
{
    (void)state;
    enum { N = 300001 };
    const int before = omp_get_max_threads();
    float *x = noises(N), *y = noises(N), *z = noises(N);
    for (int threads = 1; threads < 5; threads++) {
        omp_set_num_threads(threads);
        er_copy(z, y, N);
        assert_memory_equal(z, y, N * sizeof *z);
        er_add(z, x, N);
        for (int i = 0; i < N; i++) assert_true(z[i] == y[i] + x[i]);
    }
    omp_set_num_threads(before);
    free(x), free(y), free(z);
}

/* Several at once, forward and back, a narrow type, few and many rows, panels that no number of threads divides: as one
 * after another on one thread. */
static void test_products(void **state)
{
    (void)state;
    enum { SIZE = 3 };
    static const int64_t shapes[SIZE][2] = {{290, 97}, {97, 290}, {33, 290}};
    const int before = omp_get_max_threads();
    er_matrix w[SIZE];
    for (int i = 0; i < SIZE; i++) w[i] = make_matrix(i == 1 ? ER_BF16 : ER_F32, shapes[i][0], shapes[i][1]);
    float *x = noises(50 * 290), *want[SIZE], *y[SIZE];
    for (int i = 0; i < SIZE; i++) want[i] = get(50 * 290, sizeof(float)), y[i] = get(50 * 290, sizeof(float));
    for (int64_t m = 0; m <= 50; m += m < 2 ? 1 : 24)
        for (int threads = 1; threads < 6; threads += 2) {
            er_product_call calls[SIZE];
            for (int i = 0; i < SIZE; i++) {
                const int back = i != 1;
                const int64_t ldx = back ? w[i].rows : w[i].cols, ldy = back ? w[i].cols : w[i].rows;
                calls[i] = (er_product_call){y[i], ldy, x, ldx, m, &w[i], back};
                memset(y[i], 1, 50 * 290 * sizeof(float));
                memset(want[i], 1, 50 * 290 * sizeof(float));
                if (back) naive_back(want[i], ldy, x, ldx, m, &w[i]);
                else naive_product(want[i], ldy, x, ldx, m, &w[i]);
            }
            omp_set_num_threads(threads);
            er_products(calls, SIZE, NULL, 0);
            for (int i = 0; i < SIZE; i++) assert_memory_equal(y[i], want[i], 50 * 290 * sizeof(float));
        }
    er_products(NULL, 0, NULL, 0);
    omp_set_num_threads(before);
    for (int i = 0; i < SIZE; i++) free(want[i]), free(y[i]), free((void *)(uintptr_t)w[i].data);
    free(x);
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
        cmocka_unit_test(test_start),
        cmocka_unit_test(test_product),
        cmocka_unit_test(test_rows_stand_alone),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_work_behind_products),
        cmocka_unit_test(test_long_rows),
        cmocka_unit_test(test_product64),
        cmocka_unit_test(test_gram64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
