/* SPDX-License-Identifier: Apache-2.0 */
/* Gemma: RMSNorm whose gain is 1 + what the file holds, an embedding times sqrt(d), always a head of its own width. */
#include "model/families.h"

#define FIELDS(kv_heads_preset, positions_preset, base_preset, act_key)                                               \
    ER_SIZES(positions_preset), ER_KV_HEADS(kv_heads_preset),                                                         \
    {ER_AT(head_dim), ER_FIELD_INT, "head_dim", "attention.key_length", 0, 256},                                      \
    {ER_AT(activation), ER_FIELD_ACTIVATION, act_key, NULL, 0, ER_GELU_TANH},                                         \
    {ER_AT(rope_base), ER_FIELD_REAL, "rope_theta", "rope.freq_base", 0, base_preset},                                \
    {ER_AT(norm_eps), ER_FIELD_REAL, "rms_norm_eps", "attention.layer_norm_rms_epsilon", 0, 1e-6},                    \
    {ER_AT(attention_bias), ER_FIELD_BOOL, "attention_bias", NULL, 0, 0},                                             \
    {ER_AT(output_bias), ER_FIELD_BOOL, "attention_bias", NULL, 0, 0},                                                \
    {ER_AT(tied), ER_FIELD_BOOL, "tie_word_embeddings", NULL, 0, 1}
#define CAPS(score_preset, logit_preset)                                                                              \
    {ER_AT(score_width), ER_FIELD_REAL, "query_pre_attn_scalar", NULL, 0, 256},                                       \
    {ER_AT(score_cap), ER_FIELD_REAL, "attn_logit_softcapping", "attn_logit_softcapping", 0, score_preset},           \
    {ER_AT(logit_cap), ER_FIELD_REAL, "final_logit_softcapping", "final_logit_softcapping", 0, logit_preset}

#define MATRIX(which, hf_name, gguf_name) {ER_SLOT_MATRIX, which, hf_name ".weight", gguf_name ".weight", 1, 0, 0, NULL}
#define BIAS(which, hf_name, gguf_name, when)                                                                         \
    {ER_SLOT_BIAS, which, hf_name ".bias", gguf_name ".bias", 1, 0, 0, when}
#define GAIN(which, hf_name, gguf_name) {ER_SLOT_GAIN, which, hf_name ".weight", gguf_name ".weight", 1, 0, 0, NULL}
#define ATTENTION                                                                                                     \
    MATRIX(ER_MATRIX_Q, "self_attn.q_proj", "attn_q"),                                                                \
    BIAS(ER_MATRIX_Q, "self_attn.q_proj", "attn_q", er_when_attention_bias),                                          \
    MATRIX(ER_MATRIX_K, "self_attn.k_proj", "attn_k"),                                                                \
    BIAS(ER_MATRIX_K, "self_attn.k_proj", "attn_k", er_when_attention_bias),                                          \
    MATRIX(ER_MATRIX_V, "self_attn.v_proj", "attn_v"),                                                                \
    BIAS(ER_MATRIX_V, "self_attn.v_proj", "attn_v", er_when_attention_bias),                                          \
    MATRIX(ER_MATRIX_O, "self_attn.o_proj", "attn_output"),                                                           \
    BIAS(ER_MATRIX_O, "self_attn.o_proj", "attn_output", er_when_output_bias)
#define MLP                                                                                                           \
    MATRIX(ER_MATRIX_GATE, "mlp.gate_proj", "ffn_gate"), MATRIX(ER_MATRIX_UP, "mlp.up_proj", "ffn_up"),               \
    MATRIX(ER_MATRIX_DOWN, "mlp.down_proj", "ffn_down")
#define FOUR_NORMS                                                                                                    \
    GAIN(ER_NORM_ATTENTION, "input_layernorm", "attn_norm"),                                                          \
    GAIN(ER_NORM_ATTENTION_OUT, "post_attention_layernorm", "post_attention_norm"),                                   \
    GAIN(ER_NORM_MLP, "pre_feedforward_layernorm", "ffn_norm"),                                                       \
    GAIN(ER_NORM_MLP_OUT, "post_feedforward_layernorm", "post_ffw_norm")
#define EMBEDDING {ER_SLOT_EMBEDDING, 0, "model.embed_tokens.weight", "token_embd.weight", 1, 0, 0, NULL}
#define END                                                                                                           \
    {ER_SLOT_FINAL_GAIN, 0, "model.norm.weight", "output_norm.weight", 1, 0, 0, NULL},                                \
    {ER_SLOT_HEAD, 0, "lm_head.weight", "output.weight", 1, 0, 0, er_when_untied}

