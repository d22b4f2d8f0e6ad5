/* SPDX-License-Identifier: Apache-2.0 */
/* What editing costs, from a configuration alone: bytes of the arrays that the program allocates, and floating-point
 * operations (flop) of the products that it does, two per multiply-add. Left out, because small beside them: norms,
 * activations, softmax, rotations, and the looking up of embeddings.
 *
 * Counts of tokens are means over texts and need not be whole; attention is counted at the mean length. Nothing here
 * fails or allocates. Checked against a hand calculation and against open models by tests/unit/test_cost.c. */
#ifndef ER_RUNNER_COST_H
#define ER_RUNNER_COST_H

#include "base/options.h"
#include "editors/editor.h"
#include "model/config.h"

#include <stdint.h>

/* --- parameters and memory ---------------------------------------------------------------------------------------- */

typedef struct er_cost_parameters {
    int64_t all, block;                 /* block: one of config.layers equal ones */
    int64_t embedding, positions, head; /* head: 0 where it is the embedding; its bias included */
    int64_t rest;                       /* final norm and maps around the embedding */
} er_cost_parameters;
er_cost_parameters er_cost_parameters_of(const er_config *c);

/* Elements of one block's matrices: what a token is multiplied with. */
double er_cost_block_matrices(const er_config *c);

/* Bytes that er_model_open(weights: ER_F32, ER_BF16, ER_F16) holds: matrices in that type, norms and biases in fp32,
 * tables of rotations. */
double er_cost_model(const er_config *c, int weights);
/* The same of one shard (model/relay.h), which holds layers [from, to) and the ends that go with the first and the
 * last. */
double er_cost_model_part(const er_config *c, int weights, int64_t from, int64_t to);
/* Tokens that a text may have (er_model.longest_text). */
int64_t er_cost_longest_text(const er_config *c);
/* Bytes of keys and values of one token in blocks [from, to). */
double er_cost_kv(const er_config *c, int64_t from, int64_t to);
/* Bytes that the tape of blocks [from, to) keeps of a token which sees `seen` positions. */
double er_cost_tape(const er_config *c, int64_t from, int64_t to, double seen);
/* Scratch of a pass, per token. */
double er_cost_scratch(const er_config *c, int gradients);
/* fp32 copies of `layers` edited matrices, which every rank holds. */
double er_cost_overlay(const er_config *c, int64_t layers);

/* --- flop of passes ----------------------------------------------------------------------------------------------- */

/* Blocks [from, to) over positions start .. start + count - 1 of one text, whose earlier positions are cached.
 * Backward: gradients of the stream, none of parameters; keys and values before `start` are constants. */
double er_cost_forward(const er_config *c, int64_t from, int64_t to, double start, double count);
double er_cost_backward(const er_config *c, int64_t from, int64_t to, double start, double count);
/* The output head at one position, and back. */
double er_cost_head(const er_config *c);
double er_cost_head_back(const er_config *c);

/* --- an edit ------------------------------------------------------------------------------------------------------ */

/* Texts of a request, in tokens; means over requests. */
typedef struct er_cost_texts {
    double rows;    /* templates, the plain "{}" included */
    double prefix;  /* positions that a template puts before the prompt, mean over the rows (0 in the plain one) */
    double prompt;  /* positions of the plain row: the prompt and the target without its last id */
    double subject; /* of these up to the subject's last token, it included */
    double target;  /* ids of the target */
    double drift;   /* positions of the row that measures the drift: "<subject> is a", cut after the subject */
} er_cost_texts;

/* Optimisation of one target behind block `layer`: what runs once (blocks up to it over whole rows, later ones over the
 * positions before the subject's last token), and a step's loss and gradient (later blocks over the positions from
 * there on, the head where it is read). N steps: once + N loss + (N - 1) gradient. */
typedef struct er_cost_target {
    double positions;        /* of all rows, once */
    double active;           /* of all rows, in each step */
    double heads;            /* rows of logits in each step */
    double once, loss, gradient;
} er_cost_target;
er_cost_target er_cost_target_of(const er_config *c, int64_t layer, const er_cost_texts *t);
double er_cost_target_total(const er_cost_target *t, double steps);
/* Bytes that `requests` targets optimised side by side take: caches, tape, scratch, logits. */
double er_cost_target_memory(const er_config *c, int64_t layer, const er_cost_texts *t, double requests);
/* The same at a shard with layers [from, to). */
double er_cost_target_memory_part(const er_config *c, int64_t layer, const er_cost_texts *t, double requests,
                                  int64_t from, int64_t to);

