/* SPDX-License-Identifier: Apache-2.0 */
/* Tiny models as GGUF and as Hugging Face's folder (tests/golden/make_gguf.py): the same weights, the same logits bit
 * for bit, the same tokens. And what a file must not say. */
#define _GNU_SOURCE
#include "tests/families.h"

#include "base/file.h"
#include "base/text.h"
#include "model/gguf.h"
#include "model/weights.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIXTURES "tests/fixtures/gguf"

enum { TOKENS = 40 };

static const char *const names[] = {"llama-pieces", "llama-scaled", "llama-linear", "qwen2",  "qwen3",
                                    "smollm3",      "olmo2",        "phi2",         "phi3",   "gpt2",
                                    "gptneox",      "gemma",        "gemma2",       "gemma3", "gemma3-listed"};
static const char *const texts[] = {"the baker",
                                    " In Lima  they play the flute.\n\nA\tletter",
                                    "",
                                    "h\xC3\xA9llo \xE2\x82\xAC",
                                    "7 boats, 42 birds",
                                    "<s>the</s> cat <bos>b"};

static er_model *open_named(const char *name, int weights)
{
    char path[256];
    snprintf(path, sizeof path, FIXTURES "/%s", name);
    return open_model(path, weights);
}

static void both(er_model **folder, er_model **file, const char *name, int weights)
{
    char with[128];
    snprintf(with, sizeof with, "%s.gguf", name);
    *folder = open_named(name, weights);
    *file = open_named(with, weights);
}

static float *logits_of(const er_model *m)
{
    er_err err = ER_ERR_INIT;
    const er_config *c = &m->config;
    const int64_t n = TOKENS;
    int32_t ids[TOKENS];
    float *x = floats((size_t)(n * c->hidden)), *logits = floats((size_t)(n * c->vocab));
    er_view view;
    er_work *work;
    er_cache *cache;
    er_span all = {0, 0, n};
    for (int32_t t = 0; t < TOKENS; t++) ids[t] = (int32_t)((t * 37 + 11) % c->vocab);
    OK(er_view_open(&view, m, &err));
    OK(er_work_new(&work, m, &err));
    OK(er_cache_new(&cache, m, 1, &n, 0, c->layers, &err));
    OK(er_embed_text(m, x, ids, n, &err));
    OK(er_forward(&view, cache, &all, 1, x, 0, c->layers, NULL, NULL, work, &err));
    OK(er_head(m, logits, x, n, work, &err));
    er_cache_free(cache);
    er_work_free(work);
    er_view_close(&view);
    er_free(x);
    return logits;
}

static void same_model(const char *name, const er_model *a, const er_model *b)
{
    char first[ER_HASH_TEXT], second[ER_HASH_TEXT];
    er_hash_text(first, &a->weights);
    er_hash_text(second, &b->weights);
    if (strcmp(first, second) != 0) fail_msg("%s: weights %s and %s", name, first, second);
    float *x = logits_of(a), *y = logits_of(b);
    size_t n = (size_t)(TOKENS * a->config.vocab);
    float most = 0;
    for (size_t i = 0; i < n; i++) most = x[i] > most ? x[i] : most;
    if (memcmp(x, y, n * sizeof *x) != 0) fail_msg("%s: other logits", name);
    assert_true(most > 0.05f && most < 1e4f); /* they say something */
    er_free(x);
    er_free(y);
}

static void a_file_is_the_folder(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        er_model *folder, *file;
        both(&folder, &file, names[i], ER_F32);
        same_model(names[i], folder, file);
        er_model_close(folder);
        er_model_close(file);
    }
}

static void narrow_weights_are_the_same(void **state)
{
    (void)state;
    static const char *const some[] = {"llama-linear", "gpt2", "gptneox", "gemma", "phi3"};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        er_model *folder, *file;
        both(&folder, &file, some[i], ER_BF16);
        same_model(some[i], folder, file);
        er_model_close(folder);
        er_model_close(file);
    }
}

