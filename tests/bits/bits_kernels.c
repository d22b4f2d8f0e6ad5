/* SPDX-License-Identifier: Apache-2.0 */
/* Every function of model/kernels.h on drawn numbers; shapes run over the edges of tiles, of blocks over the inner
 * index and of what more than one thread gets. */
#include "tests/bits/bits.h"

#include "base/random.h"
#include "model/kernels.h"
#include "model/kernels_math.h"
#include "model/quant.h"

#include <math.h>
#include <string.h>

typedef struct shape {
    int64_t m, rows, cols;
} shape;

/* --- conversions ------------------------------------------------------------------------------------------------- */
static void random_numbers(void)
{
    uint32_t words[4 * 256];
    double u[256];
    uint64_t below[256];
    for (uint32_t i = 0; i < 256; i++) {
        er_random4(words + 4 * i, 12345678901u + i, i % 5, i * 77, (uint64_t)i << 30);
        u[i] = er_random_uniform(3, ER_STREAM_SAMPLE, i, i);
        below[i] = er_random_below(1 + i * i, 4, ER_STREAM_SHUFFLE, 0, i);
    }
    emit(words, sizeof words, "random.words");
    emit(u, sizeof u, "random.uniform");
    emit(below, sizeof below, "random.below");
}

static void half_types(void)
{
    enum { ALL = 1 << 16, N = 1 << 14 };
    float *wide = bits_room(2 * ALL, sizeof *wide);
    for (int i = 0; i < ALL; i++) {
        wide[i] = er_bf16_to_float((uint16_t)i);
        wide[ALL + i] = er_f16_to_float((uint16_t)i);
    }
    emit_floats(wide, 2 * ALL, "convert.widened");
    uint16_t *narrow = bits_room(4 * N, sizeof *narrow);
    for (int i = 0; i < N; i++) {
        float x = bits_noise(1, i, 1), y = ldexpf(bits_noise(2, i, 0), i % 48 - 28); /* around fp16's range */
        narrow[4 * i] = er_float_to_bf16(x);
        narrow[4 * i + 1] = er_float_to_f16(x);
        narrow[4 * i + 2] = er_float_to_bf16(y);
        narrow[4 * i + 3] = er_float_to_f16(y);
    }
    emit(narrow, 4 * N * sizeof *narrow, "convert.narrowed");
}

static void block_types(void)
{
    static const int type[] = {ER_Q8_0, ER_Q4_0, ER_Q4_1};
    enum { N = 1024, BYTES = N / 32 * 34 };
    static uint8_t data[BYTES];
    static float out[N];
    for (int k = 0; k < 3; k++) {
        size_t block = er_dtype_block_bytes(type[k]);
        for (size_t i = 0; i < er_dtype_span(type[k], N); i++) {
            data[i] = (uint8_t)(int)(bits_noise(3, (int64_t)i, 0) * 128.0f);
            /* the high bytes of scale and minimum: finite halves */
            if (i % block == 1 || (type[k] == ER_Q4_1 && i % block == 3)) data[i] &= 0xbf;
        }
        er_widen(out, data, type[k], 0, N);
        emit(out, sizeof out, "convert.%s", er_dtype_name(type[k]));
    }
}

/* --- scalar functions ---------------------------------------------------------------------------------------------- */
static void scalar_f32(const char *name, float (*f)(float), float low, float high)
{
    enum { N = 4096 };
    static const float special[] = {0.0f, -0.0f, 1.0f, -1.0f, 0x1p-149f, -0x1p-140f, 0x1p-126f, 0x1.fffffep+127f,
                                    -0x1.fffffep+127f, INFINITY, -INFINITY, NAN};
    enum { SPECIAL = sizeof special / sizeof *special };
    float y[2 * N + SPECIAL];
    for (int i = 0; i < N; i++) {
        float u = bits_noise(4, i, 0) * 0.5f + 0.5f;
        y[i] = f(low + (high - low) * u);
        y[N + i] = f(bits_noise(5, i, 1));
    }
    for (int i = 0; i < SPECIAL; i++) y[2 * N + i] = f(special[i]);
    emit_floats(y, 2 * N + SPECIAL, name);
}

