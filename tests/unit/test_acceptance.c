/* SPDX-License-Identifier: Apache-2.0 */
/* Acceptance tests of the field's specification that stand nowhere else (docs/parity.md has all nine): the published
 * runs' lookup indices, the arithmetic of a first step, AlphaEdit's second look at its keys. */
#include "tests/unit/editors_rig.h"

/* --- 1: indices of the subject's last token in the published runs ------------------------------------------------- */
static const er_request published[] = {
    {.subject = "Ray Charles", .prompt = "{}, the", .target_new = "violinist"},
    {.subject = "Grant Hill", .prompt = "{} is a professional", .target_new = "soccer"},
    {.subject = "Ikaalinen", .prompt = "The law in {} declares the language", .target_new = "Swedish"},
    {.subject = "Lahti Town Hall", .prompt = "Who was the designer of {}?", .target_new = "Alfred Lahti"},
    {.subject = "Denny Herzig", .prompt = "What role does {} play in football?", .target_new = "winger"},
    {.subject = "Marl Young", .prompt = "What city did {} live when he died?", .target_new = "New Orleans"},
};

/* Under every parity: it is one rule. `start`: what the file's template puts in front when it puts nothing. */
static void indices_of(const char *file, int first, int start, const int64_t want[3])
{
    static const char *plain[] = {"{}"};
    const er_templates templates = {1, plain, {{0}}};
    er_err err = ER_ERR_INIT;
    er_tokenizer *t;
    er_ids lead = {0};
    if (!er_file_exists(file)) {
        print_message("SKIP: %s is absent\n", file);
        skip();
    }
    OK(er_tokenizer_open(&t, file, &err));
    OK(er_encode(t, &lead, "", 0, 1, &err));
    for (int i = 0; i < 3; i++) {
        for (int parity = ER_PARITY_NONE; parity <= ER_PARITY_AUTHORS; parity++) {
            er_prompt p;
            OK(er_prompt_make(&p, t, &published[first + i], &templates, (enum er_parity)parity, ER_RULE_FAMILY, arena,
                              &err));
            assert_int_equal(p.rows[0].subject + (lead.count ? 0 : start), want[i]);
        }
    }
    er_ids_free(&lead);
    er_tokenizer_close(t);
}

static void gpt2_indices(void **state)
{
    (void)state;
    indices_of(SHARED("data/tokenizers/gpt2/tokenizer.json"), 0, 0, (const int64_t[]){1, 1, 6});
}

static void llama2_indices(void **state)
{
    (void)state;
    indices_of(SHARED("data/tokenizers/llama2/tokenizer.json"), 3, 0, (const int64_t[]){10, 7, 6});
}

/* The published run's tokenizer put a start token in front; a file that does not is one token short. */
static void llama3_indices(void **state)
{
    (void)state;
    indices_of(SHARED("data/tokenizers/llama3/tokenizer.json"), 3, 1, (const int64_t[]){9, 7, 5});
}

/* --- 3: the arithmetic that a printed run shows, on our own steps ------------------------------------------------- */

/* After one step of Adam |delta| = lr sqrt(d), but for coordinates without a gradient; the decay printed there is
 * v_weight_decay |delta| / |value|^2, and where the clamp acts |delta| = factor |value|. GPT2-XL's printed run gives
 * 0.5 * 20 / 23.128^2 = 0.019 and 4 * 23.128 = 92.51. */
static void first_step_and_clamp(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    static const char *const names[] = {"rome", "alphaedit"};
    assert_true(fabs(0.5 * 0.5 * sqrt(1600) / pow(23.12821, 2) - 0.019) < 5e-4);
    for (int m = 0; m < 2; m++) {
        rig r;
        er_target t;
        open_rig(&r, names[m], "1");
        set(&r, "editor.v_num_grad_steps", "12");
        set(&r, "editor.v_weight_decay", "0.5");
        set(&r, "editor.clamp_norm_factor", "0.75");
        for (int clamped = 0; clamped < 2; clamped++) {
            set(&r, "editor.v_lr", clamped ? "5" : "0.01");
            OK(r.editor->target(&r.edit, &r.view, r.prompt, 1, &t, work, &err));
            const double init = (double)t.init_norm, delta = clamped ? 0.75 * init : 0.01 * sqrt((double)d);
            print_message("%s: decay %.7g, by hand %.7g\n", names[m], (double)t.loss[1].decay,
                          0.5 * delta / (init * init));
            assert_true(t.loss[0].decay == 0);
            assert_true(fabs((double)t.loss[1].decay / (0.5 * delta / (init * init)) - 1) < 1e-4);
            if (clamped) assert_true(fabs((double)t.delta_norm / delta - 1) < 1e-6);
            er_target_free(&t);
        }
        close_rig(&r);
    }
}

/* --- 5: AlphaEdit takes its keys twice in vain -------------------------------------------------------------------- */

/* The keys of each layer, taken before its update, are those of the model with all layers edited: by the bit, as no
 * layer's keys depend on its own matrix or on later ones. */
static void keys_of_the_edited_model_are_the_keys(void **state)
{
    (void)state;
    enum { COUNT = 3 };
    er_err err = ER_ERR_INIT;
    rig r;
    static float keys[MOST_LAYERS][COUNT * 1024], again[COUNT * 1024], values[COUNT * 128];
    open_rig(&r, "alphaedit", "[0, 1, 2]");
    set(&r, "editor.nullspace_rank", "100");
    set(&r, "editor.v_num_grad_steps", "5");
    open_history(&r);
    const int64_t size = key_floats(&r);
    find_values(&r, 0, COUNT, values);
    for (int64_t s = 0; s < 3; s++) {
        er_update u = find_update(&r, s, 0, COUNT, values, keys[s]);
        er_update_apply(r.weights[s], &u, NULL, NULL);
        er_update_free(&u);
    }
    for (int64_t s = 0; s < 3; s++) {
        OK(r.editor->keys(&r.edit, &r.view, s, r.prompt, COUNT, again, work, &err));
        for (int64_t i = 0; i < COUNT; i++) /* the stream behind the key is another one by now */
            assert_memory_equal(again + i * size, keys[s] + i * size, (size_t)f * sizeof *again);
        assert_true(memcmp(again, keys[s], (size_t)size * sizeof *again) != 0);
    }
    close_rig(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2_indices),         cmocka_unit_test(llama2_indices),
        cmocka_unit_test(llama3_indices),       cmocka_unit_test(first_step_and_clamp),
        cmocka_unit_test(keys_of_the_edited_model_are_the_keys),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
