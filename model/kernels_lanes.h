/* SPDX-License-Identifier: Apache-2.0 */
/* Internal template: the 16 virtual lanes of a reduction in the registers of one instruction set. The including file
 * defines ER_ISA as 512, 2 or 0. max(a, b) is a > b ? a : b everywhere, so that NaN and zeros agree too. */
#include <stdint.h>

#if ER_ISA == 512
#include <immintrin.h>

typedef __m512 lanes;
static inline lanes lanes_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void lanes_put(float *p, lanes a) { _mm512_storeu_ps(p, a); }
static inline lanes lanes_set(float a) { return _mm512_set1_ps(a); }
static inline lanes lanes_fma(lanes a, lanes b, lanes c) { return _mm512_fmadd_ps(a, b, c); }
static inline lanes lanes_add(lanes a, lanes b) { return _mm512_add_ps(a, b); }
static inline lanes lanes_max(lanes a, lanes b) { return _mm512_max_ps(a, b); }
static inline __m256 lanes_half(lanes a)
{
    return _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
}

typedef struct lanes64 {
    __m512d v[2];
} lanes64;
static inline lanes64 lanes64_squares(lanes64 a, const float *p)
{
    for (int i = 0; i < 2; i++) {
        __m512d x = _mm512_cvtps_pd(_mm256_loadu_ps(p + 8 * i));
        a.v[i] = _mm512_fmadd_pd(x, x, a.v[i]);
    }
    return a;
}

#elif ER_ISA == 2
#include <immintrin.h>

typedef struct lanes {
    __m256 a, b;
} lanes;
#define LANES_EACH(op, x, y) ((lanes){op((x).a, (y).a), op((x).b, (y).b)})
static inline lanes lanes_load(const float *p) { return (lanes){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
static inline void lanes_put(float *p, lanes x)
{
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
static inline lanes lanes_set(float a) { return (lanes){_mm256_set1_ps(a), _mm256_set1_ps(a)}; }
static inline lanes lanes_fma(lanes x, lanes y, lanes z)
{
    return (lanes){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
static inline lanes lanes_add(lanes x, lanes y) { return LANES_EACH(_mm256_add_ps, x, y); }
static inline lanes lanes_max(lanes x, lanes y) { return LANES_EACH(_mm256_max_ps, x, y); }
static inline __m256 lanes_half(lanes x) { return _mm256_add_ps(x.a, x.b); }

typedef struct lanes64 {
    __m256d v[4];
} lanes64;
static inline lanes64 lanes64_squares(lanes64 a, const float *p)
{
    for (int i = 0; i < 4; i++) {
        __m256d x = _mm256_cvtps_pd(_mm_loadu_ps(p + 4 * i));
        a.v[i] = _mm256_fmadd_pd(x, x, a.v[i]);
    }
    return a;
}

#else
#include <string.h>

typedef struct lanes {
    float v[16];
} lanes;
#define LANES_EACH(expression)                                                                                         \
    lanes r;                                                                                                           \
    for (int i = 0; i < 16; i++) r.v[i] = (expression);                                                                \
    return r
static inline lanes lanes_load(const float *p)
{
    lanes r;
    memcpy(r.v, p, sizeof r.v);
    return r;
}
static inline void lanes_put(float *p, lanes a) { memcpy(p, a.v, sizeof a.v); }
static inline lanes lanes_set(float a) { LANES_EACH(a); }
static inline lanes lanes_fma(lanes a, lanes b, lanes c) { LANES_EACH(__builtin_fmaf(a.v[i], b.v[i], c.v[i])); }
static inline lanes lanes_add(lanes a, lanes b) { LANES_EACH(a.v[i] + b.v[i]); }
static inline lanes lanes_max(lanes a, lanes b) { LANES_EACH(a.v[i] > b.v[i] ? a.v[i] : b.v[i]); }

typedef struct lanes64 {
    double v[16];
} lanes64;
static inline lanes64 lanes64_squares(lanes64 a, const float *p)
{
    for (int i = 0; i < 16; i++) a.v[i] = __builtin_fma((double)p[i], (double)p[i], a.v[i]);
    return a;
}
#endif

/* lane[j] += lane[j + 8], then 4, 2, 1 */
#if ER_ISA
static inline float lanes_tree(lanes a)
{
    __m256 half = lanes_half(a);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
#else
static inline float lanes_tree(lanes a)
{
    for (int step = 8; step; step /= 2)
        for (int i = 0; i < step; i++) a.v[i] += a.v[i + step];
    return a.v[0];
}
#endif

static inline double lanes64_tree(const double *lane)
{
    double sum[16];
    for (int i = 0; i < 16; i++) sum[i] = lane[i];
    for (int step = 8; step; step /= 2)
        for (int i = 0; i < step; i++) sum[i] += sum[i + step];
    return sum[0];
}
