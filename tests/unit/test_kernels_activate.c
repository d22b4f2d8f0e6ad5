/* SPDX-License-Identifier: Apache-2.0 */
/* Non-linearities and soft caps: against doubles, gradients against differences, every instruction set of this CPU and
 * any number of threads by memcmp; erf and tanh as the loops compute them. */
#include "tests/unit/kernels_common.h"

#include "model/kernels_math.h"

enum { MOST = 140 }; /* elements of the longest array, and behind it what must stay */
static const int64_t lengths[] = {1, 7, 15, 16, 17, 33, 100, 131};
enum { LENGTHS = sizeof lengths / sizeof *lengths };

/* --- erf and tanh ------------------------------------------------------------------------------------------------- */
static double ulps(float got, double want)
{
    int e;
    if ((float)want == got || (isnan(got) && isnan(want))) return 0;
    frexp(want, &e);
    return fabs((double)got - want) / ldexp(1, e - 24 < -149 ? -149 : e - 24);
}

static void check_inline(float x)
{
    float e = er_inline_erff(x), t = er_inline_tanhf(x);
    if (ulps(e, erf((double)x)) < 1.5 && ulps(t, tanh((double)x)) < 1.5) return;
    fail_msg("at %a erf is %a and tanh is %a", (double)x, (double)e, (double)t);
}

static void test_inline(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 0x100000000u; i += 9973) {
        er_float_bits x = {.u = (uint32_t)i};
        check_inline(x.f);
    }
    for (uint32_t u = 0x3e000000u; u < 0x41200000u; u += 23) { /* 0.125 to 10 */
        er_float_bits x = {.u = u};
        check_inline(x.f);
    }
    assert_true(signbit(er_inline_erff(-0.0f)) && signbit(er_inline_tanhf(-0.0f)));
    assert_true(!signbit(er_inline_erff(0.0f)) && !signbit(er_inline_tanhf(0.0f)));
    assert_true(er_inline_erff(INFINITY) == 1 && er_inline_erff(-INFINITY) == -1 && isnan(er_inline_erff(NAN)));
    assert_true(er_inline_tanhf(INFINITY) == 1 && er_inline_tanhf(-INFINITY) == -1 && isnan(er_inline_tanhf(-NAN)));
}

/* --- activations -------------------------------------------------------------------------------------------------- */
static double act(double x, int kind)
{
    const double pi = 3.14159265358979323846;
    switch (kind) {
    case ER_SILU: return x / (1 + exp(-x));
    case ER_GELU_TANH: return x / (1 + exp(-2 * sqrt(2 / pi) * (x + 0.044715 * x * x * x)));
    case ER_GELU_ERF: return 0.5 * x * erfc(-x / sqrt(2));
    default: return x > 0 ? x : 0;
    }
}

static double act_slope(double x, int kind)
{
    double h = 1e-5;
    return (act(x + h, kind) - act(x - h, kind)) / (2 * h);
}

/* In [-9, 9), and every fifth one of these. At none of them, nor near, does ReLU turn. */
static void fill(float *x, int64_t n)
{
    static const float extreme[] = {1e4f, -1e4f, 88.0f, -88.0f, 0x1p-149f, -0x1p-130f, 3e38f, -3e38f, 1e10f, -2e19f};
    for (int64_t i = 0; i < n; i++) {
        float f = noise();
        x[i] = f * 9.0f + (f < 0 ? -0x1p-9f : 0x1p-9f);
    }
    for (int64_t i = 2; i < n; i += 5) x[i] = extreme[i / 5 % 10];
}

/* What an argument of an exponential loses, grows with it. */
static int near(float got, double want, double x)
{
    return fabs((double)got - want) <= 3e-7 * fabs(want) * (1 + fabs(x)) + 1.3e-7 * (fabs(x) < 9 ? fabs(x) : 0) + 1e-37;
}

