/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of a tokenizer. Private to model/tokenizer*.c.
 *
 * Readers (tokenizer_read.c from JSON, tokenizer_make.c from GGUF's parts) fill the first half of the struct and call
 * er_tokenizer_finish, which derives the rest. Another kind of vocabulary (SentencePiece BPE with byte fallback is one)
 * is another filling, not another code path. */
#ifndef ER_MODEL_TOKENIZER_PARTS_H
#define ER_MODEL_TOKENIZER_PARTS_H

#include "base/memory.h"
#include "base/text.h"
#include "model/bpe.h"
#include "model/pretokenize.h"
#include "model/tokenizer.h"

enum { ER_NORMAL_MAX = 8, ER_TEMPLATE_MAX = 16 };

/* A token that is cut out of the text before anything else. */
typedef struct er_added {
    er_slice text; /* in the arena, ends in 0 */
    int32_t id;
    uint8_t special, normalized, left_strip, right_strip, single_word;
} er_added;

/* Added tokens by their bytes. Nodes of one parent are a list; node 0 is the root. */
typedef struct er_trie {
    struct er_trie_node {
        int32_t child, sibling; /* 0: none */
        int32_t added;          /* -1: no token ends here */
        uint8_t byte;
    } *nodes;
    size_t capacity;
    int32_t count;
    uint8_t starts[256];
} er_trie;

enum er_normal_kind { ER_NFC, ER_NFD, ER_NFKC, ER_NFKD, ER_PREPEND, ER_REPLACE };
typedef struct er_normal {
    int kind;
    er_slice what, with; /* PREPEND: with; REPLACE: both */
} er_normal;

typedef struct er_normalizer {
    er_normal steps[ER_NORMAL_MAX + 1]; /* one more than any file may have: a decoder puts its Metaspace there */
    int count;
} er_normalizer;

/* Token text -> text, where pieces are not bytes. */
typedef struct er_decoder {
    er_normalizer replace;      /* ER_REPLACE only */
    er_normal meta;             /* Metaspace: its mark becomes a space; what.at NULL: none */
    int first_bare;             /* Metaspace: the first token of a text loses its marks */
    int byte_fallback;          /* "<0x0A>" is that byte */
    int fused;                  /* read: strip applies to the whole text */
    char strip[5];              /* one character; "" none */
    int64_t strip_start, strip_end; /* at most so many of it, at the two ends of the whole text */
} er_decoder;

struct er_tokenizer {
    er_arena *arena;            /* every string below */
    er_slice share;              /* the arena's piece that short strings are put into */
    int64_t size;
    er_slice *text;              /* by id; no text: no such id */
    uint8_t *in_model;          /* by id: belongs to the vocabulary, not only to the added tokens */
    er_merge *merges;
    int64_t merge_count;
    er_added *added;
    int64_t added_count;
    er_normalizer normalizer;
    er_pretokenizer pieces;
    er_decoder decoder;         /* unused when pieces are bytes */
    int32_t before[ER_TEMPLATE_MAX], after[ER_TEMPLATE_MAX]; /* ids around a text */
    int before_count, after_count;
    int64_t bos, eos, unk, pad; /* what others call them; -1: none */
    int32_t model_unknown;      /* what unknown characters become; -1: nothing */
    int byte_fallback, fuse_unknown, ignore_merges;

    /* made by er_tokenizer_finish */
    er_words words;             /* over text */
    er_slice *compared;          /* by id: what pieces are compared with */
    er_slice *decoded;           /* by id */
    uint8_t *special;           /* by id */
    er_bpe bpe;
    er_trie raw, normalized;    /* added tokens found before and after normalizing */
    er_hash hash;
};

int er_tokenizer_new(er_tokenizer **out, int64_t size, er_err *err);
/* Copies the text of one id; a second text for an id is ER_E_FORMAT. */
int er_tokenizer_put(er_tokenizer *t, int64_t id, const char *text, size_t length, int in_model, er_err *err);
int er_tokenizer_copy(er_tokenizer *t, er_slice *out, const char *text, size_t length, er_err *err);
/* "a b" or the two halves -> ids, by t->words (made by er_tokenizer_index, which also refuses equal texts). */
int er_tokenizer_index(er_tokenizer *t, er_err *err);
int er_tokenizer_merge(const er_tokenizer *t, er_merge *out, const er_slice *left, const er_slice *right, er_err *err);
int er_tokenizer_merge_line(const er_tokenizer *t, er_merge *out, const char *line, er_err *err);
int er_tokenizer_finish(er_tokenizer *t, er_err *err);

int er_trie_add(er_trie *trie, const er_slice *text, int32_t added, er_err *err);
/* Longest token that starts at text[0]: its index and *length, or -1. */
int32_t er_trie_find(const er_trie *trie, const char *text, size_t n, size_t *length);
void er_trie_free(er_trie *trie);

/* Cuts text at the trie's tokens, as the reference library does. added < 0: a stretch without any. */
typedef int er_added_emit(void *context, int32_t added, const char *text, size_t n, er_err *err);
int er_added_split(const er_tokenizer *t, const er_trie *trie, const char *text, size_t n, er_added_emit *emit,
                   void *context, er_err *err);

int er_is_byte_token(const er_decoder *d, const er_slice *text); /* "<0x0A>", where the decoder makes a byte of it */

/* Appends the normalized text; bytes that are no UTF-8 pass unchanged. */
int er_normalize(const er_normalizer *z, er_text *out, const char *text, size_t n, er_err *err);
const char *er_normal_name(int kind);
int er_normal_find(const char *name); /* of Hugging Face's names without fields (NFC ...); -1: none */

int er_template_add(int32_t *list, int *count, int64_t id, er_err *err);

/* Merges of a SentencePiece vocabulary from the scores of its tokens, by id; t->words must be made. */
int er_tokenizer_score_merges(er_tokenizer *t, const float *scores, er_err *err);
/* Normalizer, decoder and flags of such a tokenizer as Hugging Face's converter for LLaMA sets them. */
int er_tokenizer_sentencepiece(er_tokenizer *t, int add_space_prefix, er_err *err);

/* The pre-tokenizer of a name as GGUF gives it; sets normalizer and ignore_merges as those models want them. */
int er_tokenizer_named(er_tokenizer *t, const char *pre, er_err *err);

#endif
