/* SPDX-License-Identifier: Apache-2.0 */
/* Folders without tokenizer.json, against what tests/golden/tokenizer_folders.py had Hugging Face's library make of the
 * same files. */
#include "tests/support.h"

#include "base/file.h"
#include "base/text.h"
#include "model/tokenizer.h"
#include "model/tokenizer_proto.h"

#include <unistd.h>

static json_t *golden;
static char folder[] = "/tmp/er-tokenizer-XXXXXX";

/* --- files -------------------------------------------------------------------------------------------------------- */

static void path_of(char *out, size_t size, const char *name) { snprintf(out, size, "%s/%s", folder, name); }

static void write_file(const char *name, const char *bytes, size_t n)
{
    char path[256];
    er_err err = ER_ERR_INIT;
    path_of(path, sizeof path, name);
    OK(er_save_bytes(path, bytes, n, &err));
}

static void write_json(const char *name, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY);
    write_file(name, text, strlen(text));
    free(text);
}

static void clear_folder(void)
{
    static const char *const names[] = {"vocab.json",          "merges.txt",     "tokenizer_config.json",
                                        "special_tokens_map.json", "added_tokens.json", "tokenizer.json",
                                        "tokenizer.model"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[256];
        path_of(path, sizeof path, names[i]);
        unlink(path);
    }
}

static const char *how(json_t *entry, const char *key, const char *otherwise)
{
    const char *text = json_string_value(json_object_get(json_object_get(entry, "merges"), key));
    return text ? text : otherwise;
}

static void write_merges(json_t *entry)
{
    er_err err = ER_ERR_INIT;
    er_text text = ER_TEXT_INIT;
    size_t i;
    json_t *line;
    OK(er_text_add(&text, how(entry, "head", "#version: 0.2\n"), &err));
    json_array_foreach(json_object_get(golden, "merges"), i, line) {
        if (i) OK(er_text_add(&text, how(entry, "line", "\n"), &err));
        OK(er_text_add(&text, json_string_value(line), &err));
    }
    OK(er_text_add(&text, how(entry, "end", "\n"), &err));
    write_file("merges.txt", text.at, text.length);
    er_text_free(&text);
}

static char *model_bytes(size_t *n, const char *digits)
{
    *n = strlen(digits) / 2;
    char *bytes = malloc(*n + 1);
    for (size_t i = 0; i < *n; i++) {
        const char pair[3] = {digits[2 * i], digits[2 * i + 1], 0};
        bytes[i] = (char)strtol(pair, NULL, 16);
    }
    return bytes;
}

static void write_model(const char *digits)
{
    size_t n;
    char *bytes = model_bytes(&n, digits);
    write_file("tokenizer.model", bytes, n);
    free(bytes);
}

static json_t *case_named(const char *name)
{
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(golden, "cases"), i, entry) {
        if (!strcmp(json_string_value(json_object_get(entry, "name")), name)) return entry;
    }
    fail_msg("no case %s", name);
    return NULL;
}

static const char *model_of(json_t *entry)
{
    const char *name = json_string_value(json_object_get(entry, "model"));
    return name ? json_string_value(json_object_get(json_object_get(golden, "models"), name)) : NULL;
}

static void write_case(json_t *entry)
{
    const char *name;
    json_t *value;
    clear_folder();
    if (model_of(entry)) {
        write_model(model_of(entry));
    } else {
        write_json("vocab.json", json_object_get(golden, "vocab"));
        write_merges(entry);
    }
    json_object_foreach(json_object_get(entry, "files"), name, value) {
        const char *text = json_string_value(value);
        write_file(name, text, strlen(text));
    }
}

/* --- comparing ---------------------------------------------------------------------------------------------------- */

static int same_ids(const er_tokenizer *t, const char *text, size_t n, int special, const json_t *want)
{
    er_err err = ER_ERR_INIT;
    er_ids ids = {0};
    OK(er_encode(t, &ids, text, n, special, &err));
    int same = (size_t)ids.count == json_array_size(want);
    for (int64_t i = 0; i < ids.count && same; i++)
        same = json_integer_value(json_array_get(want, (size_t)i)) == ids.at[i];
    if (!same)
        for (int64_t i = 0; i < ids.count; i++) print_error("%d ", (int)ids.at[i]);
    er_ids_free(&ids);
    return same;
}

