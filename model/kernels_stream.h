/* SPDX-License-Identifier: Apache-2.0 */
/* Internal template: products of at most STREAM_ROWS rows. They wait for memory, so weights are read once, in place:
 * forward transposes blocks in registers, backward walks rows of the weights with the result in the first-level cache.
 * The functions are inlined with constant dtype and number of rows. */
enum { STREAM_ROWS = 4, STREAM_VECS = 2 }; /* vectors of outputs at a time: two independent chains */

/* Block (VEC outputs from j, VEC inputs from p) of the weights, transposed: t[q] holds the outputs' weights of input
 * p + q. Outputs behind `last` are copies of it. */
ALWAYS_INLINE void load_block(vec t[VEC], const void *data, int64_t cols, int64_t j, int64_t last, int64_t p,
                              const int dtype)
{
    for (int64_t r = 0; r < VEC; r++) t[r] = vec_load_weights(data, (j + r < last ? j + r : last) * cols + p, dtype);
    vec_transpose(t);
}

/* One input's weights for VEC outputs, where no whole block is left. */
ALWAYS_INLINE vec load_column(const void *data, int64_t cols, int64_t j, int64_t last, int64_t p, const int dtype)
{
    float column[VEC];
    for (int64_t r = 0; r < VEC; r++) column[r] = weight_at(data, (j + r < last ? j + r : last) * cols + p, dtype);
    return vec_load(column);
}

/* Outputs j .. to - 1, at most STREAM_VECS x VEC of them. */
ALWAYS_INLINE void forward_group(float *y, int64_t ldy, const float *const *x, int64_t m, const er_matrix *w,
                                 int64_t j, int64_t to, const int dtype, const int rows)
{
    int64_t cols = w->cols, p = 0, bytes = dtype == ER_F32 ? 4 : 2;
    const char *ahead = (const char *)w->data + (j + STREAM_VECS * VEC) * cols * bytes; /* the next group's place */
    vec s[STREAM_ROWS][STREAM_VECS], t[VEC];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < STREAM_VECS; v++) s[i][v] = vec_set(0);
    for (; p + VEC <= cols; p += VEC)
        for (int v = 0; v < STREAM_VECS; v++) {
            for (int r = 0; r < VEC; r++) __builtin_prefetch(ahead + ((v * VEC + r) * cols + p) * bytes, 0, 2);
            load_block(t, w->data, cols, j + v * VEC, to - 1, p, dtype);
            for (int q = 0; q < VEC; q++)
                for (int i = 0; i < rows; i++) s[i][v] = vec_fma(vec_set(x[i][p + q]), t[q], s[i][v]);
        }
    for (; p < cols; p++)
        for (int v = 0; v < STREAM_VECS; v++) {
            vec column = load_column(w->data, cols, j + v * VEC, to - 1, p, dtype);
            for (int i = 0; i < rows; i++) s[i][v] = vec_fma(vec_set(x[i][p]), column, s[i][v]);
        }
    for (int64_t i = 0; i < m; i++) {
        float out[STREAM_VECS * VEC];
        for (int v = 0; v < STREAM_VECS; v++) vec_put(out + v * VEC, s[i][v]);
        memcpy(y + i * ldy + j, out, sizeof *y * (size_t)(to - j < STREAM_VECS * VEC ? to - j : STREAM_VECS * VEC));
    }
}

/* Outputs from .. to - 1 */
ALWAYS_INLINE void forward_share(float *y, int64_t ldy, const float *x, int64_t ldx, int64_t m, const er_matrix *w,
                                 int64_t from, int64_t to, int ticks, const int dtype, const int rows)
{
    enum { GROUP = STREAM_VECS * VEC };
    er_pace pace = {ticks, 0};
    const float *row[STREAM_ROWS];
    for (int64_t i = 0; i < STREAM_ROWS; i++) row[i] = x + (i < m ? i : m - 1) * ldx;
    for (int64_t j = from; j < to; j += GROUP) {
        forward_group(y, ldy, row, m, w, j, to, dtype, rows);
        er_pace_add(&pace, 8.0 * GROUP * (double)w->cols); /* time is bytes here */
    }
}

