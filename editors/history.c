/* SPDX-License-Identifier: Apache-2.0 */
#include "editors/history.h"

#include "base/hash.h"
#include "base/memory.h"
#include "editors/solve.h"
#include "editors/white.h"
#include "model/kernels.h"

#include <inttypes.h>
#include <string.h>

enum { CHUNK = 256 }; /* rows that are projected at a time: bounds scratch, no bit depends on it */

struct er_history {
    er_projection p;
    er_white white; /* root NULL: the history is AlphaEdit's, projected; else p keeps all directions and l2 is 1 */
    double l2;
    int64_t f, stride, rows;
    /* 2 rows <= rank: projected or whitened keys (rows, f) and the factor of l2 I + their Gram matrix; behind them the batch that
     * was solved last */
    double *keys;
    size_t keys_capacity;
    er_factor factor;
    int64_t pending;
    er_hash pending_hash;
    /* 2 rows > rank: lower triangle of l2 I + sum c c^T, not factored; the two above are empty */
    er_factor moment;
};

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static int is_white(const er_history *h) { return h->white.root != NULL; }

static int few(const er_history *h, int64_t rows) { return 2 * rows <= h->p.rank; }

int er_history_make(er_history **out, const er_eigen *eigen, const er_keep *keep, double l2, int64_t stride,
                    er_err *err)
{
    er_projection p;
    if (!(l2 > 0.0)) return er_fail(err, ER_E_INPUT, "L2 must be above 0");
    ER_TRY(er_projection_make(&p, eigen, keep, err));
    ER_TRY(er_alloc(out, 1, err));
    (*out)->p = p;
    (*out)->l2 = l2;
    (*out)->f = eigen->n;
    (*out)->stride = stride;
    return 0;
}

int er_history_make_white(er_history **out, const er_eigen *eigen, double lambda, double ridge, int64_t stride,
                          er_err *err)
{
    er_white white;
    ER_TRY(er_white_make(&white, eigen, lambda, ridge, err));
    int code = er_alloc(out, 1, err);
    if (code) {
        er_white_free(&white);
        return code;
    }
    (*out)->white = white;
    (*out)->p = white.all;
    (*out)->l2 = 1.0;
    (*out)->f = eigen->n;
    (*out)->stride = stride;
    return 0;
}

void er_history_drop(er_history *h)
{
    if (!h) return;
    er_free(h->keys);
    er_factor_free(&h->factor);
    er_factor_free(&h->moment);
    er_white_free(&h->white);
    er_free(h);
}

void er_history_size(const er_history *h, int64_t *rows, int64_t *rank)
{
    *rows = h->rows;
    *rank = h->p.rank;
}

static int hash_keys(er_hash *out, const er_history *h, const float *keys, int64_t n, er_err *err)
{
    er_hasher *hasher;
    ER_TRY(er_hasher_new(&hasher, err));
    for (int64_t i = 0; i < n; i++) er_hasher_add(hasher, keys + i * h->stride, (size_t)h->f * sizeof *keys);
    *out = er_hasher_end(hasher);
    er_hasher_free(hasher);
    return 0;
}

/* out (n, f) = keys P, or their whitened coordinates */
static int project(const er_history *h, double *out, const float *keys, int64_t n, er_err *err)
{
    double *scratch;
    if (is_white(h)) return er_white_down(&h->white, out, keys, h->stride, n, err);
    ER_TRY(er_alloc(&scratch, (size_t)(smaller(n, CHUNK) * h->f), err));
    for (int64_t i = 0; i < n; i += CHUNK) {
        int64_t m = smaller(CHUNK, n - i);
        double *rows = out + i * h->f;
        er_to_doubles(rows, keys + i * h->stride, h->stride, m, h->f);
        er_projection_apply(rows, rows, m, &h->p, scratch);
    }
    er_free(scratch);
    return 0;
}

