/* SPDX-License-Identifier: Apache-2.0 */
/* Files to models and back: configuration, safetensors, GGUF, export, views. */
#define _GNU_SOURCE
#include "base/file.h"
#include "base/memory.h"
#include "model/config.h"
#include "model/gguf.h"
#include "model/model.h"
#include "model/quant.h"
#include "model/safetensors.h"
#include "model/weights.h"

#include "readers_write.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

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

static void remove_folder(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        char child[600];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(child, sizeof child, "%s/%s", path, e->d_name);
        if (unlink(child)) remove_folder(child);
    }
    if (d) closedir(d);
    rmdir(path);
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
    remove_folder(scratch);
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

/* --- fixtures ---------------------------------------------------------------------------------------------------- */

/* Hashes pinned after every tensor was compared bit for bit with what transformers reads. */
static void fixtures_open(void **state)
{
    (void)state;
    int64_t live = er_memory_live();
    er_model *m = open_model(TINY, ER_F32);
    assert_hash(m, "07c90da0370396b55e7a20e6cc07b160");
    assert_int_equal(m->config.layers, 4);
    assert_int_equal(m->config.kv_heads, 2);
    assert_int_equal(er_config_parameters(&m->config), 205376);
    assert_ptr_equal(m->head.data, m->embedding.data);
    assert_int_equal(m->rope_positions, 512);
    assert_true(m->rope_cos[0] == 1.0f && m->rope_sin[0] == 0.0f);
    assert_true(fabs((double)m->rope_sin[8] - sin(1.0)) < 1e-7);
    er_model_close(m);
    m = open_model(UNTIED, ER_F32);
    assert_hash(m, "2a50af02eac83cdc996a5a9be5c97865");
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
        {"SmolLM2-135M-Instruct.Q4_1.gguf", "2082e2d0f50000d7b95e92651e197c0d"},
        {"data/models/TinyStories-656K", "3a80be94d1ec02cadafe253b5e303de1"},
    };
    int found = 0;
    for (int i = 0; i < 2; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", i ? shared ? shared : "../shared" : cache ? cache : "cache", models[i].name);
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
        assert_memory_equal(wide->final_norm, narrow->final_norm, (size_t)wide->config.hidden * sizeof(float));
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
    er_matrix_name(name, sizeof name, 5, ER_MATRIX_DOWN);
    assert_string_equal(name, "model.layers.5.mlp.down_proj.weight");
    er_matrix_name(name, sizeof name, 12, ER_MATRIX_Q);
    assert_string_equal(name, "model.layers.12.self_attn.q_proj.weight");
    er_model *m = open_model(TINY, ER_F32);
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

/* --- export ------------------------------------------------------------------------------------------------------ */

static void export_to(const er_view *v, const char *folder, int dtype)
{
    er_err err = ER_ERR_INIT;
    if (er_export(v, folder, dtype, &err)) fail_msg("%s", err.text);
}

static void assert_same_values(const er_model *a, const er_model *b)
{
    const er_view va = {a, a->layers}, vb = {b, b->layers};
    assert_int_equal(er_slot_count(&a->config), er_slot_count(&b->config));
    for (int64_t i = 0; i < er_slot_count(&a->config); i++) {
        er_slot slot = er_slot_at(&a->config, i);
        er_matrix x = er_view_slot(&va, &slot), y = er_view_slot(&vb, &slot);
        assert_int_equal(x.dtype, y.dtype);
        assert_memory_equal(x.data, y.data, (size_t)(x.rows * x.cols * er_dtype_bytes(x.dtype)));
    }
}

static void export_and_reopen(const char *path, int held, int dtype, const char *name)
{
    er_model *m = open_model(path, held), *again;
    er_view v;
    assert_int_equal(er_view_open(&v, m, NULL), 0);
    export_to(&v, inside(name), dtype);
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

/* --- config.json --------------------------------------------------------------------------------------------------- */

#define SIZES                                                                                                          \
    "\"model_type\":\"llama\",\"num_hidden_layers\":2,\"hidden_size\":64,\"intermediate_size\":96,"                   \
    "\"num_attention_heads\":4,\"vocab_size\":100"

static void configs_are_read(void **state)
{
    (void)state;
    er_config c;
    const char *text = "{" SIZES ",\"rms_norm_eps\":1e-5,\"eos_token_id\":[7,8],\"bos_token_id\":null,\"head_dim\":null,"
                       "\"rope_parameters\":{\"rope_theta\":5e5,\"rope_type\":\"default\"},\"pad_token_id\":3}";
    assert_int_equal(er_config_parse(&c, text, strlen(text), "c", NULL), 0);
    assert_int_equal(c.kv_heads, 4);
    assert_int_equal(c.head_dim, 16);
    assert_int_equal(c.rope_dim, 16);
    assert_int_equal(c.eos, 7);
    assert_int_equal(c.bos, -1);
    assert_true(c.rope_base >= 5e5 && c.rope_base <= 5e5);
    assert_true((float)c.norm_eps >= 1e-5f && (float)c.norm_eps <= 1e-5f);
    assert_int_equal(c.max_positions, 2048);
    assert_int_equal(c.tied, 0);
    assert_int_equal(er_config_block_parameters(&c), 4 * 64 * 64 + 3 * 64 * 96 + 2 * 64);
}

static void bad_configs_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int code;
        const char *said;
    } bad[] = {
        {"", ER_E_FORMAT, "c.json:1:"},
        {"[]", ER_E_FORMAT, "no JSON object"},
        {"{" SIZES ",}", ER_E_FORMAT, "c.json:1:"},
        {"{" SIZES ",\"vocab_size\":7}", ER_E_FORMAT, "vocab_size"},
        {"{\"model_type\":\"gpt2\"}", ER_E_UNSUPPORTED, "model_type 'gpt2'"},
        {"{\"model_type\":\"llama\"}", ER_E_FORMAT, "num_hidden_layers is missing"},
        {"{" SIZES ",\"hidden_act\":\"gelu\"}", ER_E_UNSUPPORTED, "hidden_act: \"gelu\""},
        {"{" SIZES ",\"attention_bias\":true}", ER_E_UNSUPPORTED, "attention_bias: true"},
        {"{" SIZES ",\"mlp_bias\":true}", ER_E_UNSUPPORTED, "mlp_bias: true"},
        {"{" SIZES ",\"partial_rotary_factor\":0.5}", ER_E_UNSUPPORTED, "partial_rotary_factor"},
        {"{" SIZES ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}}", ER_E_UNSUPPORTED, "\"linear\""},
        {"{" SIZES ",\"rope_scaling\":{\"rope_type\":\"llama3\"}}", ER_E_UNSUPPORTED, "rope_scaling.rope_type"},
        {"{" SIZES ",\"rope_scaling\":{\"factor\":4}}", ER_E_UNSUPPORTED, "rope_scaling.factor"},
        {"{" SIZES ",\"rope_parameters\":{\"rope_type\":\"yarn\"}}", ER_E_UNSUPPORTED, "rope_parameters.rope_type"},
        {"{" SIZES ",\"num_key_value_heads\":3}", ER_E_FORMAT, "4 heads cannot share 3"},
        {"{" SIZES ",\"num_key_value_heads\":0}", ER_E_FORMAT, "num_key_value_heads is not positive"},
        {"{" SIZES ",\"head_dim\":15}", ER_E_FORMAT, "15 rotated"},
        {"{" SIZES ",\"head_dim\":\"16\"}", ER_E_FORMAT, "head_dim is no integer"},
        {"{" SIZES ",\"head_dim\":9223372036854775807}", ER_E_FORMAT, "width of a head"},
        {"{" SIZES ",\"rope_theta\":0}", ER_E_FORMAT, "base of the rotation"},
        {"{" SIZES ",\"rope_theta\":1e300}", ER_E_FORMAT, "base of the rotation"},
        {"{" SIZES ",\"rms_norm_eps\":0}", ER_E_FORMAT, "epsilon"},
        {"{" SIZES ",\"eos_token_id\":100}", ER_E_FORMAT, "outside the vocabulary"},
        {"{" SIZES ",\"bos_token_id\":\"1\"}", ER_E_FORMAT, "bos_token_id"},
        {"{" SIZES ",\"tie_word_embeddings\":1}", ER_E_FORMAT, "tie_word_embeddings"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        er_config c;
        er_err err = ER_ERR_INIT;
        int code = er_config_parse(&c, bad[i].text, strlen(bad[i].text), "c.json", &err);
        if (code != bad[i].code || !strstr(err.text, bad[i].said) || !strstr(err.text, "c.json"))
            fail_msg("%s: %d, %s", bad[i].text, code, err.text);
    }
}