/* dx (m, columns from .. to - 1) = dy W. Eight rows of W at a time, each element's chain passing through them in
 * order; columns in runs that keep the results in the first-level cache. Rows behind m repeat the last: all of them
 * are loaded before the first is stored, so it gets its own value twice. */
ALWAYS_INLINE void backward_share(float *dx, int64_t ldx, const float *dy, int64_t ldy, int64_t m, const er_matrix *w,
                                  int64_t from, int64_t to, int ticks, const int dtype, const int rows)
{
    enum { DEPTH = 8, RUN = 1536 };
    er_pace pace = {ticks, 0};
    int64_t row[STREAM_ROWS];
    for (int64_t i = 0; i < STREAM_ROWS; i++) row[i] = i < m ? i : m - 1;
    for (int64_t start = from; start < to; start += RUN) {
        int64_t end = to - start < RUN ? to : start + RUN;
        for (int64_t i = 0; i < m; i++) memset(dx + i * ldx + start, 0, sizeof *dx * (size_t)(end - start));
        for (int64_t j = 0; j < w->rows; j += DEPTH) {
            int64_t k = start, depth = w->rows - j < DEPTH ? w->rows - j : DEPTH;
            for (; depth == DEPTH && k + VEC <= end; k += VEC) {
                vec s[STREAM_ROWS];
                for (int i = 0; i < rows; i++) s[i] = vec_load(dx + row[i] * ldx + k);
                for (int q = 0; q < DEPTH; q++) {
                    vec t = vec_load_weights(w->data, (j + q) * w->cols + k, dtype);
                    for (int i = 0; i < rows; i++) s[i] = vec_fma(vec_set(dy[row[i] * ldy + j + q]), t, s[i]);
                }
                for (int i = 0; i < rows; i++) vec_put(dx + row[i] * ldx + k, s[i]);
            }
            for (; k < end; k++)
                for (int64_t i = 0; i < m; i++)
                    for (int64_t q = 0; q < depth; q++)
                        dx[i * ldx + k] = __builtin_fmaf(
                            dy[i * ldy + j + q], weight_at(w->data, (j + q) * w->cols + k, dtype), dx[i * ldx + k]);
            er_pace_add(&pace, 8.0 * DEPTH * (double)(end - start));
        }
    }
}

/* Two to four rows cost the same: one copy of the code serves them (it is large, and memory decides the time). */
#define STREAM_CASES(share, dtype)                                                                                     \
    if (m == 1)                                                                                                        \
        share(y, ldy, x, ldx, m, w, from, to, ticks, dtype, 1);                                                        \
    else                                                                                                               \
        share(y, ldy, x, ldx, m, w, from, to, ticks, dtype, STREAM_ROWS)
#define STREAM_SHARE(name, share)                                                                                      \
    static void name(float *y, int64_t ldy, const float *x, int64_t ldx, int64_t m, const er_matrix *w, int64_t from,  \
                     int64_t to, int ticks)                                                                            \
    {                                                                                                                  \
        if (w->dtype == ER_F32) {                                                                                      \
            STREAM_CASES(share, ER_F32);                                                                               \
        } else if (w->dtype == ER_BF16) {                                                                              \
            STREAM_CASES(share, ER_BF16);                                                                              \
        } else {                                                                                                       \
            STREAM_CASES(share, ER_F16);                                                                               \
        }                                                                                                              \
    }
STREAM_SHARE(stream_forward, forward_share)
STREAM_SHARE(stream_backward, backward_share)

/* Threads own runs of outputs (forward) or of inputs (backward), cut at whole vectors. */
static void stream(const er_product_call *c, int part, int parts, int ticks)
{
    int64_t n = c->back ? c->w->cols : c->w->rows, strips = (n + VEC - 1) / VEC;
    int64_t from = strips * part / parts * VEC, to = strips * (part + 1) / parts * VEC;
    (c->back ? stream_backward : stream_forward)(c->y, c->ldy, c->x, c->ldx, c->m, c->w, from, to < n ? to : n, ticks);
}
