/* SPDX-License-Identifier: Apache-2.0 */
/* GPT-2 and its kin: LayerNorm, biases, an MLP without gate. Presets of fields are those of transformers' classes; 0:
 * derived from other fields. */
#include "model/families.h"

#define PRESET(...) {.norm = ER_NORM_LAYER, .activation = ER_GELU_TANH, .attention_bias = 1, .output_bias = 1,          \
                     .mlp_bias = 1, __VA_ARGS__}

/* A matrix with its bias, a norm with its shift. */
#define MATRIX(which, name, gguf, parts, order)                                                                       \
    {ER_SLOT_MATRIX, which, name ".weight", gguf ".weight", parts, order, 0, NULL},                                   \
    {ER_SLOT_BIAS, which, name ".bias", gguf ".bias", parts, order, 0, NULL}
#define NORM(which, name, gguf, when)                                                                                 \
    {ER_SLOT_GAIN, which, name ".weight", gguf ".weight", 1, 0, 0, when},                                             \
    {ER_SLOT_SHIFT, which, name ".bias", gguf ".bias", 1, 0, 0, when}
#define FINAL(name, when)                                                                                             \
    {ER_SLOT_FINAL_GAIN, 0, name ".weight", "output_norm.weight", 1, 0, 0, when},                                     \
    {ER_SLOT_FINAL_SHIFT, 0, name ".bias", "output_norm.bias", 1, 0, 0, when}
#define ONCE(kind, name, gguf, when) {kind, 0, name, gguf, 1, 0, 0, when}
#define BLOCKS "blk.%d."

/* --- GPT-2 -------------------------------------------------------------------------------------------------------- */

#define N_SIZES(positions_preset)                                                                                     \
    {ER_AT(layers), ER_FIELD_INT, "n_layer", "block_count", 1, 0},                                                   \
    {ER_AT(hidden), ER_FIELD_INT, "n_embd", "embedding_length", 1, 0},                                                \
    {ER_AT(inner), ER_FIELD_INT, "n_inner", "feed_forward_length", 0, 0},                                             \
    {ER_AT(heads), ER_FIELD_INT, "n_head", "attention.head_count", 1, 0},                                             \
    {ER_AT(vocab), ER_FIELD_INT, "vocab_size", NULL, 1, 0},                                                           \
    {ER_AT(max_positions), ER_FIELD_INT, "n_positions", "context_length", 0, positions_preset},                       \
    {ER_AT(norm_eps), ER_FIELD_REAL, "layer_norm_epsilon", "attention.layer_norm_epsilon", 0, 1e-5},                  \
    {ER_AT(activation), ER_FIELD_ACTIVATION, "activation_function", NULL, 0, ER_GELU_TANH}

static const er_field gpt2_fields[] = {N_SIZES(1024), {ER_AT(tied), ER_FIELD_BOOL, "tie_word_embeddings", NULL, 0, 1}};
static const er_fixed_key gpt2_fixed[] = {
    {"scale_attn_weights", "true"},       {"scale_attn_by_inverse_layer_idx", "false"},
    {"add_cross_attention", "false"},     {"quantization_config", "null"},
    {NULL, NULL},
};
static const er_slot_row gpt2_rows[] = {
    ONCE(ER_SLOT_EMBEDDING, "transformer.wte.weight", "token_embd.weight", NULL),
    ONCE(ER_SLOT_POSITIONS, "transformer.wpe.weight", "position_embd.weight", NULL),
    NORM(ER_NORM_ATTENTION, "ln_1", "attn_norm", NULL),
    MATRIX(ER_MATRIX_Q, "attn.c_attn", "attn_qkv", 3, ER_ORDER_CONV1D),
    MATRIX(ER_MATRIX_O, "attn.c_proj", "attn_output", 1, ER_ORDER_CONV1D),
    NORM(ER_NORM_MLP, "ln_2", "ffn_norm", NULL),
    MATRIX(ER_MATRIX_UP, "mlp.c_fc", "ffn_up", 1, ER_ORDER_CONV1D),
    MATRIX(ER_MATRIX_DOWN, "mlp.c_proj", "ffn_down", 1, ER_ORDER_CONV1D),
    FINAL("transformer.ln_f", NULL),
    ONCE(ER_SLOT_HEAD, "lm_head.weight", "output.weight", er_when_untied),
};
/* causal masks are buffers of old checkpoints */
static const char *const gpt2_ignored[] = {".attn.bias", ".attn.masked_bias", "lm_head.weight", NULL};
const er_family er_family_gpt2 = {
    "gpt2", "gpt2", "GPT2LMHeadModel", PRESET(.positions = ER_POSITION_LEARNED), gpt2_fields, ER_COUNT(gpt2_fields),
    50256, 50256, gpt2_fixed, NULL, "transformer.", "transformer.h.%d.", BLOCKS, gpt2_rows, ER_COUNT(gpt2_rows),
    gpt2_ignored, NULL, NULL};