/* --- safetensors --------------------------------------------------------------------------------------------------- */

static int parse_header(const char *header, size_t data, er_err *err)
{
    size_t n = strlen(header), size = 8 + n + data;
    uint64_t length = n;
    uint8_t *bytes = calloc(size, 1); /* of the exact size, so that a sanitizer sees reads beyond it */
    er_tensors list = {NULL, 0, 0};
    er_arena *arena = NULL;
    assert_non_null(bytes);
    assert_int_equal(er_arena_new(&arena, 0, NULL), 0);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, n);
    int code = er_safetensors_parse(&list, arena, bytes, size, "w", err);
    if (!code) code = er_tensors_sort(&list, err);
    er_tensors_free(&list);
    er_arena_free(arena);
    free(bytes);
    return code;
}

static void bad_safetensors_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data;
        int code;
        const char *said;
    } rows[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, 0, ""},
        {"{\"__metadata__\":{\"x\":\"y\"},\"a\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]}}  ", 8, 0, ""},
        {"{}", 0, 0, ""},
        {"{}", 1, ER_E_FORMAT, "belong to no tensor"},
        {"[]", 0, ER_E_FORMAT, "no JSON object"},
        {"{\"a\":", 0, ER_E_FORMAT, "header:1:"},
        {"{\"a\":1}", 0, ER_E_FORMAT, "entry 'a'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, ER_E_FORMAT, "of 7 data bytes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, ER_E_FORMAT, "asks for 12"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,8]}}", 8, ER_E_FORMAT, "impossible shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 8, ER_E_FORMAT, "impossible shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,8]}}", 8, ER_E_FORMAT,
         "impossible shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}}", 0, ER_E_FORMAT,
         "impossible shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, ER_E_UNSUPPORTED, "5 dimensions"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, ER_E_FORMAT, "lies at 8..0"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8, ER_E_FORMAT, "lies at -8..0"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, ER_E_FORMAT, "no data_offsets"},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,1]}}", 1, ER_E_UNSUPPORTED, "'F4'"},
        {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,1]}}", 1, ER_E_FORMAT, "no dtype"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}", 6, ER_E_FORMAT, "'b' begins at data byte 2"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[5,6]}}", 6, ER_E_FORMAT, "expected 4"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, ER_E_FORMAT, "duplicate"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        er_err err = ER_ERR_INIT;
        int code = parse_header(rows[i].header, rows[i].data, &err);
        if (code != rows[i].code || !strstr(err.text, rows[i].said) || (code && strncmp(err.text, "w: ", 3) != 0))
            fail_msg("%s: %d, %s", rows[i].header, code, err.text);
    }
}

