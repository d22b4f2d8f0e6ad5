/* SPDX-License-Identifier: Apache-2.0 */
/* Internal to model/families*.c and config*.c: the tables of families, by kin. */
#ifndef ER_MODEL_FAMILIES_H
#define ER_MODEL_FAMILIES_H

#include "model/kernels.h"
#include "model/weights.h"

#define ER_AT(member) offsetof(er_config, member)
/* Rows of fields that most families name alike. */
#define ER_SIZES(positions_preset)                                                                                     \
    {ER_AT(layers), ER_FIELD_INT, "num_hidden_layers", "block_count", 1, 0},                                           \
    {ER_AT(hidden), ER_FIELD_INT, "hidden_size", "embedding_length", 1, 0},                                            \
    {ER_AT(inner), ER_FIELD_INT, "intermediate_size", "feed_forward_length", 1, 0},                                    \
    {ER_AT(heads), ER_FIELD_INT, "num_attention_heads", "attention.head_count", 1, 0},                                 \
    {ER_AT(vocab), ER_FIELD_INT, "vocab_size", NULL, 1, 0},                                                            \
    {ER_AT(max_positions), ER_FIELD_INT, "max_position_embeddings", "context_length", 0, positions_preset}
#define ER_KV_HEADS(preset) {ER_AT(kv_heads), ER_FIELD_INT, "num_key_value_heads", "attention.head_count_kv", 0, preset}

#define ER_COUNT(array) (sizeof(array) / sizeof *(array))

extern const er_family er_family_llama, er_family_mistral, er_family_qwen2, er_family_qwen3, er_family_smollm3,
    er_family_olmo2, er_family_phi3, er_family_gpt2, er_family_gptj, er_family_opt, er_family_phi, er_family_gpt_neox,
    er_family_gemma, er_family_gemma2, er_family_gemma3;

/* An activation by its name in config.json; ER_E_UNSUPPORTED naming path, key and the word when it is not computed. */
int er_activation_read(int *out, const json_t *value, const char *key, const char *path, er_err *err);

/* when a tensor is there */
int er_when_attention_bias(const er_config *c);
int er_when_output_bias(const er_config *c);
int er_when_mlp_bias(const er_config *c);
int er_when_untied(const er_config *c);

/* --- what config.json says about single layers (config_layers.c) -------------------------------------------------- */

/* sliding_window (absent: preset; null: none), and which layers have it: layer_types where the file has it, else
 * rule(layer, argument). Tables of a family call it from read_json. */
typedef int (*er_window_rule)(int64_t layer, int64_t argument);
int er_window_every(int64_t layer, int64_t argument);      /* all layers */
int er_window_from(int64_t layer, int64_t argument);       /* layer >= argument */
int er_window_but_every(int64_t layer, int64_t argument);  /* all but every argument-th */
int er_windows_read(er_config *c, const json_t *root, int64_t preset, er_window_rule rule, int64_t argument,
                    const char *path, er_err *err);
int er_windows_write(json_t *root, const er_config *c); /* sliding_window and layer_types */
/* A positive integer of config.json; preset where it is absent or null. */
int er_json_count(int64_t *out, const json_t *root, const char *key, int64_t preset, const char *path, er_err *err);
/* rope_dim from the rotated share of a head (under `key`, or in rope_parameters), and back. */
int er_partial_rotation_read(er_config *c, const json_t *root, const char *key, double preset, const char *path,
                             er_err *err);
int er_partial_rotation_write(json_t *root, const char *key, const er_config *c);
/* The shortest decimal that is read back to the same fp32 value. */
json_t *er_json_real(double value);
int er_json_flag(int *out, const json_t *root, const char *key, int preset, const char *path, er_err *err);

#endif
