/* SPDX-License-Identifier: Apache-2.0 */
/* Token rows: ids, subject indices and target ids (spec 3, 24.1); the expected ids are those of Hugging Face's
 * tokenizers 0.20.3 on the same texts. */
#include "tests/support.h"

#include "base/file.h"
#include "base/text.h"
#include "editors/prompts.h"
#include "editors/texts.h"
#include "model/kernels.h"

#include <unistd.h>

enum { TEMPLATES = 3 };

static er_tokenizer *tiny, *gpt2, *llama3;
static er_arena *arena;
static const char *texts[TEMPLATES] = {"{}", "The rain stopped before noon. {}", "Later they sat down and talked. {}"};
static const er_templates templates = {TEMPLATES, texts, {{0}}};

static int setup(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    if (er_kernels_start(NULL)) return -1;
    OK(er_tokenizer_open(&tiny, "tests/fixtures/tiny-llama/tokenizer.json", &err));
    OK(er_arena_new(&arena, 0, &err));
    const char *path = SHARED("data/tokenizers/gpt2/tokenizer.json");
    if (er_file_exists(path)) OK(er_tokenizer_open(&gpt2, path, &err));
    path = SHARED("data/tokenizers/llama3/tokenizer.json");
    if (er_file_exists(path)) OK(er_tokenizer_open(&llama3, path, &err));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    er_tokenizer_close(tiny);
    if (gpt2) er_tokenizer_close(gpt2);
    if (llama3) er_tokenizer_close(llama3);
    er_arena_free(arena);
    er_kernels_stop();
    return er_memory_live() != 0;
}

static er_request request(const char *subject, const char *prompt, const char *target)
{
    return (er_request){.case_id = 42, .subject = subject, .prompt = prompt, .target_new = target};
}

static er_prompt make(const er_tokenizer *t, const er_request *r, enum er_parity parity, enum er_target_rule rule)
{
    er_err err = ER_ERR_INIT;
    er_prompt p;
    OK(er_prompt_make(&p, t, r, &templates, parity, rule, arena, &err));
    return p;
}

#define IDS(...) (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t)

static void assert_ids(const int32_t *got, int64_t count, const int32_t *want, size_t want_count)
{
    assert_int_equal(count, want_count);
    assert_memory_equal(got, want, want_count * sizeof *want);
}

/* ids of a text, for rows whose ids are those of a text */
static void assert_text(const er_tokenizer *t, const er_text_row *row, const char *text)
{
    er_err err = ER_ERR_INIT;
    er_ids ids = {0};
    OK(er_encode(t, &ids, text, strlen(text), 1, &err));
    assert_ids(row->ids, row->count, ids.at, (size_t)ids.count);
    er_ids_free(&ids);
}

static void rows_hold_prompt_and_target(void **state)
{
    (void)state;
    er_request r = request("Anna Berg", "{} lives in", "London");
    er_prompt p = make(tiny, &r, ER_PARITY_NONE, 0);
    assert_int_equal(p.templates, TEMPLATES);
    assert_int_equal(p.split_inside, 0);
    assert_ids(p.target, p.target_count, IDS(322, 297, 68, 297));
    assert_ids(p.rows[0].ids, p.rows[0].count, IDS(33, 78, 78, 65, 323, 267, 71, 339, 276, 322, 297, 68));
    assert_int_equal(p.rows[0].subject, 6);
    assert_int_equal(p.rows[0].answer, 8);
    assert_ids(p.keys[0].ids, p.keys[0].count, IDS(33, 78, 78, 65, 323, 267, 71));
    assert_int_equal(p.keys[0].subject, 6);
    assert_int_equal(p.keys[0].answer, -1);
    assert_ids(p.rows[1].ids, p.rows[1].count,
               IDS(265, 221, 295, 260, 280, 392, 80, 80, 299, 399, 221, 78, 79, 297, 14, 315, 78, 78, 65, 323, 267, 71,
                   339, 276, 322, 297, 68));
    assert_int_equal(p.rows[1].subject, 21);
    assert_int_equal(p.rows[1].answer, 23);
    assert_int_equal(p.keys[1].count, 22);
    assert_ids(p.kl.ids, p.kl.count, IDS(33, 78, 78, 65, 323, 267, 71)); /* "Anna Berg is a", cut */
    assert_int_equal(p.kl.subject, 6);
    for (int c = 0; c < TEMPLATES; c++) {
        assert_int_equal(p.rows[c].count, p.rows[c].answer + p.target_count);
        assert_memory_equal(p.keys[c].ids, p.rows[c].ids, (size_t)p.keys[c].count * sizeof *p.keys[c].ids);
    }
}