static void check_values(int64_t n, int kind, float *first, int isa)
{
    float x[MOST], up[MOST], got[MOST], gated[MOST];
    seed = (uint64_t)n;
    fill(x, n);
    for (int64_t i = 0; i < n; i++) up[i] = noise();
    for (int64_t i = n; i < MOST; i++) got[i] = gated[i] = 7.0f;
    er_activate(got, x, n, (enum er_activation)kind);
    er_gated(gated, x, up, n, (enum er_activation)kind);
    for (int64_t i = 0; i < n; i++) {
        if (!near(got[i], act((double)x[i], kind), (double)x[i]))
            fail_msg("%s, kind %d: act(%g) = %g", isas[isa], kind, (double)x[i], (double)got[i]);
        assert_true(gated[i] == got[i] * up[i]);
    }
    for (int64_t i = n; i < MOST; i++) assert_true(got[i] == 7.0f && gated[i] == 7.0f);
    if (kind == ER_SILU)
        for (int64_t i = 0; i < n; i++) assert_true(got[i] == x[i] / (1.0f + er_math_expf(-x[i])));
    if (isa == 0) memcpy(first, got, sizeof got);
    assert_memory_equal(got, first, sizeof got);
    er_gated(up, x, up, n, (enum er_activation)kind); /* in place */
    assert_memory_equal(up, gated, sizeof *up * (size_t)n);
    er_activate(x, x, n, (enum er_activation)kind);
    assert_memory_equal(x, got, sizeof *x * (size_t)n);
}

static void check_slopes(int64_t n, int kind, float (*first)[MOST], int isa)
{
    float x[MOST], up[MOST], d[MOST], plain[MOST], gate_grad[MOST], up_grad[MOST];
    seed = (uint64_t)n + 99;
    fill(x, n);
    for (int64_t i = 0; i < n; i++) up[i] = noise(), d[i] = noise();
    for (int64_t i = n; i < MOST; i++) plain[i] = gate_grad[i] = up_grad[i] = 7.0f;
    er_activate_back(plain, d, x, n, (enum er_activation)kind);
    er_gated_back(gate_grad, up_grad, d, x, up, n, (enum er_activation)kind);
    for (int64_t i = 0; i < n; i++) {
        double v = (double)x[i], slope = fabs(v) < 50 ? act_slope(v, kind) : v > 0;
        if (kind == ER_RELU) slope = v > 0; /* a difference around subnormal numbers would not show it */
        if (fabs(slope * (double)d[i] - (double)plain[i]) > 2e-6)
            fail_msg("%s, kind %d: act'(%g) is not %g", isas[isa], kind, v, (double)(plain[i] / d[i]));
        assert_true(fabs((double)gate_grad[i] - slope * (double)d[i] * (double)up[i]) < 2e-6);
        assert_true(near(up_grad[i], act(v, kind) * (double)d[i], v));
    }
    for (int64_t i = n; i < MOST; i++) assert_true(plain[i] == 7.0f && gate_grad[i] == 7.0f && up_grad[i] == 7.0f);
    const float *now[] = {plain, gate_grad, up_grad};
    for (int r = 0; r < 3; r++) {
        if (isa == 0) memcpy(first[r], now[r], sizeof plain);
        assert_memory_equal(now[r], first[r], sizeof plain);
    }
    memcpy(plain, d, sizeof d); /* in place */
    er_activate_back(plain, plain, x, n, (enum er_activation)kind);
    assert_memory_equal(plain, first[0], sizeof *plain * (size_t)n);
    er_gated_back(x, up, d, x, up, n, (enum er_activation)kind);
    assert_memory_equal(x, first[1], sizeof *x * (size_t)n);
    assert_memory_equal(up, first[2], sizeof *up * (size_t)n);
}

static void test_activations(void **state)
{
    (void)state;
    for (int kind = 0; kind < ER_ACTIVATION_COUNT; kind++)
        for (int l = 0; l < LENGTHS; l++) {
            float first[4][MOST];
            for (int isa = 0; isa < ISAS; isa++) {
                if (!start(isa)) continue;
                check_values(lengths[l], kind, first[0], isa);
                check_slopes(lengths[l], kind, first + 1, isa);
            }
        }
}

static void test_not_numbers(void **state)
{
    (void)state;
    enum { N = 37 };
    for (int isa = 0; isa < ISAS; isa++)
        for (int kind = 0; kind < ER_ACTIVATION_COUNT; kind++) {
            float x[N], y[N], one[N], dg[N], du[N];
            if (!start(isa)) continue;
            for (int i = 0; i < N; i++) x[i] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -INFINITY, one[i] = 1;
            er_activate(y, x, N, (enum er_activation)kind);
            er_gated_back(dg, du, one, x, one, N, (enum er_activation)kind);
            for (int i = 0; i < N; i++) {
                if (i % 3 == 0) assert_true(isnan(y[i]) && isnan(du[i]));
                if (i % 3 == 0) assert_true(kind == ER_RELU ? dg[i] == 1 : isnan(dg[i]));
                if (i % 3 && kind != ER_RELU) assert_true(isnan(dg[i]));
                if (i % 3 == 1) assert_true(y[i] == INFINITY && du[i] == INFINITY);
                if (i % 3 == 2) assert_true(kind == ER_RELU ? y[i] == 0 && du[i] == 0 && dg[i] == 0 : isnan(y[i]));
            }
            for (int i = 0; i < N; i++) x[i] = -1, one[i] = NAN; /* what comes back passes, too */
            er_activate_back(dg, one, x, N, (enum er_activation)kind);
            er_gated_back(y, du, one, x, x, N, (enum er_activation)kind);
            for (int i = 0; i < N; i++) assert_true(isnan(dg[i]) && isnan(y[i]) && isnan(du[i]));
        }
}

