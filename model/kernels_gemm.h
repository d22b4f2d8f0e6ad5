/* SPDX-License-Identifier: Apache-2.0 */
/* Internal template, included once for float and once for double: c (m, n) = [c +] A B, A (m, k), B (k, n), one fma
 * chain per element over k ascending. The including file defines
 *   GEMM_T, GEMM_NAME(x)             element type, name with its suffix
 *   GEMM_V, GEMM_VEC, GEMM_OP(op)    vector type, its width, its operations
 *   GEMM_ROWS, GEMM_VECS, GEMM_K     tile: rows x (vectors x width), longest k block
 *
 * k is cut into blocks; a chain rests in c between blocks, which is exact. For a group of rows, A is copied once into
 * rows of a fixed stride (its address arithmetic is then constants). A panel of B, k block x GEMM_COLS, is packed
 * (transposed, widened) by the job's function into the first-level cache and meets all rows of the group. Threads own
 * different panels or different rows. */
#define GEMM_COLS (GEMM_VECS * GEMM_VEC)
#define GEMM_LDA (GEMM_K + 16) /* rows of a tile must not fall on the same cache sets */

typedef struct GEMM_NAME(job) {
    GEMM_T *c;
    int64_t ldc, m, n, k;
    const void *a, *b;
    int64_t lda, ldb;
    int dtype;           /* of b, where it is a weight matrix */
    int carry;           /* chains start from c */
    int upper;           /* only columns >= row are computed */
    int b_transposed;    /* b is stored (n, k): only for reading ahead */
    int64_t b_bytes;     /* of one element of b; 0: do not read ahead */
    /* rows i .. i + rows - 1, columns p .. p + kc - 1 of A, to rows of stride GEMM_LDA */
    void (*pack_a)(GEMM_T *out, const struct GEMM_NAME(job) *job, int64_t i, int64_t rows, int64_t p, int64_t kc);
    /* columns j .. j + cols - 1 of rows p .. p + kc - 1 of B, to rows of GEMM_COLS, zeros behind cols */
    void (*pack_b)(GEMM_T *out, const struct GEMM_NAME(job) *job, int64_t j, int64_t cols, int64_t p, int64_t kc);
} GEMM_NAME(job);

ALWAYS_INLINE void GEMM_NAME(tile_of)(GEMM_T *c, int64_t ldc, const GEMM_T *a, const GEMM_T *b, int64_t kc, int carry,
                                      er_ahead *ahead, const int rows)
{
    GEMM_V s[GEMM_ROWS][GEMM_VECS], w[GEMM_VECS];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < GEMM_VECS; v++)
            s[r][v] = carry ? GEMM_OP(load)(c + r * ldc + v * GEMM_VEC) : GEMM_OP(set)(0);
    for (int64_t p = 0; p < kc;) {
        er_ahead_step(ahead);
        for (int64_t end = kc - p < 16 ? kc : p + 16; p < end; p++, b += GEMM_COLS) {
            for (int v = 0; v < GEMM_VECS; v++) w[v] = GEMM_OP(load)(b + v * GEMM_VEC);
            for (int r = 0; r < rows; r++) {
                GEMM_V x = GEMM_OP(set)(a[r * GEMM_LDA + p]);
                for (int v = 0; v < GEMM_VECS; v++) s[r][v] = GEMM_OP(fma)(x, w[v], s[r][v]);
            }
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < GEMM_VECS; v++) GEMM_OP(put)(c + r * ldc + v * GEMM_VEC, s[r][v]);
}

static void GEMM_NAME(tile)(GEMM_T *c, int64_t ldc, const GEMM_T *a, const GEMM_T *b, int64_t kc, int carry,
                            er_ahead *ahead, int rows)
{
    switch (rows) {
#define GEMM_CASE(r)                                                                                                   \
    case r:                                                                                                            \
        GEMM_NAME(tile_of)(c, ldc, a, b, kc, carry, ahead, r);                                                         \
        break
        GEMM_CASE(1);
        GEMM_CASE(2);
        GEMM_CASE(3);
        GEMM_CASE(4);
#if GEMM_ROWS > 4
        GEMM_CASE(5);
        GEMM_CASE(6);
#endif
#if GEMM_ROWS > 6
        GEMM_CASE(7);
        GEMM_CASE(8);
#endif
#if GEMM_ROWS > 8
        GEMM_CASE(9);
        GEMM_CASE(10);
        GEMM_CASE(11);
        GEMM_CASE(12);
#endif
#undef GEMM_CASE
    default: break;
    }
}

/* A tile that sticks out of c, or of its upper triangle: through a copy. Row i, column j of c at its corner. */
static void GEMM_NAME(edge)(const GEMM_NAME(job) *job, int64_t i, int64_t j, int64_t cols, const GEMM_T *a,
                            const GEMM_T *b, int64_t kc, int carry, er_ahead *ahead, int rows)
{
    GEMM_T copy[GEMM_ROWS * GEMM_COLS] = {0}, *c = job->c + i * job->ldc + j;
    for (int r = 0; carry && r < rows; r++)
        for (int64_t q = 0; q < cols; q++) copy[r * GEMM_COLS + q] = c[r * job->ldc + q];
    GEMM_NAME(tile)(copy, GEMM_COLS, a, b, kc, carry, ahead, rows);
    for (int r = 0; r < rows; r++)
        for (int64_t q = job->upper && i + r > j ? i + r - j : 0; q < cols; q++)
            c[r * job->ldc + q] = copy[r * GEMM_COLS + q];
}

/* One panel of packed B against the packed rows i0 .. i0 + rows - 1, in tiles of nearly one height: a last tile of one or
 * two rows would wait for its own sums. */
