/* SPDX-License-Identifier: Apache-2.0 */
/* The families of transformers that can be read: one row per field and per tensor. */
#include "model/weights.h"

#include <stdio.h>
#include <string.h>

#define AT(member) offsetof(er_config, member)

/* presets are those of transformers' LlamaConfig; 0: derived from other fields */
static const er_field llama_fields[] = {
    {AT(layers), ER_FIELD_INT, "num_hidden_layers", "block_count", 1, 0},
    {AT(hidden), ER_FIELD_INT, "hidden_size", "embedding_length", 1, 0},
    {AT(inner), ER_FIELD_INT, "intermediate_size", "feed_forward_length", 1, 0},
    {AT(heads), ER_FIELD_INT, "num_attention_heads", "attention.head_count", 1, 0},
    {AT(kv_heads), ER_FIELD_INT, "num_key_value_heads", "attention.head_count_kv", 0, 0},
    {AT(head_dim), ER_FIELD_INT, "head_dim", "attention.key_length", 0, 0},
    {AT(rope_dim), ER_FIELD_INT, NULL, "rope.dimension_count", 0, 0},
    {AT(vocab), ER_FIELD_INT, "vocab_size", NULL, 1, 0},
    {AT(max_positions), ER_FIELD_INT, "max_position_embeddings", "context_length", 0, 2048},
    {AT(rope_base), ER_FIELD_REAL, "rope_theta", "rope.freq_base", 0, 10000},
    {AT(norm_eps), ER_FIELD_REAL, "rms_norm_eps", "attention.layer_norm_rms_epsilon", 0, 1e-6},
    {AT(tied), ER_FIELD_BOOL, "tie_word_embeddings", NULL, 0, 0},
};

static const er_fixed llama_fixed_json[] = {
    {"hidden_act", "\"silu\""},
    {"attention_bias", "false"},
    {"mlp_bias", "false"},
    {"partial_rotary_factor", "1.0"},
    {"quantization_config", "null"},
    {NULL, NULL},
};

static const er_fixed llama_fixed_gguf[] = {
    {"rope.scaling.type", "\"none\""},
    {"rope.scaling.factor", "1.0"},
    {"rope.scale_linear", "1.0"},
    {"expert_count", "0"},
    {"attention.causal", "true"},
    {NULL, NULL},
};

static const er_slot_row llama_rows[] = {
    {ER_SLOT_EMBEDDING, 0, "model.embed_tokens.weight", "token_embd.weight", 0},
    {ER_SLOT_MATRIX, ER_MATRIX_Q, "self_attn.q_proj.weight", "attn_q.weight", 1},
    {ER_SLOT_MATRIX, ER_MATRIX_K, "self_attn.k_proj.weight", "attn_k.weight", 1},
    {ER_SLOT_MATRIX, ER_MATRIX_V, "self_attn.v_proj.weight", "attn_v.weight", 0},
    {ER_SLOT_MATRIX, ER_MATRIX_O, "self_attn.o_proj.weight", "attn_output.weight", 0},
    {ER_SLOT_MATRIX, ER_MATRIX_GATE, "mlp.gate_proj.weight", "ffn_gate.weight", 0},
    {ER_SLOT_MATRIX, ER_MATRIX_UP, "mlp.up_proj.weight", "ffn_up.weight", 0},
    {ER_SLOT_MATRIX, ER_MATRIX_DOWN, "mlp.down_proj.weight", "ffn_down.weight", 0},
    {ER_SLOT_ATTENTION_NORM, 0, "input_layernorm.weight", "attn_norm.weight", 0},
    {ER_SLOT_MLP_NORM, 0, "post_attention_layernorm.weight", "ffn_norm.weight", 0},
    {ER_SLOT_FINAL_NORM, 0, "model.norm.weight", "output_norm.weight", 0},
    {ER_SLOT_HEAD, 0, "lm_head.weight", "output.weight", 0},
};

/* old checkpoints carry the rotary frequencies; a tied head may be written out */
static const char *const llama_ignored[] = {".rotary_emb.inv_freq", "lm_head.weight", NULL};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const er_family families[] = {
    {"llama", "LlamaForCausalLM", llama_fields, COUNT(llama_fields), 1, 2, llama_fixed_json,
     llama_fixed_gguf, "model.layers.%d.", "blk.%d.", llama_rows, COUNT(llama_rows), llama_ignored},
};

