/* SPDX-License-Identifier: Apache-2.0 */
/* GPT-2 and its kin: LayerNorm, biases, an MLP without gate. Presets of fields are those of transformers' classes; 0:
 * derived from other fields. */
#include "model/families.h"

#define PRESET(...) {.norm = ER_NORM_LAYER, .activation = ER_GELU_TANH, .attention_bias = 1, .output_bias = 1,          \
                     .mlp_bias = 1, __VA_ARGS__}

/* A matrix with its bias, a norm with its shift. */
#define MATRIX(which, name, parts, order)                                                                             \
    {ER_SLOT_MATRIX, which, name ".weight", NULL, parts, order, 0, NULL},                                             \
    {ER_SLOT_BIAS, which, name ".bias", NULL, parts, order, 0, NULL}
#define NORM(which, name, when)                                                                                       \
    {ER_SLOT_GAIN, which, name ".weight", NULL, 1, 0, 0, when},                                                       \
    {ER_SLOT_SHIFT, which, name ".bias", NULL, 1, 0, 0, when}
#define FINAL(name, when)                                                                                             \
    {ER_SLOT_FINAL_GAIN, 0, name ".weight", NULL, 1, 0, 0, when},                                                     \
    {ER_SLOT_FINAL_SHIFT, 0, name ".bias", NULL, 1, 0, 0, when}
#define ONCE(kind, name, when) {kind, 0, name, NULL, 1, 0, 0, when}

/* --- GPT-2 -------------------------------------------------------------------------------------------------------- */

#define N_SIZES(positions_preset)                                                                                     \
    {ER_AT(layers), ER_FIELD_INT, "n_layer", NULL, 1, 0}, {ER_AT(hidden), ER_FIELD_INT, "n_embd", NULL, 1, 0},        \
    {ER_AT(inner), ER_FIELD_INT, "n_inner", NULL, 0, 0}, {ER_AT(heads), ER_FIELD_INT, "n_head", NULL, 1, 0},          \
    {ER_AT(vocab), ER_FIELD_INT, "vocab_size", NULL, 1, 0},                                                           \
    {ER_AT(max_positions), ER_FIELD_INT, "n_positions", NULL, 0, positions_preset},                                   \
    {ER_AT(norm_eps), ER_FIELD_REAL, "layer_norm_epsilon", NULL, 0, 1e-5},                                            \
    {ER_AT(activation), ER_FIELD_ACTIVATION, "activation_function", NULL, 0, ER_GELU_TANH}

static const er_field gpt2_fields[] = {N_SIZES(1024), {ER_AT(tied), ER_FIELD_BOOL, "tie_word_embeddings", NULL, 0, 1}};
static const er_fixed gpt2_fixed[] = {
    {"scale_attn_weights", "true"},       {"scale_attn_by_inverse_layer_idx", "false"},
    {"add_cross_attention", "false"},     {"quantization_config", "null"},
    {NULL, NULL},
};
static const er_slot_row gpt2_rows[] = {
    ONCE(ER_SLOT_EMBEDDING, "transformer.wte.weight", NULL),
    ONCE(ER_SLOT_POSITIONS, "transformer.wpe.weight", NULL),
    NORM(ER_NORM_ATTENTION, "ln_1", NULL),
    MATRIX(ER_MATRIX_Q, "attn.c_attn", 3, ER_ORDER_CONV1D),
    MATRIX(ER_MATRIX_O, "attn.c_proj", 1, ER_ORDER_CONV1D),
    NORM(ER_NORM_MLP, "ln_2", NULL),
    MATRIX(ER_MATRIX_UP, "mlp.c_fc", 1, ER_ORDER_CONV1D),
    MATRIX(ER_MATRIX_DOWN, "mlp.c_proj", 1, ER_ORDER_CONV1D),
    FINAL("transformer.ln_f", NULL),
    ONCE(ER_SLOT_HEAD, "lm_head.weight", er_when_untied),
};
/* causal masks are buffers of old checkpoints */
static const char *const gpt2_ignored[] = {".attn.bias", ".attn.masked_bias", "lm_head.weight", NULL};
const er_family er_family_gpt2 = {
    "gpt2", NULL, "GPT2LMHeadModel", PRESET(.positions = ER_POSITION_LEARNED), gpt2_fields, ER_COUNT(gpt2_fields),
    50256, 50256, gpt2_fixed, NULL, "transformer.", "transformer.h.%d.", NULL, gpt2_rows, ER_COUNT(gpt2_rows),
    gpt2_ignored, NULL, NULL};

/* --- GPT-J -------------------------------------------------------------------------------------------------------- */

