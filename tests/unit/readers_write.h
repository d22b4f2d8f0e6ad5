/* SPDX-License-Identifier: Apache-2.0 */
/* A tiny LLaMA written as GGUF by the test itself, from its own reading of the format: nothing here is shared with the
 * readers but the element types. */
#ifndef ER_TESTS_READERS_WRITE_H
#define ER_TESTS_READERS_WRITE_H

#include "base/random.h"
#include "base/text.h"
#include "model/tensor.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { T_LAYERS = 2, T_HIDDEN = 32, T_INNER = 64, T_HEADS = 2, T_KV = 1, T_HEAD = 16, T_VOCAB = 258, T_POSITIONS = 64 };
enum { T_TENSORS_MOST = 32 };

/* What the file should read as: fp32 in Hugging Face's order. */
typedef struct expected {
    char name[64];
    int64_t rows, cols;
    float *values;
} expected;

typedef struct tiny {
    er_text file;
    expected tensor[T_TENSORS_MOST];
    int count;
} tiny;

static inline void put(er_text *t, const void *bytes, size_t n)
{
    if (er_text_bytes(t, bytes, n, NULL)) abort();
}

static inline void put32(er_text *t, uint32_t x) { put(t, &x, 4); }
static inline void put64(er_text *t, uint64_t x) { put(t, &x, 8); }

static inline void put_string(er_text *t, const char *s)
{
    put64(t, strlen(s));
    put(t, s, strlen(s));
}

static inline void key32(er_text *t, const char *key, uint32_t value)
{
    put_string(t, key);
    put32(t, 4);
    put32(t, value);
}

static inline void key_float(er_text *t, const char *key, float value)
{
    put_string(t, key);
    put32(t, 6);
    put(t, &value, 4);
}

static inline void key_string(er_text *t, const char *key, const char *value)
{
    put_string(t, key);
    put32(t, 8);
    put_string(t, value);
}

static inline void key_array(er_text *t, const char *key, uint32_t type, uint64_t count)
{
    put_string(t, key);
    put32(t, 9);
    put32(t, type);
    put64(t, count);
}

/* The 256 characters that stand for bytes in a byte-level vocabulary, then one merge and one control token. */
static inline void put_vocabulary(er_text *t, int types)
{
    int high = 256;
    key_array(t, "tokenizer.ggml.tokens", 8, T_VOCAB);
    for (int b = 0; b < 256; b++) {
        int plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174, point = plain ? b : high++;
        char text[3] = {(char)point, 0, 0};
        if (point >= 128) {
            text[0] = (char)(0xc0 | point >> 6);
            text[1] = (char)(0x80 | (point & 63));
        }
        put_string(t, text);
    }
    put_string(t, "ab");
    put_string(t, "<|end|>");
    if (types) {
        key_array(t, "tokenizer.ggml.token_type", 5, T_VOCAB);
        for (int i = 0; i < T_VOCAB; i++) put32(t, i == T_VOCAB - 1 ? 3 : 1);
    }
    key_array(t, "tokenizer.ggml.merges", 8, 1);
    put_string(t, "a b");
}

/* fp16 from its definition */
static inline float half_value(uint16_t h)
{
    int exponent = h >> 10 & 31, fraction = h & 1023;
    double x = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return (float)(h & 0x8000 ? -x : x);
}

static inline uint16_t random_half(uint32_t item, uint64_t draw)
{
    uint64_t bits = er_random_below(0x1000, 9, ER_STREAM_TEST, item, draw);
    return (uint16_t)(0x2000 + bits % 0x800 + (bits & 0x800 ? 0x8000 : 0)); /* |x| in 2^-7 .. 2^-5 */
}

