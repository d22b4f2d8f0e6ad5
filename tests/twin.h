/* SPDX-License-Identifier: Apache-2.0 */
/* The transformer of model/config.h once more, as plainly as it can be said: fp64, libm, whole score matrices, nothing
 * cached, nothing shared with the engine but the weights. Header only. */
#ifndef ER_TESTS_TWIN_H
#define ER_TESTS_TWIN_H

#include "tests/support.h"

#include "model/kernels.h"
#include "model/model.h"

#include <math.h>

/* A model, and what is moved a little for differences. */
typedef struct twin {
    const er_model *m;
    const float *moved;  /* data of the matrix W that stands as W + length way; NULL: none */
    const double *way;
    double length;
    const double *added; /* (T, d) added to what DOWN of layer added_layer gives; NULL: nothing */
    int64_t added_layer;
} twin;

static inline double *twin_room(int64_t count)
{
    double *at;
    er_err err = ER_ERR_INIT;
    OK(er_alloc(&at, (size_t)count, &err));
    return at;
}

/* y (T, rows) = x W^T + bias */
static inline void twin_product(const twin *t, double *y, const double *x, int64_t T, const er_matrix *w,
                                const float *bias)
{
    const float *data = w->data;
    const int moved = data == t->moved;
    for (int64_t p = 0; p < T; p++) {
        for (int64_t r = 0; r < w->rows; r++) {
            double sum = bias ? (double)bias[r] : 0;
            for (int64_t i = 0; i < w->cols; i++) {
                double weight = (double)data[r * w->cols + i];
                if (moved) weight += t->length * t->way[r * w->cols + i];
                sum += weight * x[p * w->cols + i];
            }
            y[p * w->rows + r] = sum;
        }
    }
}

static inline void twin_norm(const er_config *c, const er_norm *norm, double *y, const double *x, int64_t rows,
                             int64_t n)
{
    for (int64_t r = 0; r < rows; r++, x += n, y += n) {
        double mean = 0, square = 0;
        for (int64_t i = 0; i < n; i++) mean += c->norm == ER_NORM_LAYER ? x[i] / (double)n : 0;
        for (int64_t i = 0; i < n; i++) square += (x[i] - mean) * (x[i] - mean) / (double)n;
        for (int64_t i = 0; i < n; i++) {
            y[i] = x[i];
            if (norm->gain) y[i] = (x[i] - mean) / sqrt(square + c->norm_eps) * (double)norm->gain[i];
            if (norm->shift) y[i] += (double)norm->shift[i];
        }
    }
}

static inline double twin_activation(int which, double x)
{
    switch (which) {
    case ER_SILU: return x / (1 + exp(-x));
    case ER_GELU_TANH: return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
    case ER_GELU_ERF: return 0.5 * x * (1 + erf(x / sqrt(2.0)));
    default: return x > 0 ? x : 0;
    }
}

static inline void twin_rotate(const er_config *c, int64_t layer, double *x, int64_t T, int64_t heads)
{
    const int local = c->rope_local_base > 0 && c->windowed.bits[0] >> layer & 1;
    const int64_t half = c->rope_dim / 2;
    if (c->positions == ER_POSITION_LEARNED || c->unrotated.bits[0] >> layer & 1) return;
    for (int64_t p = 0; p < T; p++) {
        for (int64_t h = 0; h < heads; h++, x += c->head_dim) {
            for (int64_t i = 0; i < half; i++) {
                double angle = (double)p * pow(local ? c->rope_local_base : c->rope_base, -(double)i / (double)half);
                double *a = c->positions == ER_POSITION_PAIRS ? x + 2 * i : x + i;
                double *b = c->positions == ER_POSITION_PAIRS ? x + 2 * i + 1 : x + i + half;
                double turned = *a * cos(angle) - *b * sin(angle);
                *b = *b * cos(angle) + *a * sin(angle);
                *a = turned;
            }
        }
    }
}

