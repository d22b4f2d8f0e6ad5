/* SPDX-License-Identifier: Apache-2.0 */
/* Ids against Hugging Face's tokenizers, as tests/golden/tokenizer_reference.py wrote them down. */
#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/text.h"
#include "model/bpe.h"
#include "model/gguf.h"
#include "model/tokenizer.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static json_t *golden;

#define ok(call) ok_at((call), &err, __LINE__)
static void ok_at(int code, const er_err *err, int line)
{
    if (code) fail_msg("line %d: %d %s", line, code, err->text);
}

static const char *place(char *out, size_t size, const char *variable, const char *otherwise, const char *name)
{
    const char *root = getenv(variable);
    snprintf(out, size, "%s/%s", root ? root : otherwise, name);
    return out;
}

/* --- the tokenizers ----------------------------------------------------------------------------------------------- */

static er_tokenizer *from_gguf(const char *path)
{
    er_err err = ER_ERR_INIT;
    er_map map;
    er_gguf g;
    er_tensors list = {0};
    er_arena *arena = NULL;
    er_tokenizer_parts parts;
    er_tokenizer *t = NULL;
    ok(er_map_open(&map, path, &err));
    ok(er_arena_new(&arena, 0, &err));
    ok(er_gguf_parse(&g, &list, arena, map.data, map.size, path, &err));
    ok(er_gguf_tokenizer(&parts, &g, arena, &err));
    ok(er_tokenizer_make(&t, &parts, &err));
    er_tensors_free(&list);
    er_arena_free(arena);
    er_map_close(&map);
    return t;
}

/* NULL where the file is absent. */
static er_tokenizer *open_named(const char *name)
{
    char path[512], rest[128];
    er_err err = ER_ERR_INIT;
    er_tokenizer *t = NULL;
    if (!strcmp(name, "smollm2")) {
        place(path, sizeof path, "ERRATA_CACHE", "cache", "SmolLM2-135M-Instruct.Q4_1.gguf");
        return er_file_exists(path) ? from_gguf(path) : NULL;
    }
    snprintf(rest, sizeof rest, "data/tokenizers/%s/tokenizer.json", name);
    if (!strcmp(name, "tiny"))
        snprintf(path, sizeof path, "tests/fixtures/tiny-llama/tokenizer.json");
    else
        place(path, sizeof path, "ERRATA_SHARED", "../shared", rest);
    if (!er_file_exists(path)) return NULL;
    ok(er_tokenizer_open(&t, path, &err));
    return t;
}

/* --- figures: number and hash of ids ------------------------------------------------------------------------------ */

typedef struct figure {
    const er_tokenizer *t;
    er_hasher *hash;
    int64_t count;
    er_ids ids;
    er_text back;
    int many, byte_exact;
} figure;

static void figure_start(figure *f, const er_tokenizer *t, int many)
{
    er_err err = ER_ERR_INIT;
    *f = (figure){.t = t, .many = many, .byte_exact = 1};
    ok(er_hasher_new(&f->hash, &err));
}

static void add_number(er_hasher *h, int32_t number)
{
    uint8_t b[4];
    for (int i = 0; i < 4; i++) b[i] = (uint8_t)((uint32_t)number >> (8 * i));
    er_hasher_add(h, b, sizeof b);
}

static void figure_add(figure *f, const char *text, size_t n)
{
    er_err err = ER_ERR_INIT;
    f->ids.count = 0;
    f->back.length = 0;
    ok(er_encode(f->t, &f->ids, text, n, 0, &err));
    ok(er_decode(f->t, &f->back, f->ids.at, f->ids.count, 0, &err));
    f->byte_exact &= f->back.length == n && (n == 0 || !memcmp(f->back.at, text, n));
    if (f->many) add_number(f->hash, (int32_t)f->ids.count);
    for (int64_t i = 0; i < f->ids.count; i++) add_number(f->hash, f->ids.at[i]);
    f->count += f->ids.count;
}

