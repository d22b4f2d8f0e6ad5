/* SPDX-License-Identifier: Apache-2.0 */
#include "model/gguf.h"

#include "model/quant.h"

#include <stdlib.h>
#include <string.h>

enum { KEY_MOST = 65535, ALIGNMENT = 32, ALIGNMENT_MOST = 1 << 16 };
enum { KEY_LEAST = 8 + 4 + 1, TENSOR_LEAST = 8 + 4 + 8 + 4 + 8 }; /* bytes: bounds the counts of a hostile header */

static const uint8_t value_bytes[ER_GGUF_TYPE_COUNT] = {
    [ER_GGUF_U8] = 1,     [ER_GGUF_I8] = 1,  [ER_GGUF_U16] = 2, [ER_GGUF_I16] = 2,
    [ER_GGUF_U32] = 4,    [ER_GGUF_I32] = 4, [ER_GGUF_F32] = 4, [ER_GGUF_BOOL] = 1,
    [ER_GGUF_STRING] = 8, [ER_GGUF_U64] = 8, [ER_GGUF_I64] = 8, [ER_GGUF_F64] = 8,
};

static const struct {
    uint32_t number;
    int dtype;
    const char *name;
} tensor_types[] = {
    {0, ER_F32, "F32"},    {1, ER_F16, "F16"},    {2, ER_Q4_0, "Q4_0"},  {3, ER_Q4_1, "Q4_1"},  {6, ER_Q5_0, "Q5_0"},
    {7, ER_Q5_1, "Q5_1"},  {8, ER_Q8_0, "Q8_0"},  {9, -1, "Q8_1"},       {10, ER_Q2_K, "Q2_K"}, {11, ER_Q3_K, "Q3_K"},
    {12, ER_Q4_K, "Q4_K"}, {13, ER_Q5_K, "Q5_K"}, {14, ER_Q6_K, "Q6_K"}, {15, -1, "Q8_K"},      {16, -1, "IQ2_XXS"},
    {17, -1, "IQ2_XS"},    {18, -1, "IQ3_XXS"},   {19, -1, "IQ1_S"},     {20, -1, "IQ4_NL"},    {21, -1, "IQ3_S"},
    {22, -1, "IQ2_S"},     {23, -1, "IQ4_XS"},    {24, -1, "I8"},        {25, -1, "I16"},       {26, -1, "I32"},
    {27, -1, "I64"},       {28, -1, "F64"},       {29, -1, "IQ1_M"},     {30, ER_BF16, "BF16"}, {34, -1, "TQ1_0"},
    {35, -1, "TQ2_0"},     {39, -1, "MXFP4"},     {40, -1, "NVFP4"},     {41, -1, "Q1_0"},
};

/* What is left of the file. */
typedef struct cursor {
    const uint8_t *at;
    size_t left;
    const char *path;
} cursor;

static int short_file(const cursor *c, er_err *err)
{
    return er_fail(err, ER_E_FORMAT, "%s: the file ends inside its header", c->path);
}

static int take(cursor *c, void *out, size_t n, er_err *err)
{
    if (n > c->left) return short_file(c, err);
    if (out) memcpy(out, c->at, n);
    c->at += n;
    c->left -= n;
    return 0;
}

static int take_string(cursor *c, const uint8_t **text, size_t *length, er_err *err)
{
    uint64_t n = 0;
    ER_TRY(take(c, &n, sizeof n, err));
    if (n > c->left)
        return er_fail(err, ER_E_FORMAT, "%s: string of %llu bytes with %zu left", c->path, (unsigned long long)n,
                       c->left);
    *text = c->at;
    *length = (size_t)n;
    return take(c, NULL, (size_t)n, err);
}

static int copy_string(const char **out, cursor *c, er_arena *arena, size_t most, er_err *err)
{
    const uint8_t *text = NULL;
    size_t n = 0;
    char *copy = NULL;
    ER_TRY(take_string(c, &text, &n, err));
    if (n > most) return er_fail(err, ER_E_FORMAT, "%s: a name of %zu bytes", c->path, n);
    if (memchr(text, 0, n)) return er_fail(err, ER_E_FORMAT, "%s: a string holds a zero byte", c->path);
    ER_TRY(er_arena_take(arena, &copy, n + 1, err));
    memcpy(copy, text, n);
    copy[n] = 0;
    *out = copy;
    return 0;
}

