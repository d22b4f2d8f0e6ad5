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
    const float *rope_cos, *rope_sin; /* (rope_positions, rope_dim / 2), in the reference's fp32 arithmetic */
    int64_t rope_positions; /* of the table: max_positions, at most 8192 */
    er_tokenizer *tokenizer;
    er_hash weights;     /* content: configuration, every tensor's name, shape and fp32 values as on disk, before any
                            narrowing in memory; the same for the same model read from GGUF and from the safetensors
                            that er_export wrote */
    char *path;
    struct er_model_owner *owner; /* maps and buffers behind the pointers */
} er_model;

/* Reads FILE.gguf or a Hugging Face folder (config.json, *.safetensors with or without index, tokenizer.json).
 * weights: ER_F32, ER_BF16 or ER_F16, how matrices are held in memory (values narrowed by rounding to nearest even).
 * Tensors that are wanted in the type they have on disk are used in place from the map (GGUF's Q and K excepted: their
 * rows are reordered). Norm gains are always fp32. From GGUF: F32, F16, BF16, Q8_0, Q4_0, Q4_1.
 * ER_E_IO: a file is absent; ER_E_FORMAT: broken, truncated, or in contradiction to the configuration;
 * ER_E_UNSUPPORTED: another family, type or tensor (a bias, say) than the engine computes with; ER_E_NUMERIC: a value
 * is too large for the narrow type; ER_E_INPUT: no such `weights`. Every message names the file. */
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
 * generation_config.json. The folder must not exist or be empty (else ER_E_INPUT). Each file is complete or absent, and
 * config.json comes last. ER_E_NUMERIC: a value is too large for dtype. */
int er_export(const er_view *view, const char *folder, int dtype, er_err *err);

#endif
