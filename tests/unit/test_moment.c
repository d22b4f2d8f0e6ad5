/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"
#include "base/random.h"
#include "stats/moment.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#ifdef __SIZEOF_FLOAT128__
__extension__ typedef __float128 quad;
#else
typedef long double quad; /* 128 bits on aarch64 */
#endif
__extension__ typedef __int128 int128;
__extension__ typedef unsigned __int128 uint128;

enum { N = 13, BLOCKS = 12 };

/* Sixty octaves of magnitudes, both signs, some exact ties. */
static double draw(uint64_t index)
{
    uint32_t w[4];
    er_random4(w, 7, ER_STREAM_TEST, 0, index);
    double x = er_random_uniform(8, ER_STREAM_TEST, 0, index);
    if (w[0] % 16 == 0) x = 0.5;
    return ldexp(w[1] & 1 ? -x : x, (int)(w[2] % 90) - 70);
}

static void fill_block(double gram[N * N], int block)
{
    for (int i = 0; i < N * N; i++) gram[i] = draw((uint64_t)(block * N * N + i));
}

static void add_block(er_moment *m, int block)
{
    double gram[N * N];
    fill_block(gram, block);
    assert_int_equal(er_moment_add(m, gram, block + 1, NULL), 0);
}

static void fresh(er_moment *m) { assert_int_equal(er_moment_new(m, N, NULL), 0); }

static void any_order_gives_the_same_bytes(void **state)
{
    (void)state;
    er_moment straight, mixed, part[3];
    fresh(&straight);
    fresh(&mixed);
    for (int p = 0; p < 3; p++) fresh(&part[p]);
    for (int b = 0; b < BLOCKS; b++) add_block(&straight, b);
    for (uint64_t round = 0; round < 20; round++) {
        int order[BLOCKS];
        for (int i = 0; i < BLOCKS; i++) order[i] = i;
        for (int i = BLOCKS - 1; i > 0; i--) {
            int j = (int)er_random_below((uint64_t)i + 1, round, ER_STREAM_TEST, 1, (uint64_t)i), t = order[i];
            order[i] = order[j];
            order[j] = t;
        }
        er_moment_clear(&mixed);
        for (int p = 0; p < 3; p++) er_moment_clear(&part[p]);
        for (int i = 0; i < BLOCKS; i++) {
            add_block(&mixed, order[i]);
            add_block(&part[er_random_below(3, round, ER_STREAM_TEST, 2, (uint64_t)i)], order[i]);
        }
        assert_memory_equal(mixed.sum, straight.sum, sizeof(er_fixed) * (size_t)er_moment_elements(N));
        assert_int_equal(mixed.tokens, straight.tokens);
        assert_int_equal(er_fixed_sum(part[2].sum, part[0].sum, er_moment_elements(N)), 0);
        assert_int_equal(er_fixed_sum(part[1].sum, part[2].sum, er_moment_elements(N)), 0);
        assert_memory_equal(part[1].sum, straight.sum, sizeof(er_fixed) * (size_t)er_moment_elements(N));
    }
    er_moment_free(&straight);
    er_moment_free(&mixed);
    for (int p = 0; p < 3; p++) er_moment_free(&part[p]);
}

/* x in units of 2^-64, by another road: quad precision rounds at the point when a large number is added. */
static quad rounded(double x)
{
    quad big = (quad)1.5 * (quad)0x1p112, value = (quad)x * (quad)0x1p64;
    volatile quad sum = value + big;
    return sum - big;
}

static int64_t index_of(int64_t i, int64_t j) { return i * N - i * (i - 1) / 2 + (j - i); }

static int128 value_of(const er_fixed *f) { return (int128)((uint128)(uint64_t)f->high << 64 | f->low); }

