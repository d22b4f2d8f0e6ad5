/* SPDX-License-Identifier: Apache-2.0 */
/* The interface of an editor. A batch of n requests is edited so (runner/ drives, any rank may do any unit):
 *
 *   1. targets: for units of requests, on the model as it stands before the batch           -> er_target each
 *   2. for each edited layer in order, on the model with the layers before it updated:
 *        keys:  for units of requests                                                        -> key_floats() floats each
 *        solve: once, from all keys and targets, statistics and history                      -> er_update
 *        the update is rounded into the overlay (er_update_apply), the next layer follows
 *   3. history: each layer's keys join the history that later batches see
 *
 * Fine-tuning has no targets, keys and solve: editors/train.h says what takes their place.
 *
 * All functions are not collective, know no MPI, and give bits that depend on their arguments' content only: a request's
 * target and keys do not depend on the unit it was computed in. */
#ifndef ER_EDITORS_EDITOR_H
#define ER_EDITORS_EDITOR_H

#include "base/error.h"
#include "base/options.h"
#include "editors/hyper.h"
#include "editors/prompts.h"
#include "model/forward.h"
#include "stats/eigen.h"

#include <stdint.h>

/* One optimised target value (spec section 4). */
enum er_target_stop {
    ER_STOP_STEPS,
    ER_STOP_LOSS,
    ER_STOP_NONFINITE,
    ER_STOP_RANK,        /* ENCORE: every target token was the most probable one for the last time that was asked for */
    ER_STOP_PROBABILITY, /* ENCORE: the mean probability was above the one asked for */
    ER_STOP_ANCHOR,      /* NAS: the norm was out of reach of the anchor, and delta was dropped */
    ER_STOP_SETTLED,     /* PMET: every target token was the most probable one, and the drift small */
    ER_STOPS
};
const char *er_target_stop_name(int stop); /* "steps", "loss", ...; "?" */
typedef struct er_target_loss {
    float total, nll, kl, decay;
    float probability; /* mean over rows of exp(-nll_i) */
} er_target_loss;
typedef struct er_target {
    float *value;      /* (d): v* = target_init + delta, of the stream after the block, or of the edited matrix's output
                          (ROME, and every method where a norm follows: editors/target.h); NULL when the request failed */
    int64_t steps;     /* losses recorded */
    er_target_loss *loss;
    float init_norm, delta_norm, target_norm;
    int stop;          /* enum er_target_stop */
    int flat;          /* guard: the loss never fell by more than 1e-3 of its start */
    int failed;
    char reason[160];  /* why it failed */
} er_target;
void er_target_free(er_target *t);
/* Guard: the loss never fell by more than a thousandth of its start, although there was something to gain. */
int er_target_is_flat(const er_target *t);

/* What a layer's update is, as the ledger keeps it. Whatever the kind, each element of the new matrix is computed in fp64
 * from the old one (d, f) and rounded once, so folding the records again gives the same bits:
 *     FACTORS   W + U V      u (d, rank), v (rank, f)
 *     SPARSE    W + S        mask (d, er_update_mask_width): bit j % 8 of byte j / 8 in a row says that column j has an
 *                            element; u: those elements, row after row, `rank` of them
 *     DENSE     W + D        u (d, f)
 *     REPLACE   u            u (d, f): the matrix as it is stored
 * rank is 0 for the last two, arrays that a kind does not name are NULL. */
