/* SPDX-License-Identifier: Apache-2.0 */
/* Streams kept below the first edited block: scores with them are those without, byte for byte, in any company, behind
 * edits, and where only some fit; and what is kept is what is read. */
#include "tests/engine.h"

#include "jobs/dataset.h"
#include "runner/evaluate.h"

enum { CASES = 4, LAYER = 1 };

static er_model *model;
static er_view view;
static er_work *work;
static er_arena *arena;
static er_dataset set;

static void read_cases(void)
{
    er_err err = ER_ERR_INIT;
    const er_job job = {.data = {.format = ER_JOB_COUNTERFACT, .path = "tests/fixtures/tiny-facts.json", .count = CASES}};
    OK(er_dataset_read(&set, &job, arena, &err));
}

/* Bytes of the scores of cases first .. first+count-1. */
static er_text score(er_states *states, int64_t first, int64_t count)
{
    er_err err = ER_ERR_INIT;
    const er_scorer scorer = {.states = states};
    const er_request *list[CASES] = {NULL};
    er_case_score scores[CASES];
    er_text out = ER_TEXT_INIT;
    for (int64_t i = 0; i < count; i++) list[i] = &set.requests[first + i];
    OK(er_evaluate_as(scores, &view, &scorer, list, count, arena, work, &err));
    for (int64_t i = 0; i < count; i++) OK(er_case_score_put(&out, &scores[i], &err));
    return out;
}

static int same(er_text a, er_text b)
{
    const int equal = a.length == b.length && memcmp(a.at, b.at, a.length) == 0;
    er_text_free(&a);
    er_text_free(&b);
    return equal;
}

/* The down projection of a layer with every value doubled, in the view. */
static float *change(int64_t layer)
{
    const er_matrix *own = &model->layers[layer].matrix[ER_MATRIX_DOWN];
    float *twice = malloc((size_t)(own->rows * own->cols) * sizeof *twice);
    assert_non_null(twice);
    for (int64_t i = 0; i < own->rows * own->cols; i++) twice[i] = 2 * ((const float *)own->data)[i];
    er_view_replace(&view, layer, ER_MATRIX_DOWN, &(er_matrix){ER_F32, own->rows, own->cols, twice});
    return twice;
}

static er_states *new_states(int64_t bytes)
{
    er_err err = ER_ERR_INIT;
    er_states *s = NULL;
    OK(er_states_new(&s, LAYER, model->config.hidden, bytes, &err));
    return s;
}

static void kept_states_change_nothing(void **state)
{
    (void)state;
    er_states *s = new_states(1 << 24);
    assert_true(same(score(s, 0, CASES), score(NULL, 0, CASES))); /* kept */
    const int64_t bytes = er_states_bytes(s);
    assert_true(bytes > 0);
    assert_true(same(score(s, 0, CASES), score(NULL, 0, CASES))); /* found */
    for (int i = 0; i < CASES; i++) assert_true(same(score(s, i, 1), score(NULL, i, 1)));
    float *above = change(LAYER);
    assert_true(same(score(s, 0, CASES), score(NULL, 0, CASES)));
    for (int i = 0; i < CASES; i++) assert_true(same(score(s, i, 1), score(NULL, i, 1)));
    assert_int_equal(er_states_bytes(s), bytes); /* nothing was new */
    er_view_restore(&view);
    free(above);
    er_states_free(s);
}

/* A block below the layer is not run any more: what happens to it does not show. */
static void blocks_below_do_not_run_again(void **state)
{
    (void)state;
    er_states *s = new_states(1 << 24);
    er_text clean = score(s, 0, CASES);
    float *below = change(LAYER - 1);
    assert_true(same(score(s, 0, CASES), clean));
    assert_false(same(score(s, 0, CASES), score(NULL, 0, CASES)));
    er_view_restore(&view);
    free(below);
    er_states_free(s);
}

static void a_budget_holds(void **state)
{
    (void)state;
    er_states *all = new_states(1 << 24);
    er_text clean = score(all, 0, CASES);
    const int64_t bytes = er_states_bytes(all);
    er_text_free(&clean);
    er_states_free(all);
    for (int64_t most = 0; most < bytes; most += bytes / 3) {
        er_states *s = new_states(most);
        for (int times = 0; times < 2; times++) assert_true(same(score(s, 0, CASES), score(NULL, 0, CASES)));
        for (int i = 0; i < CASES; i++) assert_true(same(score(s, i, 1), score(NULL, i, 1)));
        assert_true(er_states_bytes(s) <= most);
        er_states_free(s);
    }
}

int main(void)
{
    er_err err = ER_ERR_INIT;
    if (er_kernels_start(NULL) || er_model_open(&model, "tests/fixtures/tiny-llama", ER_F32, &err) ||
        er_view_open(&view, model, &err) || er_work_new(&work, model, &err) || er_arena_new(&arena, 0, &err)) {
        printf("%s\n", err.text);
        return 1;
    }
    read_cases();
    const struct CMUnitTest tests[] = {cmocka_unit_test(kept_states_change_nothing),
                                       cmocka_unit_test(blocks_below_do_not_run_again), cmocka_unit_test(a_budget_holds)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    er_arena_free(arena);
    er_work_free(work);
    er_view_close(&view);
    er_model_close(model);
    er_kernels_stop();
    return failed || er_memory_live() != 0;
}
