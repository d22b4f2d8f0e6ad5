/* SPDX-License-Identifier: Apache-2.0 */
#include "model/safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { LENGTH = 8, HEADER_MOST = 100 << 20 }; /* the limit of the reference library */

static const struct {
    const char *name;
    int64_t bytes;
    int dtype;
} types[] = {
    {"F32", 4, ER_F32}, {"F16", 2, ER_F16}, {"BF16", 2, ER_BF16}, {"F64", 8, -1}, {"I64", 8, -1}, {"U64", 8, -1},
    {"I32", 4, -1},     {"U32", 4, -1},     {"I16", 2, -1},       {"U16", 2, -1}, {"I8", 1, -1},  {"U8", 1, -1},
    {"BOOL", 1, -1},
};

enum { TYPES = sizeof types / sizeof *types };

const char *er_safetensors_type(int dtype)
{
    for (size_t i = 0; i < TYPES; i++)
        if (types[i].dtype == dtype) return types[i].name;
    return "?";
}

typedef struct place {
    int64_t begin, end;
    const char *name;
} place;

static int read_type(er_tensor *t, int64_t *bytes, const json_t *entry, er_err *err)
{
    const char *name = json_string_value(json_object_get(entry, "dtype"));
    for (size_t i = 0; name && i < TYPES; i++) {
        if (strcmp(name, types[i].name) != 0) continue;
        t->dtype = types[i].dtype;
        t->type = types[i].name;
        *bytes = types[i].bytes;
        return 0;
    }
    return name ? er_fail(err, ER_E_UNSUPPORTED, "%s: tensor '%s' has dtype '%s'", t->path, t->name, name)
                : er_fail(err, ER_E_FORMAT, "%s: tensor '%s' has no dtype", t->path, t->name);
}

/* Shape, and the number of bytes it asks for. */
static int read_shape(er_tensor *t, int64_t *bytes, const json_t *entry, er_err *err)
{
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape)) return er_fail(err, ER_E_FORMAT, "%s: tensor '%s' has no shape", t->path, t->name);
    if (json_array_size(shape) > ER_TENSOR_DIMS)
        return er_fail(err, ER_E_UNSUPPORTED, "%s: tensor '%s' has %zu dimensions", t->path, t->name,
                       json_array_size(shape));
    t->dims = (int)json_array_size(shape);
    t->elements = 1;
    for (int i = 0; i < t->dims; i++) {
        const json_t *n = json_array_get(shape, (size_t)i);
        t->shape[i] = json_integer_value(n);
        if (!json_is_integer(n) || t->shape[i] < 0 ||
            __builtin_mul_overflow(t->elements, t->shape[i], &t->elements))
            return er_fail(err, ER_E_FORMAT, "%s: tensor '%s' has an impossible shape", t->path, t->name);
    }
    if (__builtin_mul_overflow(t->elements, *bytes, bytes))
        return er_fail(err, ER_E_FORMAT, "%s: tensor '%s' has an impossible shape", t->path, t->name);
    return 0;
}

static int read_place(place *out, const er_tensor *t, int64_t bytes, int64_t data_size, const json_t *entry,
                      er_err *err)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        return er_fail(err, ER_E_FORMAT, "%s: tensor '%s' has no data_offsets", t->path, t->name);
    int64_t from = json_integer_value(begin), to = json_integer_value(end);
    if (from < 0 || to < from || to > data_size)
        return er_fail(err, ER_E_FORMAT, "%s: tensor '%s' lies at %lld..%lld of %lld data bytes", t->path, t->name,
                       (long long)from, (long long)to, (long long)data_size);
    if (to - from != bytes)
        return er_fail(err, ER_E_FORMAT, "%s: tensor '%s' holds %lld bytes where its shape asks for %lld", t->path,
                       t->name, (long long)(to - from), (long long)bytes);
    *out = (place){from, to, t->name};
    return 0;
}

static int by_place(const void *a, const void *b)
{
    const place *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static int check_cover(place *places, size_t count, int64_t data_size, const char *path, er_err *err)
{
    int64_t end = 0;
    if (count) qsort(places, count, sizeof *places, by_place);
    for (size_t i = 0; i < count; i++) {
        if (places[i].begin != end)
            return er_fail(err, ER_E_FORMAT, "%s: tensor '%s' begins at data byte %lld, expected %lld", path,
                           places[i].name, (long long)places[i].begin, (long long)end);
        end = places[i].end;
    }
    if (end != data_size)
        return er_fail(err, ER_E_FORMAT, "%s: %lld data bytes belong to no tensor", path, (long long)(data_size - end));
    return 0;
}

static int read_entries(er_tensors *list, place *places, er_arena *arena, json_t *header, const uint8_t *data,
                        int64_t data_size, const char *path, er_err *err)
{
    const char *key;
    json_t *entry;
    size_t count = 0;
    json_object_foreach(header, key, entry) {
        if (strcmp(key, "__metadata__") == 0) continue;
        er_tensor t = {.name = key, .path = path};
        int64_t bytes = 0;
        if (!json_is_object(entry)) return er_fail(err, ER_E_FORMAT, "%s: entry '%s' is no object", path, key);
        ER_TRY(read_type(&t, &bytes, entry, err));
        ER_TRY(read_shape(&t, &bytes, entry, err));
        ER_TRY(read_place(&places[count], &t, bytes, data_size, entry, err));
        t.data = data + places[count].begin;
        t.bytes = (size_t)bytes;
        if (!(t.name = er_arena_strdup(arena, key, err))) return ER_E_MEMORY;
        ER_TRY(er_tensors_add(list, &t, err));
        count++;
    }
    return check_cover(places, count, data_size, path, err);
}

int er_safetensors_parse(er_tensors *list, er_arena *arena, const uint8_t *bytes, size_t size, const char *path,
                         er_err *err)
{
    uint64_t length = 0;
    if (size < LENGTH) return er_fail(err, ER_E_FORMAT, "%s: %zu bytes are no safetensors file", path, size);
    memcpy(&length, bytes, LENGTH);
    if (length > HEADER_MOST || length > size - LENGTH)
        return er_fail(err, ER_E_FORMAT, "%s: header of %llu bytes in a file of %zu", path, (unsigned long long)length,
                       size);
    json_error_t where;
    json_t *header = json_loadb((const char *)bytes + LENGTH, (size_t)length, JSON_REJECT_DUPLICATES, &where);
    if (!header)
        return er_fail(err, ER_E_FORMAT, "%s: header:%d:%d: %s", path, where.line, where.column, where.text);
    place *places = NULL;
    int code = 0;
    if (!json_is_object(header)) code = er_fail(err, ER_E_FORMAT, "%s: the header is no JSON object", path);
    if (!code) code = er_alloc(&places, json_object_size(header), err);
    if (!code)
        code = read_entries(list, places, arena, header, bytes + LENGTH + length, (int64_t)(size - LENGTH - length),
                            path, err);
    er_free(places);
    json_decref(header);
    return code;
}
