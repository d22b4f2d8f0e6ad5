/* SPDX-License-Identifier: Apache-2.0 */
/* 200000 random Unicode strings and every CounterFact prompt, alone and joined to its targets: ids and decoded texts as
 * Hugging Face's tokenizers has them. Every 1000 texts have a hash, so a difference names its thousand. */
#include "tests/unit/tokenizer_figures.h"

static const char *const names[] = {"tiny", "smollm2", "gpt2", "llama3", "qwen3", "llama2", "tinystories"};
enum { NAMES = sizeof names / sizeof *names };

static er_tokenizer *tokenizers[NAMES];

typedef struct work {
    er_ids ids;
    er_text text;
} work;

static void add_text(er_hasher *h, const er_text *text)
{
    add_number(h, (int32_t)text->length);
    er_hasher_add(h, text->at, text->length);
}

/* ids, then what they decode to with and without special tokens */
static void add_round_trip(er_hasher *h, work *w, const er_tokenizer *t, const er_text *text, int special)
{
    er_err err = ER_ERR_INIT;
    w->ids.count = 0;
    OK(er_encode(t, &w->ids, text->at, text->length, special, &err));
    add_ids(h, &w->ids, 1);
    for (int skip = 0; skip < 2; skip++) {
        w->text.length = 0;
        OK(er_text_add(&w->text, "", &err));
        OK(er_decode_text(t, &w->text, w->ids.at, w->ids.count, skip, &err));
        add_text(h, &w->text);
    }
}

static const char *expected(int name, const char *what, size_t block)
{
    json_t *figures = json_object_get(json_object_get(golden, "tokenizers"), names[name]);
    return json_string_value(json_array_get(json_object_get(figures, what), block));
}

/* 1 when the hash of a block is not the golden one. */
static int differs(er_hasher *h, int name, const char *what, size_t block)
{
    char text[ER_HASH_TEXT];
    er_hash hash = er_hasher_end(h);
    er_hash_text(text, &hash);
    const char *want = expected(name, what, block);
    if (want && !strncmp(text, want, 16)) return 0;
    print_error("%s, %s: block %zu is %.16s, expected %s\n", names[name], what, block, text, want ? want : "none");
    return 1;
}

/* One block of texts through every tokenizer; `modes` 1: with special tokens, 2: without them first. */
static int check_block(work *w, const er_text *texts, size_t count, const char *what, size_t block, int modes)
{
    er_err err = ER_ERR_INIT;
    int bad = 0;
    for (int i = 0; i < NAMES; i++) {
        er_hasher *h = NULL;
        if (!tokenizers[i]) continue;
        OK(er_hasher_new(&h, &err));
        for (int special = 2 - modes; special < 2; special++)
            for (size_t k = 0; k < count; k++) add_round_trip(h, w, tokenizers[i], &texts[k], special);
        bad += differs(h, i, what, block);
        er_hasher_free(h);
    }
    return bad;
}

/* Texts are gathered to blocks; all of them have one hash, which shows that they are the same as the reference's. */
typedef struct gathering {
    work work;
    er_text *texts;
    size_t count, size, block;
    const char *what;
    int modes, bad;
    er_hasher *all;
} gathering;

static void gather_start(gathering *g, const char *what, int modes)
{
    er_err err = ER_ERR_INIT;
    *g = (gathering){.what = what, .modes = modes};
    g->size = (size_t)json_integer_value(json_object_get(json_object_get(golden, "strings"), "block"));
    g->texts = calloc(g->size, sizeof *g->texts);
    OK(er_hasher_new(&g->all, &err));
}

static er_text *gather_next(gathering *g)
{
    er_text *text = &g->texts[g->count];
    text->length = 0;
    put(text, "", 0);
    return text;
}

static void gather_flush(gathering *g)
{
    if (g->count) g->bad += check_block(&g->work, g->texts, g->count, g->what, g->block++, g->modes);
    g->count = 0;
}