/* out (T, heads head_dim): softmax over the whole matrix of scores, forbidden ones at -infinity. */
static inline void twin_attend(const er_config *c, int64_t layer, double *out, const double *q, const double *k,
                               const double *v, int64_t T)
{
    const int64_t n = c->head_dim, width = c->heads * n, kv = c->kv_heads * n;
    const int windowed = c->window > 0 && c->windowed.bits[0] >> layer & 1;
    const double divisor = sqrt(c->score_width > 0 ? c->score_width : (double)n);
    double *score = twin_room(T);
    for (int64_t h = 0; h < c->heads; h++) {
        const int64_t of = h / (c->heads / c->kv_heads) * n;
        for (int64_t p = 0; p < T; p++) {
            double sum = 0, *to = out + p * width + h * n;
            for (int64_t j = 0; j < T; j++) {
                double s = 0;
                for (int64_t i = 0; i < n; i++) s += q[p * width + h * n + i] * k[j * kv + of + i];
                s /= divisor;
                if (c->score_cap > 0) s = c->score_cap * tanh(s / c->score_cap);
                if (j > p || (windowed && p - j >= c->window)) s = (double)-INFINITY;
                score[j] = exp(s);
                sum += score[j];
            }
            for (int64_t i = 0; i < n; i++) to[i] = 0;
            for (int64_t j = 0; j < T; j++)
                for (int64_t i = 0; i < n; i++) to[i] += score[j] / sum * v[j * kv + of + i];
        }
    }
    er_free(score);
}

static inline void twin_attention(const twin *t, int64_t layer, double *out, const double *x, int64_t T)
{
    const er_config *c = &t->m->config;
    const er_layer *l = &t->m->layers[layer];
    const int64_t q_rows = l->matrix[ER_MATRIX_Q].rows, kv_rows = l->matrix[ER_MATRIX_K].rows;
    const int64_t parts[2] = {c->qk_norm == ER_QK_HEAD ? c->heads : 1, c->qk_norm == ER_QK_HEAD ? c->kv_heads : 1};
    double *q = twin_room(T * q_rows), *k = twin_room(T * kv_rows), *v = twin_room(T * kv_rows);
    double *mixed = twin_room(T * q_rows);
    twin_product(t, q, x, T, &l->matrix[ER_MATRIX_Q], l->bias[ER_MATRIX_Q]);
    twin_product(t, k, x, T, &l->matrix[ER_MATRIX_K], l->bias[ER_MATRIX_K]);
    twin_product(t, v, x, T, &l->matrix[ER_MATRIX_V], l->bias[ER_MATRIX_V]);
    twin_norm(c, &l->norm[ER_NORM_Q], q, q, T * parts[0], q_rows / parts[0]);
    twin_norm(c, &l->norm[ER_NORM_K], k, k, T * parts[1], kv_rows / parts[1]);
    twin_rotate(c, layer, q, T, c->heads);
    twin_rotate(c, layer, k, T, c->kv_heads);
    twin_attend(c, layer, mixed, q, k, v, T);
    twin_product(t, out, mixed, T, &l->matrix[ER_MATRIX_O], l->bias[ER_MATRIX_O]);
    er_free(q);
    er_free(k);
    er_free(v);
    er_free(mixed);
}

static inline void twin_mlp(const twin *t, int64_t layer, double *out, const double *x, int64_t T)
{
    const er_config *c = &t->m->config;
    const er_layer *l = &t->m->layers[layer];
    const int64_t n = T * c->inner;
    double *gate = twin_room(n), *up = twin_room(n);
    twin_product(t, up, x, T, &l->matrix[ER_MATRIX_UP], l->bias[ER_MATRIX_UP]);
    if (c->gated) twin_product(t, gate, x, T, &l->matrix[ER_MATRIX_GATE], l->bias[ER_MATRIX_GATE]);
    for (int64_t i = 0; i < n; i++)
        up[i] = c->gated ? twin_activation(c->activation, gate[i]) * up[i] : twin_activation(c->activation, up[i]);
    twin_product(t, out, up, T, &l->matrix[ER_MATRIX_DOWN], l->bias[ER_MATRIX_DOWN]);
    for (int64_t i = 0; t->added && layer == t->added_layer && i < T * c->hidden; i++) out[i] += t->added[i];
    er_free(gate);
    er_free(up);
}

