/* SPDX-License-Identifier: Apache-2.0 */
/* Two tiny models of every family against transformers: states, logits, gradients, greedy text. */
#include "tests/families.h"

#include "model/generate.h"

#include <math.h>

enum { LAST = 4 }; /* ids that the loss is about */

static const worst allowed = {1e-4, 1e-4, 1e-3};

/* Norm of got - want over the norm of want. */
static double apart(const float *got, const float *want, int64_t n)
{
    double error = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        double e = (double)got[i] - (double)want[i];
        error += e * e;
        norm += (double)want[i] * (double)want[i];
    }
    assert_true(norm > 0);
    return sqrt(error / norm);
}

/* Keeps the larger and fails above the limit, or where got is not a number. */
static void note(rig *r, double *seen, double error, double limit, const char *what, int64_t at)
{
    r->compared++;
    if (!(error <= limit)) fail_msg("%s: %s %d: %g, allowed %g", r->name, what, (int)at, error, limit);
    if (error > *seen) *seen = error;
}

/* --- forward ------------------------------------------------------------------------------------------------------ */

/* What a pass shows and what torch saw: stream before block 0 and after each, at two positions. */
typedef struct states {
    rig *r;
    const float *want; /* (layers + 1, 2, d) */
    int64_t row[2];
} states;

static int compare_states(void *context, int64_t layer, float *x, int64_t tokens, er_err *err)
{
    states *s = context;
    const int64_t d = s->r->model->config.hidden;
    (void)err;
    for (int64_t i = 0; i < 2; i++) {
        assert_true(s->row[i] < tokens);
        double error = apart(x + s->row[i] * d, s->want + ((layer + 1) * 2 + i) * d, d);
        note(s->r, &s->r->seen.state, error, allowed.state, "state after block", layer);
    }
    return 0;
}

static void compare_logits(rig *r, const json_t *text, const float *x, int64_t n)
{
    er_err err = ER_ERR_INIT;
    const er_config *c = &r->model->config;
    const json_t *rows = json_object_get(text, "rows"), *columns = json_object_get(r->golden, "columns");
    const size_t width = json_array_size(columns), height = json_array_size(rows);
    const double spread = json_number_value(json_object_get(text, "spread"));
    float *want = golden_floats(text, "logits", height * width), *logits = floats((size_t)(n * c->vocab));
    OK(er_head(r->model, logits, x, n, r->work, &err));
    for (size_t i = 0; i < height; i++)
        for (size_t j = 0; j < width; j++) {
            json_int_t row = json_integer_value(json_array_get(rows, i));
            json_int_t column = json_integer_value(json_array_get(columns, j));
            double error = fabs((double)logits[row * c->vocab + column] - (double)want[i * width + j]) / spread;
            note(r, &r->seen.logit, error, allowed.logit, "logit of position", row);
        }
    er_free(logits);
    er_free(want);
}

static void compare_scores(rig *r, const json_t *text, const er_ids *ids)
{
    er_err err = ER_ERR_INIT;
    const double spread = json_number_value(json_object_get(text, "spread"));
    float *want = golden_floats(text, "logprobs", (size_t)ids->count), *got = floats((size_t)ids->count);
    OK(er_score_ids(&r->view, got, ids->at, ids->count, r->work, &err));
    for (int64_t t = 1; t < ids->count; t++) {
        double error = fabs((double)got[t] - (double)want[t]) / spread;
        note(r, &r->seen.logit, error, allowed.logit, "log-probability", t);
    }
    er_free(got);
    er_free(want);
}

static void forward_text(rig *r, const json_t *text)
{
    er_err err = ER_ERR_INIT;
    const er_config *c = &r->model->config;
    const json_t *rows = json_object_get(text, "rows");
    er_ids ids;
    er_cache *cache;
    golden_ids(&ids, json_object_get(text, "ids"));
    const int64_t n = ids.count;
    float *x = floats((size_t)(n * c->hidden)), *want = golden_floats(text, "hidden",
                                                                      (size_t)((c->layers + 1) * 2 * c->hidden));
    states s = {r, want, {json_integer_value(json_array_get(rows, 1)), json_integer_value(json_array_get(rows, 2))}};
    er_tap tap = {.context = &s, .block = compare_states};
    er_span all = {0, 0, n};
    assert_true(n > 20);
    OK(er_cache_new(&cache, r->model, 1, &n, 0, c->layers, &err));
    OK(er_embed_text(r->model, x, ids.at, n, &err));
    compare_states(&s, -1, x, n, &err);
    OK(er_forward(&r->view, cache, &all, 1, x, 0, c->layers, NULL, &tap, r->work, &err));
    compare_logits(r, text, x, n);
    compare_scores(r, text, &ids);
    er_cache_free(cache);
    er_free(want);
    er_free(x);
    er_ids_free(&ids);
}