static int same_text(const er_tokenizer *t, const json_t *list, int skip, const json_t *want)
{
    er_err err = ER_ERR_INIT;
    er_text text = ER_TEXT_INIT;
    int32_t ids[256];
    int64_t n = (int64_t)json_array_size(list);
    for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
    OK(er_text_add(&text, "", &err));
    OK(er_decode_text(t, &text, ids, n, skip, &err));
    int same = !strcmp(text.at, json_string_value(want));
    er_text_free(&text);
    return same;
}

static int named_id(json_t *entry, const char *key, int64_t got)
{
    const json_t *want = json_object_get(json_object_get(entry, "named"), key);
    return got == (json_is_integer(want) ? json_integer_value(want) : -1);
}

static const json_t *at(json_t *entry, const char *list, size_t i)
{
    return json_array_get(json_object_get(entry, list), i);
}

static int check(const er_tokenizer *t, json_t *entry)
{
    const char *name = json_string_value(json_object_get(entry, "name"));
    int bad = er_tokenizer_size(t) != json_integer_value(json_object_get(entry, "size"));
    bad += !named_id(entry, "bos", er_tokenizer_bos(t)) + !named_id(entry, "eos", er_tokenizer_eos(t)) +
           !named_id(entry, "unk", er_tokenizer_unk(t)) + !named_id(entry, "pad", er_tokenizer_pad(t));
    if (bad) print_error("%s: size or named tokens\n", name);
    size_t i;
    json_t *text;
    json_array_foreach(json_object_get(golden, "texts"), i, text) {
        const char *bytes = json_string_value(text);
        size_t n = json_string_length(text);
        int same = same_ids(t, bytes, n, 1, at(entry, "ids", i)) && same_ids(t, bytes, n, 0, at(entry, "plain", i)) &&
                   same_text(t, at(entry, "ids", i), 0, at(entry, "decoded", i)) &&
                   same_text(t, at(entry, "ids", i), 1, at(entry, "skipped", i));
        if (!same) print_error("%s: '%s'\n", name, bytes);
        bad += !same;
    }
    return bad;
}

/* What is written of it is read back to the same, with the flags that the library gave its added tokens. */
static int check_written(const er_tokenizer *t, json_t *entry)
{
    er_err err = ER_ERR_INIT;
    er_text text = ER_TEXT_INIT;
    er_tokenizer *again = NULL;
    OK(er_tokenizer_json(t, &text, &err));
    OK(er_tokenizer_parse(&again, text.at, text.length, "written", &err));
    er_hash a = er_tokenizer_hash(t), b = er_tokenizer_hash(again);
    assert_true(er_hash_equal(&a, &b));
    er_tokenizer_close(again);
    json_t *root = json_loads(text.at, 0, NULL), *added = json_object_get(root, "added_tokens"), *want;
    size_t i;
    int bad = json_array_size(added) != json_array_size(json_object_get(entry, "added"));
    json_array_foreach(json_object_get(entry, "added"), i, want) {
        json_t *got = json_array_get(added, i);
        bad += !json_equal(json_object_get(got, "id"), json_array_get(want, 0)) +
               !json_equal(json_object_get(got, "content"), json_array_get(want, 1));
        bad += !json_equal(json_object_get(got, "lstrip"), json_array_get(want, 4)) +
               !json_equal(json_object_get(got, "rstrip"), json_array_get(want, 5)) +
               !json_equal(json_object_get(got, "single_word"), json_array_get(want, 6));
        /* a control piece that is configured otherwise is still used as one, though the library shows it otherwise;
         * `normalized` decides nothing without a normalizer, and is not compared */
        if (!model_of(entry)) bad += !json_equal(json_object_get(got, "special"), json_array_get(want, 2));
    }
    if (bad) print_error("%s: added tokens\n", json_string_value(json_object_get(entry, "name")));
    json_decref(root);
    er_text_free(&text);
    return bad;
}

static void test_cases(void **unused)
{
    (void)unused;
    size_t i;
    json_t *entry;
    int bad = 0;
    assert_true(json_array_size(json_object_get(golden, "cases")) > 20);
    json_array_foreach(json_object_get(golden, "cases"), i, entry) {
        er_err err = ER_ERR_INIT;
        er_tokenizer *t = NULL;
        write_case(entry);
        OK(er_tokenizer_open_folder(&t, folder, &err));
        bad += check(t, entry) + check_written(t, entry);
        er_tokenizer_close(t);
    }
    assert_int_equal(bad, 0);
}