/* Compares with the golden entry; 0 when they differ. */
static int figure_end(figure *f, const char *tokenizer, const char *what)
{
    json_t *want = json_object_get(json_object_get(json_object_get(golden, "tokenizers"), tokenizer), what);
    char text[ER_HASH_TEXT];
    er_hash hash = er_hasher_end(f->hash);
    er_hash_text(text, &hash);
    const char *expected = json_string_value(json_object_get(want, "hash"));
    int64_t ids = json_integer_value(json_object_get(want, "ids"));
    int same = expected && !strcmp(text, expected) && ids == f->count;
    if (!same)
        print_error("%s, %s: %lld ids with hash %s, expected %lld with %s\n", tokenizer, what, (long long)f->count,
                    text, (long long)ids, expected ? expected : "none");
    er_hasher_free(f->hash);
    er_ids_free(&f->ids);
    er_text_free(&f->back);
    return same;
}

/* The strings of random_texts() in tokenizer_reference.py. */
static const char *const atoms[] = {
    " ", " ", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "the", "The", " of", "ing", "Paris", "'s", "'S", "'\u017f",
    "'re", "'LL", "'d", "'", "\u2019s", "1", "42", "1984", "\u00bd", "\u2167", "\u0663", "!", "?!", "...", " -", "--",
    "(", ")]", "{}", "\u00e9", "e\u0301", "\u00c5", "A\u030a", "\u00df", "\u0416", "\u0448\u0435", "\u03b1\u03b2",
    "\u4f60\u597d", "\u3053\u3093", "\ud55c\uad6d", "\u1112\u1161\u11ab", "\u0627\u0644", "\u0915\u094d\u0937",
    "\u0e01\u0e33", "\U0001f600", "\U0001f469\u200d\U0001f680", "\u200b", "\u00a0", "\xC2\x85", "\u180e", "\u2028",
    "\u3000", "\ufeff", "\u00ad", "\u2581", "<s>", "</s>", "<|endoftext|>", "<|im_start|>", "<|begin_of_text|>",
    "<think>", "<0x0A>", "_", "a_b", "http://", "", "\x7f"};
enum { ATOMS = sizeof atoms / sizeof *atoms, NUL_ATOM = ATOMS - 2 };

static uint64_t state;

static uint32_t below(uint32_t n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % n);
}

static void random_text(er_text *out)
{
    er_err err = ER_ERR_INIT;
    char bytes[4];
    out->length = 0;
    for (uint32_t parts = below(24); parts > 0; parts--) {
        uint32_t kind = below(8);
        if (kind < 6) {
            uint32_t which = below(ATOMS);
            ok(er_text_bytes(out, atoms[which], which == NUL_ATOM ? 1 : strlen(atoms[which]), &err));
        } else {
            uint32_t point = kind == 6 ? below(0x110000) : 0x20 + below(95);
            if (point >= 0xD800 && point < 0xE000) point = 0xFFFD;
            ok(er_text_bytes(out, bytes, er_utf8_put(bytes, point), &err));
        }
    }
}

/* lossless: every text comes back from its ids */
static int check_random(const er_tokenizer *t, const char *name, int lossless)
{
    json_t *about = json_object_get(golden, "random");
    er_err err = ER_ERR_INIT;
    er_text text = ER_TEXT_INIT, all = ER_TEXT_INIT;
    figure f;
    figure_start(&f, t, 1);
    state = (uint64_t)json_integer_value(json_object_get(about, "seed"));
    for (json_int_t n = json_integer_value(json_object_get(about, "strings")); n > 0; n--) {
        random_text(&text);
        ok(er_text_bytes(&all, text.at, text.length, &err));
        figure_add(&f, text.at ? text.at : "", text.length);
    }
    char hash_text[ER_HASH_TEXT];
    er_hash hash = er_hash_bytes(all.at, all.length);
    er_hash_text(hash_text, &hash);
    assert_string_equal(hash_text, json_string_value(json_object_get(about, "hash"))); /* the strings are the same */
    er_text_free(&text);
    er_text_free(&all);
    if (lossless) assert_true(f.byte_exact);
    return figure_end(&f, name, "random");
}

static int check_points(const er_tokenizer *t, const char *name)
{
    figure f;
    figure_start(&f, t, 1);
    for (uint32_t point = 1; point < 0x110000; point++) {
        char x[5] = {0}, text[96];
        if (point >= 0xD800 && point < 0xE000) continue;
        er_utf8_put(x, point);
        int n = snprintf(text, sizeof text, "a%sb %s1%s%s! %s  %s\n%s's e%s", x, x, x, x, x, x, x, x);
        figure_add(&f, text, (size_t)n);
    }
    return figure_end(&f, name, "points");
}