static inline float float_from(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

/* One block of 32: scale, for Q4_1 a minimum, then 32 signed bytes or 16 bytes of two nibbles. */
static inline void random_block(er_text *data, float *out, int dtype, uint32_t item, uint64_t draw)
{
    uint16_t scale = random_half(item, draw), least = random_half(item + 1000, draw);
    uint8_t q[32];
    for (uint64_t k = 0; k < 32; k++) q[k] = (uint8_t)er_random_below(256, 9, ER_STREAM_TEST, item, draw + k);
    put(data, &scale, 2);
    if (dtype == ER_Q4_1) put(data, &least, 2);
    put(data, q, dtype == ER_Q8_0 ? 32 : 16);
    for (int k = 0; k < 32; k++) {
        int nibble = k < 16 ? q[k] % 16 : q[k - 16] / 16, value = nibble;
        if (dtype == ER_Q8_0) value = q[k] < 128 ? q[k] : q[k] - 256;
        if (dtype == ER_Q4_0) value = nibble - 8;
        volatile float product = half_value(scale) * (float)value; /* volatile: rounded before the sum */
        out[k] = dtype == ER_Q4_1 ? product + half_value(least) : product;
    }
}

/* n random elements of a type: bytes to `data`, values to `out`. */
static inline void random_elements(er_text *data, float *out, int dtype, int64_t n, uint32_t item)
{
    int block = dtype == ER_Q8_0 || dtype == ER_Q4_0 || dtype == ER_Q4_1 ? 32 : 1;
    for (int64_t i = 0; i < n; i += block) {
        uint16_t h = random_half(item, (uint64_t)i);
        if (block == 32) {
            random_block(data, out + i, dtype, item, (uint64_t)i);
        } else if (dtype == ER_F32) {
            out[i] = half_value(h) * 1.0009765f; /* not representable in 16 bits */
            put(data, &out[i], 4);
        } else {
            out[i] = dtype == ER_F16 ? half_value(h) : float_from((uint32_t)h << 16);
            put(data, &h, 2);
        }
    }
}

/* Writes rows as llama.cpp's converter does: per head, view (2, half, cols), exchange the first two axes. */
static inline void to_hf_order(float *hf, const float *file, int64_t rows, int64_t cols)
{
    int64_t half = T_HEAD / 2;
    for (int64_t h = 0; h < rows / T_HEAD; h++)
        for (int64_t j = 0; j < half; j++)
            for (int64_t s = 0; s < 2; s++)
                memcpy(hf + (h * T_HEAD + s * half + j) * cols, file + (h * T_HEAD + 2 * j + s) * cols,
                       (size_t)cols * sizeof *hf);
}

static inline uint32_t ggml_number(int dtype)
{
    switch (dtype) {
    case ER_F32: return 0;
    case ER_F16: return 1;
    case ER_Q4_0: return 2;
    case ER_Q4_1: return 3;
    case ER_Q8_0: return 8;
    default: return 30;
    }
}

static inline void add_tensor(tiny *t, er_text *infos, er_text *data, const char *gguf, const char *hf, int64_t rows,
                              int64_t cols, int dtype, int permuted)
{
    expected *e = &t->tensor[t->count];
    float *values = calloc((size_t)(rows * cols), sizeof *values);
    e->values = calloc((size_t)(rows * cols), sizeof *values);
    if (!values || !e->values) abort();
    snprintf(e->name, sizeof e->name, "%s", hf);
    e->rows = rows;
    e->cols = cols;
    while (data->length % 32) put(data, "", 1);
    put_string(infos, gguf);
    put32(infos, rows > 1 ? 2 : 1);
    put64(infos, (uint64_t)cols);
    if (rows > 1) put64(infos, (uint64_t)rows);
    put32(infos, ggml_number(dtype));
    put64(infos, data->length);
    random_elements(data, values, dtype, rows * cols, (uint32_t)t->count + 1);
    if (permuted) {
        to_hf_order(e->values, values, rows, cols);
    } else {
        memcpy(e->values, values, (size_t)(rows * cols) * sizeof *values);
    }
    free(values);
    t->count++;
}

static inline void add_tensors(tiny *t, er_text *infos, er_text *data, int dtype, int tied)
{
    static const struct {
        const char *gguf, *hf;
        int64_t rows, cols;
        int permuted;
    } layer[] = {
        {"attn_q.weight", "self_attn.q_proj.weight", T_HEADS * T_HEAD, T_HIDDEN, 1},
        {"attn_k.weight", "self_attn.k_proj.weight", T_KV *T_HEAD, T_HIDDEN, 1},
        {"attn_v.weight", "self_attn.v_proj.weight", T_KV *T_HEAD, T_HIDDEN, 0},
        {"attn_output.weight", "self_attn.o_proj.weight", T_HIDDEN, T_HEADS *T_HEAD, 0},
        {"ffn_gate.weight", "mlp.gate_proj.weight", T_INNER, T_HIDDEN, 0},
        {"ffn_up.weight", "mlp.up_proj.weight", T_INNER, T_HIDDEN, 0},
        {"ffn_down.weight", "mlp.down_proj.weight", T_HIDDEN, T_INNER, 0},
        {"attn_norm.weight", "input_layernorm.weight", 1, T_HIDDEN, 0},
        {"ffn_norm.weight", "post_attention_layernorm.weight", 1, T_HIDDEN, 0},
    };
    add_tensor(t, infos, data, "token_embd.weight", "model.embed_tokens.weight", T_VOCAB, T_HIDDEN, dtype, 0);
    for (int l = 0; l < T_LAYERS; l++)
        for (size_t i = 0; i < sizeof layer / sizeof *layer; i++) {
            char gguf[64], hf[64];
            snprintf(gguf, sizeof gguf, "blk.%d.%s", l, layer[i].gguf);
            snprintf(hf, sizeof hf, "model.layers.%d.%s", l, layer[i].hf);
            add_tensor(t, infos, data, gguf, hf, layer[i].rows, layer[i].cols, layer[i].rows > 1 ? dtype : ER_F32,
                       layer[i].permuted);
        }
    add_tensor(t, infos, data, "output_norm.weight", "model.norm.weight", 1, T_HIDDEN, ER_F32, 0);
    if (!tied) add_tensor(t, infos, data, "output.weight", "lm_head.weight", T_VOCAB, T_HIDDEN, dtype, 0);
}

/* extra: metadata put in front, already encoded, extra_keys of them (NULL, 0: none). */
static inline void tiny_write(tiny *t, int dtype, int tied, uint32_t version, const er_text *extra, uint64_t extra_keys)
{
    er_text infos = ER_TEXT_INIT, data = ER_TEXT_INIT, *f = &t->file;
    memset(t, 0, sizeof *t);
    add_tensors(t, &infos, &data, dtype, tied);
    put(f, "GGUF", 4);
    put32(f, version);
    put64(f, (uint64_t)t->count);
    put64(f, 16 + extra_keys);
    if (extra) put(f, extra->at, extra->length);
    key_string(f, "general.architecture", "llama");
    key32(f, "llama.block_count", T_LAYERS);
    key32(f, "llama.context_length", T_POSITIONS);
    key32(f, "llama.embedding_length", T_HIDDEN);
    key32(f, "llama.feed_forward_length", T_INNER);
    key32(f, "llama.attention.head_count", T_HEADS);
    key32(f, "llama.attention.head_count_kv", T_KV);
    key_float(f, "llama.rope.freq_base", 10000.0f);
    key_float(f, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    key_string(f, "tokenizer.ggml.model", "gpt2");
    key_string(f, "tokenizer.ggml.pre", "gpt-2");
    put_vocabulary(f, 1);
    key32(f, "tokenizer.ggml.bos_token_id", T_VOCAB - 1);
    key32(f, "tokenizer.ggml.eos_token_id", T_VOCAB - 1);
    put(f, infos.at, infos.length);
    while (f->length % 32) put(f, "", 1);
    put(f, data.at, data.length);
    er_text_free(&infos);
    er_text_free(&data);
}

static inline void tiny_free(tiny *t)
{
    for (int i = 0; i < t->count; i++) free(t->tensor[i].values);
    er_text_free(&t->file);
}

#endif