const er_family *er_family_find(const char *name)
{
    for (size_t i = 0; i < COUNT(families); i++)
        if (strcmp(families[i].name, name) == 0) return &families[i];
    return NULL;
}

const char *er_family_names(void) { return "llama"; }

int64_t *er_field_int(const er_field *field, er_config *c) { return (int64_t *)(void *)((char *)c + field->offset); }

int *er_field_bool(const er_field *field, er_config *c) { return (int *)(void *)((char *)c + field->offset); }

double *er_field_real(const er_field *field, er_config *c) { return (double *)(void *)((char *)c + field->offset); }

enum { BEFORE = 1, AFTER = 2 }; /* rows of a family that stand once, before and after those of the layers */

static const er_family *family_of(const er_config *c)
{
    const er_family *f = er_family_find(c->family);
    ER_ALWAYS(f);
    return f;
}

int64_t er_slot_count(const er_config *c)
{
    int64_t per_layer = (int64_t)family_of(c)->row_count - BEFORE - AFTER;
    return BEFORE + per_layer * c->layers + AFTER - (c->tied ? 1 : 0);
}

static void matrix_shape(er_slot *slot, const er_config *c)
{
    int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    const int64_t shape[ER_MATRIX_COUNT][2] = {
        [ER_MATRIX_Q] = {q, c->hidden},         [ER_MATRIX_K] = {kv, c->hidden},
        [ER_MATRIX_V] = {kv, c->hidden},        [ER_MATRIX_O] = {c->hidden, q},
        [ER_MATRIX_GATE] = {c->inner, c->hidden}, [ER_MATRIX_UP] = {c->inner, c->hidden},
        [ER_MATRIX_DOWN] = {c->hidden, c->inner},
    };
    slot->rows = shape[slot->row->which][0];
    slot->cols = shape[slot->row->which][1];
}

er_slot er_slot_at(const er_config *c, int64_t index)
{
    const er_family *f = family_of(c);
    int64_t per_layer = (int64_t)f->row_count - BEFORE - AFTER, in_layers = per_layer * c->layers;
    er_slot slot = {NULL, -1, 1, c->hidden, 1};
    if (index < BEFORE) {
        slot.row = &f->rows[index];
    } else if (index < BEFORE + in_layers) {
        slot.layer = (index - BEFORE) / per_layer;
        slot.row = &f->rows[BEFORE + (index - BEFORE) % per_layer];
    } else {
        slot.row = &f->rows[index - in_layers + per_layer];
    }
    if (slot.row->kind == ER_SLOT_MATRIX) matrix_shape(&slot, c);
    if (slot.row->kind == ER_SLOT_EMBEDDING || slot.row->kind == ER_SLOT_HEAD) slot.rows = c->vocab;
    if (slot.row->kind == ER_SLOT_MATRIX || slot.row->kind == ER_SLOT_EMBEDDING || slot.row->kind == ER_SLOT_HEAD)
        slot.dims = 2;
    return slot;
}

/* The prefixes are our own literals with one %d: written out, so that the compiler need not trust a variable format. */
static void put_name(char *text, size_t size, const char *prefix, int64_t layer, const char *rest)
{
    const char *mark = strstr(prefix, "%d");
    snprintf(text, size, "%.*s%lld%s%s", (int)(mark - prefix), prefix, (long long)layer, mark + 2, rest);
}

void er_slot_name(char text[ER_TENSOR_NAME], const er_config *c, const er_slot *slot, int gguf)
{
    const er_family *f = family_of(c);
    const char *name = gguf ? slot->row->gguf : slot->row->hf;
    if (slot->layer < 0) {
        snprintf(text, ER_TENSOR_NAME, "%s", name);
    } else {
        put_name(text, ER_TENSOR_NAME, gguf ? f->gguf_layer : f->hf_layer, slot->layer, name);
    }
}

int64_t er_slot_source_row(int64_t row, int64_t head_dim)
{
    int64_t head = row / head_dim, within = row % head_dim, half = head_dim / 2;
    return head * head_dim + (within % half) * 2 + within / half;
}

void er_matrix_name(char *text, size_t size, int64_t layer, enum er_matrix_id which)
{
    const er_family *f = &families[0];
    for (size_t i = 0; i < f->row_count; i++)
        if (f->rows[i].kind == ER_SLOT_MATRIX && f->rows[i].which == which)
            put_name(text, size, f->hf_layer, layer, f->rows[i].hf);
}
