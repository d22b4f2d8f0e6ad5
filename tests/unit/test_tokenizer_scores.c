/* SPDX-License-Identifier: Apache-2.0 */
/* SentencePiece vocabularies as GGUF carries them: tokens, scores and types, no merges. */
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "model/tokenizer.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ok(call) ok_at((call), &err, __LINE__)
static void ok_at(int code, const er_err *err, int line)
{
    if (code) fail_msg("line %d: %d %s", line, code, err->text);
}

/* --- a made-up vocabulary ----------------------------------------------------------------------------------------- */

typedef struct piece {
    const char *text;
    float score;
    int32_t type;
} piece;

static const piece pieces[] = {
    {"<unk>", 0, 2},        {"<s>", 0, 3},          {"</s>", 0, 3},           {"<0x0A>", -9, 6},
    {"<0xC3>", -9, 6},      {"<0xA9>", -9, 6},      {"\u2581", -20, 1},       {"a", -21, 1},
    {"b", -22, 1},          {"ab", -3, 1},          {"ba", -2, 1},            {"aba", -4, 1},
    {"\u2581a", -1, 1},     {"  ", -1000, 4},       {"[PAD14]", -10000, 5},   {"<user>", -1000, 4},
    {"\u2581ab", -5, 1},    {"bab", -4, 1},
};
enum { PIECES = sizeof pieces / sizeof *pieces };

typedef struct lists {
    const char *tokens[PIECES];
    float scores[PIECES];
    int32_t types[PIECES];
} lists;

static er_tokenizer_parts parts_of(lists *l)
{
    for (int i = 0; i < PIECES; i++) {
        l->tokens[i] = pieces[i].text;
        l->scores[i] = pieces[i].score;
        l->types[i] = pieces[i].type;
    }
    return (er_tokenizer_parts){.model = "llama", .tokens = l->tokens, .types = l->types, .scores = l->scores,
                                .token_count = PIECES, .bos = 1, .eos = 2, .unk = -1, .pad = -1,
                                .add_bos = 1, .add_space_prefix = 1};
}

static void expect(const er_tokenizer *t, const char *text, const char *want)
{
    er_err err = ER_ERR_INIT;
    er_ids ids = {0};
    er_text got = ER_TEXT_INIT;
    ok(er_encode(t, &ids, text, strlen(text), 1, &err));
    for (int64_t i = 0; i < ids.count; i++) {
        ok(er_text_add(&got, i ? "|" : "", &err));
        ok(er_text_add(&got, er_tokenizer_text(t, ids.at[i]), &err));
    }
    assert_string_equal(got.at, want);
    er_text_free(&got);
    er_ids_free(&ids);
}

static void expect_back(const er_tokenizer *t, const char *text, const char *want)
{
    er_err err = ER_ERR_INIT;
    er_ids ids = {0};
    er_text back = ER_TEXT_INIT;
    ok(er_encode(t, &ids, text, strlen(text), 1, &err));
    ok(er_decode(t, &back, ids.at, ids.count, 1, &err));
    assert_string_equal(back.at, want);
    er_text_free(&back);
    er_ids_free(&ids);
}

static void test_made_up(void **unused)
{
    (void)unused;
    lists l;
    er_err err = ER_ERR_INIT;
    er_tokenizer *t = NULL;
    er_tokenizer_parts p = parts_of(&l);
    ok(er_tokenizer_make(&t, &p, &err));
    assert_int_equal(er_tokenizer_unk(t), 0);
    assert_int_equal(er_tokenizer_bos(t), 1);
    assert_true(er_tokenizer_is_special(t, 0) && er_tokenizer_is_special(t, 2) && !er_tokenizer_is_special(t, 15));
    assert_null(er_tokenizer_text(t, 14));
    expect(t, "a", "<s>|\u2581a");
    expect(t, "ab", "<s>|\u2581ab");
    expect(t, "aba", "<s>|\u2581a|ba");          /* highest score first: aba is never reached */
    expect(t, "bab", "<s>|\u2581|bab");          /* ba first, then ba + b */
    expect(t, "b\xC3\xA9\n", "<s>|\u2581|b|<0xC3>|<0xA9>|<0x0A>");
    expect(t, "z", "<s>|\u2581|<unk>");
    expect(t, "  a", "<s>|\u2581\u2581|\u2581a"); /* three spaces: the user's token comes before all scores */
    expect(t, "a<user>a<unk></s>", "<s>|\u2581a|<user>|\u2581a|<unk>|</s>");
    expect_back(t, "ba ab<user>\xC3\xA9", "ba ab<user> \xC3\xA9");
    er_tokenizer_close(t);
    p.add_space_prefix = p.add_bos = 0;
    p.add_eos = 1;
    ok(er_tokenizer_make(&t, &p, &err));
    expect(t, "ab", "ab|</s>");
    expect(t, "a a", "a|\u2581a|</s>");
    expect_back(t, " a", " a");
    er_tokenizer_close(t);
}

