/* SPDX-License-Identifier: Apache-2.0 */
/* From a kind and a content hash to a number: the index of the journal and of the scores. */
#ifndef ER_RUNNER_KEYMAP_H
#define ER_RUNNER_KEYMAP_H

#include "base/error.h"
#include "base/hash.h"

#include <stddef.h>
#include <stdint.h>

typedef struct er_keymap_entry {
    er_hash key;
    uint32_t kind;
    int32_t used;
    int64_t value;
} er_keymap_entry;

/* Zero-initialise; free with er_keymap_free. */
typedef struct er_keymap {
    er_keymap_entry *at;
    size_t capacity, count; /* capacity: a power of two, or 0 */
} er_keymap;

int er_keymap_put(er_keymap *m, uint32_t kind, const er_hash *key, int64_t value, er_err *err); /* replaces */
int64_t er_keymap_find(const er_keymap *m, uint32_t kind, const er_hash *key);                  /* -1: absent */
void er_keymap_free(er_keymap *m);

#endif