static int skip_values(cursor *c, enum er_gguf_type type, uint64_t count, er_err *err)
{
    if (count > c->left / value_bytes[type])
        return er_fail(err, ER_E_FORMAT, "%s: %llu values with %zu bytes left", c->path, (unsigned long long)count,
                       c->left);
    if (type != ER_GGUF_STRING) return take(c, NULL, (size_t)count * value_bytes[type], err);
    const uint8_t *text = NULL;
    size_t n = 0;
    for (uint64_t i = 0; i < count; i++) ER_TRY(take_string(c, &text, &n, err));
    return 0;
}

static int take_value(er_gguf_value *v, cursor *c, er_arena *arena, er_err *err)
{
    uint32_t type = 0;
    ER_TRY(copy_string(&v->key, c, arena, KEY_MOST, err));
    ER_TRY(take(c, &type, sizeof type, err));
    v->count = 1;
    v->array = type == ER_GGUF_ARRAY;
    if (v->array) {
        ER_TRY(take(c, &type, sizeof type, err));
        ER_TRY(take(c, &v->count, sizeof v->count, err));
    }
    if (type >= ER_GGUF_TYPE_COUNT || type == ER_GGUF_ARRAY)
        return er_fail(err, ER_E_FORMAT, "%s: %s: value type %u is not known", c->path, v->key, type);
    v->type = (enum er_gguf_type)type;
    v->data = c->at;
    return skip_values(c, v->type, v->count, err);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const er_gguf_value *)a)->key, ((const er_gguf_value *)b)->key);
}

static int take_values(er_gguf *g, cursor *c, uint64_t count, er_arena *arena, er_err *err)
{
    if (count > c->left / KEY_LEAST)
        return er_fail(err, ER_E_FORMAT, "%s: %llu keys in %zu bytes", c->path, (unsigned long long)count, c->left);
    ER_TRY(er_arena_take(arena, &g->values, (size_t)count, err));
    g->value_count = (size_t)count;
    for (size_t i = 0; i < g->value_count; i++) ER_TRY(take_value(&g->values[i], c, arena, err));
    if (count) qsort(g->values, g->value_count, sizeof *g->values, by_key);
    for (size_t i = 1; i < g->value_count; i++)
        if (strcmp(g->values[i - 1].key, g->values[i].key) == 0)
            return er_fail(err, ER_E_FORMAT, "%s: key '%s' appears twice", c->path, g->values[i].key);
    return 0;
}

static int tensor_type(er_tensor *t, uint32_t number, er_err *err)
{
    const char *name = NULL;
    for (size_t i = 0; i < sizeof tensor_types / sizeof *tensor_types; i++) {
        if (tensor_types[i].number != number) continue;
        name = t->type = tensor_types[i].name;
        t->dtype = tensor_types[i].dtype;
        if (t->dtype >= 0) return 0;
    }
    return er_fail(err, ER_E_UNSUPPORTED,
                   "%s: tensor '%s' has type %s (%u), not F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or Q2_K to Q6_K",
                   t->path, t->name, name ? name : "unknown", number);
}

static int tensor_size(er_tensor *t, er_err *err)
{
    int64_t total = 0;
    t->elements = 1;
    for (int i = 0; i < t->dims; i++)
        if (t->shape[i] < 1 || __builtin_mul_overflow(t->elements, t->shape[i], &t->elements))
            return er_fail(err, ER_E_FORMAT, "%s: tensor '%s' has an impossible shape", t->path, t->name);
    int64_t block = er_dtype_block(t->dtype);
    if (t->shape[t->dims - 1] % block)
        return er_fail(err, ER_E_FORMAT, "%s: tensor '%s': rows of %lld values are no blocks of %lld", t->path, t->name,
                       (long long)t->shape[t->dims - 1], (long long)block);
    if (__builtin_mul_overflow(t->elements / block, (int64_t)er_dtype_block_bytes(t->dtype), &total))
        return er_fail(err, ER_E_FORMAT, "%s: tensor '%s' has an impossible shape", t->path, t->name);
    t->bytes = (size_t)total;
    return 0;
}

static int take_tensor(er_tensor *t, uint64_t *offset, cursor *c, er_arena *arena, er_err *err)
{
    uint32_t dims = 0, type = 0;
    ER_TRY(copy_string(&t->name, c, arena, KEY_MOST, err));
    ER_TRY(take(c, &dims, sizeof dims, err));
    if (dims < 1 || dims > ER_TENSOR_DIMS)
        return er_fail(err, ER_E_FORMAT, "%s: tensor '%s' has %u dimensions", c->path, t->name, dims);
    t->dims = (int)dims;
    for (int i = t->dims; i-- > 0;) ER_TRY(take(c, &t->shape[i], sizeof t->shape[i], err));
    ER_TRY(take(c, &type, sizeof type, err));
    ER_TRY(take(c, offset, sizeof *offset, err));
    ER_TRY(tensor_type(t, type, err));
    return tensor_size(t, err);
}

