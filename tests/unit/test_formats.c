/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of weights files and configurations, right and wrong: the parsers alone, without files. */
#define _GNU_SOURCE
#include "base/memory.h"
#include "model/config.h"
#include "model/gguf.h"
#include "model/safetensors.h"
#include "model/weights.h"

#include "readers_write.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* --- config.json -------------------------------------------------------------------------------------------------- */

#define SIZES                                                                                                          \
    "\"model_type\":\"llama\",\"num_hidden_layers\":2,\"hidden_size\":64,\"intermediate_size\":96,"                   \
    "\"num_attention_heads\":4,\"vocab_size\":100"

static void configs_are_read(void **state)
{
    (void)state;
    er_config c;
    const char *text = "{" SIZES ",\"rms_norm_eps\":1e-5,\"eos_token_id\":[7,8],\"bos_token_id\":null,"
                       "\"head_dim\":null,"
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
        {"{\"model_type\":\"bloom\"}", ER_E_UNSUPPORTED, "model_type 'bloom'"},
        {"{\"model_type\":\"gpt2\"}", ER_E_FORMAT, "n_layer is missing"},
        {"{\"model_type\":\"llama\"}", ER_E_FORMAT, "num_hidden_layers is missing"},
        {"{" SIZES ",\"hidden_act\":\"mish\"}", ER_E_UNSUPPORTED, "hidden_act: \"mish\""},
        {"{" SIZES ",\"attention_bias\":1}", ER_E_FORMAT, "attention_bias"},
        {"{" SIZES ",\"partial_rotary_factor\":0.5}", ER_E_UNSUPPORTED, "partial_rotary_factor"},
        {"{" SIZES ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":0}}", ER_E_FORMAT, "rope_scaling.factor"},
        {"{" SIZES ",\"rope_scaling\":{\"rope_type\":\"llama3\"}}", ER_E_FORMAT, "rope_scaling.factor"},
        {"{" SIZES ",\"rope_scaling\":{\"factor\":4}}", ER_E_UNSUPPORTED, "rope_scaling.rope_type"},
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

/* --- safetensors -------------------------------------------------------------------------------------------------- */

static int parse_header(const char *header, size_t data, er_err *err)
{
    size_t n = strlen(header), size = 8 + n + data;
    uint64_t length = n;
    uint8_t *bytes = calloc(size, 1); /* of the exact size, so that a sanitizer sees reads beyond it */
    er_tensors list = {NULL, 0, 0};
    er_arena *arena = NULL;
    assert_non_null(bytes);
    assert_int_equal(er_arena_new(&arena, 64, NULL), 0);
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
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, ER_E_UNSUPPORTED,
         "5 dimensions"},
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

/* --- GGUF --------------------------------------------------------------------------------------------------------- */

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
    assert_int_equal(er_arena_new(&arena, 64, NULL), 0);
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
        {"general.architecture", 12, "bloom", 5, ER_E_UNSUPPORTED, "'bloom'"},
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
        {"token_embd.weight", 20, "\14", 1, ER_E_FORMAT, "rows of 32 values are no blocks of 256"},
        {"token_embd.weight", 4, "\0\0\0\1", 4, ER_E_FORMAT, "data bytes"},
        {"token_embd.weight", 20, "\17", 1, ER_E_UNSUPPORTED, "type Q8_K (15)"},
        {"token_embd.weight", 20, "\24", 1, ER_E_UNSUPPORTED, "type IQ4_NL (20)"},
        {"token_embd.weight", 20, "\143", 1, ER_E_UNSUPPORTED, "unknown (99)"},
        {"token_embd.weight", 24, "\1", 1, ER_E_FORMAT, "data bytes"},
        {"token_embd.weight", 24, "\340\377\377\377\377\377\377\377", 8, ER_E_FORMAT, "data bytes"},
        {"token_embd.weigh", 0, "x", 1, ER_E_FORMAT, "'token_embd.weight' is missing"},
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
        {"llama.rope.scaling.type", "longrope", 0, ER_E_UNSUPPORTED, "llama.rope.scaling.type: \"longrope\""},
        {"llama.rope.scaling.type", "linear", 0, 0, ""},
        {"llama.rope.scaling.factor", NULL, 4, 0, ""},
        {"llama.rope.scaling.factor", "four", 0, ER_E_FORMAT, "llama.rope.scaling.factor is no number"},
        {"llama.rope.scale_linear", NULL, 1, 0, ""},
        {"llama.rope.scaling.attn_factor", NULL, 1, 0, ""},
        {"llama.rope.scaling.attn_factor", NULL, 2, ER_E_UNSUPPORTED, "llama.rope.scaling.attn_factor: 2"},
        {"llama.rope.scaling.original_context_length", NULL, 4096, 0, ""},
        {"llama.rope.freq_base_swa", NULL, 500, 0, ""}, /* without windows it decides nothing */
        {"llama.vocab_size", NULL, 32000, 0, ""},
        {"llama.logit_scale", NULL, 0, 0, ""},
        {"llama.logit_scale", NULL, 4, ER_E_UNSUPPORTED, "llama.logit_scale: 4"},
        {"llama.attention.scale", NULL, 2, ER_E_UNSUPPORTED, "llama.attention.scale is not supported"},
        {"llama.attention.sliding_window", NULL, 0, 0, ""},
        {"llama.attention.sliding_window", NULL, 8, ER_E_UNSUPPORTED, "llama.attention.sliding_window is not"},
        {"llama.attention.value_length", NULL, T_HEAD, 0, ""},
        {"llama.attention.value_length", NULL, 8, ER_E_UNSUPPORTED, "llama.attention.value_length 8"},
        {"llama.expert_used_count", NULL, 2, ER_E_UNSUPPORTED, "llama.expert_used_count is not supported"},
        {"llama.pooling_type", "none", 0, 0, ""},
        {"llama.invented", "x", 0, ER_E_UNSUPPORTED, "llama.invented is not supported"},
        {"llamas.invented", "x", 0, 0, ""},
        {"split.count", NULL, 1, 0, ""},
        {"split.count", NULL, 2, ER_E_UNSUPPORTED, "split.count is above 1"},
        {"tokenizer.ggml.precompiled_charsmap", "x", 0, ER_E_UNSUPPORTED, "precompiled_charsmap is not supported"},
        {"tokenizer.ggml.add_eos_token", NULL, 1, ER_E_FORMAT, "tokenizer.ggml.add_eos_token is no boolean"},
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
        cmocka_unit_test(configs_are_read),
        cmocka_unit_test(bad_configs_are_refused),
        cmocka_unit_test(bad_safetensors_are_refused),
        cmocka_unit_test(every_cut_of_a_gguf_is_refused),
        cmocka_unit_test(bad_ggufs_are_refused),
        cmocka_unit_test(fixed_metadata_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
