/* SPDX-License-Identifier: Apache-2.0 */
/* The plan's formulas: parameters against the published ones, operations against a hand calculation and against what a
 * pass shows its tap, bytes against open models. */
#include "tests/support.h"

#include "model/forward.h"
#include "model/kernels.h"
#include "runner/cost.h"

#include <dirent.h>
#include <math.h>

/* --- parameters of published models ------------------------------------------------------------------------------- */

typedef struct published {
    const char *name, *config;
    double block, head; /* millions: spec's table 0.1 */
    double all;         /* as the model cards' weights add up */
} published;

#define LLAMA(d, f, heads, kv, layers, vocab, positions, theta, tied)                                                  \
    "\"hidden_size\": " #d ", \"intermediate_size\": " #f ", \"num_attention_heads\": " #heads                         \
    ", \"num_key_value_heads\": " #kv ", \"num_hidden_layers\": " #layers ", \"vocab_size\": " #vocab                  \
    ", \"max_position_embeddings\": " #positions ", \"rope_theta\": " #theta ", \"rms_norm_eps\": 1e-5"                \
    ", \"hidden_act\": \"silu\", \"tie_word_embeddings\": " #tied "}"

static const published models[] = {
    {"gpt2-xl", "{\"model_type\": \"gpt2\", \"n_embd\": 1600, \"n_layer\": 48, \"n_head\": 25, \"n_positions\": 1024, "
                "\"n_ctx\": 1024, \"vocab_size\": 50257, \"activation_function\": \"gelu_new\"}",
     30.7, 80.4, 1557611200},
    {"gpt-j-6b", "{\"model_type\": \"gptj\", \"n_embd\": 4096, \"n_layer\": 28, \"n_head\": 16, \"n_positions\": 2048, "
                 "\"rotary_dim\": 64, \"vocab_size\": 50400, \"activation_function\": \"gelu_new\", "
                 "\"tie_word_embeddings\": false}",
     201.3, 206.4, 6050882784},
    {"llama-2-7b", "{\"model_type\": \"llama\", "
     LLAMA(4096, 11008, 32, 32, 32, 32000, 4096, 10000, false), 202.4, 131.1, 6738415616},
    {"llama-3-8b", "{\"model_type\": \"llama\", "
     LLAMA(4096, 14336, 32, 8, 32, 128256, 8192, 500000, false), 218.1, 525.3, 8030261248},
    {"llama-3.2-3b", "{\"model_type\": \"llama\", \"head_dim\": 128, "
                     "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 32, \"low_freq_factor\": 1, "
                     "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 8192}, "
     LLAMA(3072, 8192, 24, 8, 28, 128256, 131072, 500000, true), 100.7, 394.0, 3212749824},
    {"qwen2.5-7b", "{\"model_type\": \"qwen2\", " LLAMA(3584, 18944, 28, 4, 28, 152064, 131072, 1000000, false), 233.0,
     545.0, 7615616512},
    {"mistral-7b-v0.1", "{\"model_type\": \"mistral\", \"sliding_window\": 4096, "
     LLAMA(4096, 14336, 32, 8, 32, 32000, 32768, 10000, false), 218.1, 131.1, 7241732096},
};
enum { MODELS = sizeof models / sizeof *models };

static void parse(er_config *c, const char *text, const char *name)
{
    er_err err = ER_ERR_INIT;
    OK(er_config_parse(c, text, strlen(text), name, &err));
}

static void near(double got, double want, double slack, const char *what)
{
    if (!(fabs(got - want) <= slack)) fail_msg("%s: %.17g, expected %.17g", what, got, want);
}