/* --- GPT-J -------------------------------------------------------------------------------------------------------- */

static const er_field gptj_fields[] = {
    N_SIZES(2048),
    {ER_AT(rope_dim), ER_FIELD_INT, "rotary_dim", NULL, 0, 64},
    {ER_AT(tied), ER_FIELD_BOOL, "tie_word_embeddings", NULL, 0, 0},
};
static const er_fixed_key plain_fixed[] = {{"quantization_config", "null"}, {NULL, NULL}};
static const er_slot_row gptj_rows[] = {
    ONCE(ER_SLOT_EMBEDDING, "transformer.wte.weight", "token_embd.weight", NULL),
    NORM(ER_NORM_ATTENTION, "ln_1", "attn_norm", NULL),
    {ER_SLOT_MATRIX, ER_MATRIX_K, "attn.k_proj.weight", NULL, 1, 0, 0, NULL},
    {ER_SLOT_MATRIX, ER_MATRIX_V, "attn.v_proj.weight", NULL, 1, 0, 0, NULL},
    {ER_SLOT_MATRIX, ER_MATRIX_Q, "attn.q_proj.weight", NULL, 1, 0, 0, NULL},
    {ER_SLOT_MATRIX, ER_MATRIX_O, "attn.out_proj.weight", NULL, 1, 0, 0, NULL},
    MATRIX(ER_MATRIX_UP, "mlp.fc_in", "ffn_up", 1, 0),
    MATRIX(ER_MATRIX_DOWN, "mlp.fc_out", "ffn_down", 1, 0),
    FINAL("transformer.ln_f", NULL),
    ONCE(ER_SLOT_HEAD, "lm_head.weight", "output.weight", er_when_untied),
    ONCE(ER_SLOT_HEAD_BIAS, "lm_head.bias", "output.bias", NULL),
};
static const char *const gptj_ignored[] = {".attn.bias", ".attn.masked_bias", ".attn.embed_positions", "lm_head.weight",
                                           NULL};
const er_family er_family_gptj = {
    "gptj", NULL, "GPTJForCausalLM",
    {.norm = ER_NORM_LAYER, .activation = ER_GELU_TANH, .mlp_bias = 1, .head_bias = 1, .block = ER_BLOCK_PARALLEL,
     .positions = ER_POSITION_PAIRS, .rope_base = 10000},
    gptj_fields, ER_COUNT(gptj_fields), 50256, 50256, plain_fixed, NULL, "transformer.", "transformer.h.%d.", NULL,
    gptj_rows, ER_COUNT(gptj_rows), gptj_ignored, NULL, NULL};

/* --- OPT ---------------------------------------------------------------------------------------------------------- */