#define PRESET(...) {.norm = ER_NORM_RMS, .block = ER_BLOCK_PRE, .positions = ER_POSITION_HALVES,                     \
                     .activation = ER_GELU_TANH, .gated = 1, .gain_plus_one = 1, .scaled_embedding = 1, __VA_ARGS__}
#define LAYOUT "model.", "model.layers.%d.", "blk.%d."

static const er_fixed_key fixed_json[] = {
    {"use_bidirectional_attention", "false"},
    {"quantization_config", "null"},
    {NULL, NULL},
};
static const er_fixed_key fixed_gguf[] = {
    {"attention.causal", "true"},
    {NULL, NULL},
};
static const char *const ignored[] = {".rotary_emb.inv_freq", "lm_head.weight", NULL};

/* hidden_activation, where a file has it, is meant; older files have hidden_act alone. */
static int gemma_read(er_config *c, const json_t *root, const char *path, er_err *err)
{
    const json_t *name = json_object_get(root, "hidden_activation");
    if (!name || json_is_null(name)) return 0;
    return er_activation_read(&c->activation, name, "hidden_activation", path, err);
}

static const er_field gemma_fields[] = {FIELDS(16, 8192, 10000, "hidden_act")};
static const er_slot_row gemma_rows[] = {EMBEDDING, ATTENTION, MLP,
                                         GAIN(ER_NORM_ATTENTION, "input_layernorm", "attn_norm"),
                                         GAIN(ER_NORM_MLP, "post_attention_layernorm", "ffn_norm"), END};
const er_family er_family_gemma = {
    "gemma", "gemma", "GemmaForCausalLM", PRESET(0), gemma_fields, ER_COUNT(gemma_fields), 2, 1, fixed_json, fixed_gguf,
    LAYOUT, gemma_rows, ER_COUNT(gemma_rows), ignored, gemma_read, NULL};

/* null is no cap, absent is the class's. */
static int gemma2_read(er_config *c, const json_t *root, const char *path, er_err *err)
{
    if (json_is_null(json_object_get(root, "attn_logit_softcapping"))) c->score_cap = 0;
    if (json_is_null(json_object_get(root, "final_logit_softcapping"))) c->logit_cap = 0;
    return er_windows_read(c, root, 4096, er_window_but_every, 2, path, err);
}

static const er_field gemma2_fields[] = {FIELDS(4, 8192, 10000, "hidden_activation"), CAPS(50, 30)};
static const er_slot_row gemma2_rows[] = {EMBEDDING, ATTENTION, MLP, FOUR_NORMS, END};
const er_family er_family_gemma2 = {
    "gemma2", "gemma2", "Gemma2ForCausalLM", PRESET(0), gemma2_fields, ER_COUNT(gemma2_fields), 2, 1, fixed_json,
    fixed_gguf, LAYOUT, gemma2_rows, ER_COUNT(gemma2_rows), ignored, gemma2_read, er_windows_write};

static int gemma3_read(er_config *c, const json_t *root, const char *path, er_err *err)
{
    int64_t pattern = 6;
    const char *key = json_object_get(root, "sliding_window_pattern") ? "sliding_window_pattern"
                                                                       : "_sliding_window_pattern";
    ER_TRY(er_json_count(&pattern, root, key, pattern, path, err));
    return er_windows_read(c, root, 4096, er_window_but_every, pattern, path, err);
}

static int gemma3_write(json_t *root, const er_config *c)
{
    int64_t first = 0;
    while (first < c->layers && er_layer_in(&c->windowed, first)) first++;
    int failed = json_object_set_new(root, "sliding_window_pattern", json_integer(first + 1));
    return failed | er_windows_write(root, c);
}

static const er_field gemma3_fields[] = {
    FIELDS(4, 131072, 1000000, "hidden_activation"), CAPS(0, 0),
    {ER_AT(rope_local_base), ER_FIELD_REAL, "rope_local_base_freq", NULL, 0, 10000},
};
static const er_slot_row gemma3_rows[] = {
    EMBEDDING, ATTENTION, GAIN(ER_NORM_Q, "self_attn.q_norm", "attn_q_norm"),
    GAIN(ER_NORM_K, "self_attn.k_norm", "attn_k_norm"), MLP, FOUR_NORMS, END};
const er_family er_family_gemma3 = {
    "gemma3_text", "gemma3", "Gemma3ForCausalLM", PRESET(.qk_norm = ER_QK_HEAD), gemma3_fields, ER_COUNT(gemma3_fields),
    2, 1, fixed_json, fixed_gguf, LAYOUT, gemma3_rows, ER_COUNT(gemma3_rows), ignored, gemma3_read, gemma3_write};
