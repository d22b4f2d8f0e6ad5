/* SPDX-License-Identifier: Apache-2.0 */
/* Tokenizers at the edges: refused files, bytes that are no UTF-8, threads, failing allocations, GGUF's parts. What ids
 * must be is in test_tokenizer_golden.c. */
#include "base/memory.h"
#include "base/text.h"
#include "model/bpe.h"
#include "model/pretokenize.h"
#include "model/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char fixture[] = "tests/fixtures/tiny-llama/tokenizer.json";

#define ok(call) ok_at((call), &err, __LINE__)
static void ok_at(int code, const er_err *err, int line)
{
    if (code) fail_msg("line %d: %d %s", line, code, err->text);
}

static er_tokenizer *open_fixture(void)
{
    er_err err = ER_ERR_INIT;
    er_tokenizer *t = NULL;
    ok(er_tokenizer_open(&t, fixture, &err));
    return t;
}

/* --- files that are refused --------------------------------------------------------------------------------------- */

#define FILE_OF(model, rest)                                                                                           \
    "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, \"merges\": [\"a b\"]" model "},"    \
    "\"decoder\": {\"type\": \"ByteLevel\"}, \"pre_tokenizer\": {\"type\": \"ByteLevel\"}" rest "}"
#define TEMPLATE                                                                                                       \
    "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"x\"}}, {\"Sequence\": {\"id\": "    \
    "\"A\"}}], \"special_tokens\": {\"x\": {\"ids\": [1]}}}"
#define SPLIT(pattern)                                                                                                 \
    "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": []}, \"pre_tokenizer\": {\"type\": "          \
    "\"Split\", \"behavior\": \"Isolated\", \"pattern\": {\"Regex\": \"" pattern "\"}}}"

static void refused(const char *json, int code, const char *word)
{
    er_err err = ER_ERR_INIT;
    er_tokenizer *t = NULL;
    int64_t live = er_memory_live();
    int got = er_tokenizer_parse(&t, json, strlen(json), "x.json", &err);
    if (got != code || !strstr(err.text, word) || strncmp(err.text, "x.json: ", 8) != 0)
        fail_msg("%s\ngave %d '%s', expected %d and '%s'", json, got, err.text, code, word);
    assert_null(t);
    assert_int_equal(er_memory_live(), live);
}

static void test_unsupported(void **unused)
{
    (void)unused;
    const int no = ER_E_UNSUPPORTED;
    refused("{\"model\": {\"type\": \"Unigram\", \"vocab\": []}}", no, "model 'Unigram'");
    refused(FILE_OF(", \"dropout\": 0.1", ""), no, "dropout");
    refused(FILE_OF(", \"end_of_word_suffix\": \"</w>\"", ""), no, "end_of_word_suffix '</w>'");
    refused(FILE_OF(", \"byte_fallback\": true", ""), no, "byte_fallback");
    refused(FILE_OF("", ", \"normalizer\": {\"type\": \"Lowercase\"}"), no, "normalizer 'Lowercase'");
    refused(
        FILE_OF("", ", \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"BertNormalizer\"}]}"),
        no, "normalizer 'BertNormalizer'");
    refused(FILE_OF("", ", \"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"Regex\": \"a\"}}"), no, "Regex");
    refused(FILE_OF("", ", \"post_processor\": {\"type\": \"BertProcessing\"}"), no, "post-processor 'BertProcessing'");
    refused(FILE_OF("", ", \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": []}"), no, "0 texts");
    refused(FILE_OF("", ", \"post_processor\": {\"type\": \"Sequence\", \"processors\": [" TEMPLATE ", " TEMPLATE "]}"),
            no, "more than one");
    static const char meta[] =
        "{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": []}, \"pre_tokenizer\": {\"type\": \"Whitespace\"}}";
    refused(meta, no, "pre-tokenizer 'Whitespace'");
    static const char words[] =
        "{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": []}, \"decoder\": {\"type\": \"WordPiece\"}}";
    refused(words, no, "'WordPiece'");
    static const char mixed[] =
        "{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": []}, \"decoder\": {\"type\": \"ByteLevel\"}}";
    refused(mixed, no, "without ByteLevel");
    static const char *const patterns[] = {
        "[[:alpha:]]", "[a-z&&[^b]]",     "\\\\bx", "(?m:.)",  "(?x)a", "(*FAIL)", "[\\\\W]", "a{2}+", "\\\\h",
        "(a)\\\\1",    "\\\\p{Nonsense}", "[a",     "\\\\xE9", "(",     "a{3}?",   "[]a]",    "x(?i)y"};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        er_text json = ER_TEXT_INIT;
        er_text_format(&json, NULL, SPLIT("%s"), patterns[i]);
        refused(json.at, no, "pattern '");
        er_text_free(&json);
    }
}

