/* SPDX-License-Identifier: Apache-2.0 */
/* Files to models and back: folders, GGUF, export, views. */
#define _GNU_SOURCE
#include "base/file.h"
#include "base/memory.h"
#include "model/model.h"
#include "model/weights.h"

#include "readers_write.h"
#include "tests/support.h"

#include <sys/stat.h>
#include <unistd.h>

#define TINY "tests/fixtures/tiny-llama"
#define UNTIED "tests/fixtures/tiny-llama-untied"

static char scratch[64];

static char *inside(const char *name)
{
    static char path[4][256];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", scratch, name);
    return p;
}

static int make_scratch(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(scratch, sizeof scratch, "%.40s/readers-XXXXXX", base ? base : "/tmp");
    return mkdtemp(scratch) ? 0 : -1;
}

static int drop_scratch(void **state)
{
    (void)state;
    test_remove_folder(scratch);
    return 0;
}

static er_model *open_model(const char *path, int weights)
{
    er_err err = ER_ERR_INIT;
    er_model *m = NULL;
    if (er_model_open(&m, path, weights, &err)) fail_msg("%s", err.text);
    return m;
}

static void save(const char *path, const void *bytes, size_t n)
{
    er_err err = ER_ERR_INIT;
    if (er_save_bytes(path, bytes, n, &err)) fail_msg("%s", err.text);
}

static void copy_file(const char *from, const char *to)
{
    er_err err = ER_ERR_INIT;
    char *bytes = NULL;
    size_t n = 0;
    if (er_file_read(&bytes, &n, from, &err)) fail_msg("%s", err.text);
    save(to, bytes, n);
    er_free(bytes);
}

static void assert_hash(const er_model *m, const char *wanted)
{
    char text[ER_HASH_TEXT];
    er_hash_text(text, &m->weights);
    assert_string_equal(text, wanted);
}

/* --- fixtures ----------------------------------------------------------------------------------------------------- */

/* Hashes pinned after every tensor was compared bit for bit with what transformers reads. */
static void fixtures_open(void **state)
{
    (void)state;
    int64_t live = er_memory_live();
    er_model *m = open_model(TINY, ER_F32);
    assert_hash(m, "a7971c17fe10bbd1e96986318b025c65");
    assert_int_equal(m->config.layers, 4);
    assert_int_equal(m->config.kv_heads, 2);
    assert_int_equal(er_config_parameters(&m->config), 205376);
    assert_ptr_equal(m->head.data, m->embedding.data);
    assert_int_equal(m->longest_text, 512);
    assert_true(m->rope[0].cosine[0] == 1.0f && m->rope[0].sine[0] == 0.0f);
    assert_true(fabs((double)m->rope[0].sine[8] - sin(1.0)) < 1e-7);
    er_model_close(m);
    m = open_model(UNTIED, ER_F32);
    assert_hash(m, "3e8596cf7ceb1a3d809072ed85be420d");
    assert_ptr_not_equal(m->head.data, m->embedding.data);
    er_model_close(m);
    assert_int_equal(er_memory_live(), live);
}

static void real_models_open(void **state)
{
    (void)state;
    const char *cache = getenv("ERRATA_CACHE"), *shared = getenv("ERRATA_SHARED");
    static const struct {
        const char *name, *hash;
    } models[] = {
        {"SmolLM2-135M-Instruct.Q4_1.gguf", "b7a0400e18c2fe62bd7ee5d6422a1c9c"},
        {"data/models/TinyStories-656K", "c503a5ac8da99b7bce230deeef94551d"},
    };
    int found = 0;
    for (int i = 0; i < 2; i++) {
        char path[512];
        const char *folder = i ? shared ? shared : "../shared" : cache ? cache : "cache";
        snprintf(path, sizeof path, "%s/%s", folder, models[i].name);
        if (!er_file_exists(path)) {
            print_message("%s is not here\n", path);
            continue;
        }
        found++;
        er_model *m = open_model(path, ER_F32);
        assert_hash(m, models[i].hash);
        er_model_close(m);
    }
    if (!found) skip();
}

