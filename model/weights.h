/* SPDX-License-Identifier: Apache-2.0 */
/* Internal to model/: what every weights file looks like once its header is read, and how the tensors of a family are
 * named in it. A reader (safetensors.h, gguf.h) fills a tensor list from bytes; a source (weights_folder.c,
 * weights_gguf.c) adds the configuration and the tokenizer; model.c turns a source into an er_model. */
#ifndef ER_MODEL_WEIGHTS_H
#define ER_MODEL_WEIGHTS_H

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "model/config.h"
#include "model/model.h"
#include "model/tensor.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "weights files are little-endian and are used in place"
#endif

enum { ER_TENSOR_DIMS = 4, ER_TENSOR_NAME = 96 };

/* One tensor of a file. data lies in a map and may be unaligned; bytes is what dtype and shape ask for. */
typedef struct er_tensor {
    const char *name;
    int dtype;        /* enum er_dtype; -1: a type of the file format that no model here uses */
    const char *type; /* the file's name of the type, for messages */
    int dims;
    int64_t shape[ER_TENSOR_DIMS]; /* slowest first, as Hugging Face writes it */
    int64_t elements;
    const uint8_t *data;
    size_t bytes;
    const char *path; /* of the file it stands in */
    int used;
} er_tensor;

typedef struct er_tensors {
    er_tensor *at;
    size_t count, capacity;
} er_tensors;

int er_tensors_add(er_tensors *list, const er_tensor *tensor, er_err *err);
/* Sorts by name; a name that appears twice is ER_E_FORMAT. */
int er_tensors_sort(er_tensors *list, er_err *err);
/* In a sorted list; NULL when absent. */
er_tensor *er_tensors_find(const er_tensors *list, const char *name);
void er_tensors_free(er_tensors *list);

/* --- families ----------------------------------------------------------------------------------------------------- */

enum er_field_type { ER_FIELD_INT, ER_FIELD_REAL, ER_FIELD_BOOL, ER_FIELD_ACTIVATION };

/* One member of er_config and where the two formats keep it. Integers must be positive when present, except that the
 * preset is taken for null. Reals are held as fp32 values, because that is what GGUF stores and what the arithmetic uses.
 * Two rows may name one key: attention_bias stands for the biases of Q, K, V and of O. */
typedef struct er_field {
    size_t offset;
    enum er_field_type type;
    const char *json; /* key of config.json; NULL: not there */
    const char *gguf; /* key of the metadata without "<architecture>."; NULL: not there */
    int required;
    double preset; /* where absent and not required */
} er_field;

/* A key that must be absent, null, or have this value (as compact JSON text). */
typedef struct er_fixed_key {
    const char *key, *value;
} er_fixed_key;

/* Which part of a model a tensor of a file is. GAIN and SHIFT take an er_norm_id, MATRIX and BIAS an er_matrix_id; these
 * four stand in every layer, the others once. */
enum er_slot_kind { ER_SLOT_EMBEDDING, ER_SLOT_POSITIONS, ER_SLOT_PROJECT_IN, ER_SLOT_PROJECT_OUT, ER_SLOT_MATRIX,
                    ER_SLOT_BIAS, ER_SLOT_GAIN, ER_SLOT_SHIFT, ER_SLOT_FINAL_GAIN, ER_SLOT_FINAL_SHIFT, ER_SLOT_HEAD,
                    ER_SLOT_HEAD_BIAS };

/* How Hugging Face's file holds the rows (outputs) of a matrix or bias, or of `parts` matrices in one tensor:
 *   PLAIN    one below the other
 *   CONV1D   transposed: the tensor is (inputs, outputs), parts side by side (GPT-2)
 *   BY_HEAD  head by head the rows of each part (GPT-NeoX) */
enum er_slot_order { ER_ORDER_PLAIN, ER_ORDER_CONV1D, ER_ORDER_BY_HEAD };

/* A tensor of the model or of each layer: its names, without the layer's prefix, in the order in which Hugging Face's
 * modules hold them. */
typedef struct er_slot_row {
    enum er_slot_kind kind;
    int which; /* the first of the parts */
    const char *hf, *gguf;
    int parts;    /* 0 is 1 */
    enum er_slot_order order;
    int permuted; /* GGUF holds the rows of each head interleaved: see er_slot_source_row */
    int (*when)(const er_config *c); /* NULL: always */
} er_slot_row;

