/* SPDX-License-Identifier: Apache-2.0 */
/* Option rows and checks that the methods of the family share. Internal to editors/. */
#ifndef ER_EDITORS_HYPER_ROWS_H
#define ER_EDITORS_HYPER_ROWS_H

#include "editors/hyper.h"
#include "model/config.h"

#include <stddef.h>

/* clang-format off */
#define ER_HYPER_ROWS(layers_preset, steps_preset, lr_preset, decay_preset, clamp_preset)                              \
    {"layers", ER_OPT_INT_LIST, offsetof(er_hyper, layers), layers_preset, 0, 0, NULL, 0,                              \
     "edited layers, ascending; the last is where targets are set"},                                                   \
    {"fact_token", ER_OPT_CHOICE, offsetof(er_hyper, fact_token), "subject_last", 0, 0,                                \
     "subject_last|last|subject_first|subject_first_after_last", 0, "token whose key is edited (subject_last)"},       \
    {"v_num_grad_steps", ER_OPT_INT, offsetof(er_hyper, v_num_grad_steps), steps_preset, 1, 10000, NULL, 0,            \
     "losses of a target's optimisation at most; one update fewer"},                                                   \
    {"v_lr", ER_OPT_DOUBLE, offsetof(er_hyper, v_lr), lr_preset, 0, 1e6, NULL, 0, "Adam's step"},                      \
    {"v_loss_layer", ER_OPT_INT, offsetof(er_hyper, v_loss_layer), "-1", -1, 100000, NULL, 0,                          \
     "layer whose stream the loss is read from; -1: the last"},                                                        \
    {"v_weight_decay", ER_OPT_DOUBLE, offsetof(er_hyper, v_weight_decay), decay_preset, 0, 1e6, NULL, 0,               \
     "weight of |delta| / |value before|^2 in the loss"},                                                              \
    {"clamp_norm_factor", ER_OPT_DOUBLE, offsetof(er_hyper, clamp_norm_factor), clamp_preset, 0, 1e6, NULL, 0,         \
     "|delta| is kept below this times |value before|"},                                                               \
    {"kl_factor", ER_OPT_DOUBLE, offsetof(er_hyper, kl_factor), "0.0625", 0, 1e6, NULL, 0,                             \
     "weight of the drift of \"<subject> is a\" in the loss"},                                                         \
    {"early_stop", ER_OPT_DOUBLE, offsetof(er_hyper, early_stop), "0.05", 0, 1e6, NULL, 0,                             \
     "a target is done when its loss is below"}

/* What ROME and its correction share beside them. */
#define ER_ROME_ROWS                                                                                                   \
    ER_HYPER_ROWS("5", "25", "0.5", "1e-3", "4"),                                                                      \
    {"mom2_adjustment", ER_OPT_BOOL, offsetof(er_hyper, mom2_adjustment), "true", 0, 0, NULL, ER_OPT_SOLVE,            \
     "u = C^-1 k as published; EasyEdit's files say false: u = k"},                                                    \
    {"context_template_length_params", ER_OPT_INT_LIST, offsetof(er_hyper, context_template_length_params),            \
     "5, 10, 10, 10", 0, 0, NULL, 0, "sampled prefix texts as pairs: tokens, texts"}
/* clang-format on */

/* What holds for every method: ER_E_INPUT naming the key. */
int er_hyper_check(const er_hyper *hyper, const er_config *config, int64_t batch, int64_t most_batch,
                   const char *method, er_err *err);

/* The published methods that set a stream's value read the loss from the stream after block max(v_loss_layer, last edited
 * layer): so many blocks stand above it (er_target_plan.above). ROME's code never read the key. */
int64_t er_hyper_loss_above(const er_hyper *hyper, const er_config *config);

/* The MEMIT family's texts: five of ten tokens, braces become spaces. lengths has room for *count pairs. */
int er_memit_template_lengths(const er_hyper *hyper, int64_t (*lengths)[2], int64_t *count, const char **braces);

/* Another method's table with other presets; keys that are not there are ER_E_INTERNAL. */
typedef struct er_preset {
    const char *key, *value;
} er_preset;
int er_options_like(er_option_table *out, const er_preset *presets, size_t count, er_arena *arena, er_err *err);
/* The table with more rows behind its own; those are copied. */
int er_options_more(er_option_table *out, const er_option *rows, size_t count, er_arena *arena, er_err *err);

#endif
