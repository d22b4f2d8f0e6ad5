/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/keymap.h"

#include "base/memory.h"

#include <string.h>

/* Keys are hashes already: their first bytes are as good as any. */
static er_keymap_entry *slot(const er_keymap *m, uint32_t kind, const er_hash *key)
{
    uint64_t start;
    memcpy(&start, key->byte, sizeof start);
    for (size_t i = (size_t)(start + kind);; i++) {
        er_keymap_entry *e = &m->at[i & (m->capacity - 1)];
        if (!e->used || (e->kind == kind && er_hash_equal(&e->key, key))) return e;
    }
}

static int grow(er_keymap *m, er_err *err)
{
    er_keymap wide = {NULL, m->capacity ? m->capacity * 2 : 64, m->count};
    ER_TRY(er_alloc(&wide.at, wide.capacity, err));
    for (size_t i = 0; i < m->capacity; i++)
        if (m->at[i].used) *slot(&wide, m->at[i].kind, &m->at[i].key) = m->at[i];
    er_free(m->at);
    *m = wide;
    return 0;
}

int er_keymap_put(er_keymap *m, uint32_t kind, const er_hash *key, int64_t value, er_err *err)
{
    if (2 * (m->count + 1) > m->capacity) ER_TRY(grow(m, err));
    er_keymap_entry *e = slot(m, kind, key);
    m->count += !e->used;
    *e = (er_keymap_entry){*key, kind, 1, value};
    return 0;
}

int64_t er_keymap_find(const er_keymap *m, uint32_t kind, const er_hash *key)
{
    if (!m->capacity) return -1;
    const er_keymap_entry *e = slot(m, kind, key);
    return e->used ? e->value : -1;
}

void er_keymap_free(er_keymap *m)
{
    er_free(m->at);
    *m = (er_keymap){NULL, 0, 0};
}
