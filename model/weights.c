/* SPDX-License-Identifier: Apache-2.0 */
#include "model/weights.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int er_tensors_add(er_tensors *list, const er_tensor *tensor, er_err *err)
{
    ER_TRY(er_grow(&list->at, &list->capacity, list->count + 1, err));
    list->at[list->count++] = *tensor;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const er_tensor *)a)->name, ((const er_tensor *)b)->name);
}

int er_tensors_sort(er_tensors *list, er_err *err)
{
    if (list->count) qsort(list->at, list->count, sizeof *list->at, by_name);
    for (size_t i = 1; i < list->count; i++) {
        const er_tensor *a = &list->at[i - 1], *b = &list->at[i];
        if (strcmp(a->name, b->name) == 0)
            return er_fail(err, ER_E_FORMAT, "%s: tensor '%s' appears twice (%s)", b->path, b->name, a->path);
    }
    return 0;
}

er_tensor *er_tensors_find(const er_tensors *list, const char *name)
{
    er_tensor key = {.name = name};
    return list->count ? bsearch(&key, list->at, list->count, sizeof key, by_name) : NULL;
}

void er_tensors_free(er_tensors *list)
{
    ER_FREE(list->at);
    list->count = list->capacity = 0;
}

int er_source_map(er_source *s, const char *path, const uint8_t **bytes, size_t *size, er_err *err)
{
    ER_TRY(er_grow(&s->maps, &s->map_capacity, s->map_count + 1, err));
    er_map *map = &s->maps[s->map_count];
    ER_TRY(er_map_open(map, path, err));
    s->map_count++;
    *bytes = map->data;
    *size = map->size;
    return 0;
}

int er_source_open(er_source *out, const char *path, er_err *err)
{
    struct stat info;
    if (stat(path, &info)) return er_fail(err, ER_E_IO, "%s: %s", path, strerror(errno));
    ER_TRY(er_arena_new(&out->arena, 0, err));
    if (S_ISDIR(info.st_mode)) return er_source_folder(out, path, err);
    if (S_ISREG(info.st_mode)) return er_source_gguf(out, path, err);
    return er_fail(err, ER_E_INPUT, "%s: is neither a folder nor a file", path);
}

void er_source_forget(er_source *s)
{
    er_tensors_free(&s->tensors);
    er_arena_free(s->arena);
    s->arena = NULL;
}

void er_source_close(er_source *s)
{
    er_source_forget(s);
    for (size_t i = 0; i < s->map_count; i++) er_map_close(&s->maps[i]);
    ER_FREE(s->maps);
    er_tokenizer_close(s->tokenizer);
    s->tokenizer = NULL;
}
