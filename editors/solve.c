/* SPDX-License-Identifier: Apache-2.0 */
#include "editors/solve.h"

#include "base/memory.h"
#include "model/kernels.h"

#include <inttypes.h>
#include <math.h>

enum {
    BLOCK = ER_FACTOR_BLOCK,
    LEAF = 8,    /* triangles up to this size are solved element by element, larger ones are halved */
    ROWS = 32,   /* of a panel that a thread closes at a time */
    STRIP = 64,  /* rows that the back substitution closes at a time: their number is in its bits */
    PANEL = 256, /* columns of the factor that are transposed at a time */
};

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

void er_factor_free(er_factor *f)
{
    ER_FREE(f->at);
    *f = (er_factor){0};
}

static size_t block_offset(int64_t block) { return (size_t)block * (size_t)(block + 1) / 2 * BLOCK * BLOCK; }

int er_factor_reserve(er_factor *f, int64_t rows, er_err *err)
{
    return er_grow(&f->at, &f->capacity, block_offset((rows + BLOCK - 1) / BLOCK), err);
}

double *er_factor_row(const er_factor *f, int64_t row, int64_t *stride)
{
    int64_t block = row / BLOCK;
    *stride = (block + 1) * BLOCK;
    return f->at + block_offset(block) + (size_t)((row % BLOCK) * *stride);
}

/* One link of the chains of a row, for all columns. */
static void row_chain(double *y, const double *x, double a, int64_t columns) { er_axpy64(y, a, x, columns); }

static void row_close(double *y, double pivot, int64_t columns)
{
    for (int64_t j = 0; j < columns; j++) y[j] = -y[j] / pivot;
}

/* x (m, w), w <= LEAF, m <= BLOCK: through its transpose, where a link of all rows' chains is one pass. */
static void close_leaf(double *x, int64_t ldx, int64_t m, const double *d, int64_t ldd, int64_t w)
{
    double t[LEAF * BLOCK];
    er_transpose(t, m, x, ldx, m, w);
    for (int64_t j = 0; j < w; j++) {
        for (int64_t k = 0; k < j; k++) row_chain(t + j * m, t + k * m, d[j * ldd + k], m);
        row_close(t + j * m, d[j * ldd + j], m);
    }
    er_transpose(x, ldx, t, m, w, m);
}

/* x (m, w) holds minus the open chains of L; d (w, w) is the factored triangle of its columns. */
static void close_panel(double *x, int64_t ldx, int64_t m, const double *d, int64_t ldd, int64_t w)
{
    if (w <= LEAF) {
        close_leaf(x, ldx, m, d, ldd, w);
        return;
    }
    int64_t half = w / 2;
    close_panel(x, ldx, m, d, ldd, half);
    er_product64(x + half, ldx, x, ldx, d + half * ldd, ldd, m, w - half, half, 1, 1);
    close_panel(x + half, ldx, m, d + half * ldd + half, ldd, w - half);
}

/* Rows first .. end-1 of a triangle whose row 0 is d, their chains closed in the columns before `first`. Returns 0, or
 * -1 at a pivot that is not positive. */
static int close_corner(double *d, int64_t ld, int64_t first, int64_t end)
{
    for (int64_t i = first; i < end; i++) {
        double *row = d + i * ld;
        for (int64_t j = first; j <= i; j++) {
            double chain = row[j];
            for (int64_t k = first; k < j; k++) chain = fma(row[k], d[j * ld + k], chain);
            if (j < i) {
                row[j] = -chain / d[j * ld + j];
            } else {
                if (!(-chain > 0.0) || !isfinite(chain)) return -1;
                row[j] = sqrt(-chain);
            }
        }
    }
    return 0;
}

/* Rows are independent of each other: every thread has some. */
static void close_panels(double *x, int64_t ldx, int64_t m, const double *d, int64_t ldd, int64_t w)
{
#pragma omp parallel for schedule(static) if (m > ROWS && w > LEAF)
    for (int64_t i = 0; i < m; i += ROWS) close_panel(x + i * ldx, ldx, smaller(ROWS, m - i), d, ldd, w);
}