static void parameters_of_published_models(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        er_config c;
        parse(&c, models[i].config, models[i].name);
        er_cost_parameters p = er_cost_parameters_of(&c);
        near((double)p.all, models[i].all, 0, models[i].name);
        const double block = er_cost_block_matrices(&c), table = (double)(c.vocab * c.hidden);
        near(block * 1e-6, models[i].block, 0.05, models[i].name); /* the table leaves norms and biases out */
        assert_true((double)p.block > block && (double)p.block < 1.001 * block);
        near(table * 1e-6, models[i].head, 0.05, models[i].name);
        near((double)(p.block * c.layers + p.embedding + p.positions + p.head + p.rest), (double)p.all, 0,
             "sum of parts");
        near((double)p.head, c.tied ? 0 : (double)(c.vocab * (c.hidden + c.head_bias)), 0, "head");
        /* two bytes for each element of a matrix, four for the others */
        double narrow = er_cost_model(&c, ER_F32) - er_cost_model(&c, ER_BF16);
        double matrices = block * (double)c.layers + table * (c.tied ? 1 : 2) + (double)p.positions;
        near(narrow, 2 * matrices, 0, "bf16");
    }
}

/* --- operations, by hand ------------------------------------------------------------------------------------------ */

/* Matrices of a block: q 64, k 32, v 32, o 64, three of 96: 480; head 160. A position that sees n costs 4 * 8 * n. */
static const char tiny[] = "{\"model_type\": \"mistral\", \"sliding_window\": null, "
                           LLAMA(8, 12, 2, 1, 3, 20, 64, 10000, false);

static void passes_by_hand(void **state)
{
    er_config c;
    (void)state;
    parse(&c, tiny, "tiny");
    near(er_cost_block_matrices(&c), 480, 0, "matrices");
    near(er_cost_head(&c), 320, 0, "head");
    near(er_cost_forward(&c, 1, 3, 3, 2), 2 * 2 * 960 + 2 * (4 + 5) * 32, 0, "forward");
    /* back to weights, query, and to keys and values of the two active positions */
    near(er_cost_backward(&c, 1, 3, 3, 2), 2 * 2 * 960 + 2 * ((4 + 5) * 4 + (1 + 2) * 4) * 8, 0, "backward");
    near(er_cost_forward(&c, 0, 3, 0, 0), 0, 0, "nothing");
    c.window = 2;
    er_layer_put(&c.windowed, 2);
    near(er_cost_forward(&c, 1, 3, 3, 2), 2 * 2 * 960 + (4 + 5 + 2 + 2) * 32, 0, "forward with a window");
    near(er_cost_forward(&c, 2, 3, 0, 3), 3 * 960 + (1 + 2 + 2) * 32, 0, "from the start with a window");
    c.score_cap = c.logit_cap = 30;
    near(er_cost_backward(&c, 1, 2, 3, 2), 2 * 960 + ((4 + 5) * 6 + (1 + 2) * 4) * 8, 0, "backward with capped scores");
    near(er_cost_head_back(&c), 640, 0, "head with capped logits");
    c.embedding_width = 4;
    near(er_cost_head(&c), 2 * 20 * 4 + 2 * 4 * 8, 0, "head behind a map");
    near(er_cost_forward(&c, 0, 1, 0, 1), 960 + 32 + 2 * 4 * 8, 0, "a map behind the embedding");
}

/* Two rows of 2 + 5 positions, the subject ends at the third of the prompt's 5; target of 2; drift of 3; layer 0. */
static const er_cost_texts texts = {.rows = 2, .prefix = 2, .prompt = 5, .subject = 3, .target = 2, .drift = 3};