static const er_field opt_fields[] = {
    {ER_AT(layers), ER_FIELD_INT, "num_hidden_layers", NULL, 1, 0},
    {ER_AT(hidden), ER_FIELD_INT, "hidden_size", NULL, 1, 0},
    {ER_AT(inner), ER_FIELD_INT, "ffn_dim", NULL, 0, 3072},
    {ER_AT(heads), ER_FIELD_INT, "num_attention_heads", NULL, 1, 0},
    {ER_AT(vocab), ER_FIELD_INT, "vocab_size", NULL, 1, 0},
    {ER_AT(max_positions), ER_FIELD_INT, "max_position_embeddings", NULL, 0, 2048},
    {ER_AT(embedding_width), ER_FIELD_INT, "word_embed_proj_dim", NULL, 0, 0},
    {ER_AT(activation), ER_FIELD_ACTIVATION, "activation_function", NULL, 0, ER_RELU},
    {ER_AT(attention_bias), ER_FIELD_BOOL, "enable_bias", NULL, 0, 1},
    {ER_AT(output_bias), ER_FIELD_BOOL, "enable_bias", NULL, 0, 1},
    {ER_AT(mlp_bias), ER_FIELD_BOOL, "enable_bias", NULL, 0, 1},
    {ER_AT(no_final_norm), ER_FIELD_BOOL, "_remove_final_layer_norm", NULL, 0, 0},
    {ER_AT(tied), ER_FIELD_BOOL, "tie_word_embeddings", NULL, 0, 1},
};
static const er_fixed_key opt_fixed[] = {{"layer_norm_elementwise_affine", "true"}, {"quantization_config", "null"},
                                     {NULL, NULL}};

static int opt_read(er_config *c, const json_t *root, const char *path, er_err *err)
{
    int before = 1;
    ER_TRY(er_json_flag(&before, root, "do_layer_norm_before", 1, path, err));
    c->post_norms = !before;
    c->block = before ? ER_BLOCK_PRE : ER_BLOCK_POST;
    return 0;
}

static int opt_write(json_t *root, const er_config *c)
{
    return json_object_set_new(root, "do_layer_norm_before", json_boolean(!c->post_norms));
}

static int when_pre(const er_config *c) { return !c->post_norms; }
static int when_post(const er_config *c) { return c->post_norms; }
static int when_final(const er_config *c) { return !c->post_norms && !c->no_final_norm; }
static int when_projected(const er_config *c) { return c->embedding_width != c->hidden; }

#define OPT_MATRIX(which, name, when)                                                                                 \
    {ER_SLOT_MATRIX, which, name ".weight", NULL, 1, 0, 0, NULL}, {ER_SLOT_BIAS, which, name ".bias", NULL, 1, 0, 0, when}
static const er_slot_row opt_rows[] = {
    ONCE(ER_SLOT_EMBEDDING, "model.decoder.embed_tokens.weight", "token_embd.weight", NULL),
    ONCE(ER_SLOT_POSITIONS, "model.decoder.embed_positions.weight", "position_embd.weight", NULL),
    ONCE(ER_SLOT_PROJECT_OUT, "model.decoder.project_out.weight", NULL, when_projected),
    ONCE(ER_SLOT_PROJECT_IN, "model.decoder.project_in.weight", NULL, when_projected),
    OPT_MATRIX(ER_MATRIX_K, "self_attn.k_proj", er_when_attention_bias),
    OPT_MATRIX(ER_MATRIX_V, "self_attn.v_proj", er_when_attention_bias),
    OPT_MATRIX(ER_MATRIX_Q, "self_attn.q_proj", er_when_attention_bias),
    OPT_MATRIX(ER_MATRIX_O, "self_attn.out_proj", er_when_output_bias),
    NORM(ER_NORM_ATTENTION, "self_attn_layer_norm", "attn_norm", when_pre),
    NORM(ER_NORM_ATTENTION_OUT, "self_attn_layer_norm", "attn_norm", when_post),
    OPT_MATRIX(ER_MATRIX_UP, "fc1", er_when_mlp_bias),
    OPT_MATRIX(ER_MATRIX_DOWN, "fc2", er_when_mlp_bias),
    NORM(ER_NORM_MLP, "final_layer_norm", "ffn_norm", when_pre),
    NORM(ER_NORM_MLP_OUT, "final_layer_norm", "ffn_norm", when_post),
    FINAL("model.decoder.final_layer_norm", when_final),
    ONCE(ER_SLOT_HEAD, "lm_head.weight", "output.weight", er_when_untied),
};
static const char *const head_ignored[] = {"lm_head.weight", NULL};
const er_family er_family_opt = {
    "opt", NULL, "OPTForCausalLM",
    {.norm = ER_NORM_LAYER, .activation = ER_RELU, .positions = ER_POSITION_LEARNED, .position_offset = 2,
     .norm_eps = 9.99999974737875163555145263671875e-06}, /* 1e-5 as fp32 */
    opt_fields, ER_COUNT(opt_fields), 2, 2, opt_fixed, NULL, "model.", "model.decoder.layers.%d.", NULL, opt_rows,
    ER_COUNT(opt_rows), head_ignored, opt_read, opt_write};