static void test_malformed(void **unused)
{
    (void)unused;
    const int bad = ER_E_FORMAT;
    refused("", bad, "line");
    refused("{\"model\": ", bad, "line 1 column");
    refused("[1, 2]", bad, "no tokenizer.json");
    refused("{\"model\": {\"type\": \"BPE\"}}", bad, "model.vocab");
    refused("{\"model\": {\"vocab\": {}, \"merges\": []}}", bad, "vocabulary of 0");
    refused("{\"model\": {\"vocab\": {\"a\": 0}}}", bad, "model.merges");
    refused("{\"model\": {\"vocab\": {\"a\": -1}, \"merges\": []}}", bad, "'a'");
    refused("{\"model\": {\"vocab\": {\"a\": \"0\"}, \"merges\": []}}", bad, "'a'");
    refused("{\"model\": {\"vocab\": {\"a\": 2000000000}, \"merges\": []}}", bad, "'a'");
    refused("{\"model\": {\"vocab\": {\"a\": 0, \"b\": 0}, \"merges\": []}}", bad, "share id 0");
    refused("{\"model\": {\"vocab\": {\"a\": 0, \"a\": 1}, \"merges\": []}}", bad, "duplicate");
    refused("{\"model\": {\"vocab\": {\"a\": 0, \"b\": 1}, \"merges\": [\"a b\"]}}", bad, "merge 'a'");
    refused("{\"model\": {\"vocab\": {\"a\": 0, \"b\": 1}, \"merges\": [\"ab\"]}}", bad, "not two tokens");
    refused("{\"model\": {\"vocab\": {\"a\": 0, \"b\": 1}, \"merges\": [[\"a\"]]}}", bad, "no pair");
    refused(FILE_OF(", \"unk_token\": \"<unk>\"", ""), bad, "<unk>");
    refused(FILE_OF("", ", \"added_tokens\": [{\"id\": 0, \"content\": \"b\"}]"), bad, "added token 'b'");
    refused(FILE_OF("", ", \"added_tokens\": [{\"id\": 0, \"content\": \"c\"}]"), bad, "share id 0");
    refused(FILE_OF("", ", \"added_tokens\": [{\"id\": 3}]"), bad, "no content");
    refused(FILE_OF("", ", \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": "
                        "{\"id\": \"x\"}}, "
                        "{\"Sequence\": {\"id\": \"A\"}}], \"special_tokens\": {\"x\": {\"ids\": [7]}}}"),
            bad, "without a token");
    refused(FILE_OF("", ", \"normalizer\": {\"type\": \"Sequence\"}"), bad, "normalizers");
}

static void test_missing_file(void **unused)
{
    (void)unused;
    er_err err = ER_ERR_INIT;
    er_tokenizer *t = NULL;
    assert_int_equal(er_tokenizer_open(&t, "tests/fixtures/none/tokenizer.json", &err), ER_E_IO);
    assert_non_null(strstr(err.text, "none/tokenizer.json"));
    er_tokenizer_close(NULL);
}

/* --- bytes -------------------------------------------------------------------------------------------------------- */