/* Rows first .. end-1 of a diagonal block (of which row 0 is d), each with its chains open from column 0 of the block;
 * what is below column `done` is closed. */
static int close_diagonal(double *d, int64_t ld, int64_t done, int64_t first, int64_t end)
{
    double *rows = d + first * ld;
    if (first > done) {
        close_panels(rows + done, ld, end - first, d + done * ld + done, ld, first - done);
        er_product64(rows + first, ld, rows + done, ld, rows + done, ld, end - first, end - first, first - done, 1, 1);
    }
    if (end - first <= LEAF) return close_corner(d, ld, first, end);
    const int64_t middle = first + (end - first) / 2;
    return close_diagonal(d, ld, first, first, middle) || close_diagonal(d, ld, first, middle, end);
}

/* Rows first .. end-1, all of one block row. */
static int close_rows(er_factor *f, int64_t first, int64_t end)
{
    int64_t ld, block = first / BLOCK, m = end - first;
    double *rows = er_factor_row(f, first, &ld);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < end; j++) rows[i * ld + j] = -rows[i * ld + j];
    }
    for (int64_t b = 0; b < block; b++) {
        int64_t ldb, column = b * BLOCK;
        const double *above = er_factor_row(f, column, &ldb);
        if (column) er_product64(rows + column, ld, rows, ld, above, ldb, m, BLOCK, column, 1, 1);
        close_panels(rows + column, ld, m, above + column, ldb, BLOCK);
    }
    int64_t column = block * BLOCK;
    double *diagonal = er_factor_row(f, column, &ld);
    if (column) er_product64(rows + column, ld, rows, ld, diagonal, ld, m, end - column, column, 1, 1);
    return close_diagonal(diagonal + column, ld, 0, first - column, end - column);
}

int er_factor_grow(er_factor *f, int64_t count, const char *what, er_err *err)
{
    int64_t end = f->n + count;
    for (int64_t first = f->n; first < end;) {
        int64_t stop = smaller(end, (first / BLOCK + 1) * BLOCK);
        if (close_rows(f, first, stop))
            return er_fail(err, ER_E_NUMERIC, "%s (%" PRId64 " rows) is not positive definite", what, end);
        first = stop;
    }
    f->n = end;
    return 0;
}

double er_factor_condition(const er_factor *f)
{
    double low = HUGE_VAL, high = 0.0;
    for (int64_t i = 0; i < f->n; i++) {
        int64_t ld;
        double pivot = er_factor_row(f, i, &ld)[i];
        low = pivot < low ? pivot : low;
        high = pivot > high ? pivot : high;
    }
    return f->n ? high / low * (high / low) : 1.0;
}

static void negate(double *y, int64_t ldy, int64_t m, int64_t columns)
{
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < columns; j++) y[i * ldy + j] = -y[i * ldy + j];
    }
}

/* y (m, columns) holds minus the open chains; d (m, m) lower triangle: downwards. */
static void close_down(double *y, int64_t ldy, int64_t columns, const double *d, int64_t ldd, int64_t m)
{
    if (m > LEAF) {
        int64_t half = m / 2;
        close_down(y, ldy, columns, d, ldd, half);
        er_product64(y + half * ldy, ldy, d + half * ldd, ldd, y, ldy, m - half, columns, half, 0, 1);
        close_down(y + half * ldy, ldy, columns, d + half * ldd + half, ldd, m - half);
        return;
    }
    for (int64_t i = 0; i < m; i++) {
        for (int64_t k = 0; k < i; k++) row_chain(y + i * ldy, y + k * ldy, d[i * ldd + k], columns);
        row_close(y + i * ldy, d[i * ldd + i], columns);
    }
}

/* The same with the transposed triangle: upwards. */
static void close_up(double *y, int64_t ldy, int64_t columns, const double *d, int64_t ldd, int64_t m)
{
    if (m > LEAF) {
        int64_t half = m / 2;
        double t[STRIP * STRIP / 4];
        close_up(y + half * ldy, ldy, columns, d + half * ldd + half, ldd, m - half);
        er_transpose(t, m - half, d + half * ldd, ldd, m - half, half);
        er_product64(y, ldy, t, m - half, y + half * ldy, ldy, half, columns, m - half, 0, 1);
        close_up(y, ldy, columns, d, ldd, half);
        return;
    }
    for (int64_t i = m - 1; i >= 0; i--) {
        for (int64_t k = i + 1; k < m; k++) row_chain(y + i * ldy, y + k * ldy, d[k * ldd + i], columns);
        row_close(y + i * ldy, d[i * ldd + i], columns);
    }
}