typedef struct er_family {
    const char *name;         /* model_type */
    const char *gguf;         /* general.architecture; NULL: not read from GGUF */
    const char *architecture; /* class of transformers */
    er_config preset;         /* arithmetic that no field changes, and what fields start from */
    const er_field *fields;
    size_t field_count;
    int64_t preset_bos, preset_eos;          /* where config.json does not say */
    const er_fixed_key *fixed_json, *fixed_gguf; /* each ends with a NULL key */
    const char *base;                        /* prefix of all names but the head's: files of the bare model leave it out */
    const char *hf_layer, *gguf_layer;       /* prefix of a layer's tensors, with its number as %d */
    const er_slot_row *rows;
    size_t row_count;
    const char *const *ignored; /* endings of names that may stand in a file and are not read; NULL-terminated */
    /* What no row can say (windows by layer, say): after the fields. NULL: nothing. */
    int (*read_json)(er_config *c, const json_t *root, const char *path, er_err *err);
    int (*write_json)(json_t *root, const er_config *c); /* 0, or -1 without memory */
} er_family;

/* The preset with name and no ids: what readers of fields start from. */
er_config er_family_start(const er_family *family);
const er_family *er_family_find(const char *name); /* by model_type; NULL: unknown */
const er_family *er_family_find_gguf(const char *architecture);
/* "llama, mistral, ..." for messages. */
const char *er_family_names(void);
const char *er_family_names_gguf(void);

int64_t *er_field_int(const er_field *field, er_config *c);
double *er_field_real(const er_field *field, er_config *c);
int *er_field_bool(const er_field *field, er_config *c); /* and of an activation */
/* enum er_activation by transformers' name of it, -1: unknown; and back (the shortest name). */
int er_activation_find(const char *name);
const char *er_activation_name(int activation);
/* ER_E_UNSUPPORTED naming path, key and value when the value (a json_t, NULL: absent) is not the fixed one. */
int er_fixed_check(const er_fixed_key *fixed, const json_t *value, const char *path, const char *prefix, er_err *err);
/* What depends on other fields: key-value heads, width of a head, of the MLP, of the embedding, rotated dimensions.
 * After all rows. */
void er_config_derive(er_config *c);
void er_config_hash(er_hasher *h, const er_config *c);

/* --- rotation (config_rope.c) ------------------------------------------------------------------------------------- */

/* rope_scaling of config.json and, in newer files, rope_parameters. */
int er_rope_read(er_config *c, const json_t *root, const char *path, er_err *err);
int er_rope_write(json_t *root, const er_config *c); /* 0, or -1 without memory */
/* Angle per position of pair i (0 .. rope_dim / 2 - 1), in the reference's fp32 arithmetic; local: of windowed layers. */
float er_rope_frequency(const er_config *c, int64_t i, int local);

/* --- slots: every tensor of a model, in one order ----------------------------------------------------------------- */

typedef struct er_slot {
    const er_slot_row *row;
    int64_t layer;      /* -1 outside the layers */
    int64_t rows, cols; /* of the tensor in Hugging Face's orientation; a vector has one row */
    int dims;           /* 1: a vector */
    int parts;
} er_slot;

int64_t er_slot_count(const er_config *c);
/* index in 0 .. er_slot_count - 1. In the order of the family's rows: once, then layer by layer, then once. */
er_slot er_slot_at(const er_config *c, int64_t index);
void er_slot_name(char text[ER_TENSOR_NAME], const er_config *c, const er_slot *slot, int gguf);
/* The row of a permuted tensor that holds row `row` of the model. GGUF interleaves the two halves of a head: row
 * (h, s, j) of Hugging Face's order, s = 0 or 1, stands at (h, j, s). */
int64_t er_slot_source_row(int64_t row, int64_t head_dim);
/* Rows (outputs) of part p of a matrix or bias slot; which: the er_matrix_id. */
int64_t er_matrix_rows(const er_config *c, int which);
int64_t er_matrix_cols(const er_config *c, int which);
/* Output r of a slot with parts (an index into its rows; for CONV1D and vectors into its columns): which part it belongs
 * to and which row of that part it is. */
void er_slot_place(const er_config *c, const er_slot *slot, int64_t r, int *part, int64_t *row);

/* Rows first .. first+n-1 of a slot's tensor as fp32, in Hugging Face's orientation and order, through the view: what an
 * export writes. */
void er_view_rows(float *out, const er_view *view, const er_slot *slot, int64_t first, int64_t n);

/* --- sources ------------------------------------------------------------------------------------------------------ */

typedef struct er_source {
    er_arena *arena; /* names */
    er_map *maps;
    size_t map_count, map_capacity;
    er_tensors tensors; /* sorted */
    int gguf;
    er_config config;
    er_tokenizer *tokenizer;
} er_source;

/* On failure *out is left for er_source_close (zero-initialise it before). */
int er_source_open(er_source *out, const char *path, er_err *err);
int er_source_folder(er_source *out, const char *path, er_err *err);
int er_source_gguf(er_source *out, const char *path, er_err *err);
/* Maps a file for the life of the source; *bytes and *size are borrowed from it. */
int er_source_map(er_source *s, const char *path, const uint8_t **bytes, size_t *size, er_err *err);
/* Frees names and the list of tensors, which nobody needs once the model is filled; maps and tokenizer stay. */
void er_source_forget(er_source *s);
void er_source_close(er_source *s);

#endif