/* --- the same vocabularies as GGUF has them ----------------------------------------------------------------------- */

/* User-defined pieces as llama.cpp's converter writes them: marks as spaces, and a score of their own. */
static char *spelt(const er_piece *p)
{
    char *text = calloc(p->text.length + 1, 1);
    size_t n = 0;
    for (size_t i = 0; i < p->text.length; n++) {
        int mark = p->type == ER_PIECE_USER && !strncmp(p->text.at + i, "\u2581", strlen("\u2581"));
        text[n] = mark ? ' ' : p->text.at[i];
        i += mark ? strlen("\u2581") : 1;
    }
    return text;
}

static void test_gguf(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        int space_prefix;
        int64_t bos, eos, unk, pad;
    } cases[] = {{"LLaMA, legacy, llama", 1, 1, 2, 0, -1},
                 {"LLaMA, legacy, users", 1, 1, 2, 0, -1},
                 {"Gemma", 0, 2, 1, 3, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        er_err err = ER_ERR_INIT;
        er_tokenizer *t = NULL;
        json_t *entry = case_named(cases[i].name);
        size_t n;
        char *bytes = model_bytes(&n, model_of(entry));
        er_pieces p;
        OK(er_pieces_read(&p, bytes, n, &err));
        char **tokens = calloc(p.count, sizeof *tokens);
        float *scores = calloc(p.count, sizeof *scores);
        int32_t *types = calloc(p.count, sizeof *types);
        for (size_t k = 0; k < p.count; k++) {
            tokens[k] = spelt(&p.at[k]);
            int turn = !strcmp(tokens[k], "<start_of_turn>") || !strcmp(tokens[k], "<end_of_turn>");
            types[k] = turn ? ER_PIECE_CONTROL : p.at[k].type; /* as the converter has it, too */
            scores[k] = p.at[k].type == ER_PIECE_USER ? -1000 : p.at[k].score;
        }
        er_tokenizer_parts parts = {.model = "llama",
                                    .tokens = (const char *const *)tokens,
                                    .scores = scores,
                                    .types = types,
                                    .token_count = (int64_t)p.count,
                                    .bos = cases[i].bos,
                                    .eos = cases[i].eos,
                                    .unk = cases[i].unk,
                                    .pad = cases[i].pad,
                                    .add_bos = 1,
                                    .add_space_prefix = cases[i].space_prefix};
        OK(er_tokenizer_make(&t, &parts, &err));
        assert_int_equal(check(t, entry), 0);
        er_tokenizer_close(t);
        for (size_t k = 0; k < p.count; k++) free(tokens[k]);
        free(tokens);
        free(scores);
        free(types);
        er_pieces_free(&p);
        free(bytes);
    }
}

/* --- what is not a tokenizer -------------------------------------------------------------------------------------- */

static void refused(int code, const char *word)
{
    er_err err = ER_ERR_INIT;
    er_tokenizer *t = NULL;
    int64_t live = er_memory_live();
    int got = er_tokenizer_open_folder(&t, folder, &err);
    if (got != code || !strstr(err.text, word)) fail_msg("%d '%s', expected %d and '%s'", got, err.text, code, word);
    assert_null(t);
    assert_int_equal(er_memory_live(), live);
}

static void put(const char *name, const char *text) { write_file(name, text, strlen(text)); }