static int check_text(const er_tokenizer *t, const char *name, int lossless)
{
    char path[512], file[128];
    char *text;
    size_t n;
    er_err err = ER_ERR_INIT;
    const char *base = json_string_value(json_object_get(json_object_get(golden, "text"), "file"));
    snprintf(file, sizeof file, "data/text/%s", base ? base : "");
    place(path, sizeof path, "ERRATA_SHARED", "../shared", file);
    if (!base || !er_file_exists(path)) {
        print_message("%s: %s is absent, the figures on it are skipped\n", name, path);
        return 1;
    }
    ok(er_file_read(&text, &n, path, &err));
    figure whole, lines;
    figure_start(&whole, t, 0);
    figure_add(&whole, text, n);
    figure_start(&lines, t, 1);
    for (size_t at = 0, length; at < n; at += length) {
        const char *end = memchr(text + at, '\n', n - at);
        length = end ? (size_t)(end - text) + 1 - at : n - at;
        figure_add(&lines, text + at, length);
    }
    er_free(text);
    if (lossless) assert_true(whole.byte_exact && lines.byte_exact);
    int same = figure_end(&whole, name, "whole");
    return figure_end(&lines, name, "lines") && same;
}

enum { CHANGES, KEEPS_TEXT, KEEPS_ALL }; /* the normalizer; not rare bytes; nothing at all */

static void check_named(const char *name, int keeps)
{
    er_tokenizer *t = open_named(name);
    if (!t) {
        print_message("%s: its tokenizer is absent\n", name);
        skip();
    }
    int same = check_text(t, name, keeps >= KEEPS_TEXT);
    same = check_random(t, name, keeps == KEEPS_ALL) && same;
    if (json_object_get(json_object_get(json_object_get(golden, "tokenizers"), name), "points"))
        same = check_points(t, name) && same;
    er_tokenizer_close(t);
    assert_true(same);
}

static void test_tiny(void **unused) { (void)unused, check_named("tiny", KEEPS_ALL); }
static void test_smollm2(void **unused) { (void)unused, check_named("smollm2", KEEPS_TEXT); }
static void test_gpt2(void **unused) { (void)unused, check_named("gpt2", KEEPS_ALL); }
static void test_llama3(void **unused) { (void)unused, check_named("llama3", KEEPS_ALL); }
static void test_qwen3(void **unused) { (void)unused, check_named("qwen3", CHANGES); }
static void test_llama2(void **unused) { (void)unused, check_named("llama2", CHANGES); }

static void test_known_ids(void **unused)
{
    static const int32_t want[] = {504, 3575, 282, 4649, 314};
    static const char text[] = "The capital of France is";
    (void)unused;
    er_err err = ER_ERR_INIT;
    er_ids ids = {0};
    er_text back = ER_TEXT_INIT;
    er_tokenizer *t = open_named("smollm2");
    if (!t) skip();
    ok(er_encode(t, &ids, text, strlen(text), 1, &err));
    assert_int_equal(ids.count, 5);
    assert_memory_equal(ids.at, want, sizeof want);
    ok(er_decode(t, &back, ids.at, ids.count, 1, &err));
    assert_string_equal(back.at, text);
    er_text_free(&back);
    er_ids_free(&ids);
    er_tokenizer_close(t);
}

/* --- small tokenizers: one component or flag each ----------------------------------------------------------------- */

static er_tokenizer *case_tokenizer(json_t *entry)
{
    er_err err = ER_ERR_INIT;
    er_tokenizer *t = NULL;
    json_t *root = json_deep_copy(json_object_get(json_object_get(golden, "bases"),
                                                  json_string_value(json_object_get(entry, "base"))));
    json_t *change = json_deep_copy(json_object_get(entry, "change"));
    json_t *model = json_incref(json_object_get(change, "model"));
    json_object_del(change, "model");
    assert_int_equal(json_object_update(root, change), 0);
    if (model) assert_int_equal(json_object_update(json_object_get(root, "model"), model), 0);
    char *text = json_dumps(root, 0);
    ok(er_tokenizer_parse(&t, text, strlen(text), json_string_value(json_object_get(entry, "name")), &err));
    free(text);
    json_decref(model);
    json_decref(change);
    json_decref(root);
    return t;
}

