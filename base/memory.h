/* SPDX-License-Identifier: Apache-2.0 */
/* Memory: checked, 64-byte aligned, zeroed; arenas for everything that lives as long as one unit or one job. */
#ifndef ER_BASE_MEMORY_H
#define ER_BASE_MEMORY_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/* count x size bytes, zeroed, aligned to 64 bytes, into *out (a pointer to any pointer). count == 0 gives a valid
 * pointer to nothing. Overflow of the product and exhaustion are ER_E_MEMORY. Free with er_free. */
int er_alloc_at(void *out, size_t count, size_t size, const char *what, er_err *err);
#define er_alloc(pointer, count, err) er_alloc_at((pointer), (count), sizeof **(pointer), #pointer, (err))

/* Grows *pointer (obtained from er_alloc or NULL) so that it holds at least `need` elements; *capacity is updated,
 * old elements are kept, new ones are zero. */
int er_grow_at(void *pointer, size_t *capacity, size_t need, size_t size, er_err *err);
#define er_grow(pointer, capacity, need, err) er_grow_at((pointer), (capacity), (need), sizeof **(pointer), (err))

void er_free(void *pointer); /* NULL is fine */
#define ER_FREE(pointer)                                                                                               \
    do {                                                                                                               \
        er_free(pointer);                                                                                              \
        (pointer) = NULL;                                                                                              \
    } while (0)

int er_strdup(char **out, const char *text, er_err *err);

/* An arena hands out aligned pieces of blocks and takes all back at once. */
typedef struct er_arena er_arena;
typedef struct er_arena_mark {
    size_t block, used;
} er_arena_mark;

int er_arena_new(er_arena **out, size_t block_bytes, er_err *err); /* block_bytes 0: 1 MiB */
void er_arena_free(er_arena *arena);
/* Piece of count x size bytes; NOT zeroed, because activations are overwritten at once. */
int er_arena_take_at(er_arena *arena, void *out, size_t count, size_t size, er_err *err);
#define er_arena_take(arena, pointer, count, err)                                                                      \
    er_arena_take_at((arena), (pointer), (count), sizeof **(pointer), (err))
char *er_arena_strdup(er_arena *arena, const char *text, er_err *err); /* NULL on failure */
er_arena_mark er_arena_mark_now(const er_arena *arena);
void er_arena_release(er_arena *arena, er_arena_mark mark); /* everything taken since the mark */
size_t er_arena_bytes(const er_arena *arena);               /* bytes held from the system */

/* Live allocations of this process through er_alloc, er_grow, er_strdup and arenas: for leak checks in tests. */
int64_t er_memory_live(void);
/* Tests: the n-th allocation from now (1 = the next) fails; 0 switches this off. */
void er_memory_fail_at(int64_t n);

#endif