/* A folder with the fixture's files, one of them given by the test. */
static void make_folder(const char *from, const char *name, const char *file, const char *text)
{
    static const char *const files[] = {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors",
                                        "model.safetensors.index.json", "model-00001-of-00002.safetensors",
                                        "model-00002-of-00002.safetensors"};
    char a[600], b[600];
    remove_folder(inside(name));
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
        {UNTIED, "model.safetensors.index.json", "{}", ER_E_FORMAT, "weight_map is missing"},
        {UNTIED, "model.safetensors.index.json", "{\"weight_map\":{\"a\":\"../x\"}}", ER_E_FORMAT, "no file of this"},
        {UNTIED, "model.safetensors.index.json", "{\"weight_map\":{\"a\":7}}", ER_E_FORMAT, "no file of this"},
        {UNTIED, "model.safetensors.index.json", "{\"weight_map\":{\"a\":\"b.safetensors\"}}", ER_E_IO, "b.safetensors"},
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

/* --- GGUF ---------------------------------------------------------------------------------------------------------- */

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
            er_matrix x = er_view_slot(&v, &slot);
            er_slot_name(hf, &m->config, &slot, 0);
            const expected *e = find_expected(&t, hf);
            assert_non_null(e);
            assert_int_equal(x.rows, e->rows);
            assert_int_equal(x.cols, e->cols);
            assert_memory_equal(x.data, e->values, (size_t)(x.rows * x.cols) * sizeof(float));
        }
        er_model_close(m);
        export_and_reopen(inside("t.gguf"), ER_F32, ER_F32, name);
        tiny_free(&t);
    }
}

/* The same code as er_model_open up to the weights, on bytes of the exact size. */
static int parse_gguf(const char *file, size_t n, er_err *err)
{
    uint8_t *bytes = malloc(n ? n : 1);
    er_tensors list = {NULL, 0, 0};
    er_arena *arena = NULL;
    er_gguf g;
    er_config c;
    er_tokenizer_parts parts;
    assert_non_null(bytes);
    memcpy(bytes, file, n);
    assert_int_equal(er_arena_new(&arena, 0, NULL), 0);
    int code = er_gguf_parse(&g, &list, arena, bytes, n, "g", err);
    if (!code) code = er_tensors_sort(&list, err);
    if (!code) code = er_gguf_config(&c, &g, &list, arena, err);
    if (!code) code = er_gguf_tokenizer(&parts, &g, arena, err);
    er_tensors_free(&list);
    er_arena_free(arena);
    free(bytes);
    return code;
}