static const er_field gptj_fields[] = {
    N_SIZES(2048),
    {ER_AT(rope_dim), ER_FIELD_INT, "rotary_dim", NULL, 0, 64},
    {ER_AT(tied), ER_FIELD_BOOL, "tie_word_embeddings", NULL, 0, 0},
};
static const er_fixed plain_fixed[] = {{"quantization_config", "null"}, {NULL, NULL}};
static const er_slot_row gptj_rows[] = {
    ONCE(ER_SLOT_EMBEDDING, "transformer.wte.weight", NULL),
    NORM(ER_NORM_ATTENTION, "ln_1", NULL),
    {ER_SLOT_MATRIX, ER_MATRIX_K, "attn.k_proj.weight", NULL, 1, 0, 0, NULL},
    {ER_SLOT_MATRIX, ER_MATRIX_V, "attn.v_proj.weight", NULL, 1, 0, 0, NULL},
    {ER_SLOT_MATRIX, ER_MATRIX_Q, "attn.q_proj.weight", NULL, 1, 0, 0, NULL},
    {ER_SLOT_MATRIX, ER_MATRIX_O, "attn.out_proj.weight", NULL, 1, 0, 0, NULL},
    MATRIX(ER_MATRIX_UP, "mlp.fc_in", 1, 0),
    MATRIX(ER_MATRIX_DOWN, "mlp.fc_out", 1, 0),
    FINAL("transformer.ln_f", NULL),
    ONCE(ER_SLOT_HEAD, "lm_head.weight", er_when_untied),
    ONCE(ER_SLOT_HEAD_BIAS, "lm_head.bias", NULL),
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
static const er_fixed opt_fixed[] = {{"layer_norm_elementwise_affine", "true"}, {"quantization_config", "null"},
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
    ONCE(ER_SLOT_EMBEDDING, "model.decoder.embed_tokens.weight", NULL),
    ONCE(ER_SLOT_POSITIONS, "model.decoder.embed_positions.weight", NULL),
    ONCE(ER_SLOT_PROJECT_OUT, "model.decoder.project_out.weight", when_projected),
    ONCE(ER_SLOT_PROJECT_IN, "model.decoder.project_in.weight", when_projected),
    OPT_MATRIX(ER_MATRIX_K, "self_attn.k_proj", er_when_attention_bias),
    OPT_MATRIX(ER_MATRIX_V, "self_attn.v_proj", er_when_attention_bias),
    OPT_MATRIX(ER_MATRIX_Q, "self_attn.q_proj", er_when_attention_bias),
    OPT_MATRIX(ER_MATRIX_O, "self_attn.out_proj", er_when_output_bias),
    NORM(ER_NORM_ATTENTION, "self_attn_layer_norm", when_pre),
    NORM(ER_NORM_ATTENTION_OUT, "self_attn_layer_norm", when_post),
    OPT_MATRIX(ER_MATRIX_UP, "fc1", er_when_mlp_bias),
    OPT_MATRIX(ER_MATRIX_DOWN, "fc2", er_when_mlp_bias),
    NORM(ER_NORM_MLP, "final_layer_norm", when_pre),
    NORM(ER_NORM_MLP_OUT, "final_layer_norm", when_post),
    FINAL("model.decoder.final_layer_norm", when_final),
    ONCE(ER_SLOT_HEAD, "lm_head.weight", er_when_untied),
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
    {ER_AT(layers), ER_FIELD_INT, "num_hidden_layers", NULL, 1, 0},
    {ER_AT(hidden), ER_FIELD_INT, "hidden_size", NULL, 1, 0},
    {ER_AT(inner), ER_FIELD_INT, "intermediate_size", NULL, 1, 0},
    {ER_AT(heads), ER_FIELD_INT, "num_attention_heads", NULL, 1, 0},
    {ER_AT(kv_heads), ER_FIELD_INT, "num_key_value_heads", NULL, 0, 0},
    {ER_AT(vocab), ER_FIELD_INT, "vocab_size", NULL, 1, 0},
    {ER_AT(max_positions), ER_FIELD_INT, "max_position_embeddings", NULL, 0, 2048},
    {ER_AT(activation), ER_FIELD_ACTIVATION, "hidden_act", NULL, 0, ER_GELU_TANH},
    {ER_AT(rope_base), ER_FIELD_REAL, "rope_theta", NULL, 0, 10000},
    {ER_AT(norm_eps), ER_FIELD_REAL, "layer_norm_eps", NULL, 0, 1e-5},
    {ER_AT(tied), ER_FIELD_BOOL, "tie_word_embeddings", NULL, 0, 0},
};
static const er_fixed phi_fixed[] = {{"qk_layernorm", "false"}, {"quantization_config", "null"}, {NULL, NULL}};
static const er_slot_row phi_rows[] = {
    ONCE(ER_SLOT_EMBEDDING, "model.embed_tokens.weight", NULL),
    MATRIX(ER_MATRIX_Q, "self_attn.q_proj", 1, 0),
    MATRIX(ER_MATRIX_K, "self_attn.k_proj", 1, 0),
    MATRIX(ER_MATRIX_V, "self_attn.v_proj", 1, 0),
    MATRIX(ER_MATRIX_O, "self_attn.dense", 1, 0),
    MATRIX(ER_MATRIX_UP, "mlp.fc1", 1, 0),
    MATRIX(ER_MATRIX_DOWN, "mlp.fc2", 1, 0),
    NORM(ER_NORM_ATTENTION, "input_layernorm", NULL),
    FINAL("model.final_layernorm", NULL),
    ONCE(ER_SLOT_HEAD, "lm_head.weight", er_when_untied),
    ONCE(ER_SLOT_HEAD_BIAS, "lm_head.bias", NULL),
};
static const char *const phi_ignored[] = {".rotary_emb.inv_freq", "lm_head.weight", NULL};
const er_family er_family_phi = {
    "phi", NULL, "PhiForCausalLM", PRESET(.block = ER_BLOCK_PARALLEL, .head_bias = 1), phi_fields, ER_COUNT(phi_fields),
    1, 2, phi_fixed, NULL, "model.", "model.layers.%d.", NULL, phi_rows, ER_COUNT(phi_rows), phi_ignored, phi_read,
    phi_write};

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
    {ER_AT(layers), ER_FIELD_INT, "num_hidden_layers", NULL, 1, 0},
    {ER_AT(hidden), ER_FIELD_INT, "hidden_size", NULL, 1, 0},
    {ER_AT(inner), ER_FIELD_INT, "intermediate_size", NULL, 1, 0},
    {ER_AT(heads), ER_FIELD_INT, "num_attention_heads", NULL, 1, 0},
    {ER_AT(vocab), ER_FIELD_INT, "vocab_size", NULL, 1, 0},
    {ER_AT(max_positions), ER_FIELD_INT, "max_position_embeddings", NULL, 0, 2048},
    {ER_AT(activation), ER_FIELD_ACTIVATION, "hidden_act", NULL, 0, ER_GELU_ERF},
    {ER_AT(rope_base), ER_FIELD_REAL, "rope_theta", NULL, 0, 10000},
    {ER_AT(norm_eps), ER_FIELD_REAL, "layer_norm_eps", NULL, 0, 1e-5},
    {ER_AT(attention_bias), ER_FIELD_BOOL, "attention_bias", NULL, 0, 1},
    {ER_AT(output_bias), ER_FIELD_BOOL, "attention_bias", NULL, 0, 1},
    {ER_AT(tied), ER_FIELD_BOOL, "tie_word_embeddings", NULL, 0, 0},
};
static const er_slot_row neox_rows[] = {
    ONCE(ER_SLOT_EMBEDDING, "gpt_neox.embed_in.weight", NULL),
    NORM(ER_NORM_ATTENTION, "input_layernorm", NULL),
    NORM(ER_NORM_MLP, "post_attention_layernorm", NULL),
    {ER_SLOT_MATRIX, ER_MATRIX_Q, "attention.query_key_value.weight", NULL, 3, ER_ORDER_BY_HEAD, 0, NULL},
    {ER_SLOT_BIAS, ER_MATRIX_Q, "attention.query_key_value.bias", NULL, 3, ER_ORDER_BY_HEAD, 0, er_when_attention_bias},
    {ER_SLOT_MATRIX, ER_MATRIX_O, "attention.dense.weight", NULL, 1, 0, 0, NULL},
    {ER_SLOT_BIAS, ER_MATRIX_O, "attention.dense.bias", NULL, 1, 0, 0, er_when_output_bias},
    MATRIX(ER_MATRIX_UP, "mlp.dense_h_to_4h", 1, 0),
    MATRIX(ER_MATRIX_DOWN, "mlp.dense_4h_to_h", 1, 0),
    FINAL("gpt_neox.final_layer_norm", NULL),
    ONCE(ER_SLOT_HEAD, "embed_out.weight", er_when_untied),
};
static const char *const neox_ignored[] = {".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq",
                                           "embed_out.weight", NULL};
const er_family er_family_gpt_neox = {
    "gpt_neox", NULL, "GPTNeoXForCausalLM", PRESET(.block = ER_BLOCK_PARALLEL), neox_fields, ER_COUNT(neox_fields), 0, 2,
    plain_fixed, NULL, "gpt_neox.", "gpt_neox.layers.%d.", NULL, neox_rows, ER_COUNT(neox_rows), neox_ignored, neox_read,
    neox_write};
