/* SPDX-License-Identifier: Apache-2.0 */
/* Leading ids that texts have in common run once: one base row in the cache per shared beginning, and the texts go on
 * from it. Templates give the texts of all requests the same beginnings; the prompts of one relation, too.
 *
 * What is shared is found by comparing ids. A text continues at most one base; which texts share which beginning is the
 * choice that leaves the fewest positions to run among all cuts of the texts, in order of their ids, into neighbours
 * with one beginning each. Texts and bases run in one pass (model/forward.h), so sharing costs no pass of its own, and
 * no result's bits depend on it. */
#ifndef ER_MODEL_PREFIX_H
#define ER_MODEL_PREFIX_H

#include "base/error.h"
#include "base/memory.h"
#include "model/forward.h"

#include <stdint.h>

/* Rows of a cache: text i is row i, base b is row texts + b; positions 0 .. length[i]-1 of text i are its base's. */
typedef struct er_prefixes {
    int64_t texts, bases;
    const int32_t **ids; /* (texts + bases) of each row from position 0 on; a base has those of one of its texts */
    int64_t *base;       /* (texts) row of the text's base, -1: none */
    int64_t *length;     /* (texts + bases) positions that come from the base, 0: none */
    int64_t *end;        /* (texts + bases) positions of each row, shared ones included */
} er_prefixes;

/* Text i has count[i] ids at ids[i], of which the first most[i] <= count[i] may run in a base (most NULL: none may).
 * The arrays come from the arena; ids[i] must outlive them. Time grows with the square of the texts that begin
 * alike. */
int er_prefixes_find(er_prefixes *out, const int32_t *const *ids, const int64_t *count, const int64_t *most,
                     int64_t texts, er_arena *arena, er_err *err);

/* Positions that run: those of all bases and what is left of the texts. */
int64_t er_prefixes_tokens(const er_prefixes *p);
/* A cache for all rows, layers [from, to), texts sharing with their bases. */
int er_prefixes_cache(er_cache **out, const er_prefixes *p, const er_model *model, int64_t from, int64_t to,
                      er_err *err);
/* Whole rows: span r (texts + bases of them) is row r from length[r] to end[r]. */
void er_prefixes_spans(const er_prefixes *p, er_span *spans);
/* x (tokens, d): embeddings of the rows' spans as er_prefixes_spans has them. */
int er_prefixes_embed(const er_prefixes *p, const er_model *model, float *x, er_err *err);

/* Blocks [from, to) over spans of a cache, of which the stream after block to-1 is wanted only at positions wanted[s]
 * and later of span s: the others leave their keys and values in the last block and go. The last block's taps see the
 * wanted positions, and on success spans and x hold these alone. */
int er_forward_wanted(const er_view *view, er_cache *cache, er_span *spans, int64_t span_count, const int64_t *wanted,
                      float *x, int64_t from, int64_t to, const er_tap *tap, er_work *work, er_err *err);

#endif