static int same_ids(const er_ids *ids, const json_t *want)
{
    if ((size_t)ids->count != json_array_size(want)) return 0;
    for (int64_t i = 0; i < ids->count; i++)
        if (json_integer_value(json_array_get(want, (size_t)i)) != ids->at[i]) return 0;
    return 1;
}

/* Where the reference had to put U+FFFD, we give bytes. */
static int same_text(const er_tokenizer *t, const er_ids *ids, const json_t *want, int skip_special)
{
    er_err err = ER_ERR_INIT;
    er_text text = ER_TEXT_INIT;
    const char *expected = json_string_value(want);
    size_t n = json_string_length(want);
    ok(er_decode(t, &text, ids->at, ids->count, skip_special, &err));
    int same = strstr(expected, "\uFFFD") || (text.length == n && (n == 0 || !memcmp(text.at, expected, n)));
    if (!same) print_error("decoded '%s', expected '%s'\n", text.at ? text.at : "", expected);
    er_text_free(&text);
    return same;
}

static int check_texts(const er_tokenizer *t, json_t *entry)
{
    er_err err = ER_ERR_INIT;
    er_ids ids = {0};
    int bad = 0;
    size_t i;
    json_t *text;
    json_array_foreach(json_object_get(entry, "texts"), i, text) {
        ids.count = 0;
        ok(er_encode(t, &ids, json_string_value(text), json_string_length(text), 1, &err));
        int same = same_ids(&ids, json_array_get(json_object_get(entry, "ids"), i));
        same = same && same_text(t, &ids, json_array_get(json_object_get(entry, "decoded"), i), 0);
        same = same && same_text(t, &ids, json_array_get(json_object_get(entry, "skipped"), i), 1);
        if (same) continue;
        bad++;
        print_error("%s: '%s' differs:", json_string_value(json_object_get(entry, "name")), json_string_value(text));
        for (int64_t k = 0; k < ids.count; k++) print_error(" %d", (int)ids.at[k]);
        print_error("\n");
    }
    er_ids_free(&ids);
    return bad;
}

/* The tokenizer.json that we write makes the same tokenizer. */
static er_tokenizer *written_and_read(const er_tokenizer *t)
{
    er_err err = ER_ERR_INIT;
    er_text json = ER_TEXT_INIT;
    er_tokenizer *again = NULL;
    ok(er_tokenizer_json(t, &json, &err));
    ok(er_tokenizer_parse(&again, json.at, json.length, "written", &err));
    er_text_free(&json);
    er_hash a = er_tokenizer_hash(t), b = er_tokenizer_hash(again);
    assert_true(er_hash_equal(&a, &b));
    return again;
}

static void test_cases(void **unused)
{
    (void)unused;
    json_t *entry;
    size_t i;
    int bad = 0;
    assert_true(json_array_size(json_object_get(golden, "cases")) > 0);
    json_array_foreach(json_object_get(golden, "cases"), i, entry) {
        er_tokenizer *t = case_tokenizer(entry), *again = written_and_read(t);
        bad += check_texts(t, entry) + check_texts(again, entry);
        er_tokenizer_close(t);
        er_tokenizer_close(again);
    }
    assert_int_equal(bad, 0);
}

/* What is written is also what Hugging Face's own file hashes to. */
static void test_written(void **unused)
{
    (void)unused;
    static const char *const names[] = {"tiny", "smollm2", "gpt2", "llama3", "qwen3", "llama2"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        er_tokenizer *t = open_named(names[i]);
        if (t) er_tokenizer_close(written_and_read(t));
        er_tokenizer_close(t);
    }
}

static int start(void **unused)
{
    (void)unused;
    golden = json_load_file("tests/golden/tokenizer.json", JSON_ALLOW_NUL, NULL);
    return golden ? 0 : -1;
}

static int end(void **unused)
{
    (void)unused;
    json_decref(golden);
    return er_memory_live() == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),  cmocka_unit_test(test_tiny),  cmocka_unit_test(test_smollm2),
        cmocka_unit_test(test_gpt2),   cmocka_unit_test(test_llama3), cmocka_unit_test(test_qwen3),
        cmocka_unit_test(test_llama2), cmocka_unit_test(test_known_ids), cmocka_unit_test(test_written),
    };
    return cmocka_run_group_tests(tests, start, end);
}