/* Rows h->rows .. h->rows + n - 1 of keys and factor for this batch, unless they are there from its solve. */
static int extend(er_history *h, const float *keys, int64_t n, er_err *err)
{
    er_hash hash;
    int64_t all = h->rows + n, f = h->f;
    ER_TRY(hash_keys(&hash, h, keys, n, err));
    if (h->pending == n && er_hash_equal(&hash, &h->pending_hash)) return 0;
    h->pending = 0;
    h->factor.n = h->rows;
    ER_TRY(er_grow(&h->keys, &h->keys_capacity, (size_t)(all * f), err));
    ER_TRY(er_factor_reserve(&h->factor, all, err));
    ER_TRY(project(h, h->keys + h->rows * f, keys, n, err));
    for (int64_t i = h->rows; i < all;) {
        int64_t stop = smaller(all, (i / ER_FACTOR_BLOCK + 1) * ER_FACTOR_BLOCK), ld;
        double *row = er_factor_row(&h->factor, i, &ld);
        er_product64(row, ld, h->keys + i * f, f, h->keys, f, stop - i, stop, f, 1, 0);
        for (int64_t j = i; j < stop; j++) row[(j - i) * ld + j] += h->l2;
        i = stop;
    }
    ER_TRY(er_factor_grow(&h->factor, n, is_white(h) ? "MEMIT-seq's key system" : "AlphaEdit's key system", err));
    h->pending = n;
    h->pending_hash = hash;
    return 0;
}

/* v (n, f) = t (n, all) times the kept rows, back among the keys where those are whitened. */
static int combine(const er_history *h, double *v, const double *t, int64_t n, int64_t all, er_err *err)
{
    const int64_t f = h->f;
    double *z = NULL;
    if (is_white(h)) ER_TRY(er_alloc(&z, (size_t)(n * f), err));
    er_product64(z ? z : v, f, t, all, h->keys, f, n, f, all, 0, 0);
    if (z) er_white_up(&h->white, v, z, n);
    er_free(z);
    return 0;
}

/* The N x N form. */
static int solve_rows(er_history *h, const float *keys, int64_t n, double *v, double *condition, er_err *err)
{
    int64_t all = h->rows + n;
    double *x = NULL, *t = NULL;
    ER_TRY(extend(h, keys, n, err));
    int code = er_alloc(&x, (size_t)(all * n), err);
    if (!code) code = er_alloc(&t, (size_t)(n * all), err);
    if (!code) {
        for (int64_t j = 0; j < n; j++) x[(h->rows + j) * n + j] = 1.0;
        er_factor_forward(&h->factor, x, n, n, h->rows);
        er_factor_back(&h->factor, x, n, n);
        er_transpose(t, all, x, n, all, n);
        code = combine(h, v, t, n, all, err);
        *condition = er_factor_condition(&h->factor);
    }
    er_free(x);
    er_free(t);
    return code;
}

static int moment_new(const er_history *h, er_factor *s, er_err *err)
{
    int64_t ld;
    ER_TRY(er_factor_reserve(s, h->p.rank, err));
    for (int64_t i = 0; i < h->p.rank; i++) er_factor_row(s, i, &ld)[i] = h->l2;
    return 0;
}

/* s += sum of c c^T over m rows c (m, rank), the chains of the rows before continue; t: rank x m doubles. */
static void moment_add(const er_history *h, er_factor *s, const double *c, int64_t m, double *t)
{
    int64_t rank = h->p.rank;
    er_transpose(t, m, c, rank, m, rank);
    for (int64_t i = 0; i < rank; i += ER_FACTOR_BLOCK) {
        int64_t stop = smaller(rank, i + ER_FACTOR_BLOCK), ld;
        double *row = er_factor_row(s, i, &ld);
        er_product64(row, ld, t + i * m, m, c, rank, stop - i, stop, m, 0, 1);
    }
}

/* s += the coordinates of n projected rows (n, f); where c is given (n, rank), they are left there. */
static int moment_rows(const er_history *h, er_factor *s, const double *rows, int64_t n, double *c, er_err *err)
{
    int64_t part = smaller(n, CHUNK), rank = h->p.rank;
    double *t = NULL, *own = NULL;
    int code = er_alloc(&t, (size_t)(rank * part), err);
    if (!code && !c) code = er_alloc(&own, (size_t)(part * rank), err);
    for (int64_t i = 0; !code && i < n; i += CHUNK) {
        int64_t m = smaller(CHUNK, n - i);
        double *at = c ? c + i * rank : own;
        if (is_white(h)) /* coordinates already */
            memcpy(at, rows + i * rank, (size_t)(m * rank) * sizeof *at);
        else
            er_projection_down(at, rows + i * h->f, m, &h->p);
        moment_add(h, s, at, m, t);
    }
    er_free(t);
    er_free(own);
    return code;
}

