/* SPDX-License-Identifier: Apache-2.0 */
/* Scalar functions against the C library in higher precision; element types. */
#include "tests/unit/kernels_common.h"

/* --- scalar functions --------------------------------------------------------------------------------------------- */
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
    const double nan64 = (double)NAN;
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
    assert_true(er_math_exp(-HUGE_VAL) == 0 && er_math_exp(HUGE_VAL) == HUGE_VAL && isnan(er_math_exp(nan64)));
    assert_true(er_math_exp(-745.1) == 0x0.0000000000001p-1022 && er_math_exp(-746) == 0);
    assert_true(isnan(er_math_log(-1)) && er_math_log(0) == -HUGE_VAL && er_math_log(HUGE_VAL) == HUGE_VAL);
    assert_true(isnan(er_math_log(nan64)) && ulps_d(er_math_log(0x1p-1074), -1074 * logl(2)) < 2);
    assert_true(er_math_pow(2, 10) == 1024 && er_math_pow(5, 0) == 1 && er_math_pow(1, nan64) == 1);
    assert_true(er_math_pow(0, 2) == 0 && er_math_pow(2, 2000) == HUGE_VAL && er_math_pow(2, -2000) == 0);
    assert_true(isnan(er_math_pow(nan64, 1)) && isnan(er_math_sin(nan64)) && isnan(er_math_cos(HUGE_VAL)));
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_element_types),
        cmocka_unit_test(test_math_float),
        cmocka_unit_test(test_math_double),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