static void test_refused(void **unused)
{
    (void)unused;
    lists l;
    er_err err = ER_ERR_INIT;
    er_tokenizer *t = NULL;
    int64_t live = er_memory_live();
    er_tokenizer_parts p = parts_of(&l);
    p.scores = NULL;
    assert_int_equal(er_tokenizer_make(&t, &p, &err), ER_E_FORMAT);
    assert_non_null(strstr(err.text, "scores"));
    p = parts_of(&l);
    l.scores[9] = strtof("nan", NULL);
    assert_int_equal(er_tokenizer_make(&t, &p, &err), ER_E_FORMAT);
    assert_non_null(strstr(err.text, "'ab'"));
    p = parts_of(&l);
    l.tokens[9] = "ba";
    assert_int_equal(er_tokenizer_make(&t, &p, &err), ER_E_FORMAT);
    p = parts_of(&l);
    p.model = "t5";
    assert_int_equal(er_tokenizer_make(&t, &p, &err), ER_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "'t5'"));
    p = parts_of(&l);
    p.eos = -1;
    p.add_eos = 1;
    assert_int_equal(er_tokenizer_make(&t, &p, &err), ER_E_FORMAT);
    assert_null(t);
    assert_int_equal(er_memory_live(), live);
}

static void test_memory(void **unused)
{
    (void)unused;
    lists l;
    int64_t live = er_memory_live(), n = 1;
    for (;; n++) {
        er_tokenizer *t = NULL;
        er_tokenizer_parts p = parts_of(&l);
        er_memory_fail_at(n);
        int code = er_tokenizer_make(&t, &p, NULL);
        er_memory_fail_at(0);
        er_tokenizer_close(t);
        assert_int_equal(er_memory_live(), live);
        if (!code) break;
        assert_int_equal(code, ER_E_MEMORY);
        assert_true(n < 1000);
    }
    assert_true(n > 10);
}

/* --- LLaMA-2 ------------------------------------------------------------------------------------------------------ */

/* Its scores count down from the first merged token; runs of spaces, added later to the vocabulary, come last. */
static float llama2_score(const char *text, int64_t id)
{
    static const char mark[] = "\u2581";
    size_t n = strlen(mark), i = 0;
    while (strncmp(text + i, mark, n) == 0) i += n;
    if (i > n && !text[i]) return -1e9F;
    return id < 259 ? 0 : -(float)(id - 259);
}

static int32_t llama2_type(const char *text, int64_t id)
{
    if (id == 0) return 2;
    if (id < 3) return 3;
    return id < 259 && strncmp(text, "<0x", 3) == 0 ? 6 : 1;
}

/* Tokens, scores and types alone give the published tokenizer.json: its merges, in its order, and its other parts. */
static void test_llama2(void **unused)
{
    (void)unused;
    const char *root = getenv("ERRATA_SHARED");
    char path[512];
    snprintf(path, sizeof path, "%s/data/tokenizers/llama2/tokenizer.json", root ? root : "../shared");
    json_t *file = json_load_file(path, 0, NULL), *vocab = json_object_get(json_object_get(file, "model"), "vocab");
    if (!file) {
        print_message("%s is absent\n", path);
        skip();
    }
    int64_t n = (int64_t)json_object_size(vocab);
    const char **tokens = calloc((size_t)n, sizeof *tokens), *text;
    float *scores = calloc((size_t)n, sizeof *scores);
    int32_t *types = calloc((size_t)n, sizeof *types);
    json_t *number;
    json_object_foreach(vocab, text, number) {
        int64_t id = json_integer_value(number);
        tokens[id] = text;
        scores[id] = llama2_score(text, id);
        types[id] = llama2_type(text, id);
    }
    er_tokenizer_parts p = {.model = "llama", .tokens = tokens, .types = types, .scores = scores, .token_count = n,
                            .bos = 1, .eos = 2, .unk = 0, .pad = -1, .add_bos = 1, .add_space_prefix = 1};
    er_err err = ER_ERR_INIT;
    er_tokenizer *made = NULL, *read = NULL;
    ok(er_tokenizer_make(&made, &p, &err));
    ok(er_tokenizer_open(&read, path, &err));
    er_hash a = er_tokenizer_hash(made), b = er_tokenizer_hash(read);
    er_tokenizer_close(made);
    er_tokenizer_close(read);
    free(tokens);
    free(scores);
    free(types);
    json_decref(file);
    assert_true(er_hash_equal(&a, &b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_made_up),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_llama2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
