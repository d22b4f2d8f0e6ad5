/* SPDX-License-Identifier: Apache-2.0 */
/* Internal template: the products of model/kernels.h as jobs of kernels_gemm.h, few rows by kernels_stream.h. */
#include <string.h>

#include "model/kernels_vec.h"

#include "model/kernels_stream.h"

#define GEMM_T float
#define GEMM_NAME(x) x##_f32
#define GEMM_V vec
#define GEMM_VEC VEC
#define GEMM_OP(op) vec_##op
#if ER_ISA == 512
#define GEMM_ROWS 12
#define GEMM_VECS 2
#define GEMM_K 192
#elif ER_ISA == 2
#define GEMM_ROWS 6
#define GEMM_VECS 2
#define GEMM_K 256
#else
#define GEMM_ROWS 4
#define GEMM_VECS 4
#define GEMM_K 256
#endif
#include "model/kernels_gemm.h"
enum { COLS = GEMM_COLS, LDA = GEMM_LDA };
#undef GEMM_T
#undef GEMM_NAME
#undef GEMM_V
#undef GEMM_VEC
#undef GEMM_OP

#define GEMM_T double
#define GEMM_NAME(x) x##_f64
#define GEMM_V vec64
#define GEMM_VEC VEC64
#define GEMM_OP(op) vec64_##op
#include "model/kernels_gemm.h"
enum { COLS64 = GEMM_COLS, LDA64 = GEMM_LDA };

/* --- fp32 with weights -------------------------------------------------------------------------------------------- */
static void pack_rows(float *out, const job_f32 *job, int64_t i, int64_t rows, int64_t p, int64_t kc)
{
    const float *a = job->a;
    for (int64_t r = 0; r < rows; r++) memcpy(out + r * LDA, a + (i + r) * job->lda + p, sizeof(float) * (size_t)kc);
}

/* B = W^T: columns of B are rows of the weights. */
ALWAYS_INLINE void pack_transposed_of(float *out, const job_f32 *job, int64_t j, int64_t cols, int64_t p, int64_t kc,
                                      const int dtype)
{
    for (int64_t g = 0; g < COLS; g += VEC) {
        int64_t outputs = cols - g < VEC ? cols - g : VEC, q = 0;
        if (outputs == VEC)
            for (; q + VEC <= kc; q += VEC) {
                vec t[VEC];
                load_block(t, job->b, job->ldb, j + g, j + g + VEC - 1, p + q, dtype);
                for (int r = 0; r < VEC; r++) vec_put(out + (q + r) * COLS + g, t[r]);
            }
        for (; q < kc; q++)
            for (int64_t r = 0; r < VEC; r++)
                out[q * COLS + g + r] = r < outputs ? weight_at(job->b, (j + g + r) * job->ldb + p + q, dtype) : 0;
    }
}

/* B = W */
ALWAYS_INLINE void pack_plain_of(float *out, const job_f32 *job, int64_t j, int64_t cols, int64_t p, int64_t kc,
                                 const int dtype)
{
    for (int64_t q = 0; q < kc; q++, out += COLS) {
        int64_t at = (p + q) * job->ldb + j;
        if (cols == COLS)
            for (int g = 0; g < COLS; g += VEC) vec_put(out + g, vec_load_weights(job->b, at + g, dtype));
        else
            for (int64_t r = 0; r < COLS; r++) out[r] = r < cols ? weight_at(job->b, at + r, dtype) : 0;
    }
}

#define PACK(name, of)                                                                                                 \
    static void name(float *out, const job_f32 *job, int64_t j, int64_t cols, int64_t p, int64_t kc)                   \
    {                                                                                                                  \
        if (job->dtype == ER_F32)                                                                                      \
            of(out, job, j, cols, p, kc, ER_F32);                                                                      \
        else if (job->dtype == ER_BF16)                                                                                \
            of(out, job, j, cols, p, kc, ER_BF16);                                                                     \
        else                                                                                                           \
            of(out, job, j, cols, p, kc, ER_F16);                                                                      \
    }
PACK(pack_transposed, pack_transposed_of)
PACK(pack_plain, pack_plain_of)

/* Part `part` of `parts` of one product. */
static void product(const er_product_call *call, int part, int parts, int ticks)
{
    const er_matrix *w = call->w;
    if (call->m <= STREAM_ROWS) {
        if (call->m) stream(call, part, parts, ticks);
        return;
    }
    job_f32 job = {.c = call->y, .ldc = call->ldy, .m = call->m, .n = call->back ? w->cols : w->rows,
                   .k = call->back ? w->rows : w->cols, .a = call->x, .lda = call->ldx, .b = w->data, .ldb = w->cols,
                   .dtype = w->dtype, .b_transposed = !call->back, .b_bytes = w->dtype == ER_F32 ? 4 : 2,
                   .pack_a = pack_rows, .pack_b = call->back ? pack_plain : pack_transposed};
    part_f32(&job, part, parts, ticks);
}