static int data_alignment(size_t *out, const er_gguf *g, er_err *err)
{
    const er_gguf_value *v = er_gguf_find(g, "general.alignment");
    int64_t n = ALIGNMENT;
    if (v) ER_TRY(er_gguf_int(&n, g, v, err));
    if (n < 1 || n > ALIGNMENT_MOST || (n & (n - 1)))
        return er_fail(err, ER_E_FORMAT, "%s: general.alignment is %lld", g->path, (long long)n);
    *out = (size_t)n;
    return 0;
}

static int place_tensors(er_tensors *list, const uint64_t *offsets, size_t count, const er_gguf *g, cursor c,
                         size_t position, er_err *err)
{
    size_t alignment = 0;
    ER_TRY(data_alignment(&alignment, g, err));
    if (!count) return 0;
    ER_TRY(take(&c, NULL, (alignment - position % alignment) % alignment, err));
    for (size_t i = 0; i < count; i++) {
        er_tensor *t = &list->at[list->count - count + i];
        if (offsets[i] % alignment || offsets[i] > c.left || t->bytes > c.left - offsets[i])
            return er_fail(err, ER_E_FORMAT, "%s: tensor '%s' of %zu bytes at %llu of %zu data bytes", c.path, t->name,
                           t->bytes, (unsigned long long)offsets[i], c.left);
        t->data = c.at + offsets[i];
    }
    return 0;
}

static int take_tensors(er_tensors *list, const er_gguf *g, cursor *c, uint64_t count, const uint8_t *start,
                        er_arena *arena, er_err *err)
{
    uint64_t *offsets = NULL;
    if (count > c->left / TENSOR_LEAST)
        return er_fail(err, ER_E_FORMAT, "%s: %llu tensors in %zu bytes", c->path, (unsigned long long)count, c->left);
    ER_TRY(er_arena_take(arena, &offsets, (size_t)count, err));
    for (uint64_t i = 0; i < count; i++) {
        er_tensor t = {.path = c->path};
        ER_TRY(take_tensor(&t, &offsets[i], c, arena, err));
        ER_TRY(er_tensors_add(list, &t, err));
    }
    return place_tensors(list, offsets, (size_t)count, g, *c, (size_t)(c->at - start), err);
}

int er_gguf_parse(er_gguf *out, er_tensors *list, er_arena *arena, const uint8_t *bytes, size_t size, const char *path,
                  er_err *err)
{
    cursor c = {bytes, size, path};
    er_gguf g = {path, NULL, 0};
    uint32_t version = 0;
    uint64_t tensors = 0, keys = 0;
    if (size < 4 || memcmp(bytes, "GGUF", 4) != 0) return er_fail(err, ER_E_FORMAT, "%s: is no GGUF file", path);
    ER_TRY(take(&c, NULL, 4, err));
    ER_TRY(take(&c, &version, sizeof version, err));
    if (version != 2 && version != 3)
        return er_fail(err, ER_E_UNSUPPORTED, "%s: GGUF version %u%s; 2 and 3 can be read", path, version,
                       version && !(version & 0xffff) ? " (big-endian)" : "");
    ER_TRY(take(&c, &tensors, sizeof tensors, err));
    ER_TRY(take(&c, &keys, sizeof keys, err));
    ER_TRY(take_values(&g, &c, keys, arena, err));
    ER_TRY(take_tensors(list, &g, &c, tensors, bytes, arena, err));
    *out = g;
    return 0;
}

const er_gguf_value *er_gguf_find(const er_gguf *g, const char *key)
{
    er_gguf_value wanted = {.key = key};
    return g->value_count ? bsearch(&wanted, g->values, g->value_count, sizeof wanted, by_key) : NULL;
}