/* s += new keys */
static int moment_keys(const er_history *h, er_factor *s, const float *keys, int64_t n, double *c, er_err *err)
{
    double *rows;
    ER_TRY(er_alloc(&rows, (size_t)(n * h->f), err));
    int code = project(h, rows, keys, n, err);
    if (!code) code = moment_rows(h, s, rows, n, c, err);
    er_free(rows);
    return code;
}

/* The history's part of the rank x rank system. */
static int moment_copy(const er_history *h, er_factor *s, er_err *err)
{
    if (few(h, h->rows)) {
        ER_TRY(moment_new(h, s, err));
        return h->rows ? moment_rows(h, s, h->keys, h->rows, NULL, err) : 0;
    }
    ER_TRY(er_factor_reserve(s, h->p.rank, err));
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < h->p.rank; i++) {
        int64_t ld;
        const double *from = er_factor_row(&h->moment, i, &ld);
        double *to = er_factor_row(s, i, &ld);
        for (int64_t j = 0; j <= i; j++) to[j] = from[j];
    }
    return 0;
}

/* c (n, rank) of the batch; s gets factored and solved. */
static int solve_coordinates(const er_history *h, er_factor *s, double *c, int64_t n, double *v, er_err *err)
{
    int64_t rank = h->p.rank;
    double *x = NULL;
    int code = er_factor_grow(s, rank, is_white(h) ? "MEMIT-seq's whitened system" : "AlphaEdit's system in coordinates", err);
    if (!code) code = er_alloc(&x, (size_t)(rank * n), err);
    if (!code) {
        er_transpose(x, n, c, rank, n, rank);
        er_factor_forward(s, x, n, n, 0);
        er_factor_back(s, x, n, n);
        er_transpose(c, rank, x, n, rank, n);
        if (is_white(h))
            er_white_up(&h->white, v, c, n);
        else
            er_projection_up(v, c, n, &h->p);
    }
    er_free(x);
    return code;
}

static int solve_moment(const er_history *h, const float *keys, int64_t n, double *v, double *condition, er_err *err)
{
    er_factor s = {0};
    double *c;
    ER_TRY(er_alloc(&c, (size_t)(n * h->p.rank), err));
    int code = moment_copy(h, &s, err);
    if (!code) code = moment_keys(h, &s, keys, n, c, err);
    if (!code) code = solve_coordinates(h, &s, c, n, v, err);
    if (!code) *condition = er_factor_condition(&s);
    er_factor_free(&s);
    er_free(c);
    return code;
}

int er_history_solve(er_history *h, const float *keys, int64_t n, double *v, double *condition, er_err *err)
{
    return few(h, h->rows + n) ? solve_rows(h, keys, n, v, condition, err)
                               : solve_moment(h, keys, n, v, condition, err);
}

/* The rows leave their form for the other one and free what they held. */
static int turn(er_history *h, er_err *err)
{
    er_factor s = {0};
    int code = moment_copy(h, &s, err);
    if (code) {
        er_factor_free(&s);
        return code;
    }
    h->moment = s;
    h->pending = 0;
    ER_FREE(h->keys);
    h->keys_capacity = 0;
    er_factor_free(&h->factor);
    return 0;
}

int er_history_join(er_history *h, const float *keys, int64_t n, er_err *err)
{
    if (few(h, h->rows + n)) {
        ER_TRY(extend(h, keys, n, err));
        h->pending = 0;
    } else {
        if (!h->moment.at) ER_TRY(turn(h, err));
        ER_TRY(moment_keys(h, &h->moment, keys, n, NULL, err));
    }
    h->rows += n;
    return 0;
}