static void tokens_are_the_same(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        er_model *folder, *file;
        both(&folder, &file, names[i], ER_F32);
        for (size_t t = 0; t < 2 * sizeof texts / sizeof *texts; t++) {
            const char *text = texts[t / 2];
            er_ids a = {0}, b = {0};
            OK(er_encode(folder->tokenizer, &a, text, strlen(text), t % 2, &err));
            OK(er_encode(file->tokenizer, &b, text, strlen(text), t % 2, &err));
            if (a.count != b.count || (a.count && memcmp(a.at, b.at, (size_t)a.count * sizeof *a.at) != 0))
                fail_msg("%s: \"%s\" has other tokens", names[i], text);
            er_text x = ER_TEXT_INIT, y = ER_TEXT_INIT;
            OK(er_decode(folder->tokenizer, &x, a.at, a.count, 0, &err));
            OK(er_decode(file->tokenizer, &y, b.at, b.count, 0, &err));
            if (x.length != y.length || (x.length && memcmp(x.at, y.at, x.length) != 0))
                fail_msg("%s: \"%s\" back", names[i], text);
            er_text_free(&x);
            er_text_free(&y);
            er_ids_free(&a);
            er_ids_free(&b);
        }
        er_model_close(folder);
        er_model_close(file);
    }
}

/* What GGUF does not hold as such. */
static void families_fill_in_what_files_leave_out(void **state)
{
    (void)state;
    er_model *m = open_named("llama-scaled.gguf", ER_F32);
    assert_int_equal(m->config.rope_scaling, ER_ROPE_LLAMA3);
    assert_true(m->config.rope_factor >= 32 && m->config.rope_factor <= 32);
    assert_int_equal(m->config.rope_original, 8192);
    assert_true(m->config.tied);
    er_model_close(m);
    m = open_named("llama-linear.gguf", ER_F32);
    assert_int_equal(m->config.rope_scaling, ER_ROPE_LINEAR);
    assert_true(m->config.attention_bias && m->config.output_bias && m->config.mlp_bias && !m->config.tied);
    er_model_close(m);
    m = open_named("gemma3.gguf", ER_F32);
    assert_int_equal(er_config_window(&m->config, 4), 4);
    assert_true(er_config_window(&m->config, 5) == INT64_MAX);
    assert_true(m->config.rope_local_base >= 10000 && m->config.rope_local_base <= 10000);
    assert_true(m->config.score_width >= 8 && m->config.score_width <= 8);
    er_model_close(m);
    m = open_named("gemma3-listed.gguf", ER_F32);
    assert_true(er_config_window(&m->config, 0) == INT64_MAX);
    assert_int_equal(er_config_window(&m->config, 2), 3);
    assert_true(m->config.rope_local_base >= 200 && m->config.rope_local_base <= 200);
    er_model_close(m);
    m = open_named("smollm3.gguf", ER_F32);
    assert_true(!er_layer_in(&m->config.unrotated, 2) && er_layer_in(&m->config.unrotated, 3));
    er_model_close(m);
}

static uint64_t fnv1a(const float *values, int64_t n)
{
    const uint8_t *p = (const uint8_t *)values;
    uint64_t h = 0xcbf29ce484222325u;
    for (int64_t i = 0; i < n * 4; i++) h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

/* Every matrix of a model whose matrices have all block types. */
static void blocks_are_read(void **state)
{
    (void)state;
    er_model *m = open_named("blocks.gguf", ER_F32);
    json_t *hashes = test_json(FIXTURES "/blocks.json");
    size_t seen = 0;
    for (int64_t i = 0; i < er_slot_count(&m->config); i++) {
        er_slot slot = er_slot_at(&m->config, i);
        char name[ER_TENSOR_NAME], text[17];
        if (slot.dims == 1) continue;
        const er_matrix *x = slot.row->kind == ER_SLOT_EMBEDDING ? &m->embedding
                             : slot.row->kind == ER_SLOT_HEAD    ? &m->head
                                                                 : &m->layers[0].matrix[slot.row->which];
        er_slot_name(name, &m->config, &slot, 0);
        snprintf(text, sizeof text, "%016llx", (unsigned long long)fnv1a(x->data, x->rows * x->cols));
        const char *wanted = json_string_value(json_object_get(hashes, name));
        if (!wanted || strcmp(wanted, text) != 0) fail_msg("%s: %s, expected %s", name, text, wanted);
        seen++;
    }
    assert_int_equal(seen, json_object_size(hashes));
    json_decref(hashes);
    er_model_close(m);
}

static void scratch_name(char path[128])
{
    const char *base = getenv("TMPDIR");
    snprintf(path, 128, "%.80s/gguf-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(path));
}

/* A GGUF file that is written as a folder is the same model. */
static void exports_are_the_same(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128], file[128];
        er_view view;
        snprintf(file, sizeof file, "%s.gguf", names[i]);
        scratch_name(path);
        er_model *m = open_named(file, ER_F32);
        OK(er_view_open(&view, m, &err));
        OK(er_export(&view, path, ER_F32, &err));
        er_model *again = open_model(path, ER_F32);
        same_model(names[i], m, again);
        er_model_close(again);
        er_view_close(&view);
        er_model_close(m);
        test_remove_folder(path);
    }
}

