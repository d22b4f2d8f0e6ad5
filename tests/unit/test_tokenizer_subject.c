/* SPDX-License-Identifier: Apache-2.0 */
/* The index of the subject's last token, with and without BOS, as the reference library's encode gives it. */
#include "tests/unit/tokenizer_figures.h"

#include "editors/prompts.h"

static const char *one[] = {"{}"};
static const er_templates templates = {1, one, {{0}}};
static er_arena *arena;

/* The text up to the end of the subject, encoded on its own. */
static int32_t plain_index(const er_tokenizer *t, const char *prompt, const char *subject, int special)
{
    er_err err = ER_ERR_INIT;
    er_ids ids = {0};
    er_text text = ER_TEXT_INIT;
    put(&text, prompt, (size_t)(strstr(prompt, "{}") - prompt));
    put(&text, subject, strlen(subject));
    OK(er_encode(t, &ids, text.at, text.length, special, &err));
    int32_t index = (int32_t)ids.count - 1;
    er_ids_free(&ids);
    er_text_free(&text);
    return index;
}

/* What editors look up: rows and keys of a request; -1: refused. */
static int32_t editor_index(const er_tokenizer *t, const char *prompt, const char *subject)
{
    er_err err = ER_ERR_INIT;
    er_request r = {.prompt = prompt,
                    .subject = subject,
                    .target_new = "Paris"};
    er_prompt p;
    er_arena_mark mark = er_arena_mark_now(arena);
    int code = er_prompt_make(&p, t, &r, &templates, ER_PARITY_EASYEDIT, 0, arena, &err);
    if (code == ER_E_INPUT && strstr(err.text, "no token of its own")) return -1;
    OK(code);
    int32_t index = (int32_t)p.keys[0].subject;
    assert_int_equal(p.rows[0].subject, index);
    assert_int_equal(p.keys[0].count, index + 1);
    er_arena_release(arena, mark);
    return index;
}

/* --- made-up prompts on small tokenizers -------------------------------------------------------------------------- */

static void check_small(const er_tokenizer *t, const char *name, json_t *pairs, json_t *indices)
{
    size_t i;
    json_t *pair;
    json_array_foreach(pairs, i, pair) {
        const char *prompt = json_string_value(json_array_get(pair, 0));
        const char *subject = json_string_value(json_array_get(pair, 1));
        json_int_t plain = json_integer_value(json_array_get(json_object_get(indices, "plain"), i));
        json_int_t special = json_integer_value(json_array_get(json_object_get(indices, "special"), i));
        if (plain_index(t, prompt, subject, 0) != plain || editor_index(t, prompt, subject) != special)
            fail_msg("%s: '%s' of '%s': %d and %d, expected %lld and %lld", name, subject, prompt,
                     plain_index(t, prompt, subject, 0), editor_index(t, prompt, subject), (long long)plain,
                     (long long)special);
    }
}

static void test_small(void **unused)
{
    (void)unused;
    json_t *about = json_object_get(golden, "subjects"), *pairs = json_object_get(about, "pairs"), *indices;
    const char *name;
    assert_int_equal(json_array_size(pairs), 50);
    json_object_foreach(json_object_get(about, "indices"), name, indices) {
        er_tokenizer *t = strcmp(name, "tiny") ? case_tokenizer(case_named(name)) : open_named(name);
        check_small(t, name, pairs, indices);
        er_tokenizer_close(t);
    }
}

/* --- CounterFact on the published tokenizers ---------------------------------------------------------------------- */

typedef struct subjects {
    int64_t count, most;
    char **prompt, **subject;
} subjects;

/* prompt with the subject's first place as the hole, left out where it has none */
static void add_subject(subjects *s, const char *prompt, const char *subject)
{
    const char *at = strstr(prompt, "{}") ? strstr(prompt, "{}") : strstr(prompt, subject);
    size_t length = strstr(prompt, "{}") ? 2 : strlen(subject);
    if (!at || s->count == s->most) return;
    er_text text = ER_TEXT_INIT;
    put(&text, prompt, (size_t)(at - prompt));
    put(&text, "{}", 2);
    put(&text, at + length, strlen(at + length));
    s->prompt[s->count] = strdup(text.at);
    s->subject[s->count++] = strdup(subject);
    er_text_free(&text);
}

