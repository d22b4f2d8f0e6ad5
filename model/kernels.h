/* SPDX-License-Identifier: Apache-2.0 */
/* The arithmetic of the engine, under the determinism contract.
 *
 * Shapes: (M, N) is row-major with N contiguous. M rows of activations, never a property of the arithmetic: a row of
 * a result has the same bits whatever rows stand beside it, for any number of threads, any instruction set with FMA
 * and any compiler.
 *   Products:   each output element is ONE fp32 fused-multiply-add chain over the inner index in ascending order,
 *               starting from +0.
 *   Reductions: 16 virtual lanes (element i goes to lane i mod 16, each lane a chain in ascending order), then the
 *               tree lane[j] += lane[j + 8], 4, 2, 1.
 *   No rsqrt or reciprocal estimates; division and square root are IEEE. fused only where written.
 *   exp, log, sin, cos, tanh, pow, erf are ours (er_math_*; exp, tanh and erf of whole rows: model/kernels_math.h).
 * One source of the element-wise and reducing code is compiled per instruction set (scalar, avx2, avx512; elsewhere
 * portable); the set is chosen once at start from the CPU, or by ERRATA_ISA=scalar|avx2|avx512.
 * Large calls split their output over OpenMP threads by static tiles and call er_tick() between tiles on the main
 * thread. Nothing here fails except by a broken invariant; scratch is per thread and grows on first use. */
#ifndef ER_MODEL_KERNELS_H
#define ER_MODEL_KERNELS_H

#include "model/tensor.h"

#include <stdint.h>

/* Checks rounding and denormal modes of every thread, chooses the instruction set. Call once before any other
 * function here (tests may call it again with another name; NULL or "" chooses by CPUID / ERRATA_ISA).
 * 0, or -1 when the name is unknown or the CPU lacks it, or a thread's floating-point mode is not the default. */
int er_kernels_start(const char *isa);
const char *er_kernels_name(void);
/* Frees per-thread scratch of the calling thread and the pool (tests, end of main). */
void er_kernels_stop(void);

/* --- products ---------------------------------------------------------------------------------------------------- */
/* y (m, w.rows) = x (m, w.cols) W^T. Row strides ldy, ldx in floats. y must not overlap x. */
void er_product(float *y, int64_t ldy, const float *x, int64_t ldx, int64_t m, const er_matrix *w);
/* x_grad (m, w.cols) = y_grad (m, w.rows) W: the transposed map, from the same copy of the weights. */
void er_product_back(float *x_grad, int64_t ldx, const float *y_grad, int64_t ldy, int64_t m, const er_matrix *w);
/* One such product: y = x W^T, or with back != 0 y = x W. */
typedef struct er_product_call {
    float *y;
    int64_t ldy;
    const float *x;
    int64_t ldx, m;
    const er_matrix *w;
    int back;
} er_product_call;
/* Work on rows that do not depend on each other: run(context, from, to) does rows from .. to-1. Functions of this header
 * that it calls do their work on its thread. */
typedef struct er_rows_work {
    void (*run)(const void *context, int64_t from, int64_t to);
    const void *context;
    int64_t rows;
} er_rows_work;
/* `count` products none of which reads what another writes: threads go from one to the next without waiting. Then the
 * pieces of work `after`, one behind the other, each when the whole of what stands before it is done. */
void er_products(const er_product_call *calls, int count, const er_rows_work *after, int after_count);
/* One piece of work alone; floats: how many it touches. */
void er_rows_run(const er_rows_work *work, double floats);

/* fp64: c (m, n) = [c +] a (m, k) b (k, n), or a (m, k) b^T with b (n, k). One fp64 FMA chain per element over k in
 * ascending order, starting from c (accumulate != 0) or +0. Strides in doubles. */
void er_product64(double *c, int64_t ldc, const double *a, int64_t lda, const double *b, int64_t ldb, int64_t m,
                  int64_t n, int64_t k, int transposed_b, int accumulate);
