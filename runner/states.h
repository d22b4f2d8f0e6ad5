/* SPDX-License-Identifier: Apache-2.0 */
/* Residual streams of scored texts before the first edited block: edits do not change them, so a run makes those of a
 * text once (spec 19.6). Bounded: what no longer fits is made again each time. Whatever is found or not, scores have the
 * same bits. Not collective; shards of a model, which score alike, keep alike. */
#ifndef ER_RUNNER_STATES_H
#define ER_RUNNER_STATES_H

#include "base/error.h"

#include <stdint.h>

typedef struct er_states er_states;

/* Streams of width `hidden` before block `layer`, at most `bytes` of them with what finding them takes. */
int er_states_new(er_states **out, int64_t layer, int64_t hidden, int64_t bytes, er_err *err);
void er_states_free(er_states *s); /* may be NULL */
int64_t er_states_layer(const er_states *s);
int64_t er_states_bytes(const er_states *s);

/* The stream (count, hidden) of a text with these ids, owned by s; NULL: not kept. */
const float *er_states_find(const er_states *s, const int32_t *ids, int64_t count);
/* Room (count, hidden) for a text's stream, which the caller fills at once; NULL where the text is kept already, or
 * nothing more fits. */
int er_states_keep(er_states *s, float **room, const int32_t *ids, int64_t count, er_err *err);

#endif