static void scalar_f64(const char *name, double (*f)(double), double low, double high)
{
    enum { N = 4096 };
    double y[2 * N];
    for (uint64_t i = 0; i < N; i++) {
        double u = er_random_uniform(6, ER_STREAM_TEST, 0, i), v = er_random_uniform(7, ER_STREAM_TEST, 0, i);
        y[i] = f(low + (high - low) * u);
        y[N + i] = f(v * 0x1p-20); /* near zero */
    }
    emit_doubles(y, 2 * N, name);
}

static void powers(void)
{
    enum { N = 4096 };
    double y[N];
    for (uint64_t i = 0; i < N; i++) {
        double x = er_random_uniform(8, ER_STREAM_TEST, 0, i) * (i % 2 ? 10000.0 : 1.0) + 0x1p-60;
        y[i] = er_math_pow(x, er_random_uniform(9, ER_STREAM_TEST, 0, i) * 16.0 - 8.0);
    }
    emit_doubles(y, N, "math.pow");
}

static float inline_erff(float x)
{
    return er_inline_erff(x);
}

static float inline_tanhf(float x)
{
    return er_inline_tanhf(x);
}

static void scalars(void)
{
    scalar_f32("math.expf", er_math_expf, -110.0f, 95.0f);
    scalar_f32("math.logf", er_math_logf, 0.0f, 30.0f);
    scalar_f32("math.tanhf", er_math_tanhf, -12.0f, 12.0f);
    scalar_f32("math.erff", er_math_erff, -5.0f, 5.0f);
    scalar_f32("math.inline_erff", inline_erff, -5.0f, 5.0f);
    scalar_f32("math.inline_tanhf", inline_tanhf, -12.0f, 12.0f);
    scalar_f64("math.exp", er_math_exp, -750.0, 720.0);
    scalar_f64("math.log", er_math_log, 0.0, 40.0);
    scalar_f64("math.sin", er_math_sin, -1000000.0, 1000000.0);
    scalar_f64("math.cos", er_math_cos, -1000.0, 1000.0);
    powers();
}

/* --- products ------------------------------------------------------------------------------------------------------ */
static er_matrix make_matrix(int dtype, int64_t rows, int64_t cols)
{
    float *wide = bits_noises(10, rows * cols, 0);
    er_matrix w = {dtype, rows, cols, wide};
    if (dtype == ER_F32) return w;
    uint16_t *narrow = bits_room(rows * cols, sizeof *narrow);
    er_narrow(narrow, dtype, wide, rows * cols);
    w.data = narrow;
    return w;
}

static void product(int dtype, const shape *s, int wild)
{
    er_matrix w = make_matrix(dtype, s->rows, s->cols);
    float *x = bits_noises(11, s->m * s->cols, wild), *y = bits_room(s->m * s->rows, sizeof *y);
    er_product(y, s->rows, x, s->cols, s->m, &w);
    emit(y, (size_t)(s->m * s->rows) * sizeof *y, "product.%s.%lldx%lldx%lld%s", er_dtype_name(dtype), (long long)s->m,
         (long long)s->rows, (long long)s->cols, wild ? ".wild" : "");
    float *dy = bits_noises(12, s->m * s->rows, wild), *dx = bits_room(s->m * s->cols, sizeof *dx);
    er_product_back(dx, s->cols, dy, s->rows, s->m, &w);
    emit(dx, (size_t)(s->m * s->cols) * sizeof *dx, "product_back.%s.%lldx%lldx%lld%s", er_dtype_name(dtype),
         (long long)s->m, (long long)s->rows, (long long)s->cols, wild ? ".wild" : "");
}

