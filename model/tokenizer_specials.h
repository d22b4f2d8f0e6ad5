/* SPDX-License-Identifier: Apache-2.0 */
/* Which tokens a folder without tokenizer.json adds to its vocabulary. Private to the tokenizer.
 *
 * Hugging Face's library gathers them from tokenizer_config.json, special_tokens_map.json, added_tokens.json and the
 * presets of the tokenizer's class, in this order: those with an id of their own, by id; then the special ones that are
 * not yet there as they are now. */
#ifndef ER_MODEL_TOKENIZER_SPECIALS_H
#define ER_MODEL_TOKENIZER_SPECIALS_H

#include "base/error.h"

#include <jansson.h>

/* The four of them that others ask for. */
enum { ER_SPECIAL_BOS, ER_SPECIAL_EOS, ER_SPECIAL_UNK, ER_SPECIAL_PAD, ER_SPECIAL_NAMED };

/* How a class of tokenizers reads its files. */
typedef struct er_special_rules {
    const char *preset[ER_SPECIAL_NAMED]; /* where no file names one; NULL: none */
    int normalized;                       /* flag of one of the four that is given as a mere text */
} er_special_rules;

/* Parsed files, borrowed; NULL: absent. */
typedef struct er_special_files {
    const json_t *config, *map, *added;
} er_special_files;

/* *tokens: a new list of objects as in tokenizer.json's "added_tokens", but without ids; named[]: borrowed from it, the
 * texts of the four, NULL where there is none. */
int er_specials_gather(json_t **tokens, const char *named[ER_SPECIAL_NAMED], const er_special_files *files,
                       const er_special_rules *rules, er_err *err);
/* A list of added tokens with their ids, each text once: `first` (NULL: none) and then `more`, added to a vocabulary
 * (texts -> ids). A text that comes twice has the flags by which the library searches and decodes, though it shows
 * others. */
int er_specials_number(json_t **out, const json_t *vocab, const json_t *first, const json_t *more, er_err *err);

#endif
