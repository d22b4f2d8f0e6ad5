/* SPDX-License-Identifier: Apache-2.0 */
/* LLaMA and its kin: RMSNorm, rotation by halves, a gated MLP. Presets of fields are those of transformers' classes;
 * 0: derived from other fields. */
#include "model/families.h"

#define SIZES(kv_heads_preset, positions_preset) ER_SIZES(positions_preset), ER_KV_HEADS(kv_heads_preset)

#define NUMBERS(base_preset, eps_preset, tied_preset)                                                                 \
    {ER_AT(activation), ER_FIELD_ACTIVATION, "hidden_act", NULL, 0, ER_SILU},                                         \
    {ER_AT(rope_base), ER_FIELD_REAL, "rope_theta", "rope.freq_base", 0, base_preset},                                \
    {ER_AT(norm_eps), ER_FIELD_REAL, "rms_norm_eps", "attention.layer_norm_rms_epsilon", 0, eps_preset},              \
    {ER_AT(tied), ER_FIELD_BOOL, "tie_word_embeddings", NULL, 0, tied_preset}

#define HEAD_DIM(preset) {ER_AT(head_dim), ER_FIELD_INT, "head_dim", "attention.key_length", 0, preset}
#define ROPE_DIM {ER_AT(rope_dim), ER_FIELD_INT, NULL, "rope.dimension_count", 0, 0}
#define ATTENTION_BIASES                                                                                              \
    {ER_AT(attention_bias), ER_FIELD_BOOL, "attention_bias", NULL, 0, 0},                                             \
    {ER_AT(output_bias), ER_FIELD_BOOL, "attention_bias", NULL, 0, 0}
#define MLP_BIAS {ER_AT(mlp_bias), ER_FIELD_BOOL, "mlp_bias", NULL, 0, 0}

#define QKV(gguf_permuted)                                                                                            \
    {ER_SLOT_MATRIX, ER_MATRIX_Q, "self_attn.q_proj.weight", "attn_q.weight", 1, 0, gguf_permuted, NULL},             \
    {ER_SLOT_BIAS, ER_MATRIX_Q, "self_attn.q_proj.bias", "attn_q.bias", 1, 0, gguf_permuted, er_when_attention_bias}, \
    {ER_SLOT_MATRIX, ER_MATRIX_K, "self_attn.k_proj.weight", "attn_k.weight", 1, 0, gguf_permuted, NULL},             \
    {ER_SLOT_BIAS, ER_MATRIX_K, "self_attn.k_proj.bias", "attn_k.bias", 1, 0, gguf_permuted, er_when_attention_bias}, \
    {ER_SLOT_MATRIX, ER_MATRIX_V, "self_attn.v_proj.weight", "attn_v.weight", 1, 0, 0, NULL},                         \
    {ER_SLOT_BIAS, ER_MATRIX_V, "self_attn.v_proj.bias", "attn_v.bias", 1, 0, 0, er_when_attention_bias},             \
    {ER_SLOT_MATRIX, ER_MATRIX_O, "self_attn.o_proj.weight", "attn_output.weight", 1, 0, 0, NULL},                    \
    {ER_SLOT_BIAS, ER_MATRIX_O, "self_attn.o_proj.bias", "attn_output.bias", 1, 0, 0, er_when_output_bias}
#define MLP                                                                                                           \
    {ER_SLOT_MATRIX, ER_MATRIX_GATE, "mlp.gate_proj.weight", "ffn_gate.weight", 1, 0, 0, NULL},                       \
    {ER_SLOT_BIAS, ER_MATRIX_GATE, "mlp.gate_proj.bias", "ffn_gate.bias", 1, 0, 0, er_when_mlp_bias},                 \
    {ER_SLOT_MATRIX, ER_MATRIX_UP, "mlp.up_proj.weight", "ffn_up.weight", 1, 0, 0, NULL},                             \
    {ER_SLOT_BIAS, ER_MATRIX_UP, "mlp.up_proj.bias", "ffn_up.bias", 1, 0, 0, er_when_mlp_bias},                       \
    {ER_SLOT_MATRIX, ER_MATRIX_DOWN, "mlp.down_proj.weight", "ffn_down.weight", 1, 0, 0, NULL},                       \
    {ER_SLOT_BIAS, ER_MATRIX_DOWN, "mlp.down_proj.bias", "ffn_down.bias", 1, 0, 0, er_when_mlp_bias}