static int read_subjects(subjects *s)
{
    json_t *edit = json_load_file(SHARED("data/counterfact/counterfact-edit.json"), 0, NULL);
    json_t *rome = json_load_file(SHARED("data/counterfact/counterfact_500_rome_format.json"), 0, NULL), *r;
    if (edit && rome) {
        for (size_t i = 0; i < json_array_size(edit); i += 5) {
            r = json_array_get(edit, i);
            add_subject(s, json_string_value(json_object_get(r, "prompt")),
                        json_string_value(json_object_get(r, "subject")));
        }
        for (size_t i = 0; i < json_array_size(rome); i++) {
            r = json_object_get(json_array_get(rome, i), "requested_rewrite");
            add_subject(s, json_string_value(json_object_get(r, "prompt")),
                        json_string_value(json_object_get(r, "subject")));
        }
    }
    int found = edit && rome;
    json_decref(edit);
    json_decref(rome);
    return found;
}

/* The rule's index, which may lie behind the whole prompt where a token joins the subject with what follows: editors
 * refuse that record. */
static int32_t special_index(const er_tokenizer *t, const char *prompt, const char *subject)
{
    int32_t index = plain_index(t, prompt, subject, 1), used = editor_index(t, prompt, subject);
    if (used == index) return index;
    er_err err = ER_ERR_INIT;
    er_ids ids = {0};
    er_text text = ER_TEXT_INIT;
    const char *hole = strstr(prompt, "{}");
    put(&text, prompt, (size_t)(hole - prompt));
    put(&text, subject, strlen(subject));
    put(&text, hole + 2, strlen(hole + 2));
    OK(er_encode(t, &ids, text.at, text.length, 1, &err));
    int64_t count = ids.count;
    er_ids_free(&ids);
    er_text_free(&text);
    if (used != -1 || index < count) fail_msg("'%s' in '%s': %d, used %d", subject, prompt, (int)index, (int)used);
    return index;
}

static int same_figures(const subjects *s, const er_tokenizer *t, const char *name, int special)
{
    json_t *figures = json_object_get(json_object_get(json_object_get(golden, "tokenizers"), name), "subjects");
    json_t *want = json_object_get(figures, special ? "special" : "plain");
    er_err err = ER_ERR_INIT;
    er_hasher *h = NULL;
    int64_t sum = 0;
    char text[ER_HASH_TEXT];
    OK(er_hasher_new(&h, &err));
    for (int64_t i = 0; i < s->count; i++) {
        int32_t index = special ? special_index(t, s->prompt[i], s->subject[i])
                                : plain_index(t, s->prompt[i], s->subject[i], 0);
        add_number(h, index);
        sum += index;
    }
    er_hash hash = er_hasher_end(h);
    er_hash_text(text, &hash);
    er_hasher_free(h);
    const char *expected = json_string_value(json_object_get(want, "hash"));
    int same = expected && !strcmp(text, expected) && sum == json_integer_value(json_object_get(want, "sum"));
    if (!same)
        print_error("%s, %s: sum %lld, expected %lld\n", name, special ? "special" : "plain", (long long)sum,
                    (long long)json_integer_value(json_object_get(want, "sum")));
    return same;
}

static void test_counterfact(void **unused)
{
    (void)unused;
    static const char *const names[] = {"gpt2", "llama3", "qwen3", "llama2", "smollm2", "tinystories"};
    json_int_t most = json_integer_value(json_object_get(json_object_get(golden, "prompts"), "subjects"));
    subjects s = {.most = most, .prompt = calloc((size_t)most, sizeof(char *)),
                  .subject = calloc((size_t)most, sizeof(char *))};
    int found = read_subjects(&s), same = 1;
    for (size_t i = 0; found && i < sizeof names / sizeof *names; i++) {
        er_tokenizer *t = open_named(names[i]);
        if (!t) print_message("%s: its tokenizer is absent\n", names[i]);
        if (t) same = same_figures(&s, t, names[i], 0) && same_figures(&s, t, names[i], 1) && same;
        er_tokenizer_close(t);
    }
    for (int64_t i = 0; i < s.count; i++) {
        free(s.prompt[i]);
        free(s.subject[i]);
    }
    free(s.prompt);
    free(s.subject);
    if (!found) {
        print_message("CounterFact is absent\n");
        skip();
    }
    assert_int_equal(s.count, 2000);
    assert_true(same);
}

static int start(void **unused) { return golden_open(unused) || er_arena_new(&arena, 0, NULL) ? -1 : 0; }

static int end(void **unused)
{
    er_arena_free(arena);
    return golden_close(unused);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_small), cmocka_unit_test(test_counterfact)};
    return cmocka_run_group_tests(tests, start, end);
}
