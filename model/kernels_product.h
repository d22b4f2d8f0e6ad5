/* SPDX-License-Identifier: Apache-2.0 */
/* Internal template: products. */
static inline float weight_at(const er_matrix *w, int64_t at)
{
    if (w->dtype == ER_F32) return ((const float *)w->data)[at];
    uint16_t bits = ((const uint16_t *)w->data)[at];
    return w->dtype == ER_BF16 ? er_bf16_to_float(bits) : er_f16_to_float(bits);
}

static void product(float *y, int64_t ldy, const float *x, int64_t ldx, int64_t m, const er_matrix *w)
{
    int threads = er_kernels_threads((double)m * (double)w->rows * (double)w->cols);
    (void)threads;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t j = 0; j < w->rows; j++)
        for (int64_t i = 0; i < m; i++) {
            float s = 0.0f;
            for (int64_t k = 0; k < w->cols; k++) s = __builtin_fmaf(x[i * ldx + k], weight_at(w, j * w->cols + k), s);
            y[i * ldy + j] = s;
        }
}

static void product_back(float *x_grad, int64_t ldx, const float *y_grad, int64_t ldy, int64_t m, const er_matrix *w)
{
    for (int64_t i = 0; i < m; i++) {
        for (int64_t k = 0; k < w->cols; k++) x_grad[i * ldx + k] = 0.0f;
        for (int64_t j = 0; j < w->rows; j++)
            for (int64_t k = 0; k < w->cols; k++)
                x_grad[i * ldx + k] =
                    __builtin_fmaf(y_grad[i * ldy + j], weight_at(w, j * w->cols + k), x_grad[i * ldx + k]);
    }
}

static void product64(double *c, int64_t ldc, const double *a, int64_t lda, const double *b, int64_t ldb, int64_t m,
                      int64_t n, int64_t k, int transposed_b, int accumulate)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double s = accumulate ? c[i * ldc + j] : 0.0;
            for (int64_t p = 0; p < k; p++)
                s = __builtin_fma(a[i * lda + p], transposed_b ? b[j * ldb + p] : b[p * ldb + j], s);
            c[i * ldc + j] = s;
        }
}

static void gram64(double *g, const float *x, int64_t ldx, int64_t m, int64_t n)
{
    for (int64_t t = 0; t < m; t++)
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = i; j < n; j++)
                g[i * n + j] = __builtin_fma((double)x[t * ldx + i], (double)x[t * ldx + j], g[i * n + j]);
}