static void sums_and_means_are_exact(void **state)
{
    (void)state;
    quad sum[N * N] = {0};
    double gram[N * N], mean[N * N];
    er_moment m;
    fresh(&m);
    for (int b = 0; b < BLOCKS; b++) {
        add_block(&m, b);
        fill_block(gram, b);
        for (int i = 0; i < N * N; i++) sum[i] += rounded(gram[i]);
    }
    assert_int_equal(m.tokens, BLOCKS * (BLOCKS + 1) / 2);
    assert_int_equal(er_moment_mean(mean, &m, NULL), 0);
    for (int i = 0; i < N; i++)
        for (int j = i; j < N; j++) {
            quad want = sum[i * N + j];
            assert_true((quad)value_of(&m.sum[index_of(i, j)]) == want);
            double expected = (double)(want * (quad)0x1p-64) / (double)m.tokens;
            assert_memory_equal(&mean[i * N + j], &expected, sizeof expected);
            assert_memory_equal(&mean[j * N + i], &expected, sizeof expected);
        }
    er_moment_free(&m);
}

static int128 one(double x)
{
    er_moment m;
    assert_int_equal(er_moment_new(&m, 1, NULL), 0);
    assert_int_equal(er_moment_add(&m, &x, 1, NULL), 0);
    int128 value = value_of(m.sum);
    er_moment_free(&m);
    return value;
}

static void rounds_to_nearest_even(void **state)
{
    (void)state;
    assert_true(one(0.0) == 0 && one(-0.0) == 0);
    assert_true(one(0x1p-64) == 1 && one(-0x1p-64) == -1);
    assert_true(one(0x1p-65) == 0 && one(-0x1p-65) == 0);
    assert_true(one(nextafter(0x1p-65, 1)) == 1 && one(-nextafter(0x1p-65, 1)) == -1);
    assert_true(one(nextafter(0x1p-65, 0)) == 0);
    assert_true(one(0x1.8p-64) == 2 && one(-0x1.8p-64) == -2 && one(0x1.4p-63) == 2 && one(0x1.cp-63) == 4);
    assert_true(one(0x1p-66) == 0 && one(0x1p-1074) == 0 && one(0x1p-1022) == 0 && one(0x1.fffffffffffffp-66) == 0);
    assert_true(one(1.0) == (int128)1 << 64 && one(-1.0) == -((int128)1 << 64));
    assert_true(one(0x1.fffffffffffffp62) == (int128)0x1fffffffffffffLL << 74);
    assert_true(one(0x1.0000000000001p-12) == ((int128)1 << 52) + 1);
    assert_true(one(0x1.0000000000001p-13) == (int128)1 << 51);            /* tie to the even neighbour below */
    assert_true(one(0x1.0000000000003p-13) == ((int128)1 << 51) + 2);      /* tie to the even neighbour above */
}

static void refuses_what_does_not_fit(void **state)
{
    (void)state;
    er_moment m, before;
    er_err err = ER_ERR_INIT;
    fresh(&m);
    fresh(&before);
    add_block(&m, 3);
    memcpy(before.sum, m.sum, sizeof(er_fixed) * (size_t)er_moment_elements(N));
    static const double bad[] = {0x1p63, -0x1p63, 1e300, (double)NAN, (double)INFINITY, -(double)INFINITY};
    for (size_t b = 0; b < sizeof bad / sizeof *bad; b++) {
        double gram[N * N] = {0};
        for (int i = 0; i < N * N; i++) gram[i] = 1;
        gram[5 * N + 9] = bad[b]; /* after elements that are fine: none of them may stay added */
        assert_int_equal(er_moment_add(&m, gram, 1, &err), ER_E_NUMERIC);
        assert_non_null(strstr(err.text, isfinite(bad[b]) ? "(5, 9) leaves 64.64" : "(5, 9) of a block is not finite"));
        assert_int_equal(m.tokens, 4);
        assert_memory_equal(before.sum, m.sum, sizeof(er_fixed) * (size_t)er_moment_elements(N));
        gram[5 * N + 9] = 0;
        gram[9 * N + 5] = bad[b]; /* below the diagonal: not read */
        assert_int_equal(er_moment_add(&m, gram, 0, &err), 0);
        memcpy(before.sum, m.sum, sizeof(er_fixed) * (size_t)er_moment_elements(N));
    }
    er_moment_free(&m);
    er_moment_free(&before);
}