static void GEMM_NAME(panel)(const GEMM_NAME(job) *job, int64_t i0, int64_t rows, int64_t j, int64_t cols,
                             const GEMM_T *a, const GEMM_T *b, int64_t kc, int carry, er_ahead *ahead)
{
    int64_t tiles = (rows + GEMM_ROWS - 1) / GEMM_ROWS, height = (rows + tiles - 1) / tiles;
    for (int64_t i = i0; i < i0 + rows; i += height, a += height * GEMM_LDA) {
        int count = (int)(i0 + rows - i < height ? i0 + rows - i : height);
        if (job->upper && j + cols <= i) break; /* below the diagonal, and so are the rest */
        if (cols < GEMM_COLS || (job->upper && j < i + count - 1))
            GEMM_NAME(edge)(job, i, j, cols, a, b, kc, carry, ahead, count);
        else
            GEMM_NAME(tile)(job->c + i * job->ldc + j, job->ldc, a, b, kc, carry, ahead, count);
    }
}

/* Packs and multiplies one block of B; what the loop will pack next is read ahead meanwhile. */
static void GEMM_NAME(block)(const GEMM_NAME(job) *job, int64_t i, int64_t rows, int64_t j, int64_t p, int64_t kc,
                             const GEMM_T *a, GEMM_T *b, int carry, int64_t next_j, int64_t next_p)
{
    int64_t cols = job->n - j < GEMM_COLS ? job->n - j : GEMM_COLS, size = job->b_bytes;
    er_ahead ahead = {0};
    if (size && next_j + GEMM_COLS <= job->n && next_p + kc <= job->k) {
        int64_t steps = (rows + GEMM_ROWS - 1) / GEMM_ROWS * ((kc + 15) / 16);
        if (job->b_transposed)
            er_ahead_set(&ahead, job->b, job->ldb * size, next_j, next_p * size, GEMM_COLS, kc * size, steps);
        else
            er_ahead_set(&ahead, job->b, job->ldb * size, next_p, next_j * size, kc, GEMM_COLS * size, steps);
    }
    job->pack_b(b, job, j, cols, p, kc);
    GEMM_NAME(panel)(job, i, rows, j, cols, a, b, kc, carry, &ahead);
}

/* The share of one thread: rows from .. to - 1, panels first, first + step, ... */
static void GEMM_NAME(share)(const GEMM_NAME(job) *job, int64_t from, int64_t to, int64_t first, int64_t step,
                             int ticks)
{
    enum { A_BYTES = 1024 * 1024, A_BLOCKS = 4 }; /* of A kept packed: stays in the second level */
    int64_t blocks = (job->k + GEMM_K - 1) / GEMM_K, panels = (job->n + GEMM_COLS - 1) / GEMM_COLS;
    int64_t length = ((job->k + blocks - 1) / blocks + 15) / 16 * 16;
    int64_t keep = blocks < A_BLOCKS ? blocks : A_BLOCKS, row_size = GEMM_LDA * (int64_t)sizeof(GEMM_T);
    int64_t most = A_BYTES / (keep * row_size), groups = (to - from + most - 1) / most;
    int64_t group = ((to - from + groups - 1) / groups + GEMM_ROWS - 1) / GEMM_ROWS * GEMM_ROWS;
    int64_t a_size = group * GEMM_LDA;
    GEMM_T *a = er_kernels_scratch(sizeof(GEMM_T) * (size_t)(keep * a_size + GEMM_K * GEMM_COLS));
    GEMM_T *b = a + keep * a_size;
    er_pace pace = {ticks, 0};
    for (int64_t i = from; i < to; i += group)
        for (int64_t start = 0; start < blocks; start += keep) {
            int64_t rows = to - i < group ? to - i : group, end = start + keep < blocks ? start + keep : blocks;
            for (int64_t q = start; q < end; q++) {
                int64_t p = q * length, kc = job->k - p < length ? job->k - p : length;
                job->pack_a(a + (q - start) * a_size, job, i, rows, p, kc);
            }
            for (int64_t panel = first; panel < panels; panel += step) {
                int64_t j = panel * GEMM_COLS;
                if (job->upper && j + GEMM_COLS <= i) continue;
                for (int64_t q = start; q < end; q++) {
                    int64_t p = q * length, kc = job->k - p < length ? job->k - p : length, more = q + 1 < end;
                    GEMM_NAME(block)(job, i, rows, j, p, kc, a + (q - start) * a_size, b, job->carry || q > 0,
                                     more ? j : j + step * GEMM_COLS, more ? p + kc : start * length);
                    er_pace_add(&pace, (double)rows * (double)GEMM_COLS * (double)kc);
                }
            }
        }
}

/* Part `part` of `parts` that together are the whole product; they do not wait for each other. */
static void GEMM_NAME(part)(const GEMM_NAME(job) *job, int part, int parts, int ticks)
{
    if (!job->k && !job->carry && part == 0) /* empty chains */
        for (int64_t i = 0; i < job->m; i++)
            for (int64_t j = 0; j < job->n; j++) job->c[i * job->ldc + j] = 0;
    if (!job->k || !job->m || !job->n) return;
    er_grid grid = er_kernels_grid(job->upper ? 1 : job->m, job->n, GEMM_ROWS, GEMM_COLS, parts);
    if (part >= grid.down * grid.across) return;
    int64_t strips = (job->m + GEMM_ROWS - 1) / GEMM_ROWS, me = part / grid.across;
    int64_t from = strips * me / grid.down * GEMM_ROWS, to = strips * (me + 1) / grid.down * GEMM_ROWS;
    GEMM_NAME(share)(job, from, to < job->m ? to : job->m, part % grid.across, grid.across, ticks);
}