#define EMBEDDING {ER_SLOT_EMBEDDING, 0, "model.embed_tokens.weight", "token_embd.weight", 1, 0, 0, NULL}
#define PRE_NORMS                                                                                                     \
    {ER_SLOT_GAIN, ER_NORM_ATTENTION, "input_layernorm.weight", "attn_norm.weight", 1, 0, 0, NULL},                   \
    {ER_SLOT_GAIN, ER_NORM_MLP, "post_attention_layernorm.weight", "ffn_norm.weight", 1, 0, 0, NULL}
#define QK_NORMS                                                                                                      \
    {ER_SLOT_GAIN, ER_NORM_Q, "self_attn.q_norm.weight", "attn_q_norm.weight", 1, 0, 0, NULL},                        \
    {ER_SLOT_GAIN, ER_NORM_K, "self_attn.k_norm.weight", "attn_k_norm.weight", 1, 0, 0, NULL}
#define END                                                                                                           \
    {ER_SLOT_FINAL_GAIN, 0, "model.norm.weight", "output_norm.weight", 1, 0, 0, NULL},                                \
    {ER_SLOT_HEAD, 0, "lm_head.weight", "output.weight", 1, 0, 0, er_when_untied}

#define PRESET(...) {.norm = ER_NORM_RMS, .block = ER_BLOCK_PRE, .positions = ER_POSITION_HALVES,                     \
                     .activation = ER_SILU, .gated = 1, __VA_ARGS__}
#define LAYOUT "model.", "model.layers.%d.", "blk.%d."

static const er_fixed_key fixed_json[] = {
    {"partial_rotary_factor", "1.0"},
    {"quantization_config", "null"},
    {NULL, NULL},
};

static const er_fixed_key fixed_gguf[] = {
    {"expert_count", "0"},
    {"attention.causal", "true"},
    {NULL, NULL},
};

/* old checkpoints carry the rotary frequencies; a tied head may be written out */
static const char *const ignored[] = {".rotary_emb.inv_freq", "lm_head.weight", NULL};

static const er_field llama_fields[] = {SIZES(0, 2048), HEAD_DIM(0), ROPE_DIM, NUMBERS(10000, 1e-6, 0), ATTENTION_BIASES,
                                        MLP_BIAS};
static const er_slot_row llama_rows[] = {EMBEDDING, QKV(1), MLP, PRE_NORMS, END};
const er_family er_family_llama = {
    "llama", "llama", "LlamaForCausalLM", PRESET(0), llama_fields, ER_COUNT(llama_fields), 1, 2, fixed_json, fixed_gguf,
    LAYOUT, llama_rows, ER_COUNT(llama_rows), ignored, NULL, NULL};

static int mistral_read(er_config *c, const json_t *root, const char *path, er_err *err)
{
    return er_windows_read(c, root, 4096, er_window_every, 0, path, err);
}

static int window_write(json_t *root, const er_config *c)
{
    return json_object_set_new(root, "sliding_window", c->window ? json_integer(c->window) : json_null());
}

static const er_field mistral_fields[] = {SIZES(8, 131072), HEAD_DIM(0), NUMBERS(10000, 1e-6, 0)};
static const er_slot_row mistral_rows[] = {EMBEDDING, QKV(1), MLP, PRE_NORMS, END};
const er_family er_family_mistral = {
    "mistral", NULL, "MistralForCausalLM", PRESET(0), mistral_fields, ER_COUNT(mistral_fields), 1, 2, fixed_json,
    fixed_gguf, LAYOUT, mistral_rows, ER_COUNT(mistral_rows), ignored, mistral_read, window_write};

