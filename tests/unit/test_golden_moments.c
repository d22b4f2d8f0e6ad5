/* SPDX-License-Identifier: Apache-2.0 */
/* Second moments of a real model on real text against what torch measured with the peer's formula: the first 400
 * documents of a Wikipedia sample, at most 256 tokens each. About a minute; skipped where model or text is absent. */
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "model/kernels.h"
#include "stats/corpus.h"
#include "stats/eigen.h"
#include "stats/moment.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LAYERS = 2 };
static const int64_t layers[LAYERS] = {4, 8};
static char model_path[512], text_path[512], golden_path[512];
static double worst; /* relative deviation over everything compared */

static int find_file(char path[512], const char *variable, const char *preset, const char *name)
{
    const char *folder = getenv(variable);
    snprintf(path, 512, "%s/%s", folder ? folder : preset, name);
    if (er_file_exists(path)) return 1;
    fprintf(stderr, "test_golden_moments: skipped, no %s (set %s)\n", path, variable);
    return 0;
}

static void near(double got, double want, double tolerance, const char *what, int64_t layer)
{
    double deviation = fabs(got - want) / fabs(want);
    if (deviation > worst) worst = deviation;
    if (!(deviation <= tolerance))
        fail_msg("layer %lld, %s: %.9g, golden %.9g (relative %.2g)", (long long)layer, what, got, want, deviation);
}

static double field(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

/* An element beside its row's and column's scale: small ones are differences of large products. */
static void compare_entries(const json_t *entries, const double *mean, int64_t n, int64_t layer)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)entries, name, value) {
        char *comma;
        long i = strtol(name, &comma, 10), j = strtol(comma + 1, NULL, 10);
        double scale = sqrt(mean[i * n + i] * mean[j * n + j]), want = json_number_value(value);
        double deviation = fabs(mean[i * n + j] - want) / scale;
        if (deviation > worst) worst = deviation;
        if (!(deviation <= 1e-6))
            fail_msg("layer %lld, element %s: %.9g, golden %.9g", (long long)layer, name, mean[i * n + j], want);
    }
}

static void compare_spectrum(const json_t *golden, const er_eigen *e, int64_t layer)
{
    const char *name;
    json_t *value;
    const json_t *most = json_object_get(golden, "max");
    near(e->values[0], field(golden, "min"), 5e-6, "least eigenvalue", layer);
    near(e->values[e->n / 2], field(golden, "median"), 5e-6, "median eigenvalue", layer);
    assert_int_equal(json_array_size(most), 3);
    for (size_t i = 0; i < 3; i++)
        near(e->values[e->n - 3 + (int64_t)i], json_number_value(json_array_get(most, i)), 5e-6, "large eigenvalue",
             layer);
    json_object_foreach(json_object_get(golden, "below"), name, value) {
        er_projection p = {NULL, 0};
        er_keep keep = {ER_KEEP_THRESHOLD, strtod(name, NULL)};
        int code = er_projection_make(&p, e, &keep, NULL);
        assert_true(code == 0 || p.rank == 0);
        if (p.rank != json_integer_value(value))
            fail_msg("layer %lld: %lld eigenvalues below %s, golden %lld", (long long)layer, (long long)p.rank, name,
                     (long long)json_integer_value(value));
    }
}

static void compare_layer(const json_t *golden, const er_moment *m, int64_t layer)
{
    er_eigen e;
    double *mean = NULL, trace = 0, squares = 0;
    assert_int_equal(er_alloc(&mean, (size_t)(m->n * m->n), NULL), 0);
    assert_int_equal(er_moment_mean(mean, m, NULL), 0);
    for (int64_t i = 0; i < m->n; i++) trace += mean[i * m->n + i];
    for (int64_t i = 0; i < m->n * m->n; i++) squares += mean[i] * mean[i];
    near(trace, field(golden, "trace"), 1e-5, "trace", layer);
    near(sqrt(squares), field(golden, "frobenius"), 1e-5, "Frobenius norm", layer);
    compare_entries(json_object_get(golden, "entries"), mean, m->n, layer);
    assert_int_equal(er_eigen_solve(&e, mean, m->n, NULL), 0);
    compare_spectrum(golden, &e, layer);
    er_eigen_free(&e);
    er_free(mean);
}

static void moments_are_the_golden_ones(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    er_model *model;
    er_corpus *corpus;
    er_work *work;
    er_view view;
    er_moment moments[LAYERS];
    double *gram = NULL;
    json_t *golden = json_load_file(golden_path, 0, NULL);
    assert_non_null(golden);
    assert_int_equal(er_kernels_start(NULL), 0);
    if (er_model_open(&model, model_path, ER_F32, &err)) fail_msg("%s", err.text);
    er_corpus_options options = {.path = text_path, .documents = 400, .max_tokens = 256};
    if (er_corpus_open(&corpus, &options, model, &err)) fail_msg("%s", err.text);
    assert_int_equal(er_corpus_documents(corpus), 400);
    assert_int_equal(er_corpus_tokens(corpus), json_integer_value(json_object_get(golden, "tokens")));
    int64_t f = model->config.inner;
    assert_int_equal(er_work_new(&work, model, NULL), 0);
    assert_int_equal(er_view_open(&view, model, NULL), 0);
    assert_int_equal(er_alloc(&gram, (size_t)(f * f), NULL), 0);
    for (int i = 0; i < LAYERS; i++) assert_int_equal(er_moment_new(&moments[i], f, NULL), 0);
    double start = er_seconds();
    for (int64_t b = 0; b < er_corpus_blocks(corpus); b++)
        if (er_corpus_measure(corpus, b, &view, layers, LAYERS, moments, gram, work, &err)) fail_msg("%s", err.text);
    double seconds = er_seconds() - start;
    for (int i = 0; i < LAYERS; i++) {
        assert_int_equal(moments[i].tokens, er_corpus_tokens(corpus));
        compare_layer(json_array_get(json_object_get(golden, "layers"), (size_t)layers[i]), &moments[i], layers[i]);
        er_moment_free(&moments[i]);
    }
    print_message("layers 0 to 8, moments of 2: %.3f s per 1000 tokens; largest relative deviation %.2g\n",
                  1000 * seconds / (double)er_corpus_tokens(corpus), worst);
    er_free(gram);
    er_view_close(&view);
    er_work_free(work);
    er_corpus_close(corpus);
    er_model_close(model);
    er_kernels_stop();
    json_decref(golden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(moments_are_the_golden_ones)};
    snprintf(golden_path, sizeof golden_path, "tests/golden/easyedit/moments.json");
    if (!er_file_exists(golden_path) && !find_file(golden_path, "ERRATA_SHARED", "../shared", "golden/moments.json"))
        return 77;
    if (!find_file(model_path, "ERRATA_CACHE", "cache", "SmolLM2-135M-Instruct.Q4_1.gguf") ||
        !find_file(text_path, "ERRATA_SHARED", "../shared", "data/text/enwiki_plain_20MB_sample.txt"))
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