static void digits_are_a_target(void **state)
{
    (void)state;
    er_request r = request("Rosa", "In 1984 {} was in", "12");
    er_prompt p = make(tiny, &r, ER_PARITY_NONE, 0);
    assert_int_equal(p.rows[0].subject, 10);
    assert_ids(p.target, p.target_count, IDS(221, 17, 18));
    assert_ids(p.rows[0].ids, p.rows[0].count, IDS(41, 78, 221, 17, 25, 24, 20, 388, 79, 83, 65, 314, 276, 221, 17));
}

/* A target that comes with a space: not doubled by our rule, nor by MEMIT's; doubled by EasyEdit's ROME (spec B8). */
static void leading_spaces(void **state)
{
    (void)state;
    const struct { const char *target; enum er_parity parity; int of; size_t count; int32_t ids[2]; } rule[] = {
        {"Paris", ER_PARITY_NONE, 0, 1, {481}},      {" Paris", ER_PARITY_NONE, 0, 1, {481}},
        {" Paris", ER_PARITY_NONE, 1, 1, {481}},     {"Paris", ER_PARITY_EASYEDIT, 0, 1, {481}},
        {" Paris", ER_PARITY_EASYEDIT, 0, 1, {481}}, {"Paris", ER_PARITY_EASYEDIT, 1, 1, {481}},
        {" Paris", ER_PARITY_EASYEDIT, 1, 2, {221, 481}}, {" ", ER_PARITY_EASYEDIT, 1, 1, {221}},
        {" Paris", ER_PARITY_AUTHORS, 1, 1, {481}}};
    for (size_t i = 0; i < sizeof rule / sizeof *rule; i++) {
        er_request r = request("Anna Berg", "{} lives in", rule[i].target);
        er_prompt p = make(tiny, &r, rule[i].parity, (enum er_target_rule)rule[i].of);
        assert_ids(p.target, p.target_count, rule[i].ids, rule[i].count);
        assert_int_equal(p.rows[0].answer, 8);
    }
}

/* The published rule encodes the decoded ids again: where the cut falls inside a character, the row gets the
 * replacement character's three bytes and the answer's position moves. */
static void published_rows_are_encoded_again(void **state)
{
    (void)state;
    er_request r = request("Zora", "{} is at the", "Caf\xc3\xa9");
    er_prompt ours = make(tiny, &r, ER_PARITY_NONE, 0), theirs = make(tiny, &r, ER_PARITY_EASYEDIT, 0);
    assert_ids(ours.target, ours.target_count, IDS(357, 65, 70, 128, 103));
    assert_ids(theirs.target, theirs.target_count, IDS(357, 65, 70, 128, 103));
    assert_ids(ours.rows[0].ids, ours.rows[0].count, IDS(58, 353, 282, 394, 261, 357, 65, 70, 128));
    assert_ids(theirs.rows[0].ids, theirs.rows[0].count, IDS(58, 353, 282, 394, 261, 357, 65, 70, 172, 124, 122));
    assert_int_equal(ours.rows[0].answer + 2, theirs.rows[0].answer);
    assert_int_equal(ours.rows[0].subject, theirs.rows[0].subject);
    assert_text(tiny, &theirs.rows[1], "The rain stopped before noon. Zora is at the Caf\xef\xbf\xbd");
    r = request("Anna Berg", "{} lives in", "London"); /* and where decoding is exact, both rules agree */
    ours = make(tiny, &r, ER_PARITY_NONE, 0);
    theirs = make(tiny, &r, ER_PARITY_EASYEDIT, 0);
    for (int c = 0; c < TEMPLATES; c++) {
        assert_ids(theirs.rows[c].ids, theirs.rows[c].count, ours.rows[c].ids, (size_t)ours.rows[c].count);
        assert_int_equal(theirs.rows[c].answer, ours.rows[c].answer);
    }
}

static void needs(const er_tokenizer *t, const char *name)
{
    if (t) return;
    print_message("SKIP: %s is absent\n", SHARED(name));
    skip();
}

/* Lookup indices and target ids of the published traces (spec 20.1). */
static void gpt2_finds_the_published_indices(void **state)
{
    (void)state;
    needs(gpt2, "data/tokenizers/gpt2/tokenizer.json");
    er_request r = request("Ray Charles", "{}, the", "violinist");
    er_prompt p = make(gpt2, &r, ER_PARITY_NONE, 1);
    assert_int_equal(p.rows[0].subject, 1);
    assert_ids(p.target, p.target_count, IDS(38283, 396)); /* " violin", "ist" */
    assert_ids(p.rows[0].ids, p.rows[0].count, IDS(19591, 7516, 11, 262, 38283));
    r = request("Grant Hill", "{} is a professional", "soccer");
    assert_int_equal(make(gpt2, &r, ER_PARITY_EASYEDIT, 1).rows[0].subject, 1);
    r = request("Ikaalinen", "The law in {} declares the language", "Swedish");
    p = make(gpt2, &r, ER_PARITY_EASYEDIT, 1);
    assert_int_equal(p.rows[0].subject, 6);
    assert_int_equal(p.rows[0].ids[6], 268); /* "en" */
}