static double *doubles(uint32_t item, int64_t n)
{
    double *x = bits_room(n, sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = er_random_uniform(13, ER_STREAM_TEST, item, (uint64_t)i) - 0.5;
    return x;
}

static void product64(const shape *s, int transposed, int accumulate)
{
    double *a = doubles(0, s->m * s->cols), *b = doubles(1, s->rows * s->cols), *c = doubles(2, s->m * s->rows);
    er_product64(c, s->rows, a, s->cols, b, transposed ? s->cols : s->rows, s->m, s->rows, s->cols, transposed,
                 accumulate);
    emit(c, (size_t)(s->m * s->rows) * sizeof *c, "product64.%lldx%lldx%lld%s%s", (long long)s->m, (long long)s->rows,
         (long long)s->cols, transposed ? ".transposed" : "", accumulate ? ".accumulate" : "");
}

static void products(void)
{
    static const int type[] = {ER_F32, ER_BF16, ER_F16};
    static const shape shapes[] = {{1, 97, 260}, {3, 33, 1601}, {5, 17, 31}, {13, 70, 600}, {96, 131, 65}};
    static const shape shapes64[] = {{1, 65, 40}, {11, 7, 300}, {66, 70, 130}};
    for (int t = 0; t < 3; t++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            for (int wild = 0; wild < 2; wild++) product(type[t], &shapes[i], wild);
    for (size_t i = 0; i < sizeof shapes64 / sizeof *shapes64; i++)
        for (int k = 0; k < 4; k++) product64(&shapes64[i], k & 1, k >> 1);
    enum { M = 300, N = 53 };
    double *g = doubles(3, N * N);
    er_gram64(g, bits_noises(14, M * N, 0), N, M, N);
    emit(g, N * N * sizeof *g, "gram64");
}

/* --- rows ---------------------------------------------------------------------------------------------------------- */
static void reductions(void)
{
    static const int64_t length[] = {1, 7, 16, 31, 64, 100, 1000, 2500};
    enum { LENGTHS = sizeof length / sizeof *length };
    float dots[2 * LENGTHS], sums[2 * LENGTHS];
    double norms[2 * LENGTHS];
    int64_t first[2 * LENGTHS];
    for (int i = 0; i < 2 * LENGTHS; i++) {
        int64_t n = length[i / 2];
        float *a = bits_noises(20, n, i & 1), *b = bits_noises(21, n, i & 1);
        dots[i] = er_dot(a, b, n);
        norms[i] = er_norm64(a, n);
        for (int64_t k = 0; k < n; k++) a[k] *= 20.0f;
        sums[i] = er_log_sum_exp(a, n, &first[i]);
    }
    emit(dots, sizeof dots, "dot");
    emit(norms, sizeof norms, "norm64");
    emit(sums, sizeof sums, "log_sum_exp");
    emit(first, sizeof first, "log_sum_exp.argmax");
}

static void element_wise(void)
{
    enum { N = 120013 }; /* enough for two threads */
    float *x = bits_noises(22, N, 1), *y = bits_noises(23, N, 0), *z = bits_noises(24, N, 0);
    size_t bytes = N * sizeof *x;
    er_add(y, x, N);
    emit(y, bytes, "add");
    er_axpy(y, -1.7f, z, N);
    emit(y, bytes, "axpy");
    for (int i = 0; i < N; i++) y[i] *= 12.0f;
    er_exp_shifted(x, y, 3.0f, N);
    emit(x, bytes, "exp_shifted");
    er_gated(x, y, z, N, ER_SILU);
    emit(x, bytes, "swiglu");
    float *gate = bits_room(N, sizeof *gate), *up = bits_room(N, sizeof *up);
    er_gated_back(gate, up, x, y, z, N, ER_SILU);
    emit(gate, bytes, "swiglu_back.gate");
    emit(up, bytes, "swiglu_back.up");
}

/* Tame and wild numbers, and the ends of the range; each kind with and without a gate. */
static void activations(void)
{
    static const char *const kinds[] = {"silu", "gelu_tanh", "gelu_erf", "relu"};
    enum { N = 120013 };
    float *x = bits_noises(40, N, 0), *up = bits_noises(41, N, 0), *d = bits_noises(42, N, 0);
    for (int i = 0; i < N; i++) x[i] = i % 3 ? x[i] * 9.0f : bits_noise(43, i, 1);
    for (int i = 0; i < N; i += 1009) x[i] = i & 1 ? 0x1p+100f * up[i] : 200.0f * up[i];
    float *out = bits_room(N, sizeof *out), *gate_grad = bits_room(N, sizeof *out), *up_grad = bits_room(N, sizeof *out);
    for (int k = 0; k < ER_ACTIVATION_COUNT; k++) {
        enum er_activation kind = (enum er_activation)k;
        char name[64];
        snprintf(name, sizeof name, "activate.%s", kinds[k]);
        er_activate(out, x, N, kind);
        emit_floats(out, N, name);
        snprintf(name, sizeof name, "activate_back.%s", kinds[k]);
        er_activate_back(out, d, x, N, kind);
        emit_floats(out, N, name);
        if (kind == ER_SILU) continue; /* swiglu */
        snprintf(name, sizeof name, "gated.%s", kinds[k]);
        er_gated(out, x, up, N, kind);
        emit_floats(out, N, name);
        er_gated_back(gate_grad, up_grad, d, x, up, N, kind);
        snprintf(name, sizeof name, "gated_back.%s.gate", kinds[k]);
        emit_floats(gate_grad, N, name);
        snprintf(name, sizeof name, "gated_back.%s.up", kinds[k]);
        emit_floats(up_grad, N, name);
    }
    er_scale(x, N, 7.3f);
    emit_floats(x, N, "scale");
    er_softcap(x, N, 30.0f);
    emit_floats(x, N, "softcap");
    er_softcap_back(d, x, N, 30.0f);
    emit_floats(d, N, "softcap_back");
}

static void layer_norms(int64_t m, int64_t n)
{
    float *x = bits_noises(44, m * n, 0), *gain = bits_noises(45, n, 0), *shift = bits_noises(46, n, 0);
    float *y = bits_room(m * n, sizeof *y), *dy = bits_noises(47, m * n, 0), *dx = bits_noises(48, m * n, 0);
    size_t bytes = (size_t)(m * n) * sizeof *x;
    for (int64_t i = 0; i < n; i++) x[i] += 100.0f;
    er_layer_norm(y, x, gain, shift, m, n, 1e-5f);
    emit(y, bytes, "layer_norm.%lldx%lld", (long long)m, (long long)n);
    er_add_bias(y, shift, m, n);
    emit(y, bytes, "add_bias.%lldx%lld", (long long)m, (long long)n);
    er_layer_norm_back(dx, dy, x, gain, m, n, 1e-5f, 1);
    emit(dx, bytes, "layer_norm_back.%lldx%lld.accumulate", (long long)m, (long long)n);
    er_layer_norm_back(dx, dy, x, gain, m, n, 1e-5f, 0);
    emit(dx, bytes, "layer_norm_back.%lldx%lld", (long long)m, (long long)n);
}

static void norms(int64_t m, int64_t n)
{
    float *x = bits_noises(25, m * n, 0), *gain = bits_noises(26, n, 0), *y = bits_room(m * n, sizeof *y);
    float *dy = bits_noises(27, m * n, 0), *dx = bits_noises(28, m * n, 0);
    size_t bytes = (size_t)(m * n) * sizeof *x;
    er_rms_norm(y, x, gain, m, n, 1e-5f);
    emit(y, bytes, "rms_norm.%lldx%lld", (long long)m, (long long)n);
    er_rms_norm_back(dx, dy, x, gain, m, n, 1e-5f, 1);
    emit(dx, bytes, "rms_norm_back.%lldx%lld.accumulate", (long long)m, (long long)n);
    er_rms_norm_back(dx, dy, x, gain, m, n, 1e-5f, 0);
    emit(dx, bytes, "rms_norm_back.%lldx%lld", (long long)m, (long long)n);
}

/* pairs and cap beside 0 are named in the lines. */
static void attention(int64_t dim, int64_t count, int64_t split, int pairs, float cap)
{
    enum { HEADS = 3 };
    int64_t stride = HEADS * dim + 5, own = count - split, half = dim / 2;
    float *k = bits_noises(30, count * stride, 0), *v = bits_noises(31, count * stride, 0);
    float *q = bits_noises(32, HEADS * dim, 0), *out = bits_room(HEADS * dim, sizeof *out);
    float *weights = bits_room(HEADS * count, sizeof *weights), *scratch = bits_room(count, sizeof *scratch);
    float *q_grad = bits_room(HEADS * dim, sizeof *q_grad), *dy = bits_noises(33, HEADS * dim, 0);
    float *k_grad = bits_noises(34, own * stride, 0), *v_grad = bits_noises(35, own * stride, 0);
    float *angle = bits_room(2 * half, sizeof *angle);
    for (int64_t i = 0; i < half; i++) {
        angle[i] = (float)er_math_cos(17.0 * er_math_pow(10000.0, -(double)i / (double)half));
        angle[half + i] = (float)er_math_sin(17.0 * er_math_pow(10000.0, -(double)i / (double)half));
    }
    er_rope(q, angle, angle + half, HEADS, dim, dim, 0, pairs);
    er_rope(dy, angle, angle + half, HEADS, dim, dim, 1, pairs);
    for (int64_t h = 0; h < HEADS; h++) {
        er_seen seen = {k + h * dim, v + h * dim, k + h * dim + split * stride, v + h * dim + split * stride, split,
                        count, stride, cap};
        er_attend(out + h * dim, weights + h * count, q + h * dim, &seen, dim, 0.37f);
        er_attend_back(q_grad + h * dim, k_grad + h * dim, v_grad + h * dim, stride, dy + h * dim, weights + h * count,
                       scratch, q + h * dim, &seen, dim, 0.37f);
    }
    long long a = dim, b = count, c = split;
    const char *turn = pairs ? ".pairs" : "", *bent = cap != 0.0f ? ".cap" : "";
    size_t head = HEADS * (size_t)dim * sizeof *q, rows = (size_t)(own * stride) * sizeof *k_grad;
    emit(q, head, "rope%s.%lldx%lld+%lld", turn, a, c, b - c);
    emit(dy, head, "rope%s.%lldx%lld+%lld.inverse", turn, a, c, b - c);
    emit(out, head, "attend%s.%lldx%lld+%lld", bent, a, c, b - c);
    emit(weights, (size_t)(HEADS * count) * sizeof *weights, "attend%s.%lldx%lld+%lld.weights", bent, a, c, b - c);
    emit(q_grad, head, "attend_back%s.%lldx%lld+%lld.q", bent, a, c, b - c);
    emit(k_grad, rows, "attend_back%s.%lldx%lld+%lld.k", bent, a, c, b - c);
    emit(v_grad, rows, "attend_back%s.%lldx%lld+%lld.v", bent, a, c, b - c);
}

void bits_kernels(void)
{
    random_numbers();
    half_types();
    block_types();
    scalars();
    products();
    reductions();
    element_wise();
    activations();
    norms(3, 64);
    norms(130, 1000);
    layer_norms(3, 64);
    layer_norms(131, 999);
    attention(16, 37, 0, 0, 0.0f);
    attention(64, 21, 13, 0, 0.0f);
    attention(90, 5, 2, 0, 0.0f);
    attention(32, 137, 30, 1, 2.0f);
    attention(90, 7, 3, 1, 50.0f);
}
