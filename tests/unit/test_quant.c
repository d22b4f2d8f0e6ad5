/* SPDX-License-Identifier: Apache-2.0 */
/* Block types against the values that the format's Python package makes of the same blocks
 * (tests/golden/make_quants.py), bit for bit, and every range of a tensor against the whole. */
#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "model/gguf.h"
#include "model/quant.h"
#include "model/weights.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FIXTURE "tests/fixtures/gguf/quants"

static struct {
    er_map map;
    er_arena *arena;
    er_tensors list;
    json_t *hashes;
} fixture;

static int open_fixture(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    er_gguf g;
    int code = er_map_open(&fixture.map, FIXTURE ".gguf", &err);
    if (!code) code = er_arena_new(&fixture.arena, 0, &err);
    if (!code)
        code = er_gguf_parse(&g, &fixture.list, fixture.arena, fixture.map.data, fixture.map.size, FIXTURE, &err);
    if (code) print_error("%s\n", err.text);
    fixture.hashes = json_load_file(FIXTURE ".json", 0, NULL);
    return code || !fixture.hashes ? -1 : 0;
}

static int close_fixture(void **state)
{
    (void)state;
    json_decref(fixture.hashes);
    er_tensors_free(&fixture.list);
    er_arena_free(fixture.arena);
    er_map_close(&fixture.map);
    return 0;
}

static float *whole(const er_tensor *t)
{
    float *values = malloc((size_t)t->elements * sizeof *values);
    assert_non_null(values);
    er_widen(values, t->data, t->dtype, 0, t->elements);
    return values;
}

static uint64_t fnv1a(const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

static void every_type_has_the_reference_values(void **state)
{
    (void)state;
    int seen = 0;
    for (size_t i = 0; i < fixture.list.count; i++) {
        const er_tensor *t = &fixture.list.at[i];
        float *values = whole(t);
        char text[17];
        snprintf(text, sizeof text, "%016llx", (unsigned long long)fnv1a(values, (size_t)t->elements * sizeof *values));
        const char *wanted = json_string_value(json_object_get(fixture.hashes, t->name));
        if (!wanted || strcmp(text, wanted) != 0) fail_msg("%s: %s, expected %s", t->name, text, wanted);
        assert_string_equal(t->type, t->name);
        seen |= 1 << t->dtype;
        free(values);
    }
    assert_int_equal(fixture.list.count, json_object_size(fixture.hashes));
    for (int dtype = ER_Q8_0; dtype < ER_DTYPE_COUNT; dtype++)
        if (!(seen >> dtype & 1)) fail_msg("%s is not in the fixture", er_dtype_name(dtype));
}

/* The blocks of a range in a buffer of their own, so that a sanitizer sees reads beyond them. */
static void check_range(const er_tensor *t, const float *all, int64_t first, int64_t n)
{
    int64_t block = er_dtype_block(t->dtype), from = first / block, to = (first + n + block - 1) / block;
    size_t step = er_dtype_block_bytes(t->dtype), bytes = n ? (size_t)(to - from) * step : 0;
    uint8_t *copy = malloc(bytes + 1);
    float *out = malloc((size_t)n * sizeof *out + 1);
    assert_non_null(copy);
    assert_non_null(out);
    memcpy(copy + 1, t->data + (size_t)from * step, bytes); /* unaligned */
    er_widen(out, copy + 1, t->dtype, first - from * block, n);
    if (n && memcmp(out, all + first, (size_t)n * sizeof *out) != 0)
        fail_msg("%s: %lld from %lld differ", t->name, (long long)n, (long long)first);
    free(out);
    free(copy);
}

static void any_range_can_be_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < fixture.list.count; i++) {
        const er_tensor *t = &fixture.list.at[i];
        float *all = whole(t);
        int64_t block = er_dtype_block(t->dtype);
        const int64_t ranges[][2] = {{0, 0},         {block, 0}, {0, 1},
                                     {block - 1, 1}, {block - 1, 2}, {0, block},
                                     {1, 2 * block - 2}, {1, 2 * block}, {t->elements - 1, 1}};
        for (size_t r = 0; r < sizeof ranges / sizeof *ranges; r++) check_range(t, all, ranges[r][0], ranges[r][1]);
        for (uint64_t r = 0; r < 200; r++) {
            int64_t first = (int64_t)er_random_below((uint64_t)t->elements, 3, ER_STREAM_TEST, (uint32_t)i, 2 * r);
            uint64_t most = (uint64_t)(t->elements - first < 3 * block ? t->elements - first : 3 * block);
            check_range(t, all, first, (int64_t)er_random_below(most + 1, 3, ER_STREAM_TEST, (uint32_t)i, 2 * r + 1));
        }
        free(all);
    }
}

static void plain_types_read_any_range(void **state)
{
    (void)state;
    const uint16_t half[] = {0x3c00, 0x0001, 0xfbff, 0x8000}, brain[] = {0x3f80, 0x0001, 0xff7f, 0x8000};
    const float full[] = {1.0f, 0x1p-149f, -0x1.fffffep127f, -0.0f};
    float out[2];
    er_widen(out, half, ER_F16, 1, 2);
    assert_true(out[0] >= 0x1p-24f && out[0] <= 0x1p-24f && out[1] >= -65504.0f && out[1] <= -65504.0f);
    er_widen(out, brain, ER_BF16, 1, 2);
    assert_true(out[0] >= 0x1p-133f && out[0] <= 0x1p-133f && out[1] >= -0x1.fep127f && out[1] <= -0x1.fep127f);
    er_widen(out, full, ER_F32, 1, 2);
    assert_memory_equal(out, full + 1, sizeof out);
}

static void every_half_is_widened_exactly(void **state)
{
    (void)state;
    static uint16_t half[65536];
    static float out[65536];
    for (size_t i = 0; i < 65536; i++) half[i] = (uint16_t)i;
    er_widen(out, half, ER_F16, 0, 65536);
    for (size_t i = 0; i < 65536; i++) {
        float one = er_f16_to_float(half[i]);
        if (memcmp(&one, &out[i], sizeof one) != 0) fail_msg("%04zx", i);
    }
}

static void types_know_their_blocks(void **state)
{
    (void)state;
    assert_int_equal(er_dtype_block(ER_Q5_1), 32);
    assert_int_equal(er_dtype_block(ER_Q6_K), ER_BLOCK_MOST);
    assert_int_equal(er_dtype_block(ER_F64), 0);
    assert_int_equal(er_dtype_block(ER_DTYPE_COUNT), 0);
    assert_int_equal(er_dtype_block(-1), 0);
    assert_int_equal(er_dtype_span(ER_Q4_K, 512), 288);
    assert_int_equal(er_dtype_bytes(ER_Q4_K), 0);
    assert_string_equal(er_dtype_name(ER_Q6_K), "q6_k");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_has_the_reference_values), cmocka_unit_test(any_range_can_be_read),
        cmocka_unit_test(plain_types_read_any_range),          cmocka_unit_test(every_half_is_widened_exactly),
        cmocka_unit_test(types_know_their_blocks),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
