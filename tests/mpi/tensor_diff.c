/* SPDX-License-Identifier: Apache-2.0 */
/* tensor_diff A.safetensors B.safetensors: the names of the tensors whose bytes differ, one a line. Code 1 when the
 * files do not hold the same names, types and shapes, or cannot be read. */
#include "base/memory.h"
#include "model/safetensors.h"

#include <stdio.h>
#include <string.h>

typedef struct side {
    er_map map;
    er_tensors list;
} side;

static int open_side(side *s, er_arena *arena, const char *path, er_err *err)
{
    ER_TRY(er_map_open(&s->map, path, err));
    ER_TRY(er_safetensors_parse(&s->list, arena, s->map.data, s->map.size, path, err));
    return er_tensors_sort(&s->list, err);
}

static int print_differences(const er_tensors *a, const er_tensors *b, er_err *err)
{
    if (a->count != b->count) return er_fail(err, ER_E_MISMATCH, "%zu and %zu tensors", a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        const er_tensor *x = &a->at[i], *y = &b->at[i];
        if (strcmp(x->name, y->name) != 0 || x->dtype != y->dtype || x->dims != y->dims || x->bytes != y->bytes ||
            memcmp(x->shape, y->shape, (size_t)x->dims * sizeof *x->shape) != 0)
            return er_fail(err, ER_E_MISMATCH, "%s and %s are not the same kind of tensor", x->name, y->name);
        if (memcmp(x->data, y->data, x->bytes) != 0) puts(x->name);
    }
    return 0;
}

int main(int count, char **argument)
{
    er_err err = ER_ERR_INIT;
    er_arena *arena = NULL;
    side a = {0}, b = {0};
    if (count != 3) {
        fprintf(stderr, "usage: tensor_diff A.safetensors B.safetensors\n");
        return 2;
    }
    int code = er_arena_new(&arena, 0, &err);
    if (!code) code = open_side(&a, arena, argument[1], &err);
    if (!code) code = open_side(&b, arena, argument[2], &err);
    if (!code) code = print_differences(&a.list, &b.list, &err);
    if (code) fprintf(stderr, "tensor_diff: %s\n", err.text);
    er_tensors_free(&a.list);
    er_tensors_free(&b.list);
    er_map_close(&a.map);
    er_map_close(&b.map);
    er_arena_free(arena);
    return code != 0;
}
