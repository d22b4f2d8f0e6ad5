/* SPDX-License-Identifier: Apache-2.0 */
/* The public names of what works on rows and elements: large calls are cut by rows or by runs of elements. */
#include "model/kernels.h"

#include "base/error.h"
#include "model/kernels_table.h"

#include <omp.h>
#include <string.h>

static const er_kernels *kernels(void) { return er_kernels_active(); }

/* What is read and written once or twice takes about as long as four multiply-adds of a product per float, a
 * non-linearity as ten. */
static int row_threads(double floats)
{
    return er_kernels_threads(floats);
}

static int curve_threads(double floats)
{
    return er_kernels_threads(2 * floats);
}

float er_dot(const float *a, const float *b, int64_t n)
{
    return kernels()->dot(a, b, n);
}

double er_norm64(const float *a, int64_t n)
{
    return kernels()->norm64(a, n);
}

void er_axpy(float *y, float a, const float *x, int64_t n)
{
    kernels()->axpy(y, a, x, n);
}

void er_axpy64(double *y, double a, const double *x, int64_t n)
{
    kernels()->axpy64(y, a, x, n);
}

/* The part of 0 .. n-1 that this thread of its team works on. */
static int64_t part_of(int64_t n, int64_t *count)
{
    int64_t threads = omp_get_num_threads(), me = omp_get_thread_num();
    int64_t from = n * me / threads;
    *count = n * (me + 1) / threads - from;
    return from;
}

void er_add(float *y, const float *x, int64_t n)
{
    const er_kernels *k = kernels();
    int threads = row_threads((double)n);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t count, from = threads > 1 ? part_of(n, &count) : (count = n, 0);
        k->add(y + from, x + from, count);
    }
}

void er_copy(float *y, const float *x, int64_t n)
{
    int threads = row_threads((double)n);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t count, from = threads > 1 ? part_of(n, &count) : (count = n, 0);
        memcpy(y + from, x + from, (size_t)count * sizeof *y);
    }
}

void er_rms_norm(float *y, const float *x, const float *gain, int64_t m, int64_t n, float eps)
{
    const er_kernels *k = kernels();
    int threads = row_threads((double)m * (double)n);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t rows, from = threads > 1 ? part_of(m, &rows) : (rows = m, 0);
        k->rms_norm(y + from * n, x + from * n, gain, rows, n, eps);
    }
}

void er_rms_norm_back(float *x_grad, const float *y_grad, const float *x, const float *gain, int64_t m, int64_t n,
                      float eps, int accumulate)
{
    const er_kernels *k = kernels();
    int threads = row_threads((double)m * (double)n);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t rows, from = threads > 1 ? part_of(m, &rows) : (rows = m, 0);
        k->rms_norm_back(x_grad + from * n, y_grad + from * n, x + from * n, gain, rows, n, eps, accumulate);
    }
}

void er_layer_norm(float *y, const float *x, const float *gain, const float *shift, int64_t m, int64_t n, float eps)
{
    const er_kernels *k = kernels();
    int threads = row_threads((double)m * (double)n);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t rows, from = threads > 1 ? part_of(m, &rows) : (rows = m, 0);
        k->layer_norm(y + from * n, x + from * n, gain, shift, rows, n, eps);
    }
}

void er_layer_norm_back(float *x_grad, const float *y_grad, const float *x, const float *gain, int64_t m, int64_t n,
                        float eps, int accumulate)
{
    const er_kernels *k = kernels();
    int threads = row_threads((double)m * (double)n);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t rows, from = threads > 1 ? part_of(m, &rows) : (rows = m, 0);
        k->layer_norm_back(x_grad + from * n, y_grad + from * n, x + from * n, gain, rows, n, eps, accumulate);
    }
}

void er_add_bias(float *y, const float *bias, int64_t m, int64_t n)
{
    const er_kernels *k = kernels();
    int threads = row_threads((double)m * (double)n);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t rows, from = threads > 1 ? part_of(m, &rows) : (rows = m, 0);
        k->add_bias(y + from * n, bias, rows, n);
    }
}

void er_scale(float *x, int64_t n, float a)
{
    const er_kernels *k = kernels();
    int threads = row_threads((double)n);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t count, from = threads > 1 ? part_of(n, &count) : (count = n, 0);
        k->scale(x + from, count, a);
    }
}