/* x (T, d) through one block, in place. */
static inline void twin_block(const twin *t, int64_t layer, double *x, int64_t T)
{
    const er_config *c = &t->m->config;
    const er_norm *norm = t->m->layers[layer].norm;
    const int64_t d = c->hidden, n = T * d;
    double *in = twin_room(n), *a = twin_room(n), *b = twin_room(n);
    switch (c->block) {
    case ER_BLOCK_PARALLEL:
        twin_norm(c, &norm[ER_NORM_ATTENTION], in, x, T, d);
        twin_attention(t, layer, a, in, T);
        if (norm[ER_NORM_MLP].gain) twin_norm(c, &norm[ER_NORM_MLP], in, x, T, d);
        twin_mlp(t, layer, b, in, T);
        for (int64_t i = 0; i < n; i++) x[i] += a[i] + b[i];
        break;
    case ER_BLOCK_POST:
        twin_attention(t, layer, a, x, T);
        for (int64_t i = 0; i < n; i++) x[i] += a[i];
        twin_norm(c, &norm[ER_NORM_ATTENTION_OUT], x, x, T, d);
        twin_mlp(t, layer, b, x, T);
        for (int64_t i = 0; i < n; i++) x[i] += b[i];
        twin_norm(c, &norm[ER_NORM_MLP_OUT], x, x, T, d);
        break;
    default:
        twin_norm(c, &norm[ER_NORM_ATTENTION], in, x, T, d);
        twin_attention(t, layer, a, in, T);
        twin_norm(c, &norm[ER_NORM_ATTENTION_OUT], a, a, T, d);
        for (int64_t i = 0; i < n; i++) x[i] += a[i];
        twin_norm(c, &norm[ER_NORM_MLP], in, x, T, d);
        twin_mlp(t, layer, b, in, T);
        twin_norm(c, &norm[ER_NORM_MLP_OUT], b, b, T, d);
        for (int64_t i = 0; i < n; i++) x[i] += b[i];
    }
    er_free(in);
    er_free(a);
    er_free(b);
}

/* x (T, d): the stream before the first block. */
static inline void twin_embed(const twin *t, double *x, const int32_t *ids, int64_t T)
{
    const er_model *m = t->m;
    const int64_t d = m->config.hidden, e = m->config.embedding_width;
    double *rows = twin_room(T * e);
    for (int64_t i = 0; i < T * e; i++) rows[i] = (double)((const float *)m->embedding.data)[ids[i / e] * e + i % e];
    if (e != d)
        twin_product(t, x, rows, T, &m->project_in, NULL);
    else
        memcpy(x, rows, (size_t)(T * d) * sizeof *x);
    for (int64_t i = 0; i < T * d; i++) {
        if (m->config.scaled_embedding) x[i] *= sqrt((double)d);
        if (m->config.positions == ER_POSITION_LEARNED)
            x[i] += (double)((const float *)m->positions.data)[m->config.position_offset * d + i];
    }
    er_free(rows);
}

/* logits (T, V) from the stream before the first block. */
static inline void twin_logits(const twin *t, double *logits, const double *stream, int64_t T)
{
    const er_model *m = t->m;
    const er_config *c = &m->config;
    const int64_t d = c->hidden, e = c->embedding_width;
    double *x = twin_room(T * d), *in = twin_room(T * (d > e ? d : e));
    memcpy(x, stream, (size_t)(T * d) * sizeof *x);
    for (int64_t l = 0; l < c->layers; l++) twin_block(t, l, x, T);
    twin_norm(c, &m->final_norm, x, x, T, d);
    if (e != d) twin_product(t, in, x, T, &m->project_out, NULL);
    twin_product(t, logits, e != d ? in : x, T, &m->head, m->head_bias);
    for (int64_t i = 0; c->logit_cap > 0 && i < T * c->vocab; i++)
        logits[i] = c->logit_cap * tanh(logits[i] / c->logit_cap);
    er_free(x);
    er_free(in);
}

#endif