static void weights_are_held_narrow(void **state)
{
    (void)state;
    er_model *wide = open_model(TINY, ER_F32);
    const int kinds[] = {ER_BF16, ER_F16};
    for (int k = 0; k < 2; k++) {
        er_model *narrow = open_model(TINY, kinds[k]);
        assert_true(er_hash_equal(&wide->weights, &narrow->weights));
        const er_matrix *a = &wide->layers[1].matrix[ER_MATRIX_DOWN], *b = &narrow->layers[1].matrix[ER_MATRIX_DOWN];
        assert_int_equal(b->dtype, kinds[k]);
        for (int64_t i = 0; i < a->rows * a->cols; i++) {
            float x = ((const float *)a->data)[i];
            uint16_t wanted = kinds[k] == ER_BF16 ? er_float_to_bf16(x) : er_float_to_f16(x);
            assert_int_equal(((const uint16_t *)b->data)[i], wanted);
        }
        assert_memory_equal(wide->final_norm.gain, narrow->final_norm.gain, (size_t)wide->config.hidden * sizeof(float));
        er_model_close(narrow);
    }
    er_model *none = NULL;
    assert_int_equal(er_model_open(&none, TINY, ER_Q8_0, NULL), ER_E_INPUT);
    assert_null(none);
    er_model_close(wide);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    int64_t live = er_memory_live();
    int code = -1, failures = 0;
    for (int64_t n = 1; code && n < 100000; n += n < 300 ? 1 : 97) {
        er_model *m = NULL;
        er_err err = ER_ERR_INIT;
        er_memory_fail_at(n);
        code = er_model_open(&m, UNTIED, ER_F32, &err);
        er_memory_fail_at(0);
        if (code) {
            assert_int_equal(code, ER_E_MEMORY);
            failures++;
        }
        er_model_close(m);
        assert_int_equal(er_memory_live(), live);
    }
    assert_int_equal(code, 0);
    assert_true(failures > 50);
}

static void names_and_views(void **state)
{
    (void)state;
    char name[64];
    er_model *m = open_model(TINY, ER_F32);
    er_matrix_name(name, sizeof name, &m->config, 5, ER_MATRIX_DOWN);
    assert_string_equal(name, "model.layers.5.mlp.down_proj.weight");
    er_matrix_name(name, sizeof name, &m->config, 12, ER_MATRIX_Q);
    assert_string_equal(name, "model.layers.12.self_attn.q_proj.weight");
    er_view v;
    assert_int_equal(er_view_open(&v, m, NULL), 0);
    assert_memory_equal(v.layers, m->layers, (size_t)m->config.layers * sizeof *v.layers);
    er_matrix other = v.layers[2].matrix[ER_MATRIX_DOWN];
    other.data = v.layers[1].matrix[ER_MATRIX_DOWN].data;
    er_view_replace(&v, 2, ER_MATRIX_DOWN, &other);
    assert_ptr_equal(v.layers[2].matrix[ER_MATRIX_DOWN].data, other.data);
    assert_ptr_not_equal(m->layers[2].matrix[ER_MATRIX_DOWN].data, other.data);
    er_view_restore(&v);
    assert_memory_equal(v.layers, m->layers, (size_t)m->config.layers * sizeof *v.layers);
    er_view_close(&v);
    er_model_close(m);
}

/* --- export ------------------------------------------------------------------------------------------------------- */

static void export_to(const er_view *v, const char *folder, int dtype)
{
    er_err err = ER_ERR_INIT;
    if (er_export(v, folder, dtype, &err)) fail_msg("%s", err.text);
}

static float *slot_values(const er_view *v, const er_slot *slot)
{
    float *values = NULL;
    assert_int_equal(er_alloc(&values, (size_t)(slot->rows * slot->cols), NULL), 0);
    er_view_rows(values, v, slot, 0, slot->rows);
    return values;
}