/* --- refusals ----------------------------------------------------------------------------------------------------- */

typedef struct bytes {
    char *at;
    size_t size;
} bytes;

static bytes read_file(const char *name)
{
    er_err err = ER_ERR_INIT;
    char path[256];
    bytes b;
    snprintf(path, sizeof path, FIXTURES "/%s", name);
    OK(er_file_read(&b.at, &b.size, path, &err));
    return b;
}

static void open_fails(const bytes *b, const char *what, int code, const char *said)
{
    er_err err = ER_ERR_INIT;
    char folder[128], path[160];
    er_model *m = NULL;
    scratch_name(folder);
    snprintf(path, sizeof path, "%s/m.gguf", folder);
    OK(er_save_bytes(path, b->at, b->size, &err));
    int got = er_model_open(&m, path, ER_F32, &err);
    if (got != code || !strstr(err.text, said) || (code && !strstr(err.text, "m.gguf")))
        fail_msg("%s: %d, %s", what, got, err.text);
    er_model_close(m);
    test_remove_folder(folder);
}

/* Where a tensor's values lie in the file. */
static size_t tensor_at(const bytes *b, const char *name)
{
    er_err err = ER_ERR_INIT;
    er_tensors list = {0};
    er_arena *arena;
    er_gguf g;
    OK(er_arena_new(&arena, 0, &err));
    OK(er_gguf_parse(&g, &list, arena, (const uint8_t *)b->at, b->size, "x", &err));
    OK(er_tensors_sort(&list, &err));
    er_tensor *t = er_tensors_find(&list, name);
    assert_non_null(t);
    size_t at = (size_t)(t->data - (const uint8_t *)b->at);
    er_tensors_free(&list);
    er_arena_free(arena);
    return at;
}