/* Layers from max_window_layers on have the window, where use_sliding_window says so. */
static int qwen_read(er_config *c, const json_t *root, const char *path, er_err *err)
{
    int64_t from = 28;
    int used = 0;
    ER_TRY(er_json_flag(&used, root, "use_sliding_window", 0, path, err));
    if (!used) return 0;
    ER_TRY(er_json_count(&from, root, "max_window_layers", from, path, err));
    return er_windows_read(c, root, 4096, er_window_from, from, path, err);
}

static int qwen_write(json_t *root, const er_config *c)
{
    int64_t from = 0;
    while (from < c->layers && !er_layer_in(&c->windowed, from)) from++;
    int failed = json_object_set_new(root, "use_sliding_window", json_boolean(c->window != 0));
    failed |= json_object_set_new(root, "max_window_layers", json_integer(from));
    return failed | er_windows_write(root, c);
}

static const er_field qwen2_fields[] = {SIZES(32, 32768), ROPE_DIM, NUMBERS(10000, 1e-6, 0)};
static const er_slot_row qwen2_rows[] = {EMBEDDING, QKV(0), MLP, PRE_NORMS, END};
const er_family er_family_qwen2 = {
    "qwen2", "qwen2", "Qwen2ForCausalLM", PRESET(.attention_bias = 1), qwen2_fields, ER_COUNT(qwen2_fields), -1, -1,
    fixed_json, fixed_gguf, LAYOUT, qwen2_rows, ER_COUNT(qwen2_rows), ignored, qwen_read, qwen_write};

static const er_field qwen3_fields[] = {SIZES(32, 32768), HEAD_DIM(128), ROPE_DIM, NUMBERS(10000, 1e-6, 0),
                                        ATTENTION_BIASES};
static const er_slot_row qwen3_rows[] = {EMBEDDING, QKV(0), QK_NORMS, MLP, PRE_NORMS, END};
const er_family er_family_qwen3 = {
    "qwen3", "qwen3", "Qwen3ForCausalLM", PRESET(.qk_norm = ER_QK_HEAD), qwen3_fields, ER_COUNT(qwen3_fields), -1, -1,
    fixed_json, fixed_gguf, LAYOUT, qwen3_rows, ER_COUNT(qwen3_rows), ignored, qwen_read, qwen_write};

/* no_rope_layers holds 1 for layers that ARE rotated; by default every no_rope_layer_interval-th is not. */
static int smollm3_read(er_config *c, const json_t *root, const char *path, er_err *err)
{
    const json_t *rotated = json_object_get(root, "no_rope_layers");
    int64_t interval = 4;
    ER_TRY(er_json_count(&interval, root, "no_rope_layer_interval", interval, path, err));
    int listed = rotated && !json_is_null(rotated);
    if (c->layers > ER_MOST_LAYERS) return 0; /* er_config_check says so */
    if (listed && (int64_t)json_array_size(rotated) != c->layers)
        return er_fail(err, ER_E_FORMAT, "%s: no_rope_layers is no list of %lld entries, one per layer", path,
                       (long long)c->layers);
    for (int64_t l = 0; l < c->layers; l++) {
        const json_t *entry = listed ? json_array_get(rotated, (size_t)l) : NULL;
        if (listed && !(json_is_integer(entry) && json_integer_value(entry) >= 0 && json_integer_value(entry) <= 1))
            return er_fail(err, ER_E_FORMAT, "%s: no_rope_layers holds other entries than 0 and 1", path);
        if (listed ? !json_integer_value(entry) : !er_window_but_every(l, interval)) er_layer_put(&c->unrotated, l);
    }
    return qwen_read(c, root, path, err);
}