/* Element i of a value of fixed size as an integer; 0 when it is none. */
static int integer_at(int64_t *out, const er_gguf_value *v, uint64_t i)
{
    union {
        uint8_t u8;
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        uint64_t u64;
        int64_t i64;
    } x = {0};
    memcpy(&x, v->data + i * value_bytes[v->type], value_bytes[v->type]);
    switch (v->type) {
    case ER_GGUF_U8: *out = x.u8; return 1;
    case ER_GGUF_I8: *out = x.i8; return 1;
    case ER_GGUF_U16: *out = x.u16; return 1;
    case ER_GGUF_I16: *out = x.i16; return 1;
    case ER_GGUF_U32: *out = x.u32; return 1;
    case ER_GGUF_I32: *out = x.i32; return 1;
    case ER_GGUF_I64: *out = x.i64; return 1;
    case ER_GGUF_U64: *out = (int64_t)x.u64; return x.u64 <= INT64_MAX;
    default: return 0;
    }
}

static int wrong_kind(const er_gguf *g, const er_gguf_value *v, const char *wanted, er_err *err)
{
    return er_fail(err, ER_E_FORMAT, "%s: %s is no %s", g->path, v->key, wanted);
}

int er_gguf_int(int64_t *out, const er_gguf *g, const er_gguf_value *v, er_err *err)
{
    return !v->array && integer_at(out, v, 0) ? 0 : wrong_kind(g, v, "integer", err);
}

int er_gguf_real(double *out, const er_gguf *g, const er_gguf_value *v, er_err *err)
{
    int64_t n = 0;
    float f;
    if (!v->array && v->type == ER_GGUF_F32) {
        memcpy(&f, v->data, sizeof f);
        *out = (double)f;
    } else if (!v->array && v->type == ER_GGUF_F64) {
        memcpy(out, v->data, sizeof *out);
    } else if (!v->array && integer_at(&n, v, 0)) {
        *out = (double)n;
    } else {
        return wrong_kind(g, v, "number", err);
    }
    return 0;
}

int er_gguf_bool(int *out, const er_gguf *g, const er_gguf_value *v, er_err *err)
{
    if (v->array || v->type != ER_GGUF_BOOL) return wrong_kind(g, v, "boolean", err);
    *out = v->data[0] != 0;
    return 0;
}

/* The value was walked once when the file was read: it ends inside the file, wherever that is. */
static cursor cursor_of(const er_gguf *g, const er_gguf_value *v) { return (cursor){v->data, SIZE_MAX, g->path}; }

int er_gguf_text(const char **out, const er_gguf *g, const er_gguf_value *v, er_arena *arena, er_err *err)
{
    cursor c = cursor_of(g, v);
    if (v->array || v->type != ER_GGUF_STRING) return wrong_kind(g, v, "string", err);
    return copy_string(out, &c, arena, SIZE_MAX, err);
}

int er_gguf_texts(const char *const **out, const er_gguf *g, const er_gguf_value *v, er_arena *arena, er_err *err)
{
    cursor c = cursor_of(g, v);
    const char **texts = NULL;
    if (!v->array || v->type != ER_GGUF_STRING) return wrong_kind(g, v, "array of strings", err);
    ER_TRY(er_arena_take(arena, &texts, (size_t)v->count, err));
    for (uint64_t i = 0; i < v->count; i++) ER_TRY(copy_string(&texts[i], &c, arena, SIZE_MAX, err));
    *out = texts;
    return 0;
}

int er_gguf_ints(const int32_t **out, const er_gguf *g, const er_gguf_value *v, er_arena *arena, er_err *err)
{
    int32_t *numbers = NULL;
    if (!v->array || v->type == ER_GGUF_STRING) return wrong_kind(g, v, "array of integers", err);
    ER_TRY(er_arena_take(arena, &numbers, (size_t)v->count, err));
    for (uint64_t i = 0; i < v->count; i++) {
        int64_t n = 0;
        if (!integer_at(&n, v, i) || n < INT32_MIN || n > INT32_MAX) return wrong_kind(g, v, "array of integers", err);
        numbers[i] = (int32_t)n;
    }
    *out = numbers;
    return 0;
}

int er_gguf_reals(const float **out, const er_gguf *g, const er_gguf_value *v, er_arena *arena, er_err *err)
{
    float *numbers = NULL;
    if (!v->array || v->type != ER_GGUF_F32) return wrong_kind(g, v, "array of fp32 numbers", err);
    ER_TRY(er_arena_take(arena, &numbers, (size_t)v->count, err));
    if (v->count) memcpy(numbers, v->data, (size_t)v->count * sizeof *numbers);
    *out = numbers;
    return 0;
}

int er_gguf_required(const er_gguf_value **out, const er_gguf *g, const char *key, er_err *err)
{
    *out = er_gguf_find(g, key);
    return *out ? 0 : er_fail(err, ER_E_FORMAT, "%s: %s is missing", g->path, key);
}
