/* SPDX-License-Identifier: Apache-2.0 */
/* Byte-pair merging: one piece of text -> ids, by the rank of merges. Private to the tokenizer.
 *
 * A table is immutable once made; what a call needs to write lies in its er_bpe_work, so threads share tables freely.
 */
#ifndef ER_MODEL_BPE_H
#define ER_MODEL_BPE_H

#include "base/error.h"
#include "model/tokenizer.h"

#include <stddef.h>
#include <stdint.h>

typedef struct er_slice {
    const char *at; /* NULL: nothing */
    size_t length;
} er_slice;

/* Strings -> their index in a borrowed array. */
typedef struct er_words {
    const er_slice *keys;
    struct er_word_slot {
        uint32_t hash;
        int32_t index; /* -1: empty */
    } *slots;
    uint64_t mask;
} er_words;

/* Keys without text are left out. `duplicate` (NULL allowed) receives the index of a key that occurred before it, or
 * -1. */
int er_words_make(er_words *out, const er_slice *keys, int64_t count, int64_t *duplicate, er_err *err);
int32_t er_words_find(const er_words *w, const char *text, size_t length); /* -1: absent */
void er_words_free(er_words *w);

typedef struct er_merge {
    int32_t left, right, made; /* ids */
} er_merge;

typedef struct er_bpe {
    const er_slice *text;     /* borrowed: by id, the strings that pieces are compared with (raw bytes if byte_level) */
    int64_t size;            /* ids are below this */
    er_words words;          /* over text */
    uint8_t *whole;          /* by id: a piece equal to this token's text gives this one id */
    int32_t byte_id[256];    /* byte_level: id of the byte; otherwise of the byte-fallback token; -1: none */
    struct er_pair_slot {
        uint64_t pair;       /* left << 32 | right; all ones: empty */
        uint32_t rank;
        int32_t made;
    } *pairs;
    uint64_t mask;
    int cut;                 /* no merge crosses from another character into U+2581: pieces may be cut before it */
    int byte_level;          /* symbols are bytes; otherwise Unicode characters */
    int byte_fallback;       /* a character without a token becomes its bytes' tokens */
    int fuse_unknown;        /* neighbouring unknown characters give one unknown id */
    int ignore_merges;       /* a piece that is a token is that token, whatever the merges say */
    int32_t unknown;         /* -1: unknown characters vanish */
} er_bpe;

/* Fields text, size, byte_level, byte_fallback, fuse_unknown, ignore_merges, unknown are set by the caller before.
 * Merges stand in rank order; of two merges of the same pair the later one counts. Free with er_bpe_fini, also after
 * a failure. */
int er_bpe_init(er_bpe *bpe, const er_merge *merges, int64_t count, er_err *err);
void er_bpe_fini(er_bpe *bpe);

typedef struct er_bpe_work {
    int32_t *ids;
    size_t ids_capacity;
    struct er_bpe_node *nodes;
    size_t nodes_capacity;
    struct er_bpe_candidate *heap;
    size_t heap_capacity;
    size_t heap_count;
} er_bpe_work;
void er_bpe_work_free(er_bpe_work *work);

/* Appends the ids of one piece. n < 2^30. Bytes that are no UTF-8 count as characters of their own. */
int er_bpe_encode(const er_bpe *bpe, er_ids *ids, const char *piece, size_t n, er_bpe_work *work, er_err *err);

/* GPT-2's alphabet: every byte is shown as one printable code point. */
uint32_t er_byte_to_point(uint8_t byte);
int er_point_to_byte(uint32_t point); /* -1: none */

/* Length of the UTF-8 character at p (n > 0 bytes left), its code point in *point (NULL allowed); 0: no UTF-8. */
size_t er_utf8_next(const char *p, size_t n, uint32_t *point);
/* Bytes from the start that are UTF-8. */
size_t er_utf8_valid(const char *p, size_t n);
/* p starts no character: bytes (1 to 3) that could have been the start of one. */
size_t er_utf8_broken(const char *p, size_t n);
size_t er_utf8_put(char out[4], uint32_t point);

int er_ids_add(er_ids *ids, int32_t id, er_err *err);

#endif