static void assert_same_values(const er_model *a, const er_model *b)
{
    const er_view va = {a, a->layers}, vb = {b, b->layers};
    assert_int_equal(er_slot_count(&a->config), er_slot_count(&b->config));
    for (int64_t i = 0; i < er_slot_count(&a->config); i++) {
        er_slot slot = er_slot_at(&a->config, i);
        float *x = slot_values(&va, &slot), *y = slot_values(&vb, &slot);
        assert_memory_equal(x, y, (size_t)(slot.rows * slot.cols) * sizeof *x);
        er_free(x);
        er_free(y);
    }
    assert_int_equal(a->layers[0].matrix[ER_MATRIX_Q].dtype, b->layers[0].matrix[ER_MATRIX_Q].dtype);
}

static void export_and_reopen(const char *path, int held, int dtype, const char *name)
{
    er_model *m = open_model(path, held), *again;
    er_view v;
    assert_int_equal(er_view_open(&v, m, NULL), 0);
    export_to(&v, inside(name), dtype);
    char file[32], *bytes = NULL;
    size_t size = 0;
    snprintf(file, sizeof file, "%s/model.safetensors", name);
    assert_int_equal(er_file_read(&bytes, &size, inside(file), NULL), 0);
    assert_int_equal(bytes[0] % 8, 0); /* the header's length: readers map the data behind it */
    er_free(bytes);
    again = open_model(inside(name), held);
    assert_true(er_hash_equal(&m->weights, &again->weights));
    assert_same_values(m, again);
    er_hash a = er_tokenizer_hash(m->tokenizer), b = er_tokenizer_hash(again->tokenizer);
    assert_true(er_hash_equal(&a, &b));
    er_model_close(again);
    er_view_close(&v);
    er_model_close(m);
}

static void export_keeps_everything(void **state)
{
    (void)state;
    export_and_reopen(TINY, ER_F32, ER_F32, "f32");
    export_and_reopen(UNTIED, ER_F32, ER_F32, "f32-of-bf16"); /* the same values, so the same hash */
    export_and_reopen(UNTIED, ER_BF16, ER_BF16, "bf16");
}

static void export_carries_edits(void **state)
{
    (void)state;
    er_model *m = open_model(TINY, ER_F32), *edited;
    er_view v;
    er_err err = ER_ERR_INIT;
    assert_int_equal(er_view_open(&v, m, NULL), 0);
    er_matrix other = m->layers[0].matrix[ER_MATRIX_UP];
    er_view_replace(&v, 3, ER_MATRIX_UP, &other);
    export_to(&v, inside("edited"), ER_F16);
    edited = open_model(inside("edited"), ER_F16);
    const uint16_t *got = edited->layers[3].matrix[ER_MATRIX_UP].data;
    for (int64_t i = 0; i < other.rows * other.cols; i++)
        assert_int_equal(got[i], er_float_to_f16(((const float *)other.data)[i]));
    er_model_close(edited);
    assert_int_equal(er_export(&v, inside("edited"), ER_F32, &err), ER_E_INPUT);
    assert_non_null(strstr(err.text, "edited"));
    assert_int_equal(er_export(&v, inside("other"), ER_Q4_0, &err), ER_E_INPUT);
    assert_false(er_file_exists(inside("other")));
    float *huge = NULL;
    assert_int_equal(er_alloc(&huge, (size_t)(other.rows * other.cols), NULL), 0);
    huge[7] = 1e6f;
    other.data = huge;
    er_view_replace(&v, 3, ER_MATRIX_UP, &other);
    assert_int_equal(er_export(&v, inside("huge"), ER_F16, &err), ER_E_NUMERIC);
    assert_non_null(strstr(err.text, "model.layers.3.mlp.up_proj.weight"));
    assert_false(er_file_exists(inside("huge/model.safetensors")));
    assert_false(er_file_exists(inside("huge/config.json")));
    er_free(huge);
    er_view_close(&v);
    er_model_close(m);
}

/* --- broken files ------------------------------------------------------------------------------------------------- */

#define SIZES                                                                                                          \
    "\"model_type\":\"llama\",\"num_hidden_layers\":2,\"hidden_size\":64,\"intermediate_size\":96,"                   \
    "\"num_attention_heads\":4,\"vocab_size\":100"