static void test_byte_alphabet(void **unused)
{
    (void)unused;
    int seen[0x144] = {0};
    for (int b = 0; b < 256; b++) {
        uint32_t point = er_byte_to_point((uint8_t)b);
        assert_true(point > 0x20 && point < 0x144 && !seen[point]++);
        assert_int_equal(er_point_to_byte(point), b);
    }
    assert_int_equal(er_byte_to_point(' '), 0x120);
    assert_int_equal(er_byte_to_point('\n'), 0x10A);
    assert_int_equal(er_byte_to_point(0xAD), 0x143);
    assert_int_equal(er_point_to_byte(0x144), -1);
    assert_int_equal(er_point_to_byte(0xAD), -1);
}

/* Any bytes come back; a broken byte is one id of its own and does not change what stands around it. */
static void test_broken_utf8(void **unused)
{
    (void)unused;
    er_err err = ER_ERR_INIT;
    er_tokenizer *t = open_fixture();
    er_text back = ER_TEXT_INIT;
    er_ids ids = {0}, parts = {0};
    uint64_t state = 7;
    for (int round = 0; round < 2000; round++) {
        char text[64];
        size_t n = (size_t)(round % 64);
        for (size_t i = 0; i < n; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            text[i] = (char)(state >> 56);
        }
        ids.count = 0;
        back.length = 0;
        ok(er_encode(t, &ids, text, n, 0, &err));
        ok(er_decode(t, &back, ids.at, ids.count, 0, &err));
        assert_int_equal(back.length, n);
        if (n) assert_memory_equal(back.at, text, n);
    }
    static const char broken[] = "the \xFF 12\xE2\x82<|endoftext|>\xED\xA0\x80!";
    static const char *const pieces[] = {"the ",          "\xFF", " 12",  "\xE2", "\x82",
                                         "<|endoftext|>", "\xED", "\xA0", "\x80", "!"};
    ids.count = 0;
    ok(er_encode(t, &ids, broken, sizeof broken - 1, 0, &err));
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        ok(er_encode(t, &parts, pieces[i], strlen(pieces[i]), 0, &err));
    assert_int_equal(ids.count, parts.count);
    assert_memory_equal(ids.at, parts.at, (size_t)ids.count * sizeof *ids.at);
    er_ids_free(&ids);
    er_ids_free(&parts);
    er_text_free(&back);
    er_tokenizer_close(t);
}

/* One piece of 200000 bytes takes the heap; it must agree with what the definition says of runs. */
static void test_long_piece(void **unused)
{
    (void)unused;
    enum { N = 200000 };
    er_err err = ER_ERR_INIT;
    er_tokenizer *t = open_fixture();
    char *text = NULL;
    er_ids ids = {0};
    er_text back = ER_TEXT_INIT;
    ok(er_alloc(&text, N, &err));
    for (int i = 0; i < N; i++) text[i] = "the cat"[i % 7 == 3 ? 0 : i % 7];
    ok(er_encode(t, &ids, text, N, 0, &err));
    ok(er_decode(t, &back, ids.at, ids.count, 0, &err));
    assert_int_equal(back.length, N);
    assert_memory_equal(back.at, text, N);
    assert_true(ids.count < N);
    for (int64_t i = 70; i + 70 < ids.count; i++) { /* periodic text, periodic ids away from the ends */
        int64_t step = 1;
        while (step <= 64 && ids.at[i + step] != ids.at[i]) step++;
        assert_true(step <= 64);
    }
    er_free(text);
    er_ids_free(&ids);
    er_text_free(&back);
    er_tokenizer_close(t);
}

static void test_decode_edges(void **unused)
{
    (void)unused;
    er_err err = ER_ERR_INIT;
    er_tokenizer *t = open_fixture();
    er_text text = ER_TEXT_INIT;
    int32_t beyond[] = {5, (int32_t)er_tokenizer_size(t), INT32_MAX, 5}, negative[] = {5, -1};
    ok(er_decode(t, &text, beyond, 4, 0, &err));
    assert_int_equal(text.length, 2);
    assert_int_equal(er_decode(t, &text, negative, 2, 0, &err), ER_E_INPUT);
    assert_int_equal(text.length, 2);
    ok(er_decode(t, &text, NULL, 0, 0, &err));
    int64_t end = er_tokenizer_find(t, "<|endoftext|>");
    assert_true(end >= 0 && er_tokenizer_is_special(t, end) && !er_tokenizer_is_special(t, 5));
    assert_string_equal(er_tokenizer_text(t, end), "<|endoftext|>");
    assert_null(er_tokenizer_text(t, -1));
    assert_null(er_tokenizer_text(t, er_tokenizer_size(t)));
    assert_int_equal(er_tokenizer_find(t, "no such token"), -1);
    er_text_free(&text);
    er_tokenizer_close(t);
}

