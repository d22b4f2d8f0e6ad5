/* SPDX-License-Identifier: Apache-2.0 */
/* The engine against torch on two tiny models, against finite differences, and against itself: a token's state must
 * not depend on how texts are grouped, cached or truncated. */
#include "tests/engine.h"

#include "base/random.h"
#include "base/text.h"
#include "model/generate.h"

#include <math.h>
#include <omp.h>

static const char *const folders[] = {"tiny-llama", "tiny-llama-untied"};

typedef struct rig {
    er_model *model;
    er_view view;
    er_work *work;
} rig;

static void rig_open(rig *r, const char *name)
{
    er_err err = ER_ERR_INIT;
    char path[256];
    snprintf(path, sizeof path, "tests/fixtures/%s", name);
    OK(er_model_open(&r->model, path, ER_F32, &err));
    OK(er_view_open(&r->view, r->model, &err));
    OK(er_work_new(&r->work, r->model, &err));
}

static void rig_close(rig *r)
{
    er_work_free(r->work);
    er_view_close(&r->view);
    er_model_close(r->model);
}

static void encode(const rig *r, er_ids *ids, const char *text)
{
    er_err err = ER_ERR_INIT;
    OK(er_encode(r->model->tokenizer, ids, text, strlen(text), 1, &err));
}

static void scores_equal_torch(void **state)
{
    (void)state;
    json_t *golden = test_json("tests/golden/tiny.json");
    for (size_t f = 0; f < 2; f++) {
        rig r;
        er_err err = ER_ERR_INIT;
        rig_open(&r, folders[f]);
        size_t i;
        json_t *text;
        json_array_foreach(json_object_get(golden, folders[f]), i, text)
        {
            er_ids ids = {0};
            float want[512], got[512], gap[64];
            encode(&r, &ids, json_string_value(json_object_get(text, "text")));
            json_t *list = json_object_get(text, "ids");
            assert_int_equal(ids.count, json_array_size(list));
            for (int64_t t = 0; t < ids.count; t++)
                assert_int_equal(ids.at[t], json_integer_value(json_array_get(list, (size_t)t)));
            assert_int_equal(test_floats(want, 512, json_object_get(text, "logprobs")), ids.count);
            OK(er_score_ids(&r.view, got, ids.at, ids.count, r.work, &err));
            for (int64_t t = 1; t < ids.count; t++)
                if (!(fabsf(got[t] - want[t]) <= 1e-4f))
                    fail_msg("token %d: %g, torch %g", (int)t, (double)got[t], (double)want[t]);
            json_t *greedy = json_object_get(text, "greedy");
            size_t steps = test_floats(gap, 64, json_object_get(text, "greedy_gap"));
            int64_t before = ids.count;
            er_draw draw = {.top_k = 1};
            OK(er_generate(&r.view, &ids, 1, before + (int64_t)steps, 0, &draw, r.work, &err));
            for (size_t s = 0; s < steps && gap[s] > 1e-3f; s++)
                assert_int_equal(ids.at[before + (int64_t)s], json_integer_value(json_array_get(greedy, s)));
            er_ids_free(&ids);
        }
        rig_close(&r);
    }
    json_decref(golden);
}

/* Loss of the last `last` tokens' mean nll and its gradient at every block's output. */
typedef struct gradients {
    float *at; /* (layers, T, d) */
    int64_t tokens, d;
} gradients;

static int keep_gradient(void *context, int64_t layer, const float *g, int64_t tokens, er_err *err)
{
    gradients *k = context;
    (void)err;
    memcpy(k->at + layer * k->tokens * k->d, g, (size_t)(tokens * k->d) * sizeof *g);
    return 0;
}

