/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"
#include "base/random.h"
#include "model/kernels.h"
#include "stats/eigen.h"
#include "stats/store.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { N = 75, ROWS = 9 };

static double c[N * N];  /* a symmetric matrix with a wide spectrum */
static er_eigen eigen;   /* and its eigenpairs */
static double x[ROWS * N];

static double uniform(uint32_t item, int64_t index)
{
    return 2 * er_random_uniform(3, ER_STREAM_TEST, item, (uint64_t)index) - 1;
}

/* c = sum_k s_k a_k a_k^T / N with s from 1e-3 to 1e3 */
static int setup(void **state)
{
    (void)state;
    if (er_kernels_start(NULL)) return -1;
    for (int k = 0; k < N; k++) {
        double scale = pow(10, 6.0 * k / (N - 1) - 3) / N;
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) c[i * N + j] += scale * uniform(1, k * N + i) * uniform(1, k * N + j);
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < i; j++) c[i * N + j] = c[j * N + i];
    for (int i = 0; i < ROWS * N; i++) x[i] = uniform(2, i);
    return er_eigen_solve(&eigen, c, N, NULL);
}

static int teardown(void **state)
{
    (void)state;
    er_eigen_free(&eigen);
    er_kernels_stop();
    return 0;
}

static double largest(const double *a, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++) most = fmax(most, fabs(a[i]));
    return most;
}

static void assert_close(const double *a, const double *b, int64_t n, double tolerance)
{
    double scale = fmax(largest(a, n), largest(b, n)), most = 0;
    for (int64_t i = 0; i < n; i++) most = fmax(most, fabs(a[i] - b[i]));
    if (!(most <= tolerance * scale)) fail_msg("differ by %g of %g", most, scale);
}

static void eigenpairs_are_what_they_should_be(void **state)
{
    (void)state;
    double largest_value = eigen.values[N - 1];
    assert_int_equal(eigen.n, N);
    for (int i = 0; i < N; i++) {
        const double *v = eigen.vectors + i * N;
        int top = 0;
        for (int j = 0; j < N; j++) {
            double left = 0;
            for (int k = 0; k < N; k++) left += c[j * N + k] * v[k];
            assert_true(fabs(left - eigen.values[i] * v[j]) < 1e-13 * largest_value);
            if (fabs(v[j]) > fabs(v[top])) top = j;
        }
        assert_true(v[top] > 0);
        if (i) assert_true(eigen.values[i] >= eigen.values[i - 1]);
        for (int k = 0; k <= i; k++) {
            double dot = 0;
            for (int j = 0; j < N; j++) dot += v[j] * eigen.vectors[k * N + j];
            assert_true(fabs(dot - (i == k)) < 1e-13);
        }
    }
}

static void refuses_what_is_not_finite(void **state)
{
    (void)state;
    er_eigen e;
    er_err err = ER_ERR_INIT;
    double bad[4] = {1, (double)NAN, (double)NAN, 1};
    assert_int_equal(er_eigen_solve(&e, bad, 2, &err), ER_E_NUMERIC);
    assert_non_null(strstr(err.text, "is not finite"));
    int64_t live = er_memory_live();
    for (int64_t at = 1; at <= 4; at++) {
        er_memory_fail_at(at);
        assert_int_equal(er_eigen_solve(&e, c, N, &err), ER_E_MEMORY);
    }
    er_memory_fail_at(0);
    assert_int_equal(er_memory_live(), live);
}

/* P as a matrix, by plain loops over the kept vectors */
static void direct_projection(double *p, int64_t rank)
{
    memset(p, 0, sizeof *p * N * N);
    for (int64_t k = 0; k < rank; k++)
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) p[i * N + j] += eigen.vectors[k * N + i] * eigen.vectors[k * N + j];
}

static void times(double *y, const double *a, const double *b, int64_t m)
{
    for (int64_t i = 0; i < m; i++)
        for (int j = 0; j < N; j++) {
            double sum = 0;
            for (int k = 0; k < N; k++) sum += a[i * N + k] * b[k * N + j];
            y[i * N + j] = sum;
        }
}

