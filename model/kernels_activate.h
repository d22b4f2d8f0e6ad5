/* SPDX-License-Identifier: Apache-2.0 */
/* Internal template: the non-linearities, compiled once per instruction set. `kind` is a constant in every loop. */
typedef struct activation {
    float value, slope;
} activation;

/* x^2, from 256 on 256: there e^-2u is 0 or infinity already, and a finite u' keeps the slope from infinity times 0.
 * Bits are chosen, because a comparison would become a branch. A NaN may come out as 256. */
static inline float limited_square(float x)
{
    er_float_bits z = {.f = x * x}, most = {.f = 256.0f};
    uint32_t over = 0u - ((most.u - z.u) >> 31);
    z.u = (most.u & over) | (z.u & ~over);
    return z.f;
}

/* 1 + e^-2u, u = sqrt(2/pi) x (1 + 0.044715 z), z = x^2: the inverse is (1 + tanh u)/2. */
static inline float gelu_tanh_rest(float x, float z)
{
    return 1.0f + er_inline_expf(x * -0x1.988454p+0f * __builtin_fmaf(0x1.6e4e26p-5f, z, 1.0f));
}

/* (1 + erf(x / sqrt 2))/2 */
static inline float gelu_erf_share(float x)
{
    return __builtin_fmaf(0.5f, er_inline_erff(x * 0x1.6a09e6p-1f), 0.5f);
}

static inline float relu_slope(float x) /* in bits for the same reason; 1 for NaN, so that what comes back passes */
{
    er_float_bits one = {.f = 1.0f};
    one.u &= 0u - (uint32_t)!(x <= 0.0f);
    return one.f;
}

static inline float activated(float x, enum er_activation kind)
{
    switch (kind) {
    case ER_SILU: return x / (1.0f + er_inline_expf(-x));
    case ER_GELU_TANH: return x / gelu_tanh_rest(x, x * x);
    case ER_GELU_ERF: return x * gelu_erf_share(x);
    default: return x < 0.0f ? 0.0f : x; /* NaN passes */
    }
}

static inline activation activated_back(float x, enum er_activation kind)
{
    float s, z = limited_square(x);
    switch (kind) {
    case ER_SILU:
        s = 1.0f / (1.0f + er_inline_expf(-x));
        return (activation){x * s, s * __builtin_fmaf(x, 1.0f - s, 1.0f)};
    case ER_GELU_TANH: /* 2u' = 2 sqrt(2/pi) (1 + 0.134145 z) */
        s = 1.0f / gelu_tanh_rest(x, z);
        return (activation){
            x * s, __builtin_fmaf(x * s * (1.0f - s), 0x1.988454p+0f * __builtin_fmaf(0x1.12ba9cp-3f, z, 1.0f), s)};
    case ER_GELU_ERF:
        s = gelu_erf_share(x);
        return (activation){x * s, __builtin_fmaf(x * 0x1.988454p-2f, er_inline_expf(-0.5f * z), s)};
    default: return (activation){x < 0.0f ? 0.0f : x, relu_slope(x)};
    }
}

/* One copy of a loop for each kind. */
#define ER_FOR_KIND(loop)                                                                                              \
    switch (kind) {                                                                                                    \
    case ER_SILU: loop(ER_SILU) break;                                                                                 \
    case ER_GELU_TANH: loop(ER_GELU_TANH) break;                                                                       \
    case ER_GELU_ERF: loop(ER_GELU_ERF) break;                                                                         \
    default: loop(ER_RELU) break;                                                                                      \
    }

static void activate(float *out, const float *in, int64_t n, enum er_activation kind)
{
#define LOOP(which) ER_EACH for (int64_t i = 0; i < n; i++) out[i] = activated(in[i], which);
    ER_FOR_KIND(LOOP)
#undef LOOP
}

static void activate_back(float *in_grad, const float *out_grad, const float *in, int64_t n, enum er_activation kind)
{
#define LOOP(which)                                                                                                    \
    ER_EACH for (int64_t i = 0; i < n; i++) in_grad[i] = out_grad[i] * activated_back(in[i], which).slope;
    ER_FOR_KIND(LOOP)
#undef LOOP
}

static void gated(float *out, const float *gate, const float *up, int64_t n, enum er_activation kind)
{
#define LOOP(which) ER_EACH for (int64_t i = 0; i < n; i++) out[i] = activated(gate[i], which) * up[i];
    ER_FOR_KIND(LOOP)
#undef LOOP
}

static void gated_back(float *gate_grad, float *up_grad, const float *out_grad, const float *gate, const float *up,
                       int64_t n, enum er_activation kind)
{
#define LOOP(which)                                                                                                    \
    ER_EACH for (int64_t i = 0; i < n; i++)                                                                            \
    {                                                                                                                  \
        float d = out_grad[i], u = up[i];                                                                              \
        activation a = activated_back(gate[i], which);                                                                 \
        up_grad[i] = d * a.value;                                                                                      \
        gate_grad[i] = d * u * a.slope;                                                                                \
    }
    ER_FOR_KIND(LOOP)
#undef LOOP
}

static void softcap(float *x, int64_t n, float cap)
{
    for (int64_t i = 0; i < n; i++) x[i] = cap * er_inline_tanhf(x[i] / cap);
}

static void softcap_back(float *grad, const float *capped, int64_t n, float cap)
{
    for (int64_t i = 0; i < n; i++) {
        float t = capped[i] / cap;
        grad[i] *= __builtin_fmaf(-t, t, 1.0f);
    }
}