/* --- soft caps ---------------------------------------------------------------------------------------------------- */
static void check_softcap(int64_t n, float cap, float (*first)[MOST], int isa)
{
    float x[MOST], y[MOST], d[MOST], back[MOST];
    double c = (double)cap;
    seed = (uint64_t)n + 7;
    fill(x, n);
    for (int64_t i = 0; i < n; i++) d[i] = noise();
    for (int64_t i = n; i < MOST; i++) x[i] = d[i] = 7.0f;
    memcpy(y, x, sizeof x);
    memcpy(back, d, sizeof d);
    er_softcap(y, n, cap);
    er_softcap_back(back, y, n, cap);
    for (int64_t i = 0; i < n; i++) {
        double v = (double)x[i], h = 1e-5 * c, slope = c * (tanh((v + h) / c) - tanh((v - h) / c)) / (2 * h);
        assert_true(fabs((double)y[i] - c * tanh(v / c)) <= 3e-7 * fabs((double)y[i]) + c * 1e-45); /* subnormal x/c */
        assert_true(fabsf(y[i]) <= cap);
        assert_true(fabs((double)back[i] - slope * (double)d[i]) < 1e-6);
    }
    for (int64_t i = n; i < MOST; i++) assert_true(y[i] == 7.0f && back[i] == 7.0f);
    if (isa == 0) memcpy(first[0], y, sizeof y), memcpy(first[1], back, sizeof back);
    assert_memory_equal(y, first[0], sizeof y);
    assert_memory_equal(back, first[1], sizeof back);
}

static void test_softcap(void **state)
{
    (void)state;
    static const float caps[] = {1.0f, 30.0f, 50.0f};
    for (int l = 0; l < 3 * LENGTHS; l++) {
        float first[2][MOST];
        for (int isa = 0; isa < ISAS; isa++)
            if (start(isa)) check_softcap(lengths[l / 3], caps[l % 3], first, isa);
    }
    float x[3] = {NAN, INFINITY, -INFINITY}, d[3] = {1, 1, 1};
    er_softcap(x, 3, 30);
    assert_true(isnan(x[0]) && x[1] == 30 && x[2] == -30);
    er_softcap_back(d, x, 3, 30);
    assert_true(isnan(d[0]) && d[1] == 0 && d[2] == 0);
}

/* --- threads ------------------------------------------------------------------------------------------------------ */
static void test_threads(void **state)
{
    (void)state;
    enum { N = 250007 };
    int before = omp_get_max_threads();
    float *x = noises(N), *up = noises(N), *d = noises(N), *out[6][2];
    for (int r = 0; r < 6; r++) out[r][0] = noises(N), out[r][1] = noises(N);
    for (int isa = 0; isa < ISAS; isa++) {
        if (!start(isa)) continue;
        for (int threads = 1; threads <= 3; threads++) {
            int now = threads > 1;
            enum er_activation kind = ER_GELU_TANH;
            omp_set_num_threads(threads);
            er_activate(out[0][now], x, N, kind);
            er_activate_back(out[1][now], d, x, N, kind);
            er_gated(out[2][now], x, up, N, kind);
            er_gated_back(out[3][now], out[4][now], d, x, up, N, kind);
            memcpy(out[5][now], x, N * sizeof *x);
            er_scale(out[5][now], N, 60.0f);
            er_softcap(out[5][now], N, 30.0f);
            er_softcap_back(out[4][now], out[5][now], N, 30.0f);
            for (int r = 0; r < 6 && now; r++) assert_memory_equal(out[r][0], out[r][1], N * sizeof *x);
        }
    }
    omp_set_num_threads(before);
    for (int r = 0; r < 6; r++) free(out[r][0]), free(out[r][1]);
    free(x), free(up), free(d);
    er_kernels_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inline),
        cmocka_unit_test(test_activations),
        cmocka_unit_test(test_not_numbers),
        cmocka_unit_test(test_softcap),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