/* Ranks on both sides of n / 2 take both forms; down and up always go through U0. */
static void projects(void **state)
{
    (void)state;
    static double p[N * N], unit[N * N], got[N * N], again[N * N], want[N * N], scratch[N * N], down[N * N];
    static const int64_t ranks[] = {1, 7, N / 2, N / 2 + 1, 60, N - 1, N};
    for (size_t r = 0; r < sizeof ranks / sizeof *ranks; r++) {
        er_projection projection;
        er_keep keep = {ER_KEEP_RANK, (double)ranks[r]};
        assert_int_equal(er_projection_make(&projection, &eigen, &keep, NULL), 0);
        assert_int_equal(projection.rank, ranks[r]);
        direct_projection(p, ranks[r]);
        memset(unit, 0, sizeof unit);
        for (int i = 0; i < N; i++) unit[i * N + i] = 1;
        er_projection_apply(got, unit, N, &projection, scratch);
        assert_close(got, p, N * N, 1e-12);
        for (int i = 0; i < N; i++)
            for (int j = 0; j < i; j++) assert_true(fabs(got[i * N + j] - got[j * N + i]) < 1e-14);
        er_projection_apply(again, got, N, &projection, scratch);
        assert_close(again, got, N * N, 1e-13);
        times(want, x, p, ROWS);
        er_projection_apply(got, x, ROWS, &projection, scratch);
        assert_close(got, want, ROWS * N, 1e-12);
        er_projection_down(down, x, ROWS, &projection);
        er_projection_up(again, down, ROWS, &projection);
        assert_close(again, got, ROWS * N, 1e-12);
        /* in place, and each row alone: the same bits */
        memcpy(again, x, sizeof x);
        er_projection_apply(again, again, ROWS, &projection, scratch);
        assert_memory_equal(again, got, sizeof x);
        for (int i = 0; i < ROWS; i++) {
            er_projection_apply(again, x + i * N, 1, &projection, scratch);
            assert_memory_equal(again, got + i * N, sizeof *x * N);
        }
    }
}

static int64_t rank_by(enum er_keep_by by, double value)
{
    er_projection projection = {NULL, -1};
    er_keep keep = {by, value};
    return er_projection_make(&projection, &eigen, &keep, NULL) ? -1 : projection.rank;
}

static void keeps_by_each_rule(void **state)
{
    (void)state;
    double trace = 0, sum = 0;
    for (int i = 0; i < N; i++) trace += eigen.values[i];
    for (int i = 0; i < N; i++) {
        if (i) assert_int_equal(rank_by(ER_KEEP_THRESHOLD, eigen.values[i]), i); /* strictly below */
        assert_int_equal(rank_by(ER_KEEP_THRESHOLD, nextafter(eigen.values[i], (double)INFINITY)), i + 1);
        sum += eigen.values[i];
        assert_int_equal(rank_by(ER_KEEP_ENERGY, fmin(sum / trace * (1 + 1e-12), 1)), i + 1);
        if (i) assert_int_equal(rank_by(ER_KEEP_ENERGY, sum / trace * (1 - 1e-12)), i);
    }
    assert_int_equal(rank_by(ER_KEEP_ENERGY, 1), N);
    assert_int_equal(rank_by(ER_KEEP_RANK, N), N);
    assert_int_equal(rank_by(ER_KEEP_RANK, N + 1), -1);
    assert_int_equal(rank_by(ER_KEEP_RANK, 2.5), -1);
    assert_int_equal(rank_by(ER_KEEP_RANK, (double)NAN), -1);
    assert_int_equal(rank_by(ER_KEEP_ENERGY, 1.5), -1);
    assert_int_equal(rank_by(ER_KEEP_ENERGY, (double)NAN), -1);
    assert_int_equal(rank_by(ER_KEEP_THRESHOLD, (double)NAN), -1);
    assert_int_equal(rank_by(ER_KEEP_THRESHOLD, (double)INFINITY), -1);
}

static void says_why_nothing_is_kept(void **state)
{
    (void)state;
    static const enum er_keep_by by[] = {ER_KEEP_THRESHOLD, ER_KEEP_RANK, ER_KEEP_ENERGY};
    static const char *const name[] = {"nullspace_threshold 0", "nullspace_rank 0", "nullspace_energy 0"};
    er_eigen four = {4, (double[]){0.002, 0.015, 0.5, 7}, NULL};
    for (int i = 0; i < 3; i++) {
        er_projection projection = {NULL, -1};
        er_err err = ER_ERR_INIT;
        er_keep keep = {by[i], 0};
        assert_int_equal(er_projection_make(&projection, &four, &keep, &err), ER_E_INPUT);
        assert_int_equal(projection.rank, -1);
        assert_non_null(strstr(err.text, name[i]));
        assert_non_null(strstr(err.text, "keeps no direction: eigenvalues run from 0.002 to 7, median 0.5; of 4, 0 lie "
                                         "below 0.001, 1 below 0.01, 2 below 0.02, 2 below 0.1, 3 below 1"));
    }
}