/* --- GGUF's parts ------------------------------------------------------------------------------------------------- */

static er_tokenizer_parts parts_of_alphabet(char names[260][8], const char *tokens[260])
{
    static const char *const merges[] = {"h e", "Ġ t", "1 2", "A B"};
    for (int b = 0; b < 256; b++) {
        names[b][er_utf8_put(names[b], er_byte_to_point((uint8_t)b))] = 0;
        tokens[b] = names[b];
    }
    tokens[256] = "he";
    tokens[257] = "Ġt";
    tokens[258] = "12";
    tokens[259] = "AB";
    return (er_tokenizer_parts){.tokens = tokens,
                                .token_count = 260,
                                .merges = merges,
                                .merge_count = 4,
                                .pre = "smollm",
                                .bos = 0,
                                .eos = 1,
                                .unk = -1,
                                .pad = 999};
}

static void test_parts(void **unused)
{
    (void)unused;
    char names[260][8];
    const char *tokens[260];
    er_err err = ER_ERR_INIT;
    er_tokenizer *t = NULL;
    er_ids ids = {0};
    int32_t types[260];
    for (int i = 0; i < 260; i++) types[i] = i == 259 ? 3 : 1;
    er_tokenizer_parts p = parts_of_alphabet(names, tokens);
    p.types = types;
    p.add_bos = 1;
    ok(er_tokenizer_make(&t, &p, &err));
    assert_int_equal(er_tokenizer_bos(t), 0);
    assert_int_equal(er_tokenizer_pad(t), -1);
    assert_true(er_tokenizer_is_special(t, 259));
    ok(er_encode(t, &ids, "he the12AB", 10, 1, &err));
    static const int32_t want[] = {0, 256, 257, 256, '1', '2', 259}; /* digits one by one: 12 is never merged */
    assert_int_equal(ids.count, 7);
    assert_memory_equal(ids.at, want, sizeof want);
    er_tokenizer_close(t);
    static const char *const known[] = {"gpt-2", "phi-2", "llama-bpe", "llama3", "dbrx", "olmo", "qwen2", "starcoder"};
    for (size_t i = 0; i < 8; i++) {
        p.pre = known[i];
        ok(er_tokenizer_make(&t, &p, &err));
        ids.count = 0;
        ok(er_encode(t, &ids, "12", 2, 0, &err));
        assert_int_equal(ids.count, i < 6 ? 1 : 2);
        ids.count = 0;
        ok(er_encode(t, &ids, "e\u0301", 3, 0, &err)); /* two bytes where it is composed */
        assert_int_equal(ids.count, i == 5 || i == 6 ? 2 : 3);
        er_tokenizer_close(t);
    }
    t = NULL;
    p.pre = "nonesuch";
    assert_int_equal(er_tokenizer_make(&t, &p, &err), ER_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "'nonesuch'"));
    p.pre = NULL;
    assert_int_equal(er_tokenizer_make(&t, &p, &err), ER_E_UNSUPPORTED);
    p.pre = "smollm";
    p.bos = -1;
    assert_int_equal(er_tokenizer_make(&t, &p, &err), ER_E_FORMAT);
    p.add_bos = 0;
    tokens[0] = "\xFF";
    assert_int_equal(er_tokenizer_make(&t, &p, &err), ER_E_FORMAT);
    assert_null(t);
    er_ids_free(&ids);
}

