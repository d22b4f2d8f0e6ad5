/* SPDX-License-Identifier: Apache-2.0 */
/* Internal to model/: the GGUF format, versions 2 and 3, little-endian.
 *     "GGUF", u32 version, u64 tensors, u64 keys,
 *     keys:    string key, u32 type, value; an array is u32 type, u64 count, values; a string is u64 length, bytes
 *     tensors: string name, u32 dimensions, u64 size of each (fastest first), u32 type, u64 offset into the data
 *     padding to general.alignment (32), data */
#ifndef ER_MODEL_GGUF_H
#define ER_MODEL_GGUF_H

#include "base/error.h"
#include "base/memory.h"
#include "model/weights.h"

#include <stddef.h>
#include <stdint.h>

enum er_gguf_type {
    ER_GGUF_U8, ER_GGUF_I8, ER_GGUF_U16, ER_GGUF_I16, ER_GGUF_U32, ER_GGUF_I32, ER_GGUF_F32, ER_GGUF_BOOL,
    ER_GGUF_STRING, ER_GGUF_ARRAY, ER_GGUF_U64, ER_GGUF_I64, ER_GGUF_F64, ER_GGUF_TYPE_COUNT
};

/* A key's value: checked to lie inside the file, decoded when asked for. */
typedef struct er_gguf_value {
    const char *key;
    enum er_gguf_type type; /* of the value, or of the elements when it is an array */
    int array;
    uint64_t count; /* elements; 1 when no array */
    const uint8_t *data;
} er_gguf_value;

typedef struct er_gguf {
    const char *path;
    er_gguf_value *values; /* sorted by key, in the arena */
    size_t value_count;
} er_gguf;

/* Appends the tensors of a file of `size` bytes to *list, unsorted, shapes slowest first. Keys and names go to the
 * arena; bytes and path are borrowed. Type -1 does not occur: a tensor that cannot be read is ER_E_UNSUPPORTED. */
int er_gguf_parse(er_gguf *out, er_tensors *list, er_arena *arena, const uint8_t *bytes, size_t size, const char *path,
                  er_err *err);

const er_gguf_value *er_gguf_find(const er_gguf *g, const char *key); /* NULL when absent */

/* Each fails with ER_E_FORMAT when the value is of another kind. Integers of any width; reals also from integers. */
int er_gguf_int(int64_t *out, const er_gguf *g, const er_gguf_value *v, er_err *err);
int er_gguf_real(double *out, const er_gguf *g, const er_gguf_value *v, er_err *err);
int er_gguf_bool(int *out, const er_gguf *g, const er_gguf_value *v, er_err *err);
int er_gguf_text(const char **out, const er_gguf *g, const er_gguf_value *v, er_arena *arena, er_err *err);
int er_gguf_texts(const char *const **out, const er_gguf *g, const er_gguf_value *v, er_arena *arena, er_err *err);
int er_gguf_ints(const int32_t **out, const er_gguf *g, const er_gguf_value *v, er_arena *arena, er_err *err);

int er_gguf_reals(const float **out, const er_gguf *g, const er_gguf_value *v, er_arena *arena, er_err *err);
int er_gguf_required(const er_gguf_value **out, const er_gguf *g, const char *key, er_err *err);

/* Ids of special tokens, not checked against the vocabulary. Where the file does not say: -1, but SentencePiece's own in
 * a vocabulary of its kind. */
typedef struct er_gguf_special {
    int64_t bos, eos, unk, pad;
} er_gguf_special;
int er_gguf_ids(er_gguf_special *out, const er_gguf *g, er_arena *arena, er_err *err);

/* Metadata as a configuration (checked) and as the parts of a tokenizer (in the arena). tensors: sorted; those that
 * decide the configuration (factors of the rotation) are marked as used. ER_E_UNSUPPORTED names the key or tensor that
 * asks for something else than the engine computes, keys that nobody here knows included. */
int er_gguf_config(er_config *out, const er_gguf *g, const er_tensors *tensors, er_arena *arena, er_err *err);
int er_gguf_tokenizer(er_tokenizer_parts *out, const er_gguf *g, er_arena *arena, er_err *err);

#endif
