/* SPDX-License-Identifier: Apache-2.0 */
/* SmolLM2-135M against torch (tests/golden/smollm2.json): 2,000 log-probabilities of real text, greedy continuations,
 * gradients at block outputs. */
#include "tests/engine.h"

#include "model/generate.h"

#include <math.h>

static er_model *model;
static er_view view;
static er_work *work;
static json_t *golden;

static void scores_of_real_text(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    FILE *f = fopen(SHARED("data/text/wikitext-2-raw_test.txt"), "rb");
    if (!f) {
        print_message("SKIP: the text is absent\n");
        skip();
    }
    double worst = 0, sum = 0;
    int64_t tokens = 0;
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(golden, "rows"), i, row)
    {
        size_t bytes = (size_t)json_integer_value(json_object_get(row, "bytes"));
        char *text;
        er_ids ids = {0};
        float want[512], got[512];
        OK(er_alloc(&text, bytes, &err));
        assert_int_equal(fseek(f, (long)json_integer_value(json_object_get(row, "offset")), SEEK_SET), 0);
        assert_int_equal(fread(text, 1, bytes, f), bytes);
        OK(er_encode(model->tokenizer, &ids, text, bytes, 1, &err));
        assert_int_equal(ids.count, json_integer_value(json_object_get(row, "tokens")));
        assert_int_equal(test_floats(want, 512, json_object_get(row, "logprobs")), ids.count - 1);
        OK(er_score_ids(&view, got, ids.at, ids.count, work, &err));
        for (int64_t t = 1; t < ids.count; t++) {
            double e = fabs((double)got[t] - (double)want[t - 1]);
            sum += e;
            if (!(e <= worst)) worst = e;
        }
        tokens += ids.count;
        er_ids_free(&ids);
        er_free(text);
    }
    fclose(f);
    print_message("RESULT scores: %d tokens, log-probabilities within %.2g of torch, mean difference %.2g\n",
                  (int)tokens, worst, sum / (double)tokens);
    assert_int_equal(tokens, 2000);
    assert_true(worst <= 2e-3);
}

static void greedy_continuations(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(golden, "greedy"), i, item)
    {
        er_ids ids = {0};
        const char *prompt = json_string_value(json_object_get(item, "prompt"));
        OK(er_encode(model->tokenizer, &ids, prompt, strlen(prompt), 1, &err));
        json_t *want = json_object_get(item, "ids"), *fresh = json_object_get(item, "new");
        assert_int_equal(ids.count, json_array_size(want));
        for (size_t t = 0; t < json_array_size(want); t++)
            assert_int_equal(ids.at[t], json_integer_value(json_array_get(want, t)));
        int64_t before = ids.count;
        er_draw draw = {.top_k = 1};
        OK(er_generate(&view, &ids, 1, before + (int64_t)json_array_size(fresh), 0, &draw, work, &err));
        for (size_t t = 0; t < json_array_size(fresh); t++)
            assert_int_equal(ids.at[before + (int64_t)t], json_integer_value(json_array_get(fresh, t)));
        er_ids_free(&ids);
    }
}

typedef struct kept {
    int64_t layer;
    float *at;
} kept;

static int keep(void *context, int64_t layer, const float *g, int64_t tokens, er_err *err)
{
    kept *k = context;
    (void)err;
    if (layer == k->layer) memcpy(k->at, g, (size_t)(tokens * model->config.hidden) * sizeof *g);
    return 0;
}

static void gradients_at_blocks(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    const int64_t d = model->config.hidden;
    const json_t *entries = json_object_get(golden, "gradient_entries");
    double worst_norm = 0, worst_entry = 0;
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(golden, "gradients"), i, item)
    {
        er_ids ids = {0};
        const char *text = json_string_value(json_object_get(item, "text"));
        OK(er_encode(model->tokenizer, &ids, text, strlen(text), 1, &err));
        kept k = {json_integer_value(json_object_get(item, "layer")), NULL};
        OK(er_alloc(&k.at, (size_t)(ids.count * d), &err));
        er_tap tap = {.context = &k, .block_grad = keep};
        double loss = (double)test_loss_and_gradient(&view, work, &ids, 2, &tap), want_loss = json_number_value(json_object_get(item, "loss"));
        assert_true(fabs(loss - want_loss) < 1e-4);
        float norms[64], want[64 * 16];
        assert_int_equal(test_floats(norms, 64, json_object_get(item, "norms")), ids.count);
        assert_int_equal(test_floats(want, 64 * 16, json_object_get(item, "entries")), ids.count * 16);
        for (int64_t t = 0; t < ids.count; t++) {
            double norm = er_norm64(k.at + t * d, d), scale = (double)norms[t] > 1e-6 ? (double)norms[t] : 1e-6;
            worst_norm = fmax(worst_norm, fabs(norm - (double)norms[t]) / scale);
            for (size_t e = 0; e < 16; e++) {
                int64_t at = json_integer_value(json_array_get(entries, e));
                worst_entry = fmax(worst_entry, fabs((double)k.at[t * d + at] - (double)want[(size_t)t * 16 + e]) / scale);
            }
        }
        er_free(k.at);
        er_ids_free(&ids);
    }
    print_message("RESULT gradients: norms within %.2g, entries within %.2g of the position's norm\n", worst_norm,
                  worst_entry);
    assert_true(worst_norm < 1e-3 && worst_entry < 1e-3);
}

int main(void)
{
    test_needs(SMOLLM2);
    er_err err = ER_ERR_INIT;
    if (er_kernels_start(NULL)) return 1;
    if (er_model_open(&model, SMOLLM2, ER_F32, &err) || er_view_open(&view, model, &err) ||
        er_work_new(&work, model, &err)) {
        printf("%s\n", err.text);
        return 1;
    }
    golden = json_load_file("tests/golden/smollm2.json", 0, NULL);
    if (!golden) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_of_real_text),
        cmocka_unit_test(greedy_continuations),
        cmocka_unit_test(gradients_at_blocks),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    json_decref(golden);
    er_work_free(work);
    er_view_close(&view);
    er_model_close(model);
    return failed;
}