static void test_hash_differs(void **unused)
{
    (void)unused;
    char names[260][8];
    const char *tokens[260];
    er_err err = ER_ERR_INIT;
    er_hash hashes[6];
    int32_t types[260];
    for (int i = 0; i < 260; i++) types[i] = i == 259 ? 3 : 1;
    for (int i = 0; i < 6; i++) {
        er_tokenizer *t = NULL;
        er_tokenizer_parts p = parts_of_alphabet(names, tokens);
        if (i == 1) p.pre = "gpt-2";
        if (i == 2) p.merge_count = 3;
        if (i == 3) p.types = types;
        if (i == 4) p.add_bos = 1;
        if (i == 5) tokens[255] = "Ġthe";
        ok(er_tokenizer_make(&t, &p, &err));
        hashes[i] = er_tokenizer_hash(t);
        er_tokenizer_close(t);
        for (int k = 0; k < i; k++) assert_false(er_hash_equal(&hashes[i], &hashes[k]));
    }
}

/* --- threads and memory ------------------------------------------------------------------------------------------- */

static void test_threads(void **unused)
{
    (void)unused;
    static const char text[] =
        "The rain of 1984 didn't stop\n\n  in the village <|endoftext|> \xF0\x9F\x98\x80 caf\xC3\xA9 \xFF.";
    er_tokenizer *t = open_fixture();
    er_err err = ER_ERR_INIT;
    er_ids want = {0};
    int bad = 0;
    ok(er_encode(t, &want, text, sizeof text - 1, 0, &err));
#pragma omp parallel num_threads(4) reduction(+ : bad)
    {
        er_ids ids = {0};
        for (int i = 0; i < 500; i++) {
            ids.count = 0;
            if (er_encode(t, &ids, text, sizeof text - 1, 0, NULL) || ids.count != want.count ||
                memcmp(ids.at, want.at, (size_t)want.count * sizeof *want.at) != 0)
                bad++;
        }
        er_ids_free(&ids);
    }
    assert_int_equal(bad, 0);
    er_ids_free(&want);
    er_tokenizer_close(t);
}

static int work_through(void)
{
    static const char json[] =
        "{\"model\": {\"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2, \"\xC3\x83\": 3, \"\xC2\xA9\": 4, \"\xC4\xA0\": 5}, "
        "\"merges\": [\"a b\"]}, "
        "\"added_tokens\": [{\"id\": 6, \"content\": \"<s>\", \"special\": true, \"normalized\": true}], "
        "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"}, {\"type\": \"Prepend\", "
        "\"prepend\": \"a\"}]}, "
        "\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\", \"individual_digits\": "
        "true}, "
        "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\s+\"}, \"behavior\": \"MergedWithNext\"}, "
        "{\"type\": \"ByteLevel\", \"add_prefix_space\": true}]}, \"decoder\": {\"type\": \"ByteLevel\"}}";
    er_tokenizer *t = NULL;
    er_ids ids = {0};
    er_text text = ER_TEXT_INIT;
    int code = er_tokenizer_parse(&t, json, sizeof json - 1, "x", NULL);
    if (!code) code = er_encode(t, &ids, "ab e\xCC\x81<s>a\xFF", 12, 1, NULL);
    if (!code) code = er_decode(t, &text, ids.at, ids.count, 0, NULL);
    if (!code) code = er_tokenizer_json(t, &text, NULL);
    er_text_free(&text);
    er_ids_free(&ids);
    er_tokenizer_close(t);
    return code;
}

/* Each allocation fails once: a clean error, and nothing stays behind. */
static void test_memory(void **unused)
{
    (void)unused;
    int64_t live = er_memory_live();
    int64_t n = 1;
    for (;; n++) {
        er_memory_fail_at(n);
        int code = work_through();
        er_memory_fail_at(0);
        assert_int_equal(er_memory_live(), live);
        if (!code) break;
        assert_int_equal(code, ER_E_MEMORY);
        assert_true(n < 1000);
    }
    assert_true(n > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unsupported),  cmocka_unit_test(test_malformed),    cmocka_unit_test(test_missing_file),
        cmocka_unit_test(test_byte_alphabet), cmocka_unit_test(test_broken_utf8), cmocka_unit_test(test_long_piece),
        cmocka_unit_test(test_decode_edges), cmocka_unit_test(test_parts),        cmocka_unit_test(test_hash_differs),
        cmocka_unit_test(test_threads),      cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