/* Gram matrix of fp32 rows: g (n, n) upper triangle (column >= row) += sum over t ascending of x[t][i] x[t][j], fp64
 * chains continuing from g. x (m, n), stride ldx floats. The lower triangle is not touched. */
void er_gram64(double *g, const float *x, int64_t ldx, int64_t m, int64_t n);

/* --- rows -------------------------------------------------------------------------------------------------------- */
float er_dot(const float *a, const float *b, int64_t n);   /* 16 lanes of fma, tree */
double er_norm64(const float *a, int64_t n);               /* sqrt of the sum of squares, fp64 lanes */
void er_add(float *y, const float *x, int64_t n);          /* y += x */
void er_copy(float *y, const float *x, int64_t n);         /* y = x; they do not overlap */
void er_axpy(float *y, float a, const float *x, int64_t n); /* y = fma(a, x, y) */
void er_axpy64(double *y, double a, const double *x, int64_t n); /* the same in fp64 */

/* RMSNorm: y = gain * (x / sqrt(mean(x^2) + eps)), (m, n); y may be x. */
void er_rms_norm(float *y, const float *x, const float *gain, int64_t m, int64_t n, float eps);
/* x_grad = a/r - x (a.x)/(n r^3), a = gain*y_grad, r = sqrt(mean(x^2)+eps); written, or added when accumulate != 0. */
void er_rms_norm_back(float *x_grad, const float *y_grad, const float *x, const float *gain, int64_t m, int64_t n,
                      float eps, int accumulate);
/* LayerNorm, (m, n): y = fma(gain, (x - mean) / r, shift), mean = sum x / n, r = sqrt(sum (x - mean)^2 / n + eps): the
 * biased variance, in a second pass. gain and shift have n values and are never NULL; y may be x. */
void er_layer_norm(float *y, const float *x, const float *gain, const float *shift, int64_t m, int64_t n, float eps);
/* With h = (x - mean) / r and a = gain*y_grad: x_grad = (a - mean(a) - h mean(a h)) / r; written, or added when
 * accumulate != 0. shift has no part in it. x_grad may be y_grad where it is written. */
void er_layer_norm_back(float *x_grad, const float *y_grad, const float *x, const float *gain, int64_t m, int64_t n,
                        float eps, int accumulate);
/* Each of m rows of y (m, n) += bias (n). */
void er_add_bias(float *y, const float *bias, int64_t m, int64_t n);
void er_scale(float *x, int64_t n, float a); /* x *= a */
/* Rounds n values in place to those that `dtype` (ER_F32, ER_BF16 or ER_F16) has, to nearest even, as er_float_to_bf16
 * and er_float_to_f16 do; of ER_F32 nothing is touched. Nonzero when one of the results is infinite or NaN. */
int er_round(float *x, int64_t n, int dtype);

/* The non-linearities of the MLPs, act(x) and its derivative:
 *   ER_SILU       x s, s = 1 / (1 + e^-x);                             s (1 + x (1 - s))
 *   ER_GELU_TANH  x s, s = 1 / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3), which is x/2 (1 + tanh u), gelu_new and
 *                 gelu_pytorch_tanh of transformers;                   s + x s (1 - s) 2u'
 *   ER_GELU_ERF   x s, s = (1 + erf(x / sqrt 2)) / 2;                  s + x e^(-x^2/2) / sqrt(2 pi)
 *   ER_RELU       max(x, 0);                                           1 for x > 0, 0 from 0 down
 * Finite x give finite results. NaN stays NaN (ER_RELU's slope at NaN is 1, so that a gradient passes). 0 times
 * infinity is NaN: all but ER_RELU give it at -infinity, and as slope at both infinities. */