static void gradients_equal_torch(void **state)
{
    (void)state;
    json_t *golden = test_json("tests/golden/tiny.json");
    for (size_t f = 0; f < 2; f++) {
        rig r;
        er_err err = ER_ERR_INIT;
        rig_open(&r, folders[f]);
        char key[64];
        snprintf(key, sizeof key, "%s gradient", folders[f]);
        json_t *list = json_object_get(golden, key);
        er_ids ids = {0};
        encode(&r, &ids, json_string_value(json_object_get(json_array_get(list, 0), "text")));
        gradients keep = {NULL, ids.count, r.model->config.hidden};
        const size_t each = (size_t)(keep.tokens * keep.d);
        float *want;
        OK(er_alloc(&keep.at, each * (size_t)r.model->config.layers, &err));
        OK(er_alloc(&want, each, &err));
        er_tap tap = {.context = &keep, .block_grad = keep_gradient};
        float loss = test_loss_and_gradient(&r.view, r.work, &ids, 3, &tap);
        assert_true(fabs((double)loss - json_number_value(json_object_get(json_array_get(list, 0), "loss"))) < 1e-4);
        for (int64_t l = 0; l < r.model->config.layers; l++) {
            json_t *grad = json_object_get(json_array_get(list, (size_t)l + 1), "grad");
            assert_int_equal(test_floats(want, each, grad), each);
            double norm = er_norm64(want, (int64_t)each), error = 0;
            for (size_t i = 0; i < each; i++) {
                double e = (double)keep.at[(size_t)l * each + i] - (double)want[i];
                error += e * e;
            }
            if (!(sqrt(error) <= 1e-4 * norm)) fail_msg("layer %d: relative error %g", (int)l, sqrt(error) / norm);
        }
        er_free(want);
        er_free(keep.at);
        er_ids_free(&ids);
        rig_close(&r);
    }
    json_decref(golden);
}

/* A tap's (input, output gradient) of a matrix is all that its parameter gradient needs: out_grad^T in. */
typedef struct parameter {
    int64_t layer;
    enum er_matrix_id which;
    int64_t rows, cols;
    double *gradient;
} parameter;

static int collect_parameter(void *context, int64_t layer, enum er_matrix_id which, const float *in,
                             const float *out_grad, int64_t tokens, er_err *err)
{
    parameter *p = context;
    (void)err;
    if (layer != p->layer || which != p->which) return 0;
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t r = 0; r < p->rows; r++)
            for (int64_t c = 0; c < p->cols; c++)
                p->gradient[r * p->cols + c] += (double)out_grad[t * p->rows + r] * (double)in[t * p->cols + c];
    return 0;
}

static double loss_with(rig *r, const er_ids *ids, const parameter *p, const float *way, double length)
{
    er_err err = ER_ERR_INIT;
    const er_matrix *base = &r->model->layers[p->layer].matrix[p->which];
    float *moved;
    OK(er_alloc(&moved, (size_t)(p->rows * p->cols), &err));
    for (int64_t i = 0; i < p->rows * p->cols; i++)
        moved[i] = (float)((double)((const float *)base->data)[i] + length * (double)way[i]);
    er_matrix with = {ER_F32, p->rows, p->cols, moved};
    er_view_replace(&r->view, p->layer, p->which, &with);
    er_tap none = {0};
    double loss = (double)test_loss_and_gradient(&r->view, r->work, ids, 3, &none);
    er_view_restore(&r->view);
    er_free(moved);
    return loss;
}

static void taps_give_parameter_gradients(void **state)
{
    (void)state;
    rig r;
    er_err err = ER_ERR_INIT;
    rig_open(&r, "tiny-llama-untied");
    er_ids ids = {0};
    encode(&r, &ids, "In 1984 the harbour had 12 boats.");
    for (int which = 0; which < ER_MATRIX_COUNT; which++) {
        const er_matrix *w = &r.model->layers[1].matrix[which];
        parameter p = {1, (enum er_matrix_id)which, w->rows, w->cols, NULL};
        float *way;
        const size_t n = (size_t)(w->rows * w->cols);
        OK(er_alloc(&p.gradient, n, &err));
        OK(er_alloc(&way, n, &err));
        er_tap tap = {.context = &p, .backward = collect_parameter, .matrices = 1u << which};
        test_loss_and_gradient(&r.view, r.work, &ids, 3, &tap);
        double norm = 0, slope = 0, length = 0;
        for (size_t i = 0; i < n; i++) norm += p.gradient[i] * p.gradient[i];
        norm = sqrt(norm);
        /* along the gradient itself, bent by noise, the slope is large beside rounding */
        for (size_t i = 0; i < n; i++) {
            double noise = er_random_uniform(6, ER_STREAM_TEST, (uint32_t)which, i) - 0.5;
            way[i] = (float)(p.gradient[i] / norm + noise / sqrt((double)n));
            slope += p.gradient[i] * (double)way[i];
            length += (double)way[i] * (double)way[i];
        }
        double h = 0.05 / sqrt(length);
        double found = (loss_with(&r, &ids, &p, way, h) - loss_with(&r, &ids, &p, way, -h)) / (2 * h);
        if (!(fabs(found - slope) <= 5e-3 * fabs(slope) + 1e-4))
            fail_msg("matrix %d: %g, by differences %g", which, slope, found);
        er_free(p.gradient);
        er_free(way);
    }
    er_ids_free(&ids);
    rig_close(&r);
}