enum er_update_kind { ER_UPDATE_FACTORS, ER_UPDATE_SPARSE, ER_UPDATE_DENSE, ER_UPDATE_REPLACE, ER_UPDATE_KINDS };
/* What was done to an update after its solve, for the record (editors/stabilise.h); zeros: nothing. */
typedef struct er_update_notes {
    int64_t clipped;    /* singular values that PRUNE lowered */
    int64_t directions; /* of the clean weights that SPHERE and REVIVE keep out of the update */
    int64_t neurons;    /* columns that NSE left open */
    double removed;     /* share of the solved update's squared norm that is gone */
} er_update_notes;
typedef struct er_update {
    int kind;
    int64_t outputs, inputs, rank; /* d, f, n */
    float *u;
    float *v;
    double z_error;                /* mean over requests of the residual's norm before it is divided over layers */
    double condition;              /* of the small system, estimate from the Cholesky diagonal; 0: none */
    uint8_t *mask;
    er_update_notes notes;
} er_update;
/* Bytes of a row of the mask. */
int64_t er_update_mask_width(int64_t inputs);
/* Rows and columns of u, v and mask for the kind and shape of *u; what the kind does not have is 0 x 0. ER_E_FORMAT for
 * an unknown kind. */
typedef struct er_update_arrays {
    int64_t u[2], v[2], mask[2];
} er_update_arrays;
int er_update_shape(er_update_arrays *out, const er_update *u, er_err *err);
/* Allocates (zeroed) what kind, outputs, inputs and rank ask for. */
int er_update_room(er_update *u, er_err *err);
/* A mask must name as many elements as there are: ER_E_FORMAT. */
int er_update_check(const er_update *u, er_err *err);
/* ER_E_NUMERIC unless every element is finite. */
int er_update_finite(const er_update *u, er_err *err);
const char *er_update_kind_name(int kind); /* "factors", ... */
/* Frees the arrays; kind, shape and figures stay. */
void er_update_free(er_update *u);
/* w (outputs, inputs) fp32 in place. FACTORS: each element is one fp64 FMA chain over rank in ascending order, starting
 * from the old weight. Returns the Frobenius norm of what was added (REPLACE: of the difference) in *update_norm (NULL
 * allowed) and of the new w. */
void er_update_apply(float *w, const er_update *u, double *update_norm, double *weight_norm);

/* Keys of earlier batches at one layer, with the growing factor of the small system. Made by the editor, fed in batch
 * order; rebuilding it from the ledger's keys gives the same bits as growing it. NULL for editors without history. */
typedef struct er_history er_history;

/* Statistics of one edited layer, where the editor needs them. */
typedef struct er_layer_stats {
    const er_eigen *eigen; /* NULL unless needs says so */
} er_layer_stats;

enum er_needs { ER_NEEDS_NOTHING = 0, ER_NEEDS_EIGEN = 1 };

typedef struct er_edit_context { /* constant over a run */
    const er_model *model;
    const er_hyper *hyper;
    const er_templates *templates;
    enum er_parity parity;
} er_edit_context;

/* One edited matrix. */
typedef struct er_edited {
    int64_t layer;
    int which; /* enum er_matrix_id */
} er_edited;

/* How a method trains weights (editors/train.h). */
typedef struct er_training er_training;

/* A key that a parity face presets: where every file of hyperparameters that its program ships says so, or its own
 * default does, and the method's preset is another. Keys of a job and of its hparams file come first. */
typedef struct er_face_preset {
    enum er_parity parity;
    const char *key, *value; /* without "editor." */
} er_face_preset;

