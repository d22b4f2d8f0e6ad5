/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of forward.h: what the steps of one forward or backward pass share. Only model/ includes this. */
#ifndef ER_MODEL_PASS_H
#define ER_MODEL_PASS_H

#include "model/cache.h"

typedef struct er_pass {
    const er_view *view;
    const er_config *config;
    const er_cache *cache; /* a forward pass writes the keys and values behind it */
    const er_span *spans;
    int64_t span_count, tokens;
    const er_tap *tap;
    er_work *work;
} er_pass;

static inline const er_norm *er_pass_norm(const er_pass *p, int64_t layer, enum er_norm_id which)
{
    return &p->view->layers[layer].norm[which];
}
static inline int er_tap_at(const er_tap *tap, int64_t layer)
{
    return tap && (tap->to == 0 || (layer >= tap->from && layer < tap->to));
}
static inline int er_pass_wants_inputs(const er_pass *p, int64_t layer)
{
    return p->tap && p->tap->backward && er_tap_at(p->tap, layer);
}

/* Rounds what a step of the pass made of n values to the configuration's `compute`; er_work remembers the first place
 * where a result was not finite, of the layer and the matrix or step `what`. Threads may round parts of one step. */
void er_pass_round(const er_pass *p, int64_t layer, const char *what, float *x, int64_t n);

/* Norms of (rows, width) by the configuration's kind. Where the family has no such norm it is the identity.
 * Results are rounded to the configuration's `compute`.
 * er_norm_rows:  y = norm(x); y may be x
 * er_norm_read:  norm(x), written into `room`, or x itself
 * er_norm_back:  x_grad = norm'(y_grad) at x, added when accumulate != 0; x_grad is not y_grad */
void er_norm_rows(const er_config *c, const er_norm *norm, float *y, const float *x, int64_t rows, int64_t width);
const float *er_norm_read(const er_config *c, const er_norm *norm, float *room, const float *x, int64_t rows,
                          int64_t width);
void er_norm_back(const er_config *c, const er_norm *norm, float *x_grad, const float *y_grad, const float *x,
                  int64_t rows, int64_t width, int accumulate);

/* Up to ER_PASS_MAPS matrices that read the same rows, in one go of the threads. */
enum { ER_PASS_MAPS = 3 };
typedef struct er_mapping {
    enum er_matrix_id which;
    float *out; /* (T, rows) */
} er_mapping;
typedef struct er_mapping_back {
    enum er_matrix_id which;
    float *in_grad;        /* (T, cols) room of its own */
    const float *out_grad; /* (T, rows) */
} er_mapping_back;
/* What follows a map where nobody looks at its result in between: work on tokens, or of attention on heads. */
enum { ER_PASS_AFTER = 3 };
/* Each out (T, rows) = W in + bias, shown to the tap in the order of the list; then `after` (er_products). */
int er_pass_map(const er_pass *p, int64_t layer, const er_mapping *maps, int count, const float *in,
                const er_rows_work *after, int after_count, er_err *err);
/* The first in_grad (T, cols) = the sum, in the order of the list, of what the matrices make of their out_grad; the others
 * keep what they made. Shown to the tap beside the matrices' input, which only a tap needs. Then `after`; of several maps its
 * first piece is work on tokens. */
int er_pass_map_back(const er_pass *p, int64_t layer, const er_mapping_back *maps, int count, const float *in,
                     const er_rows_work *after, int after_count, er_err *err);
/* Taps of a block that other shards see, too. hear: at the shards that do not hold the layer, instead of the block;
 * heard: at its holder, behind the block. backward != 0: of er_backward. */
int er_pass_hear(const er_pass *p, int64_t layer, int backward, er_err *err);
int er_pass_heard(const er_pass *p, int64_t layer, int backward, er_err *err);
/* The stream, or its gradient, after a block at a tap's `block` or `block_grad`; NULL: none. */
int er_pass_show_block(const er_pass *p, int64_t layer, float *x, int backward, er_err *err);

/* Rotates tokens from .. to-1 of (T, heads, head_dim) by their positions as the layer does; inverse != 0: back. */
void er_pass_rotate(const er_pass *p, int64_t layer, float *x, int64_t heads, int inverse, int64_t from, int64_t to);

/* The two halves of a block, in and out (T, d): out = A(in) or M(in); tape: NULL or the block's. Backward: in_grad from
 * out_grad; `in` may be NULL where no tap sees it. normed, out and side of er_work are left to the caller; `after`, work
 * on tokens, follows out or in_grad and may write normed; NULL: none. */
int er_attention(const er_pass *p, int64_t layer, float *out, const float *in, struct er_tape_block *tape,
                 const er_rows_work *after, er_err *err);
/* Of A(in) only what later positions read: keys and values into the cache. */
int er_attention_keys(const er_pass *p, int64_t layer, const float *in, er_err *err);
int er_attention_back(const er_pass *p, int64_t layer, float *in_grad, const float *out_grad, const float *in,
                      const struct er_tape_block *tape, const er_rows_work *after, er_err *err);
int er_mlp(const er_pass *p, int64_t layer, float *out, const float *in, struct er_tape_block *tape,
           const er_rows_work *after, er_err *err);
int er_mlp_back(const er_pass *p, int64_t layer, float *in_grad, const float *out_grad, const float *in,
                const struct er_tape_block *tape, const er_rows_work *after, er_err *err);

/* ER_E_INPUT when a text of `length` tokens is longer than the model takes. */
int er_check_length(const er_model *model, int64_t length, er_err *err);

#endif
