/* SPDX-License-Identifier: Apache-2.0 */
/* What decides a transformer's shape and arithmetic. Filled from config.json or from GGUF metadata; a model that the
 * engine cannot run is refused with the field that decided it. */
#ifndef ER_MODEL_CONFIG_H
#define ER_MODEL_CONFIG_H

#include "base/error.h"

#include <stdint.h>

typedef struct er_config {
    char family[32];       /* "llama" */
    int64_t layers;        /* L */
    int64_t hidden;        /* d */
    int64_t inner;         /* f, width of the MLP's key */
    int64_t heads;         /* query heads */
    int64_t kv_heads;      /* <= heads, divides it */
    int64_t head_dim;
    int64_t rope_dim;      /* rotated dimensions of a head */
    int64_t vocab;         /* rows of the embedding, V */
    int64_t max_positions;
    double rope_base;      /* reals are fp32 values: GGUF stores no more, the arithmetic uses no more */
    double norm_eps;
    int tied;              /* the output head is the embedding */
    int64_t bos, eos;      /* -1: none */
} er_config;

/* text: the bytes of config.json; path is named in errors. ER_E_FORMAT: no JSON, a field missing, of the wrong type or
 * out of range; ER_E_UNSUPPORTED: a family, activation, bias or rotation that the engine does not compute. Absent
 * optional fields have the defaults of transformers. Of a list of ids the first is taken. */
int er_config_parse(er_config *out, const char *text, size_t size, const char *path, er_err *err);
/* Positive sizes, divisibility, limits under which no product of sizes overflows: called by every reader after
 * filling. ER_E_FORMAT, or ER_E_UNSUPPORTED for an unknown family. */
int er_config_check(const er_config *c, const char *path, er_err *err);
/* Parameters of one block and of the whole model. */
int64_t er_config_block_parameters(const er_config *c);
int64_t er_config_parameters(const er_config *c);

#endif