static void every_cut_of_a_gguf_is_refused(void **state)
{
    (void)state;
    tiny t;
    er_err err = ER_ERR_INIT;
    tiny_write(&t, ER_Q4_1, 1, 3, NULL, 0);
    assert_int_equal(parse_gguf(t.file.at, t.file.length, &err), 0);
    for (size_t n = 0; n < t.file.length; n++) {
        int code = parse_gguf(t.file.at, n, &err);
        if (code != ER_E_FORMAT || strncmp(err.text, "g: ", 3) != 0) fail_msg("%zu: %d, %s", n, code, err.text);
    }
    tiny_free(&t);
}

/* `bytes` written over the file, `shift` bytes behind the end of the first occurrence of `mark`. */
static void bad_ggufs_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *mark;
        size_t shift;
        const char *bytes;
        size_t count;
        int code;
        const char *said;
    } rows[] = {
        {"GGU", 0, "X", 1, ER_E_FORMAT, "no GGUF file"},
        {"GGUF", 0, "\1", 1, ER_E_UNSUPPORTED, "version 1"},
        {"GGUF", 0, "\0\0\0\3", 4, ER_E_UNSUPPORTED, "big-endian"},
        {"GGUF", 8, "\377\377\377\377\377\377\377\177", 8, ER_E_FORMAT, "g: "},
        {"GGUF", 12, "\377\377\377\377\377\377\377\177", 8, ER_E_FORMAT, "keys in"},
        {"GGUF", 4, "\377\377\377\377\377\377\377\177", 8, ER_E_FORMAT, "tensors in"},
        {"general.architecture", 12, "gpt2x", 5, ER_E_UNSUPPORTED, "'gpt2x'"},
        {"general.architecture", 12, "ll\0ma", 5, ER_E_FORMAT, "zero byte"},
        {"general.architecture", 4, "\377\377\377\377\377\377\377\377", 8, ER_E_FORMAT, "string of"},
        {"general.architecture", 0, "\15", 1, ER_E_FORMAT, "value type 13"},
        {"llama.block_coun", 0, "x", 1, ER_E_FORMAT, "llama.block_count is missing"},
        {"llama.block_count", 4, "\0", 1, ER_E_FORMAT, "llama.block_count is not positive"},
        {"llama.block_count", 0, "\6", 1, ER_E_FORMAT, "llama.block_count is no integer"},
        {"llama.attention.head_count_kv", 4, "\3", 1, ER_E_FORMAT, "cannot share"},
        {"tokenizer.ggml.model", 12, "bert", 4, ER_E_UNSUPPORTED, "'bert'"},
        {"tokenizer.ggml.tokens", 8, "\377\377\377\377\377\377\377\37", 8, ER_E_FORMAT, "values with"},
        {"tokenizer.ggml.tokens", 4, "\11", 1, ER_E_FORMAT, "value type 9"},
        {"tokenizer.ggml.token_typ", 0, "z", 1, 0, ""},
        {"tokenizer.ggml.token_type", 4, "\6", 1, ER_E_FORMAT, "array of integers"},
        {"tokenizer.ggml.merge", 0, "z", 1, ER_E_FORMAT, "tokenizer.ggml.merges is missing"},
        {"tokenizer.ggml.bos_token_id", 4, "\2\1", 2, ER_E_FORMAT, "outside the vocabulary"},
        {"token_embd.weight", 0, "\5", 1, ER_E_FORMAT, "5 dimensions"},
        {"token_embd.weight", 4, "\0\0\0\0\0\0\0\0", 8, ER_E_FORMAT, "impossible shape"},
        {"token_embd.weight", 4, "\0\0\0\0\0\0\0\200", 8, ER_E_FORMAT, "impossible shape"},
        {"token_embd.weight", 4, "\0\0\0\0\0\0\0\100", 8, ER_E_FORMAT, "impossible shape"},
        {"token_embd.weight", 4, "\41", 1, ER_E_FORMAT, "no blocks of 32"},
        {"token_embd.weight", 4, "\0\0\0\1", 4, ER_E_FORMAT, "data bytes"},
        {"token_embd.weight", 20, "\14", 1, ER_E_UNSUPPORTED, "Q4_K"},
        {"token_embd.weight", 20, "\143", 1, ER_E_UNSUPPORTED, "unknown (99)"},
        {"token_embd.weight", 24, "\1", 1, ER_E_FORMAT, "data bytes"},
        {"token_embd.weight", 24, "\340\377\377\377\377\377\377\377", 8, ER_E_FORMAT, "data bytes"},
        {"token_embd.weigh", 0, "x", 1, ER_E_FORMAT, "'token_embd.weight' is missing"},
        {"blk.1.attn_q.weigh", 0, "!", 1, 0, ""}, /* noticed when the weights are filled, below */
        {"blk.", 0, "1", 1, ER_E_FORMAT, "appears twice"},
    };
    tiny t;
    tiny_write(&t, ER_Q4_1, 1, 3, NULL, 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        er_err err = ER_ERR_INIT;
        char *copy = malloc(t.file.length), *at;
        assert_non_null(copy);
        memcpy(copy, t.file.at, t.file.length);
        at = memmem(copy, t.file.length, rows[i].mark, strlen(rows[i].mark));
        assert_non_null(at);
        memcpy(at + strlen(rows[i].mark) + rows[i].shift, rows[i].bytes, rows[i].count);
        int code = parse_gguf(copy, t.file.length, &err);
        if (code != rows[i].code || !strstr(err.text, rows[i].said)) fail_msg("row %zu: %d, %s", i, code, err.text);
        if (strncmp(rows[i].mark, "blk.1", 5) == 0) {
            er_model *m = NULL;
            save(inside("bad.gguf"), copy, t.file.length);
            assert_int_equal(er_model_open(&m, inside("bad.gguf"), ER_F32, &err), ER_E_FORMAT);
            assert_non_null(strstr(err.text, "bad.gguf: tensor 'blk.1.attn_q.weight' is missing"));
        }
        free(copy);
    }
    tiny_free(&t);
}

