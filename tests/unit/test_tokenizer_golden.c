/* SPDX-License-Identifier: Apache-2.0 */
/* Ids against Hugging Face's tokenizers, as tests/golden/tokenizer_reference.py wrote them down. */
#include "tests/unit/tokenizer_figures.h"

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
    OK(er_hasher_new(&f->hash, &err));
}

static void figure_add(figure *f, const char *text, size_t n)
{
    er_err err = ER_ERR_INIT;
    f->ids.count = 0;
    f->back.length = 0;
    OK(er_encode(f->t, &f->ids, text, n, 0, &err));
    OK(er_decode(f->t, &f->back, f->ids.at, f->ids.count, 0, &err));
    f->byte_exact &= f->back.length == n && (n == 0 || !memcmp(f->back.at, text, n));
    add_ids(f->hash, &f->ids, f->many);
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

/* lossless: every text comes back from its ids */
static int check_random(const er_tokenizer *t, const char *name, int lossless)
{
    json_t *about = json_object_get(golden, "random");
    er_err err = ER_ERR_INIT;
    er_text text = ER_TEXT_INIT, all = ER_TEXT_INIT;
    figure f;
    figure_start(&f, t, 1);
    draws d = {(uint64_t)json_integer_value(json_object_get(about, "seed"))};
    for (json_int_t n = json_integer_value(json_object_get(about, "strings")); n > 0; n--) {
        random_text(&text, &d);
        OK(er_text_bytes(&all, text.at, text.length, &err));
        figure_add(&f, text.at, text.length);
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
    char file[128];
    char *text;
    size_t n;
    er_err err = ER_ERR_INIT;
    const char *base = json_string_value(json_object_get(json_object_get(golden, "text"), "file"));
    snprintf(file, sizeof file, "data/text/%s", base ? base : "");
    const char *path = SHARED(file);
    if (!base || !er_file_exists(path)) {
        print_message("%s: %s is absent, the figures on it are skipped\n", name, path);
        return 1;
    }
    OK(er_file_read(&text, &n, path, &err));
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
static void test_tinystories(void **unused) { (void)unused, check_named("tinystories", CHANGES); }

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
    OK(er_encode(t, &ids, text, strlen(text), 1, &err));
    assert_int_equal(ids.count, 5);
    assert_memory_equal(ids.at, want, sizeof want);
    OK(er_decode(t, &back, ids.at, ids.count, 1, &err));
    assert_string_equal(back.at, text);
    er_text_free(&back);
    er_ids_free(&ids);
    er_tokenizer_close(t);
}

/* --- small tokenizers: one component or flag each ----------------------------------------------------------------- */

static int same_ids(const er_ids *ids, const json_t *want)
{
    if ((size_t)ids->count != json_array_size(want)) return 0;
    for (int64_t i = 0; i < ids->count; i++)
        if (json_integer_value(json_array_get(want, (size_t)i)) != ids->at[i]) return 0;
    return 1;
}

/* JSON null: the reference panicked. */
static int same_text(const er_tokenizer *t, const er_ids *ids, const json_t *want, int skip_special)
{
    er_err err = ER_ERR_INIT;
    er_text text = ER_TEXT_INIT;
    const char *expected = json_string_value(want);
    size_t n = json_string_length(want);
    OK(er_decode_text(t, &text, ids->at, ids->count, skip_special, &err));
    int same = !expected || (text.length == n && (n == 0 || !memcmp(text.at, expected, n)));
    if (!same) print_error("decoded '%s', expected '%s'\n", text.at ? text.at : "", expected);
    er_text_free(&text);
    return same;
}

static const json_t *at(json_t *entry, const char *list, size_t i)
{
    return json_array_get(json_object_get(entry, list), i);
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
        OK(er_encode(t, &ids, json_string_value(text), json_string_length(text), 1, &err));
        int same = same_ids(&ids, at(entry, "ids", i));
        same = same && same_text(t, &ids, at(entry, "decoded", i), 0);
        same = same && same_text(t, &ids, at(entry, "skipped", i), 1);
        if (same) continue;
        bad++;
        print_error("%s: '%s' differs:", json_string_value(json_object_get(entry, "name")), json_string_value(text));
        for (int64_t k = 0; k < ids.count; k++) print_error(" %d", (int)ids.at[k]);
        print_error("\n");
    }
    er_ids_free(&ids);
    return bad;
}

/* Ids that no text has: halves of characters, bytes without their neighbours. */
static int check_odd(const er_tokenizer *t, json_t *entry)
{
    er_err err = ER_ERR_INIT;
    er_ids ids = {0};
    int bad = 0;
    size_t i, k;
    json_t *list, *id;
    json_array_foreach(json_object_get(entry, "odd"), i, list) {
        ids.count = 0;
        json_array_foreach(list, k, id) OK(er_ids_add(&ids, (int32_t)json_integer_value(id), &err));
        int same = same_text(t, &ids, at(entry, "odd_decoded", i), 0);
        same = same_text(t, &ids, at(entry, "odd_skipped", i), 1) && same;
        if (!same) print_error("%s: odd ids %zu\n", json_string_value(json_object_get(entry, "name")), i);
        bad += !same;
    }
    er_ids_free(&ids);
    return bad;
}

/* A few hundred random strings, without and with special tokens. */
static int check_strings(const er_tokenizer *t, json_t *entry)
{
    er_err err = ER_ERR_INIT;
    json_t *about = json_object_get(golden, "strings");
    json_int_t few = json_integer_value(json_object_get(about, "few"));
    draws d = {(uint64_t)json_integer_value(json_object_get(about, "seed")) + 1};
    er_text *texts = calloc((size_t)few, sizeof *texts);
    er_hasher *h = NULL;
    er_ids ids = {0};
    OK(er_hasher_new(&h, &err));
    for (json_int_t i = 0; i < few; i++) random_string(&texts[i], &d);
    for (json_int_t i = 0; i < 2 * few; i++) {
        const er_text *text = &texts[i % few];
        ids.count = 0;
        OK(er_encode(t, &ids, text->at, text->length, i >= few, &err));
        add_ids(h, &ids, 1);
    }
    char hash_text[ER_HASH_TEXT];
    er_hash hash = er_hasher_end(h);
    er_hash_text(hash_text, &hash);
    for (json_int_t i = 0; i < few; i++) er_text_free(&texts[i]);
    free(texts);
    er_hasher_free(h);
    er_ids_free(&ids);
    int same = !strcmp(hash_text, json_string_value(json_object_get(entry, "strings")));
    if (!same) print_error("%s: random strings differ\n", json_string_value(json_object_get(entry, "name")));
    return !same;
}

/* ERRATA_TOKENIZER_EXPORTS=FOLDER keeps what is written for tokenizer_reference.py --exports. */
static void keep_export(const er_text *json, const char *name)
{
    const char *folder = getenv("ERRATA_TOKENIZER_EXPORTS");
    char path[512];
    er_err err = ER_ERR_INIT;
    if (!folder) return;
    snprintf(path, sizeof path, "%s/%s.json", folder, name);
    OK(er_save_bytes(path, json->at, json->length, &err));
}

/* The tokenizer.json that we write makes the same tokenizer. */
static er_tokenizer *written_and_read(const er_tokenizer *t, const char *name)
{
    er_err err = ER_ERR_INIT;
    er_text json = ER_TEXT_INIT;
    er_tokenizer *again = NULL;
    OK(er_tokenizer_json(t, &json, &err));
    keep_export(&json, name);
    OK(er_tokenizer_parse(&again, json.at, json.length, "written", &err));
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
        char name[32];
        snprintf(name, sizeof name, "case-%zu", i);
        er_tokenizer *t = case_tokenizer(entry), *again = written_and_read(t, name);
        bad += check_texts(t, entry) + check_texts(again, entry);
        bad += check_odd(t, entry) + check_odd(again, entry) + check_strings(t, entry);
        er_tokenizer_close(t);
        er_tokenizer_close(again);
    }
    assert_int_equal(bad, 0);
}

/* What is written is also what Hugging Face's own file hashes to. */
static void test_written(void **unused)
{
    (void)unused;
    static const char *const names[] = {"tiny", "smollm2", "gpt2", "llama3", "qwen3", "llama2", "tinystories"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        er_tokenizer *t = open_named(names[i]);
        if (t) er_tokenizer_close(written_and_read(t, names[i]));
        er_tokenizer_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),  cmocka_unit_test(test_tiny),  cmocka_unit_test(test_smollm2),
        cmocka_unit_test(test_gpt2),   cmocka_unit_test(test_llama3), cmocka_unit_test(test_qwen3),
        cmocka_unit_test(test_llama2), cmocka_unit_test(test_tinystories), cmocka_unit_test(test_known_ids),
        cmocka_unit_test(test_written),
    };
    return cmocka_run_group_tests(tests, golden_open, golden_close);
}