static void edits_by_hand(void **state)
{
    const int64_t first[] = {0, 1}, apart[] = {0, 2};
    const er_int_list pair = {2, first}, gap = {2, apart};
    const er_editor *alphaedit, *memit, *rome;
    er_hyper hyper = {.mom2_adjustment = 1};
    er_err err = ER_ERR_INIT;
    er_config c;
    (void)state;
    parse(&c, tiny, "tiny");
    er_cost_target t = er_cost_target_of(&c, 0, &texts);
    near(t.positions, 17, 0, "positions");
    near(t.active, 7, 0, "active");
    near(t.heads, 5, 0, "rows of logits");
    near(t.once, 2 * ((7 * 960 + 28 * 32) + 2 * (4 * 960 + 10 * 32)) + (3 * 960 + 6 * 32) +
                     2 * (2 * 960 + 3 * 32), 0, "once");
    near(t.loss, 2 * 2 * (3 * 960 + 18 * 32) + 2 * (960 + 3 * 32) + 5 * 320, 0, "loss");
    near(t.gradient, 2 * 2 * (3 * 960 + (18 * 4 + 6 * 4) * 8) + 2 * (960 + (3 * 4 + 4) * 8) + 5 * 320, 0, "gradient");
    near(er_cost_target_total(&t, 25), 918208, 0, "target");
    near(er_cost_target_total(&t, 1), t.once + t.loss, 0, "one step");
    near(er_cost_keys(&c, &pair, &texts), 34752, 0, "keys");
    near(er_cost_statistics(&c, &gap, 4), 3 * (960 + 10.0 / 4 * 32) + 2 * 12 * 13, 1e-9, "statistics");
    OK(er_editor_find(&alphaedit, "alphaedit", &err));
    OK(er_editor_find(&memit, "memit", &err));
    OK(er_editor_find(&rome, "rome", &err));
    near(er_cost_solve_layer(&c, er_cost_solve_kind(rome, &hyper), 1, 0), 576, 0, "rome");
    near(er_cost_solve_layer(&c, er_cost_solve_kind(memit, &hyper), 3, 0), 1728 + 108 + 9 + 216, 0, "memit");
    near(er_cost_solve_layer(&c, er_cost_solve_kind(alphaedit, &hyper), 2, 1),
         576 + 96 + 26.0 / 3 + 8 + 18 + 144, 1e-9, "alphaedit");
    hyper.mom2_adjustment = 0;
    near(er_cost_solve_layer(&c, er_cost_solve_kind(rome, &hyper), 1, 0), 0, 0, "rome without moments");
    near(er_cost_apply(&c, 2), 384, 0, "apply");
    near(er_cost_update(&c, 2), 4 * 2 * 20, 0, "update");
    near(er_cost_ledger(&c, alphaedit, 2), 4 * (2 * (20 + 20) + 8), 0, "ledger");
    near(er_cost_moment(&c), 78 * 16, 0, "moment");
    near(er_cost_eigenpairs(&c), (144 + 12) * 8, 0, "eigenpairs");
    near(er_cost_overlay(&c, 2), 2 * 96 * 4, 0, "edited matrices");
    near(er_cost_history(&c, 3), 6 * 6 * 4 > 3 * 12 * 8 + 9 * 4 ? 6 * 6 * 4 : 3 * 12 * 8 + 9 * 4, 0, "history");
}

/* --- open models -------------------------------------------------------------------------------------------------- */

/* What a pass multiplies, counted where it happens. */
static int count_product(void *context, int64_t layer, enum er_matrix_id which, const float *in, float *out,
                         int64_t tokens, er_err *err)
{
    const er_model *m = ((void **)context)[0];
    double *sum = ((void **)context)[1];
    (void)in, (void)out, (void)err;
    const er_matrix *w = &m->layers[layer].matrix[which];
    *sum += 2.0 * (double)(tokens * w->rows * w->cols);
    return 0;
}

static double bytes_of(const er_matrix *m, int weights)
{
    if (!m->data) return 0;
    assert_int_equal(m->dtype, weights);
    return (double)(m->rows * m->cols * er_dtype_bytes(m->dtype));
}

static double norm_bytes(const er_norm *n, int64_t width)
{
    double vectors = (n->gain != NULL) + (n->shift != NULL) + (n->stored != n->gain);
    return vectors * (double)width * 4;
}

/* Every array behind an open model. */
static double held(const er_model *m, int weights)
{
    const er_config *c = &m->config;
    double sum = bytes_of(&m->embedding, weights) + bytes_of(&m->positions, weights) +
                 bytes_of(&m->project_in, weights) + bytes_of(&m->project_out, weights);
    sum += norm_bytes(&m->final_norm, c->hidden);
    if (m->head.data != m->embedding.data) sum += bytes_of(&m->head, weights);
    if (m->head_bias) sum += (double)c->vocab * 4;
    for (int i = 0; i < 2; i++)
        if (m->rope[i].cosine) sum += 2 * (double)(m->longest_text * (c->rope_dim / 2)) * 4;
    for (int64_t l = 0; l < c->layers; l++) {
        const er_layer *layer = &m->layers[l];
        for (int w = 0; w < ER_MATRIX_COUNT; w++) {
            sum += bytes_of(&layer->matrix[w], weights);
            if (layer->bias[w]) sum += (double)layer->matrix[w].rows * 4;
        }
        for (int n = 0; n < ER_NORM_COUNT; n++) {
            int64_t heads = n == ER_NORM_Q ? c->heads : c->kv_heads, width = c->hidden;
            if (n == ER_NORM_Q || n == ER_NORM_K) width = c->qk_norm == ER_QK_HEAD ? c->head_dim : heads * c->head_dim;
            sum += norm_bytes(&layer->norm[n], width);
        }
    }
    return sum;
}