/* What the texts of a unit begin with runs once (model/prefix.h): of the positions that er_cost_texts counts the shares
 * that run, above 0 and at most 1. The functions above take every text for itself; those named _run count what runs, and
 * that the last block of a pass runs only where its stream is read and leaves keys and values elsewhere. */
typedef struct er_cost_shared {
    double rows;   /* of the rows of targets */
    double before; /* of these before the subject's last token */
    double keys;   /* of the texts that keys are read from, up to the subject */
    double plain;  /* of the plain ones among these, which go on behind the layer */
    double scores; /* of the scored prompts */
} er_cost_shared;
extern const er_cost_shared er_cost_alone; /* 1 everywhere: nothing is shared */
er_cost_target er_cost_target_run(const er_config *c, int64_t layer, const er_cost_texts *t, const er_cost_shared *s);
double er_cost_keys_run(const er_config *c, const er_int_list *layers, const er_cost_texts *t, const er_cost_shared *s);
/* er_cost_target_memory_part, with positions that run. */
double er_cost_target_memory_run(const er_config *c, int64_t layer, const er_cost_texts *t, const er_cost_shared *s,
                                 double requests, int64_t from, int64_t to);
double er_cost_score_run(const er_config *c, double tokens, double heads, const er_cost_shared *s);

/* Keys of one request at all edited layers: each layer's pass starts anew, as the layers before it have changed. */
double er_cost_keys(const er_config *c, const er_int_list *layers, const er_cost_texts *t);

/* The small systems of one layer for a batch of n edits, fp64. `before`: edits in the history. Where the rank of a
 * projection decides, the most that it can be. */
enum er_cost_solve { ER_COST_SOLVE_NONE, ER_COST_SOLVE_ROME, ER_COST_SOLVE_MEMIT, ER_COST_SOLVE_HISTORY };
enum er_cost_solve er_cost_solve_kind(const er_editor *editor, const er_hyper *hyper);
double er_cost_solve_layer(const er_config *c, enum er_cost_solve kind, double n, double before);
/* Rounding n edits into one matrix, on every rank, fp64. */
double er_cost_apply(const er_config *c, double n);

/* Bytes of rank 0's arrays while it solves one layer for n edits, and of the record that it gathers. */
double er_cost_solving_batch(const er_config *c, const er_editor *editor, int64_t layers, double n);

/* Bytes of one edit in the ledger: per layer its column of U, its row of V and its key; its target once. */
double er_cost_ledger(const er_config *c, const er_editor *editor, int64_t layers);
/* Bytes of U and V alone. */
double er_cost_update(const er_config *c, int64_t layers);
/* Bytes of AlphaEdit's history at one layer, rank 0: at most, whatever the rank of its projection. */
double er_cost_history(const er_config *c, double edits);

/* --- statistics of a layer ---------------------------------------------------------------------------------------- */

/* Bytes in memory and in the store: upper triangle of f x f in 128-bit fixed point; eigenpairs in fp64. */
double er_cost_moment(const er_config *c);
double er_cost_eigenpairs(const er_config *c);
/* Bytes while measuring `layers` layers in one pass: sums (rank 0: also those of an interrupted pass), a Gram matrix,
 * a block of documents on its way. */
double er_cost_measuring(const er_config *c, int64_t layers, double document, int rank0);
/* Bytes while the eigenpairs of one layer are computed. */
double er_cost_solving(const er_config *c);
/* flop per token of documents of mean length `document`: blocks 0 .. last of the layers, and Gram matrices (fp64). */
double er_cost_statistics(const er_config *c, const er_int_list *layers, double document);
/* flop of one layer's eigenpairs, in products' worth: much of LAPACK's work is bound by memory. */
double er_cost_eigen_solve(const er_config *c);

/* --- scores ------------------------------------------------------------------------------------------------------- */

/* One scored prompt of `tokens` positions (both answers' included), head at `heads` of them. */
double er_cost_score(const er_config *c, double tokens, double heads);
/* Bytes that `positions` scored side by side take at a rank with layers [from, to). */
double er_cost_score_memory(const er_config *c, double positions, int64_t from, int64_t to);

/* --- a process ---------------------------------------------------------------------------------------------------- */

/* Bytes that a rank takes whatever it does: program, libraries and their buffers, tokenizer. Measured: SmolLM2's ranks. */
double er_cost_program(const er_config *c);

#endif