static void other_factors_are_refused(void **state)
{
    (void)state;
    static const struct {
        size_t which;
        float value;
        const char *said;
    } rows[] = {
        {0, 1.5f, "rope_freqs.weight' divides frequency 0 by 1.5, not by 1"},
        {7, 33.0f, "divides frequency"}, /* of the largest the others do not follow */
        {3, 0.0f, "divides frequency 3 by 0"},
        {2, -1.0f, "divides frequency 2 by -1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bytes b = read_file("llama-scaled.gguf");
        size_t at = tensor_at(&b, "rope_freqs.weight");
        memcpy(b.at + at + rows[i].which * sizeof(float), &rows[i].value, sizeof(float));
        open_fails(&b, "rope_freqs", ER_E_UNSUPPORTED, rows[i].said);
        er_free(b.at);
    }
    bytes b = read_file("llama-scaled.gguf");
    size_t at = tensor_at(&b, "rope_freqs.weight");
    uint32_t nan = 0x7fc00000;
    memcpy(b.at + at + 4, &nan, sizeof nan);
    open_fails(&b, "rope_freqs", ER_E_UNSUPPORTED, "divides frequency 1 by nan");
    er_free(b.at);
}

/* The bytes behind the first occurrence of a key. */
static char *behind(const bytes *b, const char *key)
{
    char *at = memmem(b->at, b->size, key, strlen(key));
    assert_non_null(at);
    return at + strlen(key);
}

static void contradictions_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *file, *key;
        size_t shift;
        const char *with;
        size_t count;
        int code;
        const char *said;
    } rows[] = {
        {"gemma3.gguf", "gemma3.attention.value_length", 4, "\11", 1, ER_E_UNSUPPORTED, "attention.value_length 9"},
        {"gemma3.gguf", "gemma3.rope.scaling.type", 12, "yarn42", 6, ER_E_UNSUPPORTED, "\"yarn42\" is not supported"},
        {"gemma3.gguf", "gemma3.attention.sliding_windo", 0, "x", 1, ER_E_UNSUPPORTED, "sliding_windox is not"},
        {"gemma3-listed.gguf", "sliding_window_pattern", 4, "\0", 1, ER_E_FORMAT, "neither a period nor a list of 3"},
        {"gemma3-listed.gguf", "gemma3.rope.freq_base_swa", 4, "\0\0\200\277", 4, ER_E_FORMAT, "-1"},
        {"gemma2.gguf", "gemma2.attn_logit_softcapping", 4, "\0\0\300\177", 4, ER_E_FORMAT, "nan"},
        {"phi3.gguf", "phi3.rope.dimension_count", 4, "\7", 1, ER_E_FORMAT, "7 rotated"},
        {"phi3.gguf", "phi3.attention.sliding_window", 0, "\5", 1, 0, ""},
        {"llama-linear.gguf", "blk.1.attn_q.bia", 0, "x", 1, ER_E_FORMAT, "blk.1.attn_q.bias' is missing"},
        {"llama-linear.gguf", "blk.0.attn_output.bia", 0, "x", 1, ER_E_FORMAT, "blk.0.attn_output.bias' is missing"},
        {"qwen2.gguf", "blk.0.attn_k.bia", 0, "x", 1, ER_E_FORMAT, "blk.0.attn_k.bias' is missing"},
        {"llama-pieces.gguf", "tokenizer.ggml.score", 0, "x", 1, ER_E_FORMAT, "tokenizer.ggml.scores is missing"},
        {"llama-pieces.gguf", "tokenizer.ggml.scores", 4, "\5", 1, ER_E_FORMAT, "no array of fp32"},
        {"llama-pieces.gguf", "tokenizer.ggml.scores", 16, "\0\0\300\177", 4, ER_E_FORMAT, "no number for token 0"},
        {"gpt2.gguf", "gpt2.attention.head_count", 4, "\5", 1, ER_E_FORMAT, "84 x 28, expected 75 x 28"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bytes b = read_file(rows[i].file);
        memcpy(behind(&b, rows[i].key) + rows[i].shift, rows[i].with, rows[i].count);
        open_fails(&b, rows[i].key, rows[i].code, rows[i].said);
        er_free(b.at);
    }
}

/* "bos_token_id" and "eos_token_id" out of the way: SentencePiece's own numbers hold. */
static void pieces_have_ids_of_their_own(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    bytes b = read_file("llama-pieces.gguf");
    char folder[128], path[160];
    behind(&b, "tokenizer.ggml.bos_token_i")[0] = 'x';
    behind(&b, "tokenizer.ggml.eos_token_i")[0] = 'x';
    behind(&b, "tokenizer.ggml.unknown_token_i")[0] = 'x';
    scratch_name(folder);
    snprintf(path, sizeof path, "%s/m.gguf", folder);
    OK(er_save_bytes(path, b.at, b.size, &err));
    er_model *m = open_model(path, ER_F32), *whole = open_named("llama-pieces.gguf", ER_F32);
    assert_int_equal(m->config.bos, 1);
    assert_int_equal(m->config.eos, 2);
    assert_int_equal(er_tokenizer_unk(m->tokenizer), 0);
    same_model("llama-pieces", m, whole);
    er_model_close(m);
    er_model_close(whole);
    test_remove_folder(folder);
    er_free(b.at);
}

static int start(void **state)
{
    (void)state;
    return er_kernels_start(NULL);
}

static int stop(void **state)
{
    (void)state;
    er_kernels_stop();
    return er_memory_live() != 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_the_folder),
        cmocka_unit_test(narrow_weights_are_the_same),
        cmocka_unit_test(tokens_are_the_same),
        cmocka_unit_test(families_fill_in_what_files_leave_out),
        cmocka_unit_test(blocks_are_read),
        cmocka_unit_test(exports_are_the_same),
        cmocka_unit_test(other_factors_are_refused),
        cmocka_unit_test(contradictions_are_refused),
        cmocka_unit_test(pieces_have_ids_of_their_own),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