/* Hidden states of a text run in pieces, with prefixes shared and rows beside it, equal those of one plain run. */
static void grouping_changes_no_bit(void **state)
{
    (void)state;
    rig r;
    er_err err = ER_ERR_INIT;
    rig_open(&r, "tiny-llama");
    const er_config *c = &r.model->config;
    const int64_t n = 23, d = c->hidden, L = c->layers;
    int32_t ids[23], other[9];
    for (int i = 0; i < 23; i++) ids[i] = (int32_t)er_random_below((uint64_t)c->vocab, 5, ER_STREAM_TEST, 0, (uint64_t)i);
    for (int i = 0; i < 9; i++) other[i] = (int32_t)er_random_below((uint64_t)c->vocab, 5, ER_STREAM_TEST, 1, (uint64_t)i);
    float *plain, *x;
    OK(er_alloc(&plain, (size_t)(n * d), &err));
    OK(er_alloc(&x, (size_t)((n + 9) * d), &err));
    er_cache *one, *three;
    OK(er_cache_new(&one, r.model, 1, &n, 0, L, &err));
    OK(er_embed_text(r.model, plain, ids, n, &err));
    OK(er_forward(&r.view, one, &(er_span){0, 0, n}, 1, plain, 0, L, NULL, NULL, r.work, &err));
    /* row 0: first 8 tokens; row 1: another text; row 2: shares 8 positions of row 0 and goes on alone */
    int64_t capacity[3] = {8, 9, n - 8};
    OK(er_cache_new(&three, r.model, 3, capacity, 0, L, &err));
    er_cache_share(three, 2, three, 0, 8);
    er_span both[2] = {{1, 0, 9}, {0, 0, 8}};
    OK(er_embed_text(r.model, x, other, 9, &err));
    OK(er_embed_text(r.model, x + 9 * d, ids, 8, &err));
    OK(er_forward(&r.view, three, both, 2, x, 0, L, NULL, NULL, r.work, &err));
    assert_memory_equal(x + 9 * d, plain, (size_t)(8 * d) * sizeof *x);
    omp_set_num_threads(2);
    er_span rest[2] = {{2, 8, 10}, {2, 18, 5}};
    for (int part = 0; part < 2; part++) {
        OK(er_embed(r.model, x, ids + rest[part].start, &rest[part], 1, &err));
        OK(er_forward(&r.view, three, &rest[part], 1, x, 0, L, NULL, NULL, r.work, &err));
        assert_memory_equal(x, plain + rest[part].start * d, (size_t)(rest[part].count * d) * sizeof *x);
    }
    er_cache_free(one);
    er_cache_free(three);
    er_free(plain);
    er_free(x);
    rig_close(&r);
}

/* Generation of several rows at once equals each row alone, for greedy and for drawn ids. */
static void generation_is_row_independent(void **state)
{
    (void)state;
    rig r;
    er_err err = ER_ERR_INIT;
    rig_open(&r, "tiny-llama");
    const char *const prompt[3] = {"Anna", "The pet of Boris is a", "In 1984"};
    for (int64_t k = 1; k <= 5; k += 4) {
        er_ids together[3] = {{0}, {0}, {0}};
        for (int i = 0; i < 3; i++) encode(&r, &together[i], prompt[i]);
        er_draw draw = {.top_k = k, .seed = 7, .stream = ER_STREAM_TEST, .item = 10};
        OK(er_generate(&r.view, together, 3, 30, 0, &draw, r.work, &err));
        for (int i = 0; i < 3; i++) {
            er_ids alone = {0};
            encode(&r, &alone, prompt[i]);
            draw.item = 10 + (uint32_t)i;
            OK(er_generate(&r.view, &alone, 1, 30, 0, &draw, r.work, &err));
            assert_int_equal(alone.count, 30);
            assert_memory_equal(alone.at, together[i].at, 30 * sizeof *alone.at);
            er_ids_free(&alone);
            er_ids_free(&together[i]);
        }
    }
    rig_close(&r);
}

int main(void)
{
    if (er_kernels_start(NULL)) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_equal_torch),
        cmocka_unit_test(gradients_equal_torch),
        cmocka_unit_test(taps_give_parameter_gradients),
        cmocka_unit_test(grouping_changes_no_bit),
        cmocka_unit_test(generation_is_row_independent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