enum er_activation { ER_SILU, ER_GELU_TANH, ER_GELU_ERF, ER_RELU, ER_ACTIVATION_COUNT };
/* MLPs without a gate: out = act(in), in_grad = out_grad act'(in). n elements. out may be in, in_grad out_grad. */
void er_activate(float *out, const float *in, int64_t n, enum er_activation kind);
void er_activate_back(float *in_grad, const float *out_grad, const float *in, int64_t n, enum er_activation kind);
/* MLPs with a gate: out = act(gate) * up; up_grad = out_grad act(gate), gate_grad = out_grad up act'(gate). n elements.
 * out may be gate or up, each gradient may be one of the inputs, but the two gradients are two arrays. */
void er_gated(float *out, const float *gate, const float *up, int64_t n, enum er_activation kind);
void er_gated_back(float *gate_grad, float *up_grad, const float *out_grad, const float *gate, const float *up,
                   int64_t n, enum er_activation kind);

/* Soft capping of logits: x = cap tanh(x / cap) in place, and grad *= 1 - (capped / cap)^2 with what er_softcap left.
 * n elements, cap > 0. */
void er_softcap(float *x, int64_t n, float cap);
void er_softcap_back(float *grad, const float *capped, int64_t n, float cap);

/* Log of the sum of exponentials of a row, with max subtraction; *argmax (NULL allowed) is the first maximum. */
float er_log_sum_exp(const float *row, int64_t n, int64_t *argmax);
/* out[i] = exp(row[i] - shift). */
void er_exp_shifted(float *out, const float *row, float shift, int64_t n);

/* --- positions and attention ------------------------------------------------------------------------------------- */
/* Rotates the first `dim` elements of each of `heads` heads of width head_dim in place, as dim/2 pairs, pair i by the
 * angle i: pairs 0: (i, i + dim/2), rotate-half, Hugging Face order; pairs 1: (2i, 2i + 1), interleaved, GPT-J.
 * cosine, sine: dim/2 values for this position. inverse != 0 rotates back (the gradient). dim <= head_dim. */
void er_rope(float *x, const float *cosine, const float *sine, int64_t heads, int64_t head_dim, int64_t dim,
             int inverse, int pairs);

/* The keys and values one query sees: positions 0 .. split-1 from the first segment, split .. count-1 from the second
 * (position p of the second segment stands at row p - split). Row stride `stride` floats; the pointers are already
 * moved to the kv head in question. Prefix texts shared by several rows are first segments. cap > 0: each score s is
 * cap tanh(s / cap) before the softmax (Gemma 2); 0: no cap. */
typedef struct er_seen {
    const float *k0, *v0; /* split rows */
    const float *k1, *v1; /* count - split rows */
    int64_t split, count, stride;
    float cap;
} er_seen;

/* One query head at one position: out (head_dim) = sum_p softmax_p(q.k_p * scale) v_p, scores capped as seen->cap says.
 * Scores by er_dot, softmax over lanes by position, the sum over positions one chain per element in ascending p.
 * weights: count floats, receives the probabilities (the backward pass reuses them). */
void er_attend(float *out, float *weights, const float *q, const er_seen *seen, int64_t head_dim, float scale);
/* Gradients of one query head: q_grad (head_dim) written; k_grad, v_grad rows of the SECOND segment are added to
 * (k_grad + (p - split) * stride_grad), the first segment is constant. weights as left by er_attend; scratch: count
 * floats. With a cap the scores are computed again, and a score's gradient is multiplied by 1 - (capped / cap)^2. */
void er_attend_back(float *q_grad, float *k_grad, float *v_grad, int64_t stride_grad, const float *out_grad,
                    const float *weights, float *scratch, const float *q, const er_seen *seen, int64_t head_dim,
                    float scale);

/* --- scalar functions, same bits everywhere; errors below 1.5 ulp (float) and 2 ulp (double) ---------------------- */
float er_math_expf(float x);
float er_math_logf(float x);
float er_math_tanhf(float x);
float er_math_erff(float x);
double er_math_exp(double x);
double er_math_log(double x);
double er_math_pow(double x, double y); /* x > 0 */
double er_math_sin(double x);           /* |x| < 2^20 */
double er_math_cos(double x);

#endif