/* Gauss with row pivots on a copy, solving for all ROWS right sides */
static void direct_solve(double *y)
{
    static double a[N * N], b[N * ROWS];
    memcpy(a, c, sizeof a);
    for (int i = 0; i < N; i++)
        for (int r = 0; r < ROWS; r++) b[i * ROWS + r] = x[r * N + i];
    for (int k = 0; k < N; k++) {
        int pivot = k;
        for (int i = k; i < N; i++)
            if (fabs(a[i * N + k]) > fabs(a[pivot * N + k])) pivot = i;
        for (int j = 0; j < N + ROWS; j++) {
            double *u = j < N ? &a[k * N + j] : &b[k * ROWS + j - N];
            double *v = j < N ? &a[pivot * N + j] : &b[pivot * ROWS + j - N];
            double t = *u;
            *u = *v;
            *v = t;
        }
        for (int i = k + 1; i < N; i++) {
            double factor = a[i * N + k] / a[k * N + k];
            for (int j = k; j < N; j++) a[i * N + j] -= factor * a[k * N + j];
            for (int r = 0; r < ROWS; r++) b[i * ROWS + r] -= factor * b[k * ROWS + r];
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int i = N - 1; i >= 0; i--) {
            double sum = b[i * ROWS + r];
            for (int j = i + 1; j < N; j++) sum -= a[i * N + j] * y[r * N + j];
            y[r * N + i] = sum / a[i * N + i];
        }
}

static void inverts(void **state)
{
    (void)state;
    static double y[ROWS * N], want[ROWS * N], scratch[ROWS * N];
    assert_int_equal(er_eigen_inverse(y, x, ROWS, &eigen, scratch, NULL), 0);
    direct_solve(want);
    assert_close(y, want, ROWS * N, 8 * 0x1p-52 * eigen.values[N - 1] / eigen.values[0]);
    memcpy(want, x, sizeof want);
    assert_int_equal(er_eigen_inverse(want, want, ROWS, &eigen, scratch, NULL), 0);
    assert_memory_equal(want, y, sizeof want);
}

static void refuses_to_invert_a_singular_moment(void **state)
{
    (void)state;
    static double low[N * N], y[ROWS * N], scratch[ROWS * N];
    er_eigen e;
    er_err err = ER_ERR_INIT;
    for (int k = 0; k < N / 2; k++)
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) low[i * N + j] += uniform(4, k * N + i) * uniform(4, k * N + j);
    assert_int_equal(er_eigen_solve(&e, low, N, NULL), 0);
    assert_int_equal(er_eigen_inverse(y, x, ROWS, &e, scratch, &err), ER_E_NUMERIC);
    assert_non_null(strstr(err.text, "singular"));
    er_eigen_free(&e);
}

static void checks_a_layer(void **state)
{
    (void)state;
    static float keys[ROWS * N];
    static double broken[N * N];
    er_stats_check check;
    er_keep keep = {ER_KEEP_RANK, 50};
    for (int i = 0; i < ROWS * N; i++) keys[i] = i / N == 4 ? 0 : (float)x[i];
    assert_int_equal(er_stats_verify(&check, c, &eigen, &keep, keys, ROWS, NULL), 0);
    assert_int_equal(check.rank, 50);
    assert_true(check.asymmetry == 0 && check.reconstruction < 1e-13 && check.orthogonality < 1e-13);
    assert_true(check.idempotence < 1e-13);
    assert_int_equal(check.leak_keys, ROWS - 1); /* the zero key says nothing */
    double want = 0;
    for (int r = 0; r < ROWS; r++) {
        double all = 0, kept = 0;
        for (int k = 0; k < N; k++) {
            double dot = 0;
            for (int i = 0; i < N; i++) dot += (double)keys[r * N + i] * eigen.vectors[k * N + i];
            all += dot * dot;
            if (k < 50) kept += dot * dot;
        }
        if (all > 0) want += sqrt(kept / all) / (ROWS - 1);
    }
    assert_true(fabs(check.leak - want) < 1e-12);
    memcpy(broken, c, sizeof broken);
    broken[3 * N + 70] += 1e-3 * c[0];
    assert_int_equal(er_stats_verify(&check, broken, &eigen, &keep, NULL, 0, NULL), 0);
    assert_true(check.asymmetry > 1e-5 && check.reconstruction > 1e-5 && check.leak_keys == 0);
    memset(broken, 0, sizeof broken);
    assert_int_equal(er_stats_verify(&check, broken, &eigen, &keep, NULL, 0, NULL), ER_E_NUMERIC);
}

static void describes_a_spectrum(void **state)
{
    (void)state;
    er_eigen e = {5, (double[]){0.0005, 0.005, 0.015, 0.3, 40}, NULL};
    er_spectrum s;
    er_spectrum_fill(&s, &e, 1234);
    assert_int_equal(s.tokens, 1234);
    assert_int_equal(s.dimension, 5);
    assert_true(s.least == 0.0005 && s.greatest == 40 && fabs(s.trace - 40.3205) < 1e-12);
    for (int64_t t = 0; t < s.threshold_count; t++) {
        int64_t below = 0;
        for (int i = 0; i < 5; i++) below += e.values[i] < s.threshold[t];
        assert_int_equal(s.below[t], below);
    }
    assert_true(s.threshold_count > 3 && s.threshold[3] == 0.02 && s.below[3] == 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eigenpairs_are_what_they_should_be), cmocka_unit_test(refuses_what_is_not_finite),
        cmocka_unit_test(projects),                           cmocka_unit_test(keeps_by_each_rule),
        cmocka_unit_test(says_why_nothing_is_kept),           cmocka_unit_test(inverts),
        cmocka_unit_test(refuses_to_invert_a_singular_moment), cmocka_unit_test(checks_a_layer),
        cmocka_unit_test(describes_a_spectrum),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