static void test_refused(void **unused)
{
    (void)unused;
    clear_folder();
    refused(ER_E_IO, "tokenizer.json");
    put("vocab.json", "{\"a\": 0, \"b\": 1, \"ab\": 2}");
    refused(ER_E_IO, "merges.txt");
    put("merges.txt", "#version: 0.2\na b\n");
    put("tokenizer_config.json", "{\"tokenizer_class\": \"T5Tokenizer\"}");
    refused(ER_E_UNSUPPORTED, "T5Tokenizer");
    put("tokenizer_config.json", "{\"tokenizer_class\": \"LlamaTokenizer\"}");
    refused(ER_E_UNSUPPORTED, "vocab.json");
    put("tokenizer_config.json", "{\"tokenizer_class\": ");
    refused(ER_E_FORMAT, "tokenizer_config.json");
    put("tokenizer_config.json", "[]");
    refused(ER_E_FORMAT, "no JSON object");
    put("tokenizer_config.json", "{\"bos_token\": null, \"add_bos_token\": true}");
    refused(ER_E_FORMAT, "add_bos_token");
    put("tokenizer_config.json", "{\"bos_token\": 5}");
    refused(ER_E_FORMAT, "special token");
    put("tokenizer_config.json", "{\"added_tokens_decoder\": {\"x\": {\"content\": \"<m>\"}}}");
    refused(ER_E_FORMAT, "'x'");
    put("tokenizer_config.json", "{\"added_tokens_decoder\": {\"4\": {}}}");
    refused(ER_E_FORMAT, "content");
    put("tokenizer_config.json", "{}");
    put("merges.txt", "#version: 0.2\na b\n\nab a\n");
    refused(ER_E_FORMAT, "merges.txt: line 3");
    put("merges.txt", "#version: 0.2\na b ab\n");
    refused(ER_E_FORMAT, "line 2");
    put("merges.txt", "#version: 0.2\na c\n");
    refused(ER_E_FORMAT, "merge 'a' 'c'");
    put("merges.txt", "#version: 0.2\na \xFF\n");
    refused(ER_E_FORMAT, "UTF-8");
    put("merges.txt", "");
    put("vocab.json", "{\"a\": 0, \"b\": -1}");
    refused(ER_E_FORMAT, "'b'");
    put("vocab.json", "{\"a\": 0, \"b\": 123456}");
    refused(ER_E_FORMAT, "'b'");
}

static void put_bytes(const char *bytes, size_t n) { write_file("tokenizer.model", bytes, n); }
#define PUT_MODEL(bytes) put_bytes(bytes, sizeof(bytes) - 1)

static void test_models_refused(void **unused)
{
    (void)unused;
    clear_folder();
    PUT_MODEL("");
    refused(ER_E_UNSUPPORTED, "no BPE"); /* what names no kind is a unigram model */
    PUT_MODEL("\x12\x02\x18\x02");
    refused(ER_E_FORMAT, "'<unk>'");
    PUT_MODEL("\x0A\x03\x0A\x01\x61\x12\x02\x18\x02");
    refused(ER_E_FORMAT, "'<unk>'");
    PUT_MODEL("\x0A\x03\x0A\x01\xFF\x12\x02\x18\x02");
    refused(ER_E_FORMAT, "piece 0");
    PUT_MODEL("\x0A\x03\x0A\x01\x00\x12\x02\x18\x02");
    refused(ER_E_FORMAT, "piece 0");
    PUT_MODEL("\x0A\x02\x10\x01");
    refused(ER_E_FORMAT, "piece 0");
    PUT_MODEL("\x0A\x03\x0A\x01\x61\x0A\x03\x0A\x01\x61\x12\x02\x18\x02");
    refused(ER_E_FORMAT, "'a' is there twice");
    PUT_MODEL("\x0A\x7F\x0A\x01");
    refused(ER_E_FORMAT, "too early");
    PUT_MODEL("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF");
    refused(ER_E_FORMAT, "too early");
    PUT_MODEL("\x0B\x01");
    refused(ER_E_FORMAT, "kind 3");
    put("tokenizer_config.json", "{\"tokenizer_class\": \"GPT2Tokenizer\"}");
    refused(ER_E_UNSUPPORTED, "tokenizer.model");
}

/* tokenizer.json is taken before all others. */
static void test_json_first(void **unused)
{
    (void)unused;
    er_err err = ER_ERR_INIT;
    er_tokenizer *a = NULL, *b = NULL;
    OK(er_tokenizer_open_folder(&a, "tests/fixtures/tiny-llama", &err));
    OK(er_tokenizer_open(&b, "tests/fixtures/tiny-llama/tokenizer.json", &err));
    er_hash x = er_tokenizer_hash(a), y = er_tokenizer_hash(b);
    assert_true(er_hash_equal(&x, &y));
    er_tokenizer_close(a);
    er_tokenizer_close(b);
}

static int start(void **unused)
{
    (void)unused;
    golden = json_load_file("tests/golden/tokenizer_folders.json", JSON_ALLOW_NUL, NULL);
    return golden && mkdtemp(folder) ? 0 : -1;
}

static int end(void **unused)
{
    (void)unused;
    clear_folder();
    rmdir(folder);
    json_decref(golden);
    return er_memory_live() == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_gguf),
                                       cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_models_refused), cmocka_unit_test(test_json_first)};
    return cmocka_run_group_tests(tests, start, end);
}