/* Spaces of the target merge with the prompt's own: the token that crosses the border belongs to the target. */
static void border_inside_a_token(void **state)
{
    (void)state;
    needs(llama3, "data/tokenizers/llama3/tokenizer.json");
    er_err err = ER_ERR_INIT;
    er_ids lead = {0};
    OK(er_encode(llama3, &lead, "", 0, 1, &err)); /* whether this file puts a start token in front */
    int64_t first = lead.count;
    er_ids_free(&lead);
    er_request r = request("Zora", "{} likes ", "  two");
    er_prompt p = make(llama3, &r, ER_PARITY_NONE, 0);
    assert_int_equal(p.split_inside, 1);
    assert_ids(p.target, p.target_count, IDS(256, 1403)); /* "  ", " two" */
    assert_ids(p.rows[0].ids + first, p.rows[0].count - first, IDS(57, 6347, 13452, 256));
    assert_int_equal(p.rows[0].answer, first + 2);
    er_scored_row row;
    OK(er_scored_row_make(&row, llama3, "Zora likes ", "  two", arena, &err));
    assert_int_equal(row.answer_start, first + 3);
    assert_int_equal(row.count, first + 5);
    r = request("Lahti Town Hall", "Who was the designer of {}?", "Alfred Lahti"); /* spec 20.2 */
    p = make(llama3, &r, ER_PARITY_NONE, 0);
    assert_int_equal(p.rows[0].subject, first + 8);
    assert_int_equal(p.split_inside, 0);
}

static void scored_rows(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    er_scored_row row;
    OK(er_scored_row_make(&row, tiny, "Anna Berg lives in", "London", arena, &err));
    assert_ids(row.ids, row.count, IDS(33, 78, 78, 65, 323, 267, 71, 339, 276, 322, 297, 68, 297));
    assert_int_equal(row.answer_start, 9);
    OK(er_scored_row_make(&row, tiny, "Anna Berg lives in", " London", arena, &err));
    assert_int_equal(row.count, 13);
    assert_int_equal(er_scored_row_make(&row, tiny, "Anna Berg lives in", "", arena, &err), ER_E_INPUT);
    assert_int_equal(er_scored_row_make(&row, tiny, "", "London", arena, &err), ER_E_INPUT);
}

static void refuses_requests_without_tokens(void **state)
{
    (void)state;
    const er_request bad[] = {
        request("", "{} lives in", "Rome"), request("Rosa", "{} lives in", ""), request("Rosa", "Rosa lives in", "Rome"),
        request("Rosa", "{} lives in {}", "Rome"), request(NULL, "{} lives in", "Rome")};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        er_err err = ER_ERR_INIT;
        er_prompt p;
        assert_int_equal(er_prompt_make(&p, tiny, &bad[i], &templates, ER_PARITY_NONE, 0, arena, &err), ER_E_INPUT);
        assert_non_null(strstr(err.text, "case 42"));
    }
}

static void lossy(const char *bytes, size_t n, const char *want)
{
    er_err err = ER_ERR_INIT;
    er_text out = ER_TEXT_INIT;
    OK(er_text_lossy(&out, bytes, n, &err));
    assert_string_equal(out.at, want);
    er_text_free(&out);
}

