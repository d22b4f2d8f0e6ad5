/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/states.h"

#include "base/hash.h"
#include "base/memory.h"

#include <string.h>

typedef struct entry {
    er_hash key; /* of the ids */
    float *x;    /* NULL: free */
} entry;

struct er_states {
    int64_t layer, hidden, most, bytes; /* bytes: in use */
    entry *table;                       /* open addressing, at most half full */
    int64_t room, count;
};

int er_states_new(er_states **out, int64_t layer, int64_t hidden, int64_t bytes, er_err *err)
{
    ER_TRY(er_alloc(out, 1, err));
    (*out)->layer = layer;
    (*out)->hidden = hidden;
    (*out)->most = bytes;
    return 0;
}

void er_states_free(er_states *s)
{
    if (!s) return;
    for (int64_t i = 0; i < s->room; i++) er_free(s->table[i].x);
    er_free(s->table);
    er_free(s);
}

int64_t er_states_layer(const er_states *s) { return s->layer; }
int64_t er_states_bytes(const er_states *s) { return s->bytes; }

static er_hash key_of(const int32_t *ids, int64_t count) { return er_hash_bytes(ids, (size_t)count * sizeof *ids); }

/* The key's place, or the free one where it belongs; room is a power of two. */
static entry *place_of(entry *table, int64_t room, const er_hash *key)
{
    uint64_t at;
    memcpy(&at, key, sizeof at);
    for (at &= (uint64_t)room - 1; table[at].x && !er_hash_equal(&table[at].key, key);) at = (at + 1) & ((uint64_t)room - 1);
    return &table[at];
}

const float *er_states_find(const er_states *s, const int32_t *ids, int64_t count)
{
    if (!s->count) return NULL;
    const er_hash key = key_of(ids, count);
    return place_of(s->table, s->room, &key)->x;
}

static int grow(er_states *s, int64_t room, er_err *err)
{
    entry *table = NULL;
    ER_TRY(er_alloc(&table, (size_t)room, err));
    for (int64_t i = 0; i < s->room; i++)
        if (s->table[i].x) *place_of(table, room, &s->table[i].key) = s->table[i];
    er_free(s->table);
    s->table = table;
    s->bytes += (room - s->room) * (int64_t)sizeof *table;
    s->room = room;
    return 0;
}

int er_states_keep(er_states *s, float **room, const int32_t *ids, int64_t count, er_err *err)
{
    const er_hash key = key_of(ids, count);
    const int64_t need = count * s->hidden * (int64_t)sizeof(float);
    const int64_t wanted = 2 * (s->count + 1) <= s->room ? s->room : s->room ? 2 * s->room : 64;
    *room = NULL;
    if (!count || s->bytes + need + (wanted - s->room) * (int64_t)sizeof *s->table > s->most) return 0;
    if (s->count && place_of(s->table, s->room, &key)->x) return 0;
    if (wanted > s->room) ER_TRY(grow(s, wanted, err));
    entry *at = place_of(s->table, s->room, &key);
    ER_TRY(er_alloc(&at->x, (size_t)(count * s->hidden), err));
    at->key = key;
    s->count++;
    s->bytes += need;
    *room = at->x;
    return 0;
}
