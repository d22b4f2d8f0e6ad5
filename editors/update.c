/* SPDX-License-Identifier: Apache-2.0 */
/* W_new = round(W + U V). */
#include "base/memory.h"
#include "editors/editor.h"
#include "model/kernels.h"

#include <math.h>

enum { ROWS = 64, COLUMNS = 512, RANK = 64, LANES = 16 };

void er_update_free(er_update *u)
{
    ER_FREE(u->u);
    ER_FREE(u->v);
    u->rank = 0;
}

/* Sums of squares, element i in lane i mod 16; COLUMNS is a multiple of 16, so a row's tiles keep to their lanes. */
typedef struct lanes {
    double at[LANES];
} lanes;

static double lanes_sum(const lanes *l)
{
    double s[LANES];
    for (int i = 0; i < LANES; i++) s[i] = l->at[i];
    for (int width = LANES / 2; width; width /= 2) {
        for (int i = 0; i < width; i++) s[i] += s[i + width];
    }
    return s[0];
}

static void widen(double *out, int64_t ldout, const float *in, int64_t ldin, int64_t m, int64_t n)
{
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) out[i * ldout + j] = (double)in[i * ldin + j];
    }
}

/* Rounds one row of a tile into the weights and adds its squares. */
static void round_row(float *w, const double *sum, int64_t n, lanes *change, lanes *weight)
{
    for (int64_t j = 0; j < n; j++) {
        double by = sum[j] - (double)w[j]; /* before the rounding: what the update alone does */
        w[j] = (float)sum[j];
        change->at[j % LANES] += by * by;
        weight->at[j % LANES] += (double)w[j] * (double)w[j];
    }
}

static void tile(float *w, const er_update *u, int64_t row, int64_t rows, int64_t column, int64_t columns,
                 lanes *change, lanes *weight)
{
    _Alignas(64) double sum[ROWS * COLUMNS], a[ROWS * RANK], b[RANK * COLUMNS];
    float *at = w + row * u->inputs + column;
    widen(sum, columns, at, u->inputs, rows, columns);
    for (int64_t k = 0; k < u->rank; k += RANK) {
        int64_t depth = u->rank - k < RANK ? u->rank - k : RANK;
        widen(a, depth, u->u + row * u->rank + k, u->rank, rows, depth);
        widen(b, columns, u->v + k * u->inputs + column, u->inputs, depth, columns);
        er_product64(sum, columns, a, depth, b, columns, rows, columns, depth, 0, 1);
    }
    for (int64_t i = 0; i < rows; i++)
        round_row(at + i * u->inputs, sum + i * columns, columns, change + i, weight + i);
}

void er_update_apply(float *w, const er_update *u, double *update_norm, double *weight_norm)
{
    double change_sum = 0.0, weight_sum = 0.0;
    for (int64_t row = 0; row < u->outputs; row += ROWS) {
        int64_t rows = u->outputs - row < ROWS ? u->outputs - row : ROWS;
        lanes change[ROWS] = {{{0}}}, weight[ROWS] = {{{0}}};
        for (int64_t column = 0; column < u->inputs; column += COLUMNS) {
            int64_t columns = u->inputs - column < COLUMNS ? u->inputs - column : COLUMNS;
            tile(w, u, row, rows, column, columns, change, weight);
        }
        for (int64_t i = 0; i < rows; i++) {
            change_sum += lanes_sum(&change[i]);
            weight_sum += lanes_sum(&weight[i]);
        }
    }
    if (update_norm) *update_norm = sqrt(change_sum);
    if (weight_norm) *weight_norm = sqrt(weight_sum);
}