/* --- Phi-1, Phi-1.5, Phi-2 ---------------------------------------------------------------------------------------- */

static int phi_read(er_config *c, const json_t *root, const char *path, er_err *err)
{
    return er_partial_rotation_read(c, root, "partial_rotary_factor", 0.5, path, err);
}

static int phi_write(json_t *root, const er_config *c)
{
    return er_partial_rotation_write(root, "partial_rotary_factor", c);
}

static const er_field phi_fields[] = {
    {ER_AT(rope_dim), ER_FIELD_INT, NULL, "rope.dimension_count", 0, 0},
    ER_SIZES(2048),
    ER_KV_HEADS(0),
    {ER_AT(activation), ER_FIELD_ACTIVATION, "hidden_act", NULL, 0, ER_GELU_TANH},
    {ER_AT(rope_base), ER_FIELD_REAL, "rope_theta", "rope.freq_base", 0, 10000},
    {ER_AT(norm_eps), ER_FIELD_REAL, "layer_norm_eps", "attention.layer_norm_epsilon", 0, 1e-5},
    {ER_AT(tied), ER_FIELD_BOOL, "tie_word_embeddings", NULL, 0, 0},
};
static const er_fixed_key phi_fixed[] = {{"qk_layernorm", "false"}, {"quantization_config", "null"}, {NULL, NULL}};
static const er_slot_row phi_rows[] = {
    ONCE(ER_SLOT_EMBEDDING, "model.embed_tokens.weight", "token_embd.weight", NULL),
    MATRIX(ER_MATRIX_Q, "self_attn.q_proj", "attn_q", 1, 0),
    MATRIX(ER_MATRIX_K, "self_attn.k_proj", "attn_k", 1, 0),
    MATRIX(ER_MATRIX_V, "self_attn.v_proj", "attn_v", 1, 0),
    MATRIX(ER_MATRIX_O, "self_attn.dense", "attn_output", 1, 0),
    MATRIX(ER_MATRIX_UP, "mlp.fc1", "ffn_up", 1, 0),
    MATRIX(ER_MATRIX_DOWN, "mlp.fc2", "ffn_down", 1, 0),
    NORM(ER_NORM_ATTENTION, "input_layernorm", "attn_norm", NULL),
    FINAL("model.final_layernorm", NULL),
    ONCE(ER_SLOT_HEAD, "lm_head.weight", "output.weight", er_when_untied),
    ONCE(ER_SLOT_HEAD_BIAS, "lm_head.bias", "output.bias", NULL),
};
static const char *const phi_ignored[] = {".rotary_emb.inv_freq", "lm_head.weight", NULL};
const er_family er_family_phi = {
    "phi", "phi2", "PhiForCausalLM", PRESET(.block = ER_BLOCK_PARALLEL, .head_bias = 1), phi_fields,
    ER_COUNT(phi_fields), 1, 2, phi_fixed, NULL, "model.", "model.layers.%d.", BLOCKS, phi_rows, ER_COUNT(phi_rows),
    phi_ignored, phi_read, phi_write};

/* --- GPT-NeoX, Pythia --------------------------------------------------------------------------------------------- */