static void fixed_metadata_is_checked(void **state)
{
    (void)state;
    static const struct {
        const char *key, *text; /* text NULL: the number */
        uint32_t number;
        int code;
        const char *said;
    } rows[] = {
        {"llama.rope.scaling.type", "none", 0, 0, ""},
        {"llama.rope.scaling.type", "yarn", 0, ER_E_UNSUPPORTED, "llama.rope.scaling.type: \"yarn\""},
        {"llama.rope.scaling.factor", NULL, 4, ER_E_UNSUPPORTED, "llama.rope.scaling.factor: 4"},
        {"llama.rope.scale_linear", NULL, 1, 0, ""},
        {"llama.expert_count", NULL, 0, 0, ""},
        {"llama.expert_count", NULL, 8, ER_E_UNSUPPORTED, "llama.expert_count: 8"},
        {"llama.rope.dimension_count", NULL, T_HEAD, 0, ""},
        {"llama.rope.dimension_count", NULL, 8, ER_E_UNSUPPORTED, "llama.rope.dimension_count 8"},
        {"general.alignment", NULL, 16, 0, ""},
        {"general.alignment", NULL, 0, ER_E_FORMAT, "general.alignment is 0"},
        {"general.alignment", NULL, 24, ER_E_FORMAT, "general.alignment is 24"},
        {"general.architecture", "llama", 0, ER_E_FORMAT, "'general.architecture' appears twice"},
        {"tokenizer.ggml.unknown_token_id", NULL, T_VOCAB, ER_E_FORMAT, "special token 258 of 258"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        er_text extra = ER_TEXT_INIT;
        er_err err = ER_ERR_INIT;
        tiny t;
        if (rows[i].text) {
            key_string(&extra, rows[i].key, rows[i].text);
        } else {
            key32(&extra, rows[i].key, rows[i].number);
        }
        tiny_write(&t, ER_F16, 1, 3, &extra, 1);
        int code = parse_gguf(t.file.at, t.file.length, &err);
        if (code != rows[i].code || !strstr(err.text, rows[i].said)) fail_msg("row %zu: %d, %s", i, code, err.text);
        er_text_free(&extra);
        tiny_free(&t);
    }
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
        cmocka_unit_test(configs_are_read),
        cmocka_unit_test(bad_configs_are_refused),
        cmocka_unit_test(bad_safetensors_are_refused),
        cmocka_unit_test(bad_folders_are_refused),
        cmocka_unit_test(changed_files_are_refused),
        cmocka_unit_test(every_gguf_type_reads_right),
        cmocka_unit_test(every_cut_of_a_gguf_is_refused),
        cmocka_unit_test(bad_ggufs_are_refused),
        cmocka_unit_test(fixed_metadata_is_checked),
    };
    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
