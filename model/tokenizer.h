/* SPDX-License-Identifier: Apache-2.0 */
/* Text <-> token ids. Immutable after it is made; safe for concurrent use by several threads. */
#ifndef ER_MODEL_TOKENIZER_H
#define ER_MODEL_TOKENIZER_H

#include "base/error.h"
#include "base/hash.h"

#include <stddef.h>
#include <stdint.h>

typedef struct er_tokenizer er_tokenizer;

/* From Hugging Face's tokenizer.json (folder's tokenizer_config.json is read too when it is there, for BOS/EOS).
 * Models: BPE, byte-level or with byte fallback. A component that is not known is ER_E_UNSUPPORTED and named; a file
 * that contradicts itself is ER_E_FORMAT. `truncation` and `padding` are left to the caller, who knows the length. */
int er_tokenizer_open(er_tokenizer **out, const char *path, er_err *err);
/* The same from n bytes of JSON; bos is the template's first id, or -1. name is put in front of errors. */
int er_tokenizer_parse(er_tokenizer **out, const char *json, size_t n, const char *name, er_err *err);
/* The tokenizer of a model's folder: tokenizer.json where there is one, otherwise vocab.json + merges.txt, or
 * SentencePiece's tokenizer.model (BPE), as Hugging Face's fast tokenizer of tokenizer_config.json's tokenizer_class
 * would be made of them, with special_tokens_map.json and added_tokens.json: GPT2Tokenizer (where no class is named),
 * CodeGenTokenizer and Qwen2Tokenizer; LlamaTokenizer (where none is named) and GemmaTokenizer. Another class is
 * ER_E_UNSUPPORTED; ER_E_IO naming what was looked for when none is there. A tokenizer.json is taken as it is: what
 * tokenizer_config.json says of BOS and EOS names those ids and changes no template. */
int er_tokenizer_open_folder(er_tokenizer **out, const char *folder, er_err *err);
/* The same from the bytes of vocab.json, merges.txt and tokenizer_config.json (config_bytes 0: absent). */
int er_tokenizer_parse_vocab(er_tokenizer **out, const char *vocab, size_t vocab_bytes, const char *merges,
                             size_t merges_bytes, const char *config, size_t config_bytes, er_err *err);
/* The same from the bytes of SentencePiece's tokenizer.model. */
int er_tokenizer_parse_pieces(er_tokenizer **out, const char *bytes, size_t n, const char *config, size_t config_bytes,
                              er_err *err);
/* From parts, as GGUF carries them.
 * tokenizer.ggml.model "gpt2" (NULL means that, too): tokens, their types (3 = control, special; 4 = user-defined),
 * merges "a b" in rank order; pre is the pre-tokenizer's name ("gpt-2", "phi-2", "olmo", "smollm", "starcoder",
 * "llama-bpe", "llama3", "dbrx", "qwen2").
 * "llama", a SentencePiece vocabulary: tokens, scores and types (2 = unknown, 6 = byte "<0x0A>"); merges and pre are not
 * read: the merges follow from tokens and scores as Hugging Face's converters derive them, and ids are those of the
 * LLaMA-2 file (a space goes before every stretch of text between added tokens when add_space_prefix is set).
 * add_bos puts bos first, add_eos eos last. A "llama" without scores is ER_E_FORMAT, another model
 * ER_E_UNSUPPORTED. */
typedef struct er_tokenizer_parts {
    const char *model;        /* "gpt2" or "llama"; NULL: "gpt2" */
    const char *const *tokens;
    const int32_t *types;     /* NULL: all normal */
    const float *scores;      /* model "llama": by token; else not read */
    int64_t token_count;
    const char *const *merges;
    int64_t merge_count;
    const char *pre;
    int64_t bos, eos, unk, pad; /* -1: none */
    int add_bos, add_eos;
    int add_space_prefix;     /* model "llama"; 1 where the file does not say, as llama.cpp has it */
} er_tokenizer_parts;
int er_tokenizer_make(er_tokenizer **out, const er_tokenizer_parts *parts, er_err *err);
void er_tokenizer_close(er_tokenizer *t);

/* A list of ids that grows. Zero-initialise; free with er_ids_free. */
typedef struct er_ids {
    int32_t *at;
    int64_t count;
    size_t capacity;
} er_ids;
void er_ids_free(er_ids *ids);

/* Encodes n bytes of UTF-8 (invalid bytes are encoded as bytes are: byte-level), appending to ids. special != 0 adds
 * what the template adds (BOS where the model wants one). Text that spells a special token becomes that token, as
 * the reference library does. */
int er_encode(const er_tokenizer *t, er_ids *ids, const char *text, size_t n, int special, er_err *err);
/* Bytes of the decoded ids appended to *text (er_text); skip_special leaves control tokens out. Bytes, because a token
 * may end within a character: the reference puts U+FFFD there. Ids without a token are left out, negative ones are
 * ER_E_INPUT. For a byte-level tokenizer with all 256 bytes and no normalizer, decode(encode(x)) is x unless an added
 * token swallowed spaces. */
struct er_text;
int er_decode(const er_tokenizer *t, struct er_text *text, const int32_t *ids, int64_t count, int skip_special,
              er_err *err);

/* The same as UTF-8, with U+FFFD exactly where the reference library's decode puts it: byte-level, one for each longest
 * start of a character that does not end; with byte fallback, one for each byte token of a run that is no UTF-8. */
int er_decode_text(const er_tokenizer *t, struct er_text *text, const int32_t *ids, int64_t count, int skip_special,
                   er_err *err);

int64_t er_tokenizer_size(const er_tokenizer *t);  /* ids are below this */
int64_t er_tokenizer_bos(const er_tokenizer *t);   /* -1: none */
int64_t er_tokenizer_eos(const er_tokenizer *t);
int64_t er_tokenizer_unk(const er_tokenizer *t);
int64_t er_tokenizer_pad(const er_tokenizer *t);
const char *er_tokenizer_text(const er_tokenizer *t, int64_t id);   /* as the vocabulary spells it; NULL: no such id */
int64_t er_tokenizer_find(const er_tokenizer *t, const char *text); /* the id so spelt; -1: none */
int er_tokenizer_is_special(const er_tokenizer *t, int64_t id);
/* Over everything that decides ids: vocabulary, merges, pre-tokenizer, special tokens, template. Equal for the same
 * tokenizer read from GGUF and from tokenizer.json. */
er_hash er_tokenizer_hash(const er_tokenizer *t);

/* tokenizer.json text that Hugging Face's library reads back to the same tokenizer, for er_export. */
int er_tokenizer_json(const er_tokenizer *t, struct er_text *out, er_err *err);

#endif