static int smollm3_write(json_t *root, const er_config *c)
{
    json_t *rotated = json_array();
    int failed = 0;
    for (int64_t l = 0; l < c->layers; l++)
        failed |= json_array_append_new(rotated, json_integer(!er_layer_in(&c->unrotated, l)));
    failed |= json_object_set_new(root, "no_rope_layers", rotated);
    return failed | qwen_write(root, c);
}

static const er_field smollm3_fields[] = {SIZES(4, 32768), NUMBERS(2000000, 1e-6, 1), ATTENTION_BIASES, MLP_BIAS};
const er_family er_family_smollm3 = {
    "smollm3", "smollm3", "SmolLM3ForCausalLM", PRESET(0), smollm3_fields, ER_COUNT(smollm3_fields), 128000, 128001,
    fixed_json, fixed_gguf, LAYOUT, llama_rows, ER_COUNT(llama_rows), ignored, smollm3_read, smollm3_write};

static const er_field olmo2_fields[] = {SIZES(0, 2048), NUMBERS(10000, 1e-5, 0), ATTENTION_BIASES};
static const er_slot_row olmo2_rows[] = {
    EMBEDDING, QKV(0), QK_NORMS, MLP,
    {ER_SLOT_GAIN, ER_NORM_ATTENTION_OUT, "post_attention_layernorm.weight", "post_attention_norm.weight", 1, 0, 0, NULL},
    {ER_SLOT_GAIN, ER_NORM_MLP_OUT, "post_feedforward_layernorm.weight", "post_ffw_norm.weight", 1, 0, 0, NULL},
    END};
const er_family er_family_olmo2 = {
    "olmo2", "olmo2", "Olmo2ForCausalLM", PRESET(.qk_norm = ER_QK_ROW), olmo2_fields, ER_COUNT(olmo2_fields), -1, 50279,
    fixed_json, fixed_gguf, LAYOUT, olmo2_rows, ER_COUNT(olmo2_rows), ignored, NULL, NULL};

static int phi3_read(er_config *c, const json_t *root, const char *path, er_err *err)
{
    ER_TRY(er_partial_rotation_read(c, root, "partial_rotary_factor", 1.0, path, err));
    return er_windows_read(c, root, 0, er_window_every, 0, path, err);
}

static int phi3_write(json_t *root, const er_config *c)
{
    return er_partial_rotation_write(root, "partial_rotary_factor", c) | window_write(root, c);
}

static const er_fixed_key phi3_fixed[] = {{"quantization_config", "null"}, {NULL, NULL}};
static const er_field phi3_fields[] = {SIZES(0, 4096), ROPE_DIM, NUMBERS(10000, 1e-5, 0)};
static const er_slot_row phi3_rows[] = {
    EMBEDDING,
    {ER_SLOT_MATRIX, ER_MATRIX_Q, "self_attn.qkv_proj.weight", "attn_qkv.weight", 3, 0, 0, NULL},
    {ER_SLOT_MATRIX, ER_MATRIX_O, "self_attn.o_proj.weight", "attn_output.weight", 1, 0, 0, NULL},
    {ER_SLOT_MATRIX, ER_MATRIX_GATE, "mlp.gate_up_proj.weight", "ffn_up.weight", 2, 0, 0, NULL},
    {ER_SLOT_MATRIX, ER_MATRIX_DOWN, "mlp.down_proj.weight", "ffn_down.weight", 1, 0, 0, NULL},
    PRE_NORMS, END};
const er_family er_family_phi3 = {
    "phi3", "phi3", "Phi3ForCausalLM", PRESET(0), phi3_fields, ER_COUNT(phi3_fields), 1, 32000, phi3_fixed, fixed_gguf,
    LAYOUT, phi3_rows, ER_COUNT(phi3_rows), ignored, phi3_read, phi3_write};