static void notices_overflow_of_sums(void **state)
{
    (void)state;
    er_moment a, b;
    double half = 0x1p62, minus = -0x1p62, unit = -1;
    assert_int_equal(er_moment_new(&a, 1, NULL), 0);
    assert_int_equal(er_moment_new(&b, 1, NULL), 0);
    assert_int_equal(er_moment_add(&a, &half, 1, NULL), 0);
    assert_int_equal(er_moment_add(&a, &half, 1, NULL), ER_E_NUMERIC); /* 2^63 is one too many */
    assert_int_equal(er_moment_add(&b, &half, 1, NULL), 0);
    assert_int_not_equal(er_fixed_sum(a.sum, b.sum, 1), 0);
    er_moment_clear(&a);
    assert_int_equal(er_moment_add(&a, &minus, 1, NULL), 0);
    assert_int_equal(er_moment_add(&a, &minus, 1, NULL), 0); /* -2^63 still fits */
    double mean;
    assert_int_equal(er_moment_mean(&mean, &a, NULL), 0);
    assert_true(mean == -0x1p62);
    assert_int_equal(er_moment_add(&a, &unit, 1, NULL), ER_E_NUMERIC);
    a.tokens = INT64_MAX;
    assert_int_equal(er_moment_add(&a, &half, 1, NULL), ER_E_NUMERIC);
    assert_int_equal(er_moment_mean(&mean, &a, NULL), ER_E_NUMERIC);
    er_moment_clear(&a);
    assert_int_equal(er_moment_mean(&mean, &a, NULL), ER_E_NUMERIC);
    er_moment_free(&a);
    er_moment_free(&b);
}

/* 2^53 + 1 and 2^53 + 3 units of 2^-64, and their negatives: halves of the last place of a double. */
static void mean_rounds_the_sum_once(void **state)
{
    (void)state;
    static const struct {
        int64_t units;
        double want;
    } rows[] = {{((int64_t)1 << 53) + 1, 0x1p-11}, {((int64_t)1 << 53) + 3, 0x1.0000000000002p-11},
                {((int64_t)1 << 54) + 3, 0x1.0000000000001p-10}, {-(((int64_t)1 << 53) + 3), -0x1.0000000000002p-11},
                {((int64_t)1 << 54) - 1, 0x1p-10}, {5, 0x1.4p-62}};
    er_moment m;
    assert_int_equal(er_moment_new(&m, 1, NULL), 0);
    m.tokens = 1;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double mean;
        m.sum[0] = (er_fixed){(uint64_t)rows[i].units, rows[i].units < 0 ? -1 : 0};
        assert_int_equal(er_moment_mean(&mean, &m, NULL), 0);
        assert_true(mean == rows[i].want);
    }
    er_moment_free(&m);
}

static void refuses_sizes_and_gives_memory_back(void **state)
{
    (void)state;
    er_moment m;
    int64_t live = er_memory_live();
    assert_int_equal(er_moment_new(&m, 0, NULL), ER_E_INPUT);
    assert_int_equal(er_moment_new(&m, INT64_MAX / 2, NULL), ER_E_INPUT);
    er_memory_fail_at(1);
    assert_int_equal(er_moment_new(&m, N, NULL), ER_E_MEMORY);
    er_memory_fail_at(0);
    fresh(&m);
    er_moment_free(&m);
    assert_int_equal(er_memory_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_order_gives_the_same_bytes), cmocka_unit_test(sums_and_means_are_exact),
        cmocka_unit_test(rounds_to_nearest_even),         cmocka_unit_test(refuses_what_does_not_fit),
        cmocka_unit_test(notices_overflow_of_sums),       cmocka_unit_test(mean_rounds_the_sum_once),
        cmocka_unit_test(refuses_sizes_and_gives_memory_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
