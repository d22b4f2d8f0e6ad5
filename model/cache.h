/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of forward.h: where keys, values and taped activations lie. Only model/ includes this. */
#ifndef ER_MODEL_CACHE_H
#define ER_MODEL_CACHE_H

#include "model/forward.h"
#include "model/kernels.h"

struct er_cache {
    const er_model *model;
    int64_t rows, from, to, width; /* width: kv_heads * head_dim */
    int64_t held, held_to;         /* of [from, to) the layers that this shard holds */
    struct er_cache_row {
        int64_t capacity, offset; /* own positions, and where they start in a layer's block */
        const er_cache *base;
        int64_t base_row, base_length; /* positions 0 .. base_length-1 come from there */
    } *row;
    int64_t positions; /* own positions of all rows */
    float *k, *v;      /* (held_to - held, positions, width) */
};

/* K (or V) of a row's position `position` at a layer; the position must be the row's own. */
static inline float *er_cache_at(const er_cache *c, float *base, int64_t layer, int64_t row, int64_t position)
{
    const struct er_cache_row *r = &c->row[row];
    return base + ((layer - c->held) * c->positions + r->offset + position - r->base_length) * c->width;
}

/* Where layer's keys and values of a row lie for a query that sees positions start .. count-1, split at `split`: the
 * base's length, or any own position of a row without a base. Head 0's pointers; split and count in *seen are counted
 * from start. */
void er_cache_seen(er_seen *seen, const er_cache *cache, int64_t layer, int64_t row, int64_t split, int64_t start,
                   int64_t count);

/* Whether a layer has the window, and the first position that its query at `position` sees. */
static inline int er_windowed(const er_config *c, int64_t layer) { return er_config_window(c, layer) != INT64_MAX; }
static inline int64_t er_window_start(const er_config *c, int64_t layer, int64_t position)
{
    const int64_t window = er_config_window(c, layer);
    return position >= window ? position - window + 1 : 0;
}

/* Activations of one taped block. What the family does not need is NULL and takes no room. */
struct er_tape_block {
    float *x_in, *x_mid;         /* (T, d) stream before the block, and between its halves (none in PARALLEL) */
    float *plain_q, *plain_k;    /* (T, q), (T, kv) before their norms */
    float *q, *attended;         /* (T, q) as scored; what O maps */
    float *gate, *up;            /* (T, f) */
    float *before_out[2];        /* (T, d) what the output norm of attention and MLP reads */
    float *weights;              /* attention probabilities: token, head, position */
};

struct er_tape {
    const er_model *model;
    int64_t from, to, tokens;    /* of the pass taped last */
    struct er_tape_block *block; /* to - from in use */
    size_t block_capacity;
    float *storage;
    size_t storage_capacity;
};

struct er_work {
    const er_model *model;
    float *storage;
    size_t capacity;
    /* laid out anew by er_work_reserve for T tokens */
    float *normed, *q, *k, *v, *attended, *out, *gate, *up, *inner; /* (T, ...) */
    float *side, *part[2], *q_grad, *k_grad, *v_grad; /* side, part: (T, d) */
    float *weights, *scratch;   /* one query's probabilities of a pass without tape, and their gradients, per thread */
    /* (T + 1) token's span and position; where its probabilities start in the tape of a block without and with the
     * window. The last one's are the sizes. */
    struct er_place { int64_t span, position, weights[2]; } *place;
    size_t place_capacity;
    int64_t longest;            /* positions of the longest row in the pass */
    /* both ends of the model: the head's input where it is projected, and its gradient; capped logits and theirs */
    float *projected, *head_grad, *logits;
    size_t projected_capacity, head_grad_capacity, logits_capacity;
    float *heard; /* what a tap sees of another shard's matrix */
    size_t heard_capacity;
    const char *beyond; /* er_work_beyond */
    int64_t beyond_layer;
};

/* Scratch for a pass over spans; `gradients` adds what backward needs. Also fills place. */
int er_work_reserve(er_work *work, const er_span *spans, int64_t span_count, int gradients, er_err *err);

/* Lays the tape out for the pass that `work` was reserved for; allocates only when it must grow. */
int er_tape_reserve(er_tape *tape, int64_t from, int64_t to, int64_t tokens, const er_work *work, er_err *err);

#endif