/* --- backward ----------------------------------------------------------------------------------------------------- */

/* Gradients of what block 0 reads and of what each block hands on: (layers + 1, T, d). */
typedef struct gradients {
    float *at;
    int64_t tokens, d;
} gradients;

static int keep_gradient(void *context, int64_t layer, const float *g, int64_t tokens, er_err *err)
{
    gradients *k = context;
    (void)err;
    memcpy(k->at + (layer + 1) * k->tokens * k->d, g, (size_t)(tokens * k->d) * sizeof *g);
    return 0;
}

static void backward_text(rig *r, const json_t *text)
{
    const er_config *c = &r->model->config;
    const int64_t block = json_integer_value(json_object_get(text, "gradient_block")), step = block < 0 ? 3 : 2;
    er_ids ids;
    golden_ids(&ids, json_object_get(text, "ids"));
    const int64_t n = ids.count, d = c->hidden, each = n * d, some = (n + step - 1) / step;
    gradients keep = {floats((size_t)((c->layers + 1) * each)), n, d};
    er_tap tap = {.context = &keep, .block_grad = keep_gradient};
    float loss = test_loss_and_gradients(&r->view, r->work, &ids, LAST, &tap, keep.at);
    note(r, &r->seen.logit, fabs((double)loss - json_number_value(json_object_get(text, "loss"))), 1e-4, "loss", 0);

    float *norms = golden_floats(text, "gradient_norms", (size_t)c->layers + 1);
    float *want = golden_floats(text, "gradient", (size_t)(some * d)), *got = floats((size_t)(some * d));
    for (int64_t l = 0; l <= c->layers; l++) {
        double norm = er_norm64(keep.at + l * each, each), expected = (double)norms[l];
        note(r, &r->seen.gradient, fabs(norm - expected) / expected, allowed.gradient, "gradient norm after block", l - 1);
    }
    for (int64_t i = 0; i < some; i++)
        memcpy(got + i * d, keep.at + (block + 1) * each + i * step * d, (size_t)d * sizeof *got);
    note(r, &r->seen.gradient, apart(got, want, some * d), allowed.gradient, "gradient after block", block);
    er_free(got);
    er_free(want);
    er_free(norms);
    er_free(keep.at);
    er_ids_free(&ids);
}

/* --- greedy ------------------------------------------------------------------------------------------------------- */

static void greedy_text(rig *r)
{
    er_err err = ER_ERR_INIT;
    const json_t *list = json_object_get(r->golden, "greedy");
    const int64_t steps = (int64_t)json_array_size(list);
    er_draw draw = {.top_k = 1};
    er_ids ids;
    golden_ids(&ids, json_object_get(r->golden, "prompt"));
    const int64_t before = ids.count;
    assert_true(before > 0 && steps > 0);
    OK(er_generate(&r->view, &ids, 1, before + steps, 0, &draw, r->work, &err));
    assert_int_equal(ids.count, before + steps);
    for (int64_t s = 0; s < steps; s++)
        if (ids.at[before + s] != json_integer_value(json_array_get(list, (size_t)s)))
            fail_msg("%s: greedy id %d is %d", r->name, (int)s, (int)ids.at[before + s]);
    er_ids_free(&ids);
}

static void check_numbers(rig *r)
{
    size_t i;
    json_t *text;
    json_array_foreach(json_object_get(r->golden, "texts"), i, text)
    {
        forward_text(r, text);
        backward_text(r, text);
    }
    assert_true(i == 3 && r->compared > 400);
    greedy_text(r);
    printf("%-22s state %.1e  logit %.1e  gradient %.1e  greedy equal\n", r->name, r->seen.state, r->seen.logit,
           r->seen.gradient);
}

int main(void)
{
    void (*const checks[])(rig *) = {check_numbers};
    return run_checks(checks, 1, NULL, NULL);
}