/* The share of rotated dimensions and the base have two names each: the older ones come first. */
static int neox_read(er_config *c, const json_t *root, const char *path, er_err *err)
{
    int parallel = 1;
    const json_t *base = json_object_get(root, "rotary_emb_base");
    ER_TRY(er_json_flag(&parallel, root, "use_parallel_residual", 1, path, err));
    c->block = parallel ? ER_BLOCK_PARALLEL : ER_BLOCK_PRE;
    if (json_is_number(base)) c->rope_base = (double)(float)json_number_value(base);
    return er_partial_rotation_read(c, root, json_object_get(root, "rotary_pct") ? "rotary_pct" : "partial_rotary_factor",
                                    0.25, path, err);
}

static int neox_write(json_t *root, const er_config *c)
{
    int failed = json_object_set_new(root, "use_parallel_residual", json_boolean(c->block == ER_BLOCK_PARALLEL));
    failed |= json_object_set_new(root, "rotary_emb_base", er_json_real(c->rope_base));
    return failed | er_partial_rotation_write(root, "rotary_pct", c);
}

static const er_field neox_fields[] = {
    {ER_AT(rope_dim), ER_FIELD_INT, NULL, "rope.dimension_count", 0, 0},
    ER_SIZES(2048),
    {ER_AT(activation), ER_FIELD_ACTIVATION, "hidden_act", NULL, 0, ER_GELU_ERF},
    {ER_AT(rope_base), ER_FIELD_REAL, "rope_theta", "rope.freq_base", 0, 10000},
    {ER_AT(norm_eps), ER_FIELD_REAL, "layer_norm_eps", "attention.layer_norm_epsilon", 0, 1e-5},
    {ER_AT(attention_bias), ER_FIELD_BOOL, "attention_bias", NULL, 0, 1},
    {ER_AT(output_bias), ER_FIELD_BOOL, "attention_bias", NULL, 0, 1},
    {ER_AT(tied), ER_FIELD_BOOL, "tie_word_embeddings", NULL, 0, 0},
};
static const er_slot_row neox_rows[] = {
    ONCE(ER_SLOT_EMBEDDING, "gpt_neox.embed_in.weight", "token_embd.weight", NULL),
    NORM(ER_NORM_ATTENTION, "input_layernorm", "attn_norm", NULL),
    NORM(ER_NORM_MLP, "post_attention_layernorm", "ffn_norm", NULL),
    {ER_SLOT_MATRIX, ER_MATRIX_Q, "attention.query_key_value.weight", "attn_qkv.weight", 3, ER_ORDER_BY_HEAD, 0, NULL},
    {ER_SLOT_BIAS, ER_MATRIX_Q, "attention.query_key_value.bias", "attn_qkv.bias", 3, ER_ORDER_BY_HEAD, 0,
     er_when_attention_bias},
    {ER_SLOT_MATRIX, ER_MATRIX_O, "attention.dense.weight", "attn_output.weight", 1, 0, 0, NULL},
    {ER_SLOT_BIAS, ER_MATRIX_O, "attention.dense.bias", "attn_output.bias", 1, 0, 0, er_when_output_bias},
    MATRIX(ER_MATRIX_UP, "mlp.dense_h_to_4h", "ffn_up", 1, 0),
    MATRIX(ER_MATRIX_DOWN, "mlp.dense_4h_to_h", "ffn_down", 1, 0),
    FINAL("gpt_neox.final_layer_norm", NULL),
    ONCE(ER_SLOT_HEAD, "embed_out.weight", "output.weight", er_when_untied),
};
static const char *const neox_ignored[] = {".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq",
                                           "embed_out.weight", NULL};
const er_family er_family_gpt_neox = {
    "gpt_neox", "gptneox", "GPTNeoXForCausalLM", PRESET(.block = ER_BLOCK_PARALLEL), neox_fields, ER_COUNT(neox_fields),
    0, 2, plain_fixed, NULL, "gpt_neox.", "gpt_neox.layers.%d.", BLOCKS, neox_rows, ER_COUNT(neox_rows), neox_ignored,
    neox_read, neox_write};
