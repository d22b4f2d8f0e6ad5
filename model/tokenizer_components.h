/* SPDX-License-Identifier: Apache-2.0 */
/* The components of tokenizer.json around the vocabulary. Private to the tokenizer. */
#ifndef ER_MODEL_TOKENIZER_COMPONENTS_H
#define ER_MODEL_TOKENIZER_COMPONENTS_H

#include "model/tokenizer_parts.h"

#include <jansson.h>

/* Each reads one member of the file's root (NULL and JSON null: absent) into t. */
int er_component_normalizer(er_tokenizer *t, const json_t *j, er_err *err);
int er_component_pieces(er_tokenizer *t, const json_t *j, er_err *err);
int er_component_template(er_tokenizer *t, const json_t *j, er_err *err);
int er_component_decoder(er_tokenizer *t, const json_t *j, er_err *err); /* after er_component_pieces */

/* The whole file. scores: by id, from which merges are derived when the file has none (NULL: merges are in the file).
 * No id may be n or more: the bytes that were read bound what is allocated. */
int er_tokenizer_from_root(er_tokenizer **out, json_t *root, const float *scores, size_t n, er_err *err);

#endif
