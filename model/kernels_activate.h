/* SPDX-License-Identifier: Apache-2.0 */
/* Internal template: the non-linearities, compiled once per instruction set. `kind` is a constant in every loop. */
typedef struct activation {
    float value, slope;
} activation;

static inline float clamped(float x, float most) /* NaN passes */
{
    float c = x < -most ? -most : x;
    return c > most ? most : c;
}

/* 1 / (1 + e^-2u) = (1 + tanh u)/2. From 16 on it is 1 and 0 at the other end, which keeps x^3 finite. */
static inline float gelu_tanh_share(float x)
{
    float c = clamped(x, 16.0f);
    float u2 = 0x1.988454p+0f * c * __builtin_fmaf(0x1.6e4e26p-5f * c, c, 1.0f); /* 2 sqrt(2/pi), 0.044715 */
    return 1.0f + er_inline_expf(-u2);
}

static inline float gelu_erf_share(float x)
{
    return __builtin_fmaf(0.5f, er_inline_erff(x * 0x1.6a09e6p-1f), 0.5f);
}

static inline float activated(float x, enum er_activation kind)
{
    switch (kind) {
    case ER_SILU: return x / (1.0f + er_inline_expf(-x));
    case ER_GELU_TANH: return x / gelu_tanh_share(x);
    case ER_GELU_ERF: return x * gelu_erf_share(x);
    default: return x < 0.0f ? 0.0f : x; /* NaN passes */
    }
}

static inline activation activated_back(float x, enum er_activation kind)
{
    float s, c = clamped(x, 16.0f);
    switch (kind) {
    case ER_SILU:
        s = 1.0f / (1.0f + er_inline_expf(-x));
        return (activation){x * s, s * __builtin_fmaf(x, 1.0f - s, 1.0f)};
    case ER_GELU_TANH:
        s = 1.0f / gelu_tanh_share(x);
        return (activation){
            x * s, __builtin_fmaf(c * s * (1.0f - s), 0x1.988454p+0f * __builtin_fmaf(0x1.12ba9cp-3f * c, c, 1.0f), s)};
    case ER_GELU_ERF:
        s = gelu_erf_share(x);
        return (activation){x * s, __builtin_fmaf(c * 0x1.988454p-2f, er_inline_expf(-0.5f * c * c), s)};
    default: return (activation){x < 0.0f ? 0.0f : x, x <= 0.0f ? 0.0f : 1.0f};
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
