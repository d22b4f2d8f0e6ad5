/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of forward.h: where keys, values and taped activations lie. Only model/ includes this. */
#ifndef ER_MODEL_CACHE_H
#define ER_MODEL_CACHE_H

#include "model/forward.h"
#include "model/kernels.h"

struct er_cache {
    const er_model *model;
    int64_t rows, from, to, width; /* width: kv_heads * head_dim */
    struct er_cache_row {
        int64_t capacity, offset; /* own positions, and where they start in a layer's block */
        const er_cache *base;
        int64_t base_row, base_length; /* positions 0 .. base_length-1 come from there */
    } *row;
    int64_t positions; /* own positions of all rows */
    float *k, *v;      /* (to - from, positions, width) */
};

/* K (or V) of a row's position `position` at a layer; the position must be the row's own. */
static inline float *er_cache_at(const er_cache *c, float *base, int64_t layer, int64_t row, int64_t position)
{
    const struct er_cache_row *r = &c->row[row];
    return base + ((layer - c->from) * c->positions + r->offset + position - r->base_length) * c->width;
}

/* Where layer's keys and values of a row lie for queries up to position count-1, split at `split`: the base's length,
 * or any own position of a row without a base. Head 0's pointers. */
void er_cache_seen(er_seen *seen, const er_cache *cache, int64_t layer, int64_t row, int64_t split, int64_t count);

/* Activations of one taped block. */
struct er_tape_block {
    float *x_in, *q, *attended, *x_mid, *gate, *up; /* (T,d) (T,q) (T,q) (T,d) (T,f) (T,f) */
    float *weights;                                 /* attention probabilities: token, head, position */
};

struct er_tape {
    const er_model *model;
    int64_t from, to, tokens, weights; /* of the pass taped last */
    struct er_tape_block *block;       /* to - from in use */
    size_t block_capacity;
    float *storage;
    size_t storage_capacity;
};

/* Lays the tape out for a pass; allocates only when it must grow. */
int er_tape_reserve(er_tape *tape, int64_t from, int64_t to, int64_t tokens, int64_t weights, er_err *err);

struct er_work {
    const er_model *model;
    float *storage;
    size_t capacity;
    /* laid out anew by er_work_reserve for T tokens */
    float *normed, *q, *k, *v, *attended, *out, *gate, *up, *inner; /* (T, ...) */
    float *part, *q_grad, *k_grad, *v_grad, *scratch; /* part: (T, d) */
    float *weights;             /* probabilities of a pass without tape: one token's heads per thread */
    int64_t *weights_at;        /* (T + 1) start of each token's probabilities in a tape's block */
    struct er_place { int64_t span, position; } *place; /* (T) */
    size_t place_capacity, at_capacity;
    int64_t longest;            /* positions of the longest row in the pass */
};

/* Scratch for a pass over spans; `gradients` adds what backward needs. Also fills place and weights_at. */
int er_work_reserve(er_work *work, const er_span *spans, int64_t span_count, int gradients, er_err *err);

#endif
