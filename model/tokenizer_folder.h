/* SPDX-License-Identifier: Apache-2.0 */
/* Putting the older files of a folder together to what a tokenizer.json holds. Private to the tokenizer. */
#ifndef ER_MODEL_TOKENIZER_FOLDER_H
#define ER_MODEL_TOKENIZER_FOLDER_H

#include "model/tokenizer_parts.h"
#include "model/tokenizer_specials.h"

enum er_folder_kind { ER_FOLDER_GPT2, ER_FOLDER_QWEN2, ER_FOLDER_LLAMA, ER_FOLDER_GEMMA };

/* A class of Hugging Face's tokenizers: how its files are converted. */
struct er_folder_class {
    const char *name;
    int kind;
    er_special_rules rules;
};

typedef struct er_folder_files {
    json_t *config, *map, *added; /* tokenizer_config.json, special_tokens_map.json, added_tokens.json; NULL: absent */
    size_t bytes;                 /* of all that was read: no id can be larger */
    const struct er_folder_class *of;
} er_folder_files;

/* From the bytes of tokenizer.model. */
int er_folder_pieces(er_tokenizer **out, er_folder_files *f, const char *bytes, size_t n, er_err *err);
int er_folder_no_memory(er_err *err);
int er_folder_flag(const er_folder_files *f, const char *key, int otherwise);
/* Lists of pairs from merges.txt as GPT-2's or Qwen2's tokenizer reads it; a pair that comes again is left out. */
int er_folder_merges(json_t **out, const char *text, size_t n, int qwen2, er_err *err);
/* A TemplateProcessing; bos and eos may be NULL. NULL: no memory. */
json_t *er_folder_template(const char *bos, json_int_t bos_id, const char *eos, json_int_t eos_id);
json_int_t er_folder_id(const json_t *added, const char *content); /* -1: not among them */
/* bos, eos, unk and pad of t by their texts. */
void er_folder_name(er_tokenizer *t, const char *const named[ER_SPECIAL_NAMED]);

#endif