static void gather_add(gathering *g)
{
    const er_text *text = &g->texts[g->count++];
    er_hasher_add(g->all, text->at, text->length);
    if (g->count == g->size) gather_flush(g);
}

static void gather_end(gathering *g)
{
    char text[ER_HASH_TEXT];
    gather_flush(g);
    er_hash hash = er_hasher_end(g->all);
    er_hash_text(text, &hash);
    for (size_t i = 0; i < g->size; i++) er_text_free(&g->texts[i]);
    free(g->texts);
    er_hasher_free(g->all);
    er_ids_free(&g->work.ids);
    er_text_free(&g->work.text);
    assert_string_equal(text, json_string_value(json_object_get(json_object_get(golden, g->what), "hash")));
    assert_int_equal(g->bad, 0);
}

static void test_strings(void **unused)
{
    (void)unused;
    json_t *about = json_object_get(golden, "strings");
    draws d = {(uint64_t)json_integer_value(json_object_get(about, "seed"))};
    gathering g;
    gather_start(&g, "strings", 1);
    for (json_int_t n = json_integer_value(json_object_get(about, "strings")); n > 0; n--) {
        random_string(gather_next(&g), &d);
        gather_add(&g);
    }
    gather_end(&g);
}

static void add_record(gathering *g, const char *prompt, const char *const targets[2])
{
    for (int i = 0; i < 3; i++) {
        er_text *text = gather_next(g);
        put(text, prompt, strlen(prompt));
        if (i) put(text, " ", 1);
        if (i) put(text, targets[i - 1], strlen(targets[i - 1]));
        gather_add(g);
    }
}

static const char *text_of(json_t *record, const char *key) { return json_string_value(json_object_get(record, key)); }

static void add_edit_records(gathering *g, json_t *root)
{
    size_t i;
    json_t *r;
    json_array_foreach(root, i, r) {
        const char *const targets[] = {text_of(r, "target_new"), text_of(r, "ground_truth")};
        add_record(g, text_of(r, "prompt"), targets);
    }
}

static void add_rome_records(gathering *g, json_t *root)
{
    size_t i;
    json_t *r;
    er_text filled = ER_TEXT_INIT;
    json_array_foreach(root, i, r) {
        json_t *w = json_object_get(r, "requested_rewrite");
        const char *const targets[] = {text_of(json_object_get(w, "target_new"), "str"),
                                       text_of(json_object_get(w, "target_true"), "str")};
        const char *prompt = text_of(w, "prompt"), *subject = text_of(w, "subject"), *hole = strstr(prompt, "{}");
        filled.length = 0;
        put(&filled, prompt, (size_t)(hole - prompt));
        put(&filled, subject, strlen(subject));
        put(&filled, hole + 2, strlen(hole + 2));
        add_record(g, filled.at, targets);
    }
    er_text_free(&filled);
}

static void test_prompts(void **unused)
{
    (void)unused;
    json_t *edit = json_load_file(SHARED("data/counterfact/counterfact-edit.json"), 0, NULL);
    json_t *rome = json_load_file(SHARED("data/counterfact/counterfact_500_rome_format.json"), 0, NULL);
    if (!edit || !rome) {
        json_decref(edit);
        json_decref(rome);
        print_message("CounterFact is absent\n");
        skip();
    }
    gathering g;
    gather_start(&g, "prompts", 2);
    add_edit_records(&g, edit);
    add_rome_records(&g, rome);
    json_decref(edit);
    json_decref(rome);
    gather_end(&g);
}

static int start(void **unused)
{
    if (golden_open(unused)) return -1;
    for (int i = 0; i < NAMES; i++) {
        tokenizers[i] = open_named(names[i]);
        if (!tokenizers[i]) print_message("%s: its tokenizer is absent\n", names[i]);
    }
    return 0;
}

static int end(void **unused)
{
    for (int i = 0; i < NAMES; i++) er_tokenizer_close(tokenizers[i]);
    return golden_close(unused);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_strings), cmocka_unit_test(test_prompts)};
    return cmocka_run_group_tests(tests, start, end);
}