/* A folder with the fixture's files, one of them given by the test. */
static void make_folder(const char *from, const char *name, const char *file, const char *text)
{
    static const char *const files[] = {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors",
                                        "model.safetensors.index.json", "model-00001-of-00002.safetensors",
                                        "model-00002-of-00002.safetensors"};
    char a[600], b[600];
    test_remove_folder(inside(name));
    assert_int_equal(mkdir(inside(name), 0777), 0);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(a, sizeof a, "%s/%s", from, files[i]);
        snprintf(b, sizeof b, "%s/%s", inside(name), files[i]);
        if (strcmp(files[i], file) == 0 ? text != NULL : 0) save(b, text, strlen(text));
        if (strcmp(files[i], file) != 0 && er_file_exists(a)) copy_file(a, b);
    }
}

static void bad_folders_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *from, *file, *text; /* text NULL: the file is absent */
        int code;
        const char *said;
    } rows[] = {
        {TINY, "config.json", NULL, ER_E_IO, "config.json"},
        {TINY, "tokenizer.json", NULL, ER_E_IO, "tokenizer.json"},
        {TINY, "model.safetensors", NULL, ER_E_IO, "neither model.safetensors nor"},
        {TINY, "model.safetensors", "", ER_E_FORMAT, "model.safetensors: 0 bytes"},
        {TINY, "model.safetensors", "\2\0\0\0\0\0\0", ER_E_FORMAT, "no safetensors"},
        {TINY, "config.json", "{" SIZES "}", ER_E_FORMAT, "'model.embed_tokens.weight' (F32) has 2 dimensions"},
        {TINY, "config.json", /* one layer fewer than the file holds */
         "{\"model_type\":\"llama\",\"num_hidden_layers\":3,\"hidden_size\":64,\"intermediate_size\":160,"
         "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"vocab_size\":512,\"tie_word_embeddings\":true}",
         ER_E_UNSUPPORTED, "'model.layers.3.input_layernorm.weight' has no place"},
        {UNTIED, "model.safetensors.index.json", "{}", ER_E_FORMAT, "weight_map is missing"},
        {UNTIED, "model.safetensors.index.json", "{\"weight_map\":{\"a\":\"../x\"}}", ER_E_FORMAT, "no file of this"},
        {UNTIED, "model.safetensors.index.json", "{\"weight_map\":{\"a\":7}}", ER_E_FORMAT, "no file of this"},
        {UNTIED, "model.safetensors.index.json", "{\"weight_map\":{\"a\":\"b.safetensors\"}}", ER_E_IO,
         "b.safetensors"},
        {UNTIED, "model.safetensors.index.json",
         "{\"weight_map\":{\"a\":\"model-00001-of-00002.safetensors\"}}", ER_E_FORMAT, "'a' is not in"},
        {UNTIED, "model-00002-of-00002.safetensors", NULL, ER_E_IO, "model-00002-of-00002.safetensors"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        er_model *m = NULL;
        er_err err = ER_ERR_INIT;
        int64_t live = er_memory_live();
        make_folder(rows[i].from, "bad", rows[i].file, rows[i].text);
        int code = er_model_open(&m, inside("bad"), ER_F32, &err);
        if (code != rows[i].code || m || !strstr(err.text, rows[i].said)) fail_msg("%zu: %d, %s", i, code, err.text);
        assert_int_equal(er_memory_live(), live);
    }
    er_err err = ER_ERR_INIT;
    er_model *m = NULL;
    assert_int_equal(er_model_open(&m, inside("nothing"), ER_F32, &err), ER_E_IO);
    assert_non_null(strstr(err.text, "nothing"));
}

