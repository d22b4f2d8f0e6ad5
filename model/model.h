/* SPDX-License-Identifier: Apache-2.0 */
/* One transformer in memory: configuration, weights, tokenizer. Base weights are read-only for ever; an edited model is
 * a view: the same layers with some matrices replaced by an overlay that somebody else owns. */
#ifndef ER_MODEL_MODEL_H
#define ER_MODEL_MODEL_H

#include "base/error.h"
#include "base/hash.h"
#include "model/config.h"
#include "model/tensor.h"
#include "model/tokenizer.h"

#include <stdint.h>

enum er_matrix_id { ER_MATRIX_Q, ER_MATRIX_K, ER_MATRIX_V, ER_MATRIX_O, ER_MATRIX_GATE, ER_MATRIX_UP, ER_MATRIX_DOWN,
                    ER_MATRIX_COUNT };

typedef struct er_layer {
    er_matrix matrix[ER_MATRIX_COUNT];
    const float *attention_norm, *mlp_norm; /* (d) */
} er_layer;

typedef struct er_model {
    er_config config;
    er_matrix embedding; /* (V, d) */
    er_matrix head;      /* (V, d); the embedding's data when tied */
    const float *final_norm;
    er_layer *layers;    /* config.layers of them */
    const float *rope_cos, *rope_sin; /* (max table positions, rope_dim / 2) */
    int64_t rope_positions;
    er_tokenizer *tokenizer;
    er_hash weights;     /* content: configuration, every tensor's name, shape and fp32 values; the same for the same
                            model read from GGUF and from the safetensors that er_export wrote */
    char *path;
    struct er_model_owner *owner; /* maps and buffers behind the pointers */
} er_model;

/* Reads FILE.gguf or a Hugging Face folder (config.json, *.safetensors with or without index, tokenizer.json).
 * weights: ER_F32, ER_BF16 or ER_F16, how matrices are held in memory (values narrowed by rounding to nearest even).
 * F32 tensors on disk that are wanted as F32 are used in place from the map. Norm gains are always fp32. */
int er_model_open(er_model **out, const char *path, int weights, er_err *err);
void er_model_close(er_model *model);

/* A view starts as the model's own layers; er_view_replace puts another matrix of the same shape in place (borrowed).
 * The engine reads weights through a view only. */
typedef struct er_view {
    const er_model *model;
    er_layer *layers; /* a private copy of the layer table, not of weights */
} er_view;
int er_view_open(er_view *out, const er_model *model, er_err *err);
void er_view_replace(er_view *view, int64_t layer, enum er_matrix_id which, const er_matrix *with);
void er_view_restore(er_view *view); /* back to the base weights, bit-exact */
void er_view_close(er_view *view);

/* Hugging Face's name of a matrix: "model.layers.5.mlp.down_proj.weight". */
void er_matrix_name(char *text, size_t size, int64_t layer, enum er_matrix_id which);

/* Writes a Hugging Face folder that transformers opens as LlamaForCausalLM: config.json, model.safetensors (dtype:
 * ER_F32, ER_BF16 or ER_F16; weights through the view, so edits are in), tokenizer.json, tokenizer_config.json,
 * generation_config.json. The folder must not exist or be empty. Each file is complete or absent. */
int er_export(const er_view *view, const char *folder, int dtype, er_err *err);

#endif