int er_round(float *x, int64_t n, int dtype)
{
    if (dtype == ER_F32) return 0;
    ER_ALWAYS(dtype == ER_BF16 || dtype == ER_F16);
    const er_kernels *k = kernels();
    int (*const half)(float *, int64_t) = dtype == ER_BF16 ? k->round_bf16 : k->round_f16;
    const int threads = row_threads((double)n);
    int beyond = 0;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t count, from = threads > 1 ? part_of(n, &count) : (count = n, 0);
        if (half(x + from, count)) {
#pragma omp atomic write
            beyond = 1;
        }
    }
    return beyond;
}

static void check_kind(enum er_activation kind)
{
    ER_ALWAYS((unsigned)kind < ER_ACTIVATION_COUNT);
}

void er_activate(float *out, const float *in, int64_t n, enum er_activation kind)
{
    const er_kernels *k = kernels();
    int threads = curve_threads((double)n);
    check_kind(kind);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t count, from = threads > 1 ? part_of(n, &count) : (count = n, 0);
        k->activate(out + from, in + from, count, kind);
    }
}

void er_activate_back(float *in_grad, const float *out_grad, const float *in, int64_t n, enum er_activation kind)
{
    const er_kernels *k = kernels();
    int threads = curve_threads((double)n);
    check_kind(kind);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t count, from = threads > 1 ? part_of(n, &count) : (count = n, 0);
        k->activate_back(in_grad + from, out_grad + from, in + from, count, kind);
    }
}

void er_gated(float *out, const float *gate, const float *up, int64_t n, enum er_activation kind)
{
    const er_kernels *k = kernels();
    int threads = curve_threads((double)n);
    check_kind(kind);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t count, from = threads > 1 ? part_of(n, &count) : (count = n, 0);
        k->gated(out + from, gate + from, up + from, count, kind);
    }
}

void er_gated_back(float *gate_grad, float *up_grad, const float *out_grad, const float *gate, const float *up,
                   int64_t n, enum er_activation kind)
{
    const er_kernels *k = kernels();
    int threads = curve_threads((double)n);
    check_kind(kind);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t count, from = threads > 1 ? part_of(n, &count) : (count = n, 0);
        k->gated_back(gate_grad + from, up_grad + from, out_grad + from, gate + from, up + from, count, kind);
    }
}

void er_softcap(float *x, int64_t n, float cap)
{
    const er_kernels *k = kernels();
    int threads = curve_threads((double)n);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t count, from = threads > 1 ? part_of(n, &count) : (count = n, 0);
        k->softcap(x + from, count, cap);
    }
}

void er_softcap_back(float *grad, const float *capped, int64_t n, float cap)
{
    const er_kernels *k = kernels();
    int threads = curve_threads((double)n);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t count, from = threads > 1 ? part_of(n, &count) : (count = n, 0);
        k->softcap_back(grad + from, capped + from, count, cap);
    }
}

float er_log_sum_exp(const float *row, int64_t n, int64_t *argmax)
{
    return kernels()->log_sum_exp(row, n, argmax);
}

void er_exp_shifted(float *out, const float *row, float shift, int64_t n)
{
    kernels()->exp_shifted(out, row, shift, n);
}

/* --- attention ---------------------------------------------------------------------------------------------------- */
void er_rope(float *x, const float *cosine, const float *sine, int64_t heads, int64_t head_dim, int64_t dim,
             int inverse, int pairs)
{
    kernels()->rope(x, cosine, sine, heads, head_dim, dim, inverse, pairs);
}

void er_attend(float *out, float *weights, const float *q, const er_seen *seen, int64_t head_dim, float scale)
{
    kernels()->attend(out, weights, q, seen, head_dim, scale);
}

void er_attend_back(float *q_grad, float *k_grad, float *v_grad, int64_t stride_grad, const float *out_grad,
                    const float *weights, float *scratch_row, const float *q, const er_seen *seen, int64_t head_dim,
                    float scale)
{
    kernels()->attend_back(q_grad, k_grad, v_grad, stride_grad, out_grad, weights, scratch_row, q, seen, head_dim,
                           scale);
}
