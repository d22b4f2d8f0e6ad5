/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/text.h"
#include "model/kernels.h"
#include "stats/corpus.h"
#include "stats/eigen.h"
#include "stats/moment.h"

#include <jansson.h>
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char corpus_path[] = "tests/fixtures/tiny-corpus.txt";
static er_model *model;
static er_work *work;
static er_view view;
static char file[64]; /* scratch file of a test */

static int setup(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    if (er_kernels_start(NULL)) return -1;
    if (er_model_open(&model, "tests/fixtures/tiny-llama", ER_F32, &err) || er_work_new(&work, model, &err) ||
        er_view_open(&view, model, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    strcpy(file, "/tmp/errata-corpus-XXXXXX");
    int fd = mkstemp(file);
    return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
    (void)state;
    er_view_close(&view);
    er_work_free(work);
    er_model_close(model);
    er_kernels_stop();
    return unlink(file);
}

static er_corpus *open_corpus(const er_corpus_options *options)
{
    er_corpus *c = NULL;
    er_err err = ER_ERR_INIT;
    if (er_corpus_open(&c, options, model, &err)) fail_msg("%s", err.text);
    return c;
}

static er_corpus *open_text(const char *text, int64_t documents, int64_t max_tokens)
{
    assert_int_equal(er_save_bytes(file, text, strlen(text), NULL), 0);
    er_corpus_options options = {.path = file, .documents = documents, .max_tokens = max_tokens};
    return open_corpus(&options);
}

/* Document i of the corpus is `text`, cut to so many ids. */
static void assert_document(const er_corpus *c, int64_t i, const char *text, int64_t max_tokens)
{
    er_ids ids[ER_BLOCK_DOCUMENTS], want = {0};
    int64_t count;
    assert_int_equal(er_corpus_block(c, i / ER_BLOCK_DOCUMENTS, ids, &count, work, NULL), 0);
    assert_true(i % ER_BLOCK_DOCUMENTS < count);
    assert_int_equal(er_encode(model->tokenizer, &want, text, strlen(text), 1, NULL), 0);
    if (want.count > max_tokens) want.count = max_tokens;
    const er_ids *got = &ids[i % ER_BLOCK_DOCUMENTS];
    assert_int_equal(got->count, want.count);
    assert_memory_equal(got->at, want.at, (size_t)want.count * sizeof *want.at);
    for (int64_t d = 0; d < count; d++) er_ids_free(&ids[d]);
    er_ids_free(&want);
}

static void parts_plain_text(void **state)
{
    (void)state;
    er_corpus *c = open_text("\n\n one two \n three\n\nstill one\n\n\nsecond\n\n\n\n\n\n\n\n \t\n\n\n\xc2\xa0third\xe3\x80\x80\x1f\n"
                             "\n\r\nfourth\r\nline\r\n\r\n\r\nfifth \n \n\n more\r",
                             0, 64);
    assert_int_equal(er_corpus_documents(c), 5);
    assert_int_equal(er_corpus_blocks(c), 1);
    assert_document(c, 0, "one two \n three\n\nstill one", 64);
    assert_document(c, 1, "second", 64);
    assert_document(c, 2, "third", 64);
    assert_document(c, 3, "fourth\nline", 64);
    assert_document(c, 4, "fifth \n \n\n more", 64); /* a line with a space is not empty */
    er_corpus_close(c);
    c = open_text("one\n\n\n\n\n\ntwo\n\n\nthree", 2, 1);
    assert_int_equal(er_corpus_documents(c), 2);
    assert_int_equal(er_corpus_tokens(c), 2);
    assert_document(c, 0, "one", 1);
    assert_document(c, 1, "two", 1);
    er_corpus_close(c);
}

static void reads_json_lines(void **state)
{
    (void)state;
    static const char lines[] = "\n {\"id\": 1, \"text\": \" one \\n two \"}\n\n{\"text\": \"  \"}\r\n"
                                "{\"text\": \"caf\\u00e9\\n\\n\\nsame document\", \"x\": [1]}\n";
    er_corpus *c = open_text(lines, 0, 64);
    assert_int_equal(er_corpus_documents(c), 2);
    assert_document(c, 0, "one \n two", 64);
    assert_document(c, 1, "caf\xc3\xa9\n\n\nsame document", 64);
    er_corpus_close(c);
    static const struct {
        const char *text, *want;
    } bad[] = {
        {"{\"text\": \"a\"}\n\n{\"text\": \"b\"", ":3:"},
        {"{\"text\": \"a\"}\n{\"txt\": \"b\"}\n", ":2: no \"text\" string"},
        {"{\"text\": 5}\n", ":1: no \"text\" string"},
        {"{\"text\": \"a\", \"text\": \"b\"}\n", ":1:"},
        {"{\"text\": \" \"}\n", ": holds no text"},
        {" \n\n\n \n", ": holds no text"},
        {"", ": holds no text"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        er_err err = ER_ERR_INIT;
        er_corpus_options options = {.path = file, .max_tokens = 64};
        assert_int_equal(er_save_bytes(file, bad[i].text, strlen(bad[i].text), NULL), 0);
        assert_int_equal(er_corpus_open(&c, &options, model, &err), ER_E_INPUT);
        if (!strstr(err.text, bad[i].want) || !strstr(err.text, file)) fail_msg("%s", err.text);
    }
}

static void refuses_bad_options(void **state)
{
    (void)state;
    er_corpus *c = NULL;
    const er_corpus_options bad[] = {
        {.path = corpus_path, .max_tokens = model->longest_text + 1}, {.path = corpus_path, .max_tokens = -1},
        {.path = corpus_path, .documents = -1},                         {.max_tokens = 16},
        {.max_tokens = 16, .tokens = -5},                               {.max_tokens = 1, .tokens = 100},
        {.max_tokens = 2, .tokens = INT64_MAX},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        er_err err = ER_ERR_INIT;
        assert_int_equal(er_corpus_open(&c, &bad[i], model, &err), ER_E_INPUT);
        assert_true(*err.text && !c);
    }
    er_corpus_options absent = {.path = "/nowhere/corpus.txt", .max_tokens = 8};
    assert_int_equal(er_corpus_open(&c, &absent, model, NULL), ER_E_IO);
}

static er_hash hash_for(const er_corpus_options *options)
{
    er_corpus *c = open_corpus(options);
    er_hash hash = er_corpus_hash(c);
    er_corpus_close(c);
    return hash;
}

static int equal_for(er_corpus_options a, er_corpus_options b)
{
    er_hash x = hash_for(&a), y = hash_for(&b);
    return er_hash_equal(&x, &y);
}

static void identity_is_what_is_read(void **state)
{
    (void)state;
    er_corpus_options file_options = {.path = corpus_path, .documents = 20, .max_tokens = 50}, o = file_options;
    assert_true(equal_for(file_options, o));
    o.pass_tokens = 3;
    o.seed = 77; /* belongs to samples */
    assert_true(equal_for(file_options, o));
    o.max_tokens = 49;
    assert_false(equal_for(file_options, o));
    o.max_tokens = 50;
    o.documents = 19;
    assert_false(equal_for(file_options, o));
    er_corpus_options sample = {.tokens = 64, .max_tokens = 16, .seed = 1}, s = sample;
    s.pass_tokens = 3;
    s.tokens = 63; /* four documents all the same */
    assert_true(equal_for(sample, s));
    s.tokens = 65;
    assert_false(equal_for(sample, s));
    s = sample;
    s.seed = 2;
    assert_false(equal_for(sample, s));
    s = sample;
    s.max_tokens = 32;
    assert_false(equal_for(sample, s));
    /* the same documents, written down in two ways */
    er_corpus *c = open_text("one two\n\n\nthree \"four\"\n", 0, 64);
    er_hash plain = er_corpus_hash(c);
    er_corpus_close(c);
    c = open_text("{\"text\": \"one two\"}\n{\"text\": \"three \\\"four\\\"\"}", 0, 64);
    er_hash json = er_corpus_hash(c);
    er_corpus_close(c);
    assert_true(er_hash_equal(&plain, &json));
    c = open_text("one\n\n\n two three \"four\"\n", 0, 64); /* cut elsewhere */
    er_hash other = er_corpus_hash(c);
    er_corpus_close(c);
    assert_false(er_hash_equal(&plain, &other));
}

static void blocks_are_eight_documents(void **state)
{
    (void)state;
    er_corpus_options options = {.path = corpus_path, .documents = 19, .max_tokens = 40};
    er_corpus *c = open_corpus(&options);
    er_ids ids[ER_BLOCK_DOCUMENTS];
    int64_t tokens = 0;
    assert_int_equal(er_corpus_documents(c), 19);
    assert_int_equal(er_corpus_blocks(c), 3);
    for (int64_t b = 0; b < 3; b++) {
        int64_t count;
        assert_int_equal(er_corpus_block(c, b, ids, &count, work, NULL), 0);
        assert_int_equal(count, b < 2 ? 8 : 3);
        for (int64_t i = 0; i < count; i++) {
            assert_true(ids[i].count > 0 && ids[i].count <= 40);
            tokens += ids[i].count;
            er_ids_free(&ids[i]);
        }
    }
    assert_int_equal(er_corpus_tokens(c), tokens);
    er_corpus_close(c);
}

/* A sampled document is a function of seed and index, whoever asks for whichever block. */
static void samples_documents_by_index(void **state)
{
    (void)state;
    er_corpus_options options = {.tokens = 10 * 24 - 5, .max_tokens = 24, .seed = 3};
    er_corpus *c = open_corpus(&options);
    er_ids ids[2][ER_BLOCK_DOCUMENTS];
    int64_t count[2], distinct = 0;
    assert_int_equal(er_corpus_documents(c), 10);
    assert_int_equal(er_corpus_tokens(c), 240);
    for (int64_t b = 1; b >= 0; b--) assert_int_equal(er_corpus_block(c, b, ids[b], &count[b], work, NULL), 0);
    assert_true(count[0] == 8 && count[1] == 2);
    for (int64_t i = 0; i < 10; i++) {
        er_ids alone = {0}, *got = &ids[i / 8][i % 8];
        er_draw draw = {50, 3, ER_STREAM_SAMPLE, (uint32_t)i};
        assert_int_equal(got->count, 24);
        assert_int_equal(er_grow(&alone.at, &alone.capacity, 1, NULL), 0);
        alone.at[0] = got->at[0];
        alone.count = 1;
        assert_int_equal(er_generate(&view, &alone, 1, 24, 0, &draw, work, NULL), 0);
        assert_memory_equal(alone.at, got->at, 24 * sizeof *alone.at);
        distinct += i > 0 && memcmp(got->at, ids[0][0].at, 24 * sizeof *got->at) != 0;
        er_ids_free(&alone);
    }
    assert_int_equal(distinct, 9);
    assert_int_equal(ids[0][0].at[0], model->config.bos); /* the tiny model's texts begin with <|endoftext|> */
    for (int64_t i = 0; i < 10; i++) er_ids_free(&ids[i / 8][i % 8]);
    er_corpus_close(c);
}

/* --- measuring --------------------------------------------------------------------------------------------------- */

enum { WANTED = 3 };
static const int64_t wanted[WANTED] = {2, 0, 3}; /* in no order */

static void measure_all(const er_corpus *c, er_moment moments[WANTED])
{
    int64_t f = model->config.inner;
    double *gram = NULL;
    er_err err = ER_ERR_INIT;
    assert_int_equal(er_alloc(&gram, (size_t)(f * f), NULL), 0);
    gram[5] = 1e9; /* what a scratch may hold */
    for (int i = 0; i < WANTED; i++) assert_int_equal(er_moment_new(&moments[i], f, NULL), 0);
    for (int64_t b = 0; b < er_corpus_blocks(c); b++)
        if (er_corpus_measure(c, b, &view, wanted, WANTED, moments, gram, work, &err)) fail_msg("%s", err.text);
    er_free(gram);
}

static void free_all(er_moment moments[WANTED])
{
    for (int i = 0; i < WANTED; i++) er_moment_free(&moments[i]);
}

/* The twin: every document through the whole model at once, sums in plain loops. */
static int keep_key(void *context, int64_t layer, enum er_matrix_id which, const float *in, float *out,
                    int64_t tokens, er_err *err)
{
    double *const *sums = context;
    (void)out, (void)err;
    int64_t f = model->config.inner;
    if (which != ER_MATRIX_DOWN) return 0;
    for (int w = 0; w < WANTED; w++)
        for (int64_t t = 0; layer == wanted[w] && t < tokens; t++)
            for (int64_t i = 0; i < f; i++)
                for (int64_t j = 0; j < f; j++) sums[w][i * f + j] += (double)in[t * f + i] * (double)in[t * f + j];
    return 0;
}

static void measure_naively(const er_corpus *c, double *sums[WANTED])
{
    er_tap tap = {.context = sums, .forward = keep_key};
    for (int64_t b = 0; b < er_corpus_blocks(c); b++) {
        er_ids ids[ER_BLOCK_DOCUMENTS];
        int64_t count;
        assert_int_equal(er_corpus_block(c, b, ids, &count, work, NULL), 0);
        for (int64_t i = 0; i < count; i++) {
            er_cache *cache;
            float *x = NULL;
            er_span span = {0, 0, ids[i].count};
            assert_int_equal(er_cache_new(&cache, model, 1, &ids[i].count, 0, model->config.layers, NULL), 0);
            assert_int_equal(er_alloc(&x, (size_t)(ids[i].count * model->config.hidden), NULL), 0);
            assert_int_equal(er_embed_text(model, x, ids[i].at, ids[i].count, NULL), 0);
            assert_int_equal(er_forward(&view, cache, &span, 1, x, 0, model->config.layers, NULL, &tap, work, NULL), 0);
            er_cache_free(cache);
            er_free(x);
            er_ids_free(&ids[i]);
        }
    }
}

static void agrees_with_the_naive_twin(void **state)
{
    (void)state;
    int64_t f = model->config.inner;
    er_corpus_options options = {.path = corpus_path, .documents = 21, .max_tokens = 70};
    er_corpus *c = open_corpus(&options);
    er_moment moments[WANTED];
    double *sums[WANTED] = {NULL}, *mean = NULL;
    assert_int_equal(er_alloc(&mean, (size_t)(f * f), NULL), 0);
    for (int w = 0; w < WANTED; w++) assert_int_equal(er_alloc(&sums[w], (size_t)(f * f), NULL), 0);
    measure_all(c, moments);
    measure_naively(c, sums);
    for (int w = 0; w < WANTED; w++) {
        double most = 0, scale = 0;
        assert_int_equal(moments[w].tokens, er_corpus_tokens(c));
        assert_int_equal(er_moment_mean(mean, &moments[w], NULL), 0);
        for (int64_t i = 0; i < f * f; i++) {
            scale = fmax(scale, fabs(mean[i]));
            most = fmax(most, fabs(mean[i] - sums[w][i] / (double)moments[w].tokens));
        }
        if (!(most <= 1e-12 * scale)) fail_msg("layer %d: off by %g of %g", (int)wanted[w], most, scale);
        er_free(sums[w]);
    }
    er_free(mean);
    free_all(moments);
    er_corpus_close(c);
}

/* However forward calls cut a block, over however many threads: the same bytes. */
static void cuts_and_threads_change_no_bit(void **state)
{
    (void)state;
    static const int64_t passes[] = {1, 7, 64, 100, 512, 100000};
    er_corpus_options options = {.path = corpus_path, .documents = 21, .max_tokens = 70};
    er_corpus *c = open_corpus(&options);
    er_moment want[WANTED], got[WANTED];
    int threads = omp_get_max_threads();
    measure_all(c, want);
    er_corpus_close(c);
    for (size_t p = 0; p < sizeof passes / sizeof *passes; p++) {
        options.pass_tokens = passes[p];
        er_kernels_stop(); /* while the threads that hold scratch are still there */
        omp_set_num_threads(p % 2 ? 1 : 3);
        c = open_corpus(&options);
        measure_all(c, got);
        for (int w = 0; w < WANTED; w++) {
            assert_int_equal(got[w].tokens, want[w].tokens);
            assert_memory_equal(got[w].sum, want[w].sum,
                                (size_t)er_moment_elements(want[w].n) * sizeof *want[w].sum);
        }
        free_all(got);
        er_corpus_close(c);
    }
    er_kernels_stop();
    omp_set_num_threads(threads);
    free_all(want);
}

static void refuses_layers_that_are_not_there(void **state)
{
    (void)state;
    er_corpus_options options = {.tokens = 16, .max_tokens = 16};
    er_corpus *c = open_corpus(&options);
    er_err err = ER_ERR_INIT;
    int64_t layer = model->config.layers, f = model->config.inner;
    er_moment m;
    double *gram = NULL;
    assert_int_equal(er_alloc(&gram, (size_t)(f * f), NULL), 0);
    assert_int_equal(er_moment_new(&m, f, NULL), 0);
    assert_int_equal(er_corpus_measure(c, 0, &view, &layer, 1, &m, gram, work, &err), ER_E_INPUT);
    assert_non_null(strstr(err.text, "the model has layers 0 to 3"));
    er_free(gram);
    er_moment_free(&m);
    er_corpus_close(c);
}

static void gives_memory_back_when_it_runs_out(void **state)
{
    (void)state;
    er_corpus_options options = {.path = corpus_path, .documents = 9, .max_tokens = 20};
    er_corpus *c = open_corpus(&options);
    int64_t layer = 1, f = model->config.inner, live, failures = 0;
    er_moment m;
    double *gram = NULL;
    assert_int_equal(er_alloc(&gram, (size_t)(f * f), NULL), 0);
    assert_int_equal(er_moment_new(&m, f, NULL), 0);
    assert_int_equal(er_corpus_measure(c, 0, &view, &layer, 1, &m, gram, work, NULL), 0); /* scratch has grown */
    live = er_memory_live();
    for (int64_t at = 1; at < 60; at++) {
        er_corpus *other = NULL;
        er_memory_fail_at(at);
        int code = er_corpus_measure(c, 1, &view, &layer, 1, &m, gram, work, NULL);
        failures += code != 0;
        er_memory_fail_at(at);
        int open_code = er_corpus_open(&other, &options, model, NULL);
        er_memory_fail_at(0);
        er_corpus_close(other);
        assert_true((code == 0 || code == ER_E_MEMORY) && (open_code == 0 || open_code == ER_E_MEMORY));
        assert_int_equal(er_memory_live(), live);
    }
    assert_true(failures > 3);
    er_free(gram);
    er_moment_free(&m);
    er_corpus_close(c);
}

/* --- torch's figures on the tiny model ---------------------------------------------------------------------------- */

static void near(double got, const json_t *want, double scale, const char *what)
{
    assert_true(json_is_number(want));
    double deviation = fabs(got - json_number_value(want));
    if (!(deviation <= 1e-5 * scale)) fail_msg("%s: %.9g, golden %.9g", what, got, json_number_value(want));
}

static void compare_layer(const json_t *golden, const er_moment *m)
{
    int64_t f = m->n;
    const char *name;
    json_t *value;
    er_eigen e;
    double *c = NULL, trace = 0;
    assert_int_equal(er_alloc(&c, (size_t)(f * f), NULL), 0);
    assert_int_equal(er_moment_mean(c, m, NULL), 0);
    for (int64_t i = 0; i < f; i++) trace += c[i * f + i];
    near(trace, json_object_get(golden, "trace"), trace, "trace");
    json_object_foreach(json_object_get(golden, "entries"), name, value) {
        char *comma;
        long i = strtol(name, &comma, 10), j = strtol(comma + 1, NULL, 10);
        near(c[i * f + j], value, sqrt(c[i * f + i] * c[j * f + j]), name);
    }
    assert_int_equal(er_eigen_solve(&e, c, f, NULL), 0);
    near(e.values[f / 2], json_object_get(golden, "median"), e.values[f / 2], "median");
    near(e.values[0], json_object_get(golden, "min"), e.values[0], "min");
    near(e.values[f - 1], json_array_get(json_object_get(golden, "max"), 2), e.values[f - 1], "max");
    json_object_foreach(json_object_get(golden, "below"), name, value) {
        int64_t below = 0;
        while (below < f && e.values[below] < strtod(name, NULL)) below++;
        assert_int_equal(below, json_integer_value(value));
    }
    er_eigen_free(&e);
    er_free(c);
}

static void agrees_with_torch(void **state)
{
    (void)state;
    er_corpus_options options = {.path = corpus_path, .documents = 60, .max_tokens = 256};
    er_moment moments[WANTED];
    json_t *golden = json_load_file("tests/golden/easyedit/tiny_moments.json", 0, NULL);
    assert_non_null(golden);
    er_corpus *c = open_corpus(&options);
    assert_int_equal(er_corpus_tokens(c), json_integer_value(json_object_get(golden, "tokens")));
    measure_all(c, moments);
    for (int w = 0; w < WANTED; w++)
        compare_layer(json_array_get(json_object_get(golden, "layers"), (size_t)wanted[w]), &moments[w]);
    free_all(moments);
    er_corpus_close(c);
    json_decref(golden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_plain_text),           cmocka_unit_test(reads_json_lines),
        cmocka_unit_test(refuses_bad_options),        cmocka_unit_test(identity_is_what_is_read),
        cmocka_unit_test(blocks_are_eight_documents), cmocka_unit_test(samples_documents_by_index),
        cmocka_unit_test(agrees_with_the_naive_twin), cmocka_unit_test(cuts_and_threads_change_no_bit),
        cmocka_unit_test(refuses_layers_that_are_not_there),
        cmocka_unit_test(gives_memory_back_when_it_runs_out), cmocka_unit_test(agrees_with_torch),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