/* As Rust's from_utf8_lossy and Python's errors="replace" do it. */
static void broken_characters_become_one(void **state)
{
    (void)state;
    lossy("", 0, "");
    lossy("caf\xc3\xa9", 5, "caf\xc3\xa9");
    lossy("caf\xc3", 4, "caf\xef\xbf\xbd");
    lossy("\xf0\x9f\x98x", 4, "\xef\xbf\xbdx");                    /* three bytes of a smiley: one */
    lossy("\xf0\x9f\x98\x80", 4, "\xf0\x9f\x98\x80");
    lossy("\xed\xa0\x80", 3, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"); /* a surrogate: no byte of it can start */
    lossy("\xc0\x80\xff", 3, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
}

static void template_of(const char *bytes, const char *braces, const char *want)
{
    er_err err = ER_ERR_INIT;
    er_text out = ER_TEXT_INIT;
    OK(er_text_template(&out, bytes, strlen(bytes), braces, &err));
    assert_string_equal(out.at, want);
    er_text_free(&out);
}

static void sampled_texts_become_templates(void **state)
{
    (void)state;
    template_of("The a\n\nb\n\n\nc", " ", "The a b \nc. {}");
    template_of("I {x}<|endoftext|>!", "", "I x!. {}");
    template_of("I {x}!", " ", "I  x !. {}");
    template_of("\xef\xac\x81 \xc3\xa9", "", "fi e\xcc\x81. {}"); /* NFKD: a ligature, an accent */
}

static const char *scratch_file(const char *text)
{
    static char path[64];
    er_err err = ER_ERR_INIT;
    snprintf(path, sizeof path, "/tmp/errata-prompts-%ld.json", (long)getpid());
    OK(er_save_bytes(path, text, strlen(text), &err));
    return path;
}

static void template_files(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    er_templates a, b;
    er_text json = ER_TEXT_INIT;
    OK(er_templates_read(&a, "tests/fixtures/tiny-templates.json", "memit", arena, &err));
    assert_int_equal(a.count, 6);
    assert_string_equal(a.text[0], "{}");
    assert_string_equal(a.text[1], "The rain stopped before noon. {}");
    OK(er_templates_json(&json, &a, "memit", &err));
    OK(er_templates_read(&b, scratch_file(json.at), "memit", arena, &err));
    assert_true(er_hash_equal(&a.hash, &b.hash));
    assert_int_equal(b.count, 6);
    OK(er_templates_read(&b, "tests/fixtures/tiny-templates.json", "rome", arena, &err));
    assert_int_equal(b.count, 11);
    assert_false(er_hash_equal(&a.hash, &b.hash));
    assert_int_equal(er_templates_read(&b, scratch_file("{\"memit\": [\"no hole\"]}"), "memit", arena, &err), ER_E_INPUT);
    assert_non_null(strstr(err.text, "\"memit\"[0]"));
    assert_int_equal(er_templates_read(&b, scratch_file("{\"memit\": [7]}"), "memit", arena, &err), ER_E_INPUT);
    assert_int_equal(er_templates_read(&b, scratch_file("{\"memit\": []}"), "rome", arena, &err), ER_E_INPUT);
    assert_int_equal(er_templates_read(&b, scratch_file("{\"memit\": "), "memit", arena, &err), ER_E_FORMAT);
    unlink(scratch_file(""));
    er_text_free(&json);
}

/* Sampled from the model: the numbers asked for, the same by the same seed, ready to be read back. */
static void templates_are_sampled(void **state)
{
    (void)state;
    static const int64_t lengths[][2] = {{6, 5}, {9, 10}}, odd[][2] = {{9, 7}};
    static const char *const words[] = {"The", "Therefore", "Because", "I", "You"};
    er_err err = ER_ERR_INIT;
    er_model *model;
    er_view view;
    er_work *work;
    er_templates a, b, c;
    OK(er_model_open(&model, "tests/fixtures/tiny-llama", ER_F32, &err));
    OK(er_view_open(&view, model, &err));
    OK(er_work_new(&work, model, &err));
    OK(er_templates_generate(&a, &view, lengths, 2, "", 1, arena, work, &err));
    OK(er_templates_generate(&b, &view, lengths, 2, "", 1, arena, work, &err));
    OK(er_templates_generate(&c, &view, lengths, 2, "", 2, arena, work, &err));
    assert_int_equal(a.count, 16);
    assert_true(er_hash_equal(&a.hash, &b.hash));
    assert_false(er_hash_equal(&a.hash, &c.hash));
    for (int64_t i = 1; i < a.count; i++) {
        const char *word = words[i < 6 ? i - 1 : (i - 6) / 2];
        assert_int_equal(er_text_holes(a.text[i]), 1);
        assert_string_equal(a.text[i] + strlen(a.text[i]) - 4, ". {}");
        assert_memory_equal(a.text[i], word, strlen(word));
    }
    assert_int_equal(er_templates_generate(&b, &view, odd, 1, "", 1, arena, work, &err), ER_E_INPUT);
    er_work_free(work);
    er_view_close(&view);
    er_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_hold_prompt_and_target),     cmocka_unit_test(digits_are_a_target),
        cmocka_unit_test(leading_spaces),                  cmocka_unit_test(published_rows_are_encoded_again),
        cmocka_unit_test(gpt2_finds_the_published_indices), cmocka_unit_test(border_inside_a_token),
        cmocka_unit_test(scored_rows),                     cmocka_unit_test(refuses_requests_without_tokens),
        cmocka_unit_test(broken_characters_become_one),    cmocka_unit_test(sampled_texts_become_templates),
        cmocka_unit_test(template_files),                  cmocka_unit_test(templates_are_sampled),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