static void check_pass(const er_model *m, const char *path)
{
    const er_config *c = &m->config;
    enum { TOKENS = 5 };
    const int64_t n = TOKENS;
    double product = 0, pairs = 0, seen = 0;
    void *context[] = {(void *)(uintptr_t)m, &product};
    er_tap tap = {.context = context, .forward = count_product};
    er_err err = ER_ERR_INIT;
    er_view view;
    er_cache *cache;
    er_tape *tape;
    er_work *work;
    float *x;
    er_span all = {0, 0, n};
    OK(er_view_open(&view, m, &err));
    OK(er_work_new(&work, m, &err));
    OK(er_tape_new(&tape, m, &err));
    OK(er_cache_new(&cache, m, 1, &n, 0, c->layers, &err));
    OK(er_alloc(&x, (size_t)(n * c->hidden), &err));
    OK(er_forward(&view, cache, &all, 1, x, 0, c->layers, tape, &tap, work, &err));
    for (int64_t l = 0; l < c->layers; l++) {
        const int64_t window = er_config_window(c, l);
        for (int64_t p = 0; p < n; p++) pairs += (double)(p + 1 < window ? p + 1 : window);
        seen += (double)(n * (n < window ? n : window));
    }
    double maps = c->embedding_width != c->hidden ? 2.0 * TOKENS * (double)(c->embedding_width * c->hidden) : 0;
    const double attention = pairs * 4 * (double)(c->heads * c->head_dim);
    near(er_cost_forward(c, 0, c->layers, 0, TOKENS), maps + product + attention, 0, path);
    near(er_cost_kv(c, 0, c->layers) * TOKENS, (double)er_cache_bytes(cache), 0, path);
    /* each array of the tape is rounded up to 64 bytes; the estimate takes every token to see all positions */
    double tape_bytes = er_cost_tape(c, 0, c->layers, TOKENS) * TOKENS;
    double exact = tape_bytes - 4 * (double)c->heads * (seen - pairs), arrays = 11 * (double)c->layers;
    double got = (double)er_tape_bytes(tape);
    if (got < exact || got > exact + 60 * arrays) fail_msg("%s: tape of %.0f bytes, expected %.0f", path, got, exact);
    er_free(x);
    er_cache_free(cache);
    er_tape_free(tape);
    er_work_free(work);
    er_view_close(&view);
}

static void check_model(const char *path)
{
    static const int types[] = {ER_F32, ER_BF16, ER_F16};
    for (int i = 0; i < 3; i++) {
        er_err err = ER_ERR_INIT;
        er_model *m;
        er_config c;
        OK(er_config_open(&c, path, &err));
        OK(er_model_open(&m, path, types[i], &err));
        near(er_cost_model(&c, types[i]), held(m, types[i]), 0, path);
        assert_int_equal(er_cost_longest_text(&c), m->longest_text);
        if (!i) check_pass(m, path);
        er_model_close(m);
    }
}

static void open_models(void **state)
{
    static const char folder[] = "tests/fixtures/families";
    int models_seen = 0;
    (void)state;
    check_model("tests/fixtures/tiny-llama");
    check_model("tests/fixtures/tiny-llama-untied");
    DIR *list = opendir(folder);
    assert_non_null(list);
    for (struct dirent *e; (e = readdir(list));) {
        char path[512];
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        check_model(path);
        models_seen++;
    }
    closedir(list);
    assert_true(models_seen >= 15); /* every family */
}

int main(void)
{
    if (er_kernels_start(NULL)) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_of_published_models),
        cmocka_unit_test(passes_by_hand),
        cmocka_unit_test(edits_by_hand),
        cmocka_unit_test(open_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