/* Every cut of a file must be noticed; a bias must not be overlooked. */
static void changed_files_are_refused(void **state)
{
    (void)state;
    char *bytes = NULL, *at;
    size_t n = 0;
    er_model *m = NULL;
    er_err err = ER_ERR_INIT;
    make_folder(TINY, "bad", "model.safetensors", NULL);
    assert_int_equal(er_file_read(&bytes, &n, TINY "/model.safetensors", NULL), 0);
    for (size_t cut = 0; cut < n; cut += cut < 64 ? 1 : 40961) {
        save(inside("bad/model.safetensors"), bytes, cut);
        assert_int_equal(er_model_open(&m, inside("bad"), ER_F32, &err), ER_E_FORMAT);
        assert_non_null(strstr(err.text, "bad/model.safetensors"));
    }
    at = memmem(bytes, n, "layers.3.mlp.up_proj.weight", 27);
    assert_non_null(at);
    memcpy(at, "layers.3.mlp.up_proj.other!", 27);
    save(inside("bad/model.safetensors"), bytes, n);
    assert_int_equal(er_model_open(&m, inside("bad"), ER_F32, &err), ER_E_FORMAT);
    assert_non_null(strstr(err.text, "'model.layers.3.mlp.up_proj.weight' is missing"));
    er_free(bytes);
}

/* --- GGUF --------------------------------------------------------------------------------------------------------- */

static const expected *find_expected(const tiny *t, const char *name)
{
    for (int i = 0; i < t->count; i++)
        if (strcmp(t->tensor[i].name, name) == 0) return &t->tensor[i];
    return NULL;
}

static void every_gguf_type_reads_right(void **state)
{
    (void)state;
    const int kinds[] = {ER_F32, ER_F16, ER_BF16, ER_Q8_0, ER_Q4_0, ER_Q4_1};
    for (int k = 0; k < 6; k++) {
        tiny t;
        char name[32];
        int tied = k % 2;
        snprintf(name, sizeof name, "out%d", k);
        tiny_write(&t, kinds[k], tied, k % 2 ? 2 : 3, NULL, 0);
        save(inside("t.gguf"), t.file.at, t.file.length);
        er_model *m = open_model(inside("t.gguf"), ER_F32);
        assert_int_equal(m->config.tied, tied);
        assert_int_equal(m->config.vocab, T_VOCAB);
        assert_int_equal(m->config.eos, T_VOCAB - 1);
        assert_int_equal(er_slot_count(&m->config), t.count);
        const er_view v = {m, m->layers};
        for (int64_t i = 0; i < t.count; i++) {
            char hf[ER_TENSOR_NAME];
            er_slot slot = er_slot_at(&m->config, i);
            float *x = slot_values(&v, &slot);
            er_slot_name(hf, &m->config, &slot, 0);
            const expected *e = find_expected(&t, hf);
            assert_non_null(e);
            assert_int_equal(slot.rows, e->rows);
            assert_int_equal(slot.cols, e->cols);
            assert_memory_equal(x, e->values, (size_t)(slot.rows * slot.cols) * sizeof(float));
            er_free(x);
        }
        er_model_close(m);
        export_and_reopen(inside("t.gguf"), ER_F32, ER_F32, name);
        tiny_free(&t);
    }
}

/* A tensor under another name is found out when the weights are filled. */
static void a_missing_gguf_tensor_is_named(void **state)
{
    (void)state;
    tiny t;
    er_model *m = NULL;
    er_err err = ER_ERR_INIT;
    int64_t live = er_memory_live();
    tiny_write(&t, ER_Q4_1, 1, 3, NULL, 0);
    char *at = memmem(t.file.at, t.file.length, "blk.1.attn_q.weight", 19);
    assert_non_null(at);
    at[18] = '!';
    save(inside("bad.gguf"), t.file.at, t.file.length);
    tiny_free(&t);
    assert_int_equal(er_model_open(&m, inside("bad.gguf"), ER_F32, &err), ER_E_FORMAT);
    assert_non_null(strstr(err.text, "bad.gguf: tensor 'blk.1.attn_q.weight' is missing"));
    assert_int_equal(er_memory_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fixtures_open),
        cmocka_unit_test(real_models_open),
        cmocka_unit_test(weights_are_held_narrow),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(names_and_views),
        cmocka_unit_test(export_keeps_everything),
        cmocka_unit_test(export_carries_edits),
        cmocka_unit_test(bad_folders_are_refused),
        cmocka_unit_test(changed_files_are_refused),
        cmocka_unit_test(every_gguf_type_reads_right),
        cmocka_unit_test(a_missing_gguf_tensor_is_named),
    };
    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