/* --- fp64 --------------------------------------------------------------------------------------------------------- */
static void run64(const job_f64 *job)
{
    const int ticks = er_kernels_may_tick();
    const int threads = er_kernels_threads((double)job->m * (double)job->n * (double)job->k);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int t = 0; t < threads; t++) part_f64(job, t, threads, ticks && t == 0);
}

static void pack_rows64(double *out, const job_f64 *job, int64_t i, int64_t rows, int64_t p, int64_t kc)
{
    const double *a = job->a;
    for (int64_t r = 0; r < rows; r++)
        memcpy(out + r * LDA64, a + (i + r) * job->lda + p, sizeof(double) * (size_t)kc);
}

static void pack_plain64(double *out, const job_f64 *job, int64_t j, int64_t cols, int64_t p, int64_t kc)
{
    const double *b = job->b;
    for (int64_t q = 0; q < kc; q++, out += COLS64) {
        const double *row = b + (p + q) * job->ldb + j;
        if (cols == COLS64)
            memcpy(out, row, sizeof(double) * COLS64);
        else
            for (int64_t r = 0; r < COLS64; r++) out[r] = r < cols ? row[r] : 0;
    }
}

static void pack_transposed64(double *out, const job_f64 *job, int64_t j, int64_t cols, int64_t p, int64_t kc)
{
    const double *b = (const double *)job->b + j * job->ldb + p;
    for (int64_t g = 0; g < COLS64; g += VEC64) {
        int64_t outputs = cols - g < VEC64 ? cols - g : VEC64, q = 0;
        if (outputs == VEC64)
            for (; q + VEC64 <= kc; q += VEC64) {
                vec64 t[VEC64];
                for (int r = 0; r < VEC64; r++) t[r] = vec64_load(b + (g + r) * job->ldb + q);
                vec64_transpose(t);
                for (int r = 0; r < VEC64; r++) vec64_put(out + (q + r) * COLS64 + g, t[r]);
            }
        for (; q < kc; q++)
            for (int64_t r = 0; r < VEC64; r++)
                out[q * COLS64 + g + r] = r < outputs ? b[(g + r) * job->ldb + q] : 0;
    }
}

static void product64(double *c, int64_t ldc, const double *a, int64_t lda, const double *b, int64_t ldb, int64_t m,
                      int64_t n, int64_t k, int transposed_b, int accumulate)
{
    job_f64 job = {.c = c, .ldc = ldc, .m = m, .n = n, .k = k, .a = a, .lda = lda, .b = b, .ldb = ldb,
                   .carry = accumulate != 0, .b_transposed = transposed_b, .b_bytes = 8, .pack_a = pack_rows64,
                   .pack_b = transposed_b ? pack_transposed64 : pack_plain64};
    run64(&job);
}

/* The Gram matrix is X^T X: A is X transposed, B is X, both widened. */
static void pack_columns(double *out, const job_f64 *job, int64_t i, int64_t rows, int64_t p, int64_t kc)
{
    const float *x = (const float *)job->a + p * job->lda + i;
    for (int64_t r = 0; r < rows; r += 16)
        for (int64_t q = 0; q < kc; q++)
            for (int64_t s = r; s < r + 16 && s < rows; s++) out[s * LDA64 + q] = (double)x[q * job->lda + s];
}

static void pack_widened(double *out, const job_f64 *job, int64_t j, int64_t cols, int64_t p, int64_t kc)
{
    const float *x = (const float *)job->b + p * job->ldb + j;
    for (int64_t q = 0; q < kc; q++, out += COLS64, x += job->ldb) {
        if (cols == COLS64)
            for (int r = 0; r < COLS64; r++) out[r] = (double)x[r];
        else
            for (int64_t r = 0; r < COLS64; r++) out[r] = r < cols ? (double)x[r] : 0;
    }
}

static void gram64(double *g, const float *x, int64_t ldx, int64_t m, int64_t n)
{
    job_f64 job = {.c = g, .ldc = n, .m = n, .n = n, .k = m, .a = x, .lda = ldx, .b = x, .ldb = ldx, .carry = 1,
                   .upper = 1, .b_bytes = 4, .pack_a = pack_columns, .pack_b = pack_widened};
    run64(&job);
}