void er_factor_forward(const er_factor *f, double *y, int64_t ldy, int64_t columns, int64_t from)
{
    for (int64_t first = from; first < f->n;) {
        int64_t stop = smaller(f->n, (first / BLOCK + 1) * BLOCK), ld;
        const double *rows = er_factor_row(f, first, &ld);
        double *open = y + first * ldy;
        negate(open, ldy, stop - first, columns);
        if (first > from)
            er_product64(open, ldy, rows + from, ld, y + from * ldy, ldy, stop - first, columns, first - from, 0, 1);
        close_down(open, ldy, columns, rows + first, ld, stop - first);
        first = stop;
    }
}

/* open (m, columns) += L[from .. to)[first .. first+m)^T y[from .. to), a panel of the factor at a time. */
static void chain_up(const er_factor *f, double *open, int64_t first, int64_t m, const double *y, int64_t ldy,
                     int64_t columns)
{
    double t[STRIP * PANEL];
    for (int64_t from = first + m; from < f->n; from += PANEL) {
        int64_t width = smaller(PANEL, f->n - from), ld;
        for (int64_t k = 0; k < width; k += STRIP) { /* strips lie within block rows */
            const double *rows = er_factor_row(f, from + k, &ld);
            er_transpose(t + k, width, rows + first, ld, smaller(STRIP, width - k), m);
        }
        er_product64(open, ldy, t, width, y + from * ldy, ldy, m, columns, width, 0, 1);
    }
}

void er_factor_back(const er_factor *f, double *y, int64_t ldy, int64_t columns)
{
    for (int64_t strip = (f->n + STRIP - 1) / STRIP - 1; strip >= 0; strip--) {
        int64_t first = strip * STRIP, m = smaller(STRIP, f->n - first), ld;
        const double *rows = er_factor_row(f, first, &ld);
        double *open = y + first * ldy;
        negate(open, ldy, m, columns);
        chain_up(f, open, first, m, y, ldy, columns);
        close_up(open, ldy, columns, rows + first, ld, m);
    }
}

void er_to_doubles(double *out, const float *in, int64_t stride, int64_t count, int64_t n)
{
    for (int64_t i = 0; i < count; i++) {
        for (int64_t j = 0; j < n; j++) out[i * n + j] = (double)in[i * stride + j];
    }
}

void er_to_floats(float *out, const double *in, int64_t count)
{
    for (int64_t i = 0; i < count; i++) out[i] = (float)in[i];
}

void er_transpose(double *out, int64_t ldout, const double *in, int64_t ldin, int64_t m, int64_t n)
{
    enum { TILE = 16 };
    for (int64_t i0 = 0; i0 < m; i0 += TILE) {
        for (int64_t j0 = 0; j0 < n; j0 += TILE) {
            int64_t i1 = smaller(m, i0 + TILE), j1 = smaller(n, j0 + TILE);
            for (int64_t j = j0; j < j1; j++) {
                for (int64_t i = i0; i < i1; i++) out[j * ldout + i] = in[i * ldin + j];
            }
        }
    }
}

int er_residual(float *u, const float *values, const float *current, int64_t stride, int64_t n, int64_t d,
                double divisor, double *z_error, er_err *err)
{
    double total = 0.0;
    for (int64_t i = 0; i < n; i++) {
        double square = 0.0;
        for (int64_t j = 0; j < d; j++) {
            double r = (double)values[i * d + j] - (double)current[i * stride + j];
            square += r * r;
            u[j * n + i] = (float)(r / divisor);
        }
        if (!isfinite(square))
            return er_fail(err, ER_E_NUMERIC, "the residual of request %" PRId64 " of the batch is not finite", i);
        total += sqrt(square);
    }
    if (z_error) *z_error = n ? total / (double)n : 0.0;
    return 0;
}
