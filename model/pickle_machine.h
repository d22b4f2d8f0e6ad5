/* SPDX-License-Identifier: Apache-2.0 */
/* Internal to model/pickle*: the stack machine of a pickle, restricted to what torch.save writes for a dictionary of
 * tensors. It makes descriptions and calls nothing: a global is one of a short list of names, "calling" one makes a
 * value that says so, and whatever else a pickle asks for ends the reading (ER_E_UNSUPPORTED). */
#ifndef ER_MODEL_PICKLE_MACHINE_H
#define ER_MODEL_PICKLE_MACHINE_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

enum er_pickle_kind {
    ER_PICKLE_NONE,
    ER_PICKLE_BOOL, /* integer: 0, 1 */
    ER_PICKLE_INT,
    ER_PICKLE_LONG, /* text: more than 64 bits, little-endian */
    ER_PICKLE_REAL, /* nobody asks for its value */
    ER_PICKLE_TEXT,
    ER_PICKLE_TUPLE,  /* items */
    ER_PICKLE_LIST,   /* items */
    ER_PICKLE_DICT,   /* items: key, value, key, value, ... */
    ER_PICKLE_GLOBAL, /* integer: which */
    ER_PICKLE_STORAGE, /* type; text: its key; integer: elements */
    ER_PICKLE_TENSOR, /* items: the arguments of _rebuild_tensor_v2, six or seven, unchecked */
};

/* Element types of storages, by the number in er_pickle_value.type. */
typedef struct er_pickle_type {
    const char *storage; /* torch.* */
    const char *name;
    int64_t bytes;
    int dtype; /* enum er_dtype or -1 */
} er_pickle_type;
const er_pickle_type *er_pickle_type_at(int type);

/* Values are named by their number: containers share what the pickle shares, so nothing is copied and a container that
 * holds itself is harmless. */
typedef struct er_pickle_value {
    enum er_pickle_kind kind;
    int type;             /* ER_PICKLE_STORAGE; ER_PICKLE_DICT: 1 for an OrderedDict */
    uint32_t first, last; /* cells */
    uint32_t items;
    int64_t integer;
    const uint8_t *text; /* in the file, no 0 behind it */
    size_t length;
    const char *name; /* for the reader: a copy of text with a 0 behind it, once made */
} er_pickle_value;

typedef struct er_pickle_cell {
    uint32_t value, next;
} er_pickle_cell;

/* Zero-initialise, then er_pickle_begin. Everything is borrowed but the arrays. */
typedef struct er_pickle {
    const uint8_t *begin, *at;
    size_t left; /* bytes behind at */
    const char *path;
    er_pickle_value *values;
    size_t value_count, value_capacity;
    er_pickle_cell *cells;
    size_t cell_count, cell_capacity;
    uint32_t *stack, *marks, *memo;
    size_t depth, stack_capacity, mark_count, mark_capacity, memo_count, memo_capacity;
    size_t pushes;
} er_pickle;

void er_pickle_begin(er_pickle *p, const uint8_t *bytes, size_t size, const char *path);
/* One pickle, from p->at to its STOP, where the next call goes on; *out is the value's number. Values of earlier calls
 * stay. Every pushed value is paid for by at least one byte of the file, and there are at most 2^22 of them. Errors say
 * the place as "byte N of the pickle", counted from er_pickle_begin's bytes. */
int er_pickle_run(er_pickle *p, uint32_t *out, er_err *err);
/* The i-th item of a tuple, list, dict or tensor, i < items; takes time in proportion to i. */
uint32_t er_pickle_item(const er_pickle *p, uint32_t container, uint32_t i);
/* The value of a text key, the last where it is given twice; 0 and *out unchanged when absent. */
int er_pickle_find(uint32_t *out, const er_pickle *p, uint32_t dict, const char *key);
int er_pickle_is_text(const er_pickle_value *v, const char *text);
void er_pickle_end(er_pickle *p);

#endif
