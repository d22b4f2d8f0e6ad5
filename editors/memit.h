/* SPDX-License-Identifier: Apache-2.0 */
/* MEMIT (Meng et al. 2023; spec 7): n facts spread over several layers, no history.
 *     A = lambda C + K K^T,  dW = (R / layers left) (A^-1 K)^T
 * With C = U diag(e) U^T and Z = (lambda e)^-1/2 U^T K, the keys whitened (editors/white.h),
 *     A = U (lambda e)^1/2 (I + Z Z^T) (lambda e)^1/2 U^T
 * and Woodbury's identity leaves an n x n system that stays positive definite whatever was rounded:
 *     V = (A^-1 K)^T = (I + Z^T Z)^-1 Z^T (lambda e)^-1/2 U^T */
#ifndef ER_EDITORS_MEMIT_H
#define ER_EDITORS_MEMIT_H

#include "editors/editor.h"

extern const er_editor er_editor_memit;

/* Rows, checks and needs of MEMIT and of its kin with the same hyperparameters. */
int er_memit_options(er_option_table *out, er_hyper *hyper, er_arena *arena, er_err *err);
int er_memit_check(const er_hyper *hyper, const er_config *config, int64_t batch, er_err *err);
unsigned er_memit_needs(const er_hyper *hyper);

/* Shared by the methods that set the stream after the last edited block (or the output of its edited matrix, where a norm
 * follows: editors/target.h): keys of f + d floats (editors/keys.h). */
int64_t er_memit_key_floats(const er_config *config);
int er_memit_target(const er_edit_context *edit, const er_view *view, const er_prompt *prompts, int64_t count,
                    er_target *out, er_work *work, er_err *err);
int er_memit_keys(const er_edit_context *edit, const er_view *view, int64_t step, const er_prompt *prompts,
                  int64_t count, float *keys, er_work *work, er_err *err);
/* Over how many layers what is left of the residual is spread at this step: the layers that are still to come. */
double er_memit_left(const er_edit_context *edit, int64_t step);
/* An update of rank n with u = R / divisor and z_error filled, v zero. */
int er_memit_update(er_update *out, const er_edit_context *edit, double divisor, const float *values, const float *keys,
                    int64_t n, er_err *err);

/* The update whose v a method's history of earlier keys solves for. `fresh` makes the history of a batch without a past
 * (history NULL), which `drop` ends; `solve` fills v (n, f) and the update's condition and notes. */
typedef int er_history_maker(er_history **out, const er_edit_context *edit, int64_t step, const er_layer_stats *stats,
                             er_err *err);
typedef struct er_memit_past {
    er_history_maker *fresh;
    int (*solve)(const er_edit_context *edit, er_history *history, const float *keys, int64_t n, double *v,
                 er_update *update, er_err *err);
    void (*drop)(er_history *history);
} er_memit_past;
int er_memit_solve_past(const er_edit_context *edit, int64_t step, const float *values, const float *keys, int64_t n,
                        const er_layer_stats *stats, er_history *history, const er_memit_past *past, er_update *out,
                        er_err *err);
/* With a history of editors/history.h: AlphaEdit and MEMIT-seq. */
int er_memit_solve_history(const er_edit_context *edit, int64_t step, const float *values, const float *keys, int64_t n,
                           const er_layer_stats *stats, er_history *history, er_history_maker *fresh, er_update *out,
                           er_err *err);

int er_memit_solve(const er_edit_context *edit, int64_t step, const float *values, const float *keys, int64_t n,
                   const er_layer_stats *stats, er_history *history, const float *w, er_update *out, er_err *err);
/* MEMIT's update (divisor er_memit_left, epsilon 1; ridge 0 without ENCORE's), and that of its kin:
 * v = (epsilon I + K^T M^-1 K)^-1 K^T M^-1, M = lambda C + ridge I. */
typedef struct er_memit_kind {
    double divisor, ridge, epsilon;
} er_memit_kind;
int er_memit_solve_white(const er_edit_context *edit, const er_memit_kind *kind, const float *values, const float *keys,
                         int64_t n, const er_layer_stats *stats, er_update *out, er_err *err);

/* v (n, f) = (A^-1 K)^T for keys (n rows, stride apart): the algebra alone. lambda > 0. */
int er_memit_solve_rows(double *v, const float *keys, int64_t stride, int64_t n, const er_eigen *eigen, double lambda,
                        double *condition, er_err *err);

#endif
