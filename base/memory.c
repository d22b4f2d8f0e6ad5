/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };

static atomic_llong live;
static atomic_llong fail_in;

int64_t er_memory_live(void) { return atomic_load(&live); }

void er_memory_fail_at(int64_t n) { atomic_store(&fail_in, n); }

static int told_to_fail(void)
{
    return atomic_load(&fail_in) > 0 && atomic_fetch_sub(&fail_in, 1) == 1;
}

static void *take(size_t bytes)
{
    if (bytes > SIZE_MAX - ALIGN || told_to_fail()) return NULL;
    size_t rounded = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    void *p = aligned_alloc(ALIGN, rounded ? rounded : ALIGN);
    if (p) atomic_fetch_add(&live, 1);
    return p;
}

int er_alloc_at(void *out, size_t count, size_t size, const char *what, er_err *err)
{
    void *p = NULL;
    if (size == 0 || count <= SIZE_MAX / size) p = take(count * size);
    if (!p) return er_fail(err, ER_E_MEMORY, "no memory for %s: %zu x %zu bytes", what, count, size);
    memset(p, 0, count * size);
    memcpy(out, &p, sizeof p);
    return 0;
}

int er_grow_at(void *pointer, size_t *capacity, size_t need, size_t size, er_err *err)
{
    if (need <= *capacity) return 0;
    size_t wanted = *capacity + *capacity / 2;
    if (wanted < need) wanted = need;
    if (wanted < 16) wanted = 16;
    void *p = NULL, *old = NULL;
    ER_TRY(er_alloc_at(&p, wanted, size, "a growing list", err));
    memcpy(&old, pointer, sizeof old);
    if (old) memcpy(p, old, *capacity * size);
    er_free(old);
    memcpy(pointer, &p, sizeof p);
    *capacity = wanted;
    return 0;
}

void er_free(void *pointer)
{
    if (!pointer) return;
    atomic_fetch_sub(&live, 1);
    free(pointer);
}

int er_strdup(char **out, const char *text, er_err *err)
{
    size_t n = strlen(text) + 1;
    ER_TRY(er_alloc(out, n, err));
    memcpy(*out, text, n);
    return 0;
}

struct er_arena {
    struct {
        char *base;
        size_t size;
    } *blocks;
    size_t count, capacity, current, used, block_bytes;
};

int er_arena_new(er_arena **out, size_t block_bytes, er_err *err)
{
    er_arena *a = NULL;
    ER_TRY(er_alloc(&a, 1, err));
    a->block_bytes = block_bytes ? block_bytes : (size_t)1 << 20;
    *out = a;
    return 0;
}

void er_arena_free(er_arena *arena)
{
    if (!arena) return;
    for (size_t i = 0; i < arena->count; i++) er_free(arena->blocks[i].base);
    er_free(arena->blocks);
    er_free(arena);
}

int er_arena_take_at(er_arena *arena, void *out, size_t count, size_t size, er_err *err)
{
    if (size && count > (SIZE_MAX - ALIGN) / size)
        return er_fail(err, ER_E_MEMORY, "no memory for %zu x %zu bytes in an arena", count, size);
    size_t bytes = (count * size + ALIGN - 1) / ALIGN * ALIGN;
    while (arena->current < arena->count && arena->used + bytes > arena->blocks[arena->current].size) {
        arena->current++;
        arena->used = 0;
    }
    if (arena->current == arena->count) {
        ER_TRY(er_grow(&arena->blocks, &arena->capacity, arena->count + 1, err));
        size_t block = bytes > arena->block_bytes ? bytes : arena->block_bytes;
        char *base = take(block);
        if (!base) return er_fail(err, ER_E_MEMORY, "no memory for an arena block of %zu bytes", block);
        arena->blocks[arena->count].base = base;
        arena->blocks[arena->count].size = block;
        arena->count++;
        arena->used = 0;
    }
    void *p = arena->blocks[arena->current].base + arena->used;
    arena->used += bytes;
    memcpy(out, &p, sizeof p);
    return 0;
}

char *er_arena_strdup(er_arena *arena, const char *text, er_err *err)
{
    char *copy = NULL;
    size_t n = strlen(text) + 1;
    if (er_arena_take(arena, &copy, n, err)) return NULL;
    return memcpy(copy, text, n);
}

er_arena_mark er_arena_mark_now(const er_arena *arena)
{
    return (er_arena_mark){arena->current, arena->used};
}

void er_arena_release(er_arena *arena, er_arena_mark mark)
{
    arena->current = mark.block;
    arena->used = mark.used;
}

size_t er_arena_bytes(const er_arena *arena)
{
    size_t bytes = 0;
    for (size_t i = 0; i < arena->count; i++) bytes += arena->blocks[i].size;
    return bytes;
}