typedef struct er_editor {
    const char *name;      /* as in job files */
    const char *template_list; /* which list of a template file: "rome" or "memit" */
    const char *formula;   /* one line: at the start of a run, in its report, by --explain */
    int64_t most_batch;    /* 0: any */
    /* Option rows ("editor.<key>") filling hyper, with this method's presets. */
    int (*options)(er_option_table *out, er_hyper *hyper, er_arena *arena, er_err *err);
    /* Bounds against the model, exactly one nullspace_* key, L2 > 0, ...: ER_E_INPUT naming the key. */
    int (*check)(const er_hyper *hyper, const er_config *config, int64_t batch, er_err *err);
    unsigned (*needs)(const er_hyper *hyper);
    /* Which directions its projection keeps. NULL: it projects nothing. */
    int (*keep)(er_keep *out, const er_hyper *hyper, er_err *err);
    /* Lengths (tokens, texts) of generated templates and what braces become. *count: room in `lengths`, then how many. */
    int (*template_lengths)(const er_hyper *hyper, int64_t (*lengths)[2], int64_t *count, const char **braces);
    /* Floats of the key of one request at one layer. */
    int64_t (*key_floats)(const er_config *config);
    /* Targets of `count` requests on view; out[i] is filled, a failed request is data (failed, reason), not an error. */
    int (*target)(const er_edit_context *edit, const er_view *view, const er_prompt *prompts, int64_t count,
                  er_target *out, er_work *work, er_err *err);
    /* keys (count, key_floats) at hyper->layers.at[step] on view. */
    int (*keys)(const er_edit_context *edit, const er_view *view, int64_t step, const er_prompt *prompts, int64_t count,
                float *keys, er_work *work, er_err *err);
    /* The update of layer hyper->layers.at[step]. values (n, d): targets; keys (n, key_floats). n requests that did not
     * fail, in request order; w: the layer's current matrix (d, f). history may be NULL. */
    int (*solve)(const er_edit_context *edit, int64_t step, const float *values, const float *keys, int64_t n,
                 const er_layer_stats *stats, er_history *history, const float *w, er_update *out, er_err *err);
    /* NULL: no history. add: the keys of a finished batch join (same array as solve got). */
    int (*history_new)(er_history **out, const er_edit_context *edit, int64_t step, const er_layer_stats *stats,
                       er_err *err);
    int (*history_add)(er_history *h, const float *keys, int64_t n, er_err *err);
    void (*history_free)(er_history *h);
    int clean_targets; /* targets are set on the unedited model, not on the one before the batch */
    /* Passes over the layers in a batch; NULL: one. Before each, from the keys of its first layer, which of the n requests
     * take part: join (n). A layer's updates, of factors then, are put side by side, and rounded together into the
     * matrix that the batch found. */
    int64_t (*passes)(const er_hyper *hyper);
    int (*joins)(const er_edit_context *edit, const float *values, const float *keys, int64_t n, uint8_t *join,
                 er_err *err);
    /* Capacity used: rows in the history and the rank they live in (0, 0: not meaningful). */
    void (*history_used)(const er_history *h, int64_t *rows, int64_t *rank);
    /* NULL: the down projection of every layer in hyper->layers. Else fills out, in the order of updates, where it is
     * not NULL, and returns how many matrices are edited. */
    int64_t (*edited)(er_edited *out, const er_hyper *hyper, const er_config *config);
    /* NULL: targets, keys and solve as above. Else those three, key_floats and history are NULL. */
    const er_training *train;
    const char *symbols;   /* of the formula, for --explain: lines "symbol: what it is"; NULL: none */
    enum er_target_rule rule;      /* ask er_editor_rule */
    const er_face_preset *presets; /* NULL: none; the last has no key */
} er_editor;

/* Which matrices a method edits, in the order of their updates, to be er_freed. ER_E_INPUT when there is none. */
int er_editor_edited(er_edited **out, int64_t *count, const er_editor *editor, const er_hyper *hyper,
                     const er_config *config, er_err *err);

/* By name; unknown: ER_E_INPUT with the nearest name. */
int er_editor_find(const er_editor **out, const char *name, er_err *err);
const er_editor *er_editor_at(int64_t index); /* NULL behind the last */
/* How targets are put behind prompts of this model under parity. */
enum er_target_rule er_editor_rule(const er_editor *editor, const er_config *config);
/* The index-th key that a face presets, or NULL. */
const er_face_preset *er_editor_preset(const er_editor *editor, enum er_parity parity, int64_t index);
/* Into h: what of the method and its hyperparameters decides a target, so that runs which differ elsewhere (in rows of
 * ER_OPT_SOLVE, in layers before the last of a method that sets the last one's stream) share targets. rows: of the
 * method's options, filled. */
int er_editor_hash_target(er_hasher *h, const er_editor *editor, const er_option_table *rows, const er_hyper *hyper,
                          er_err *err);

#endif
