/* SPDX-License-Identifier: Apache-2.0 */
#include "editors/ft.h"
#include "editors/symbols.h"

#include "base/memory.h"
#include "editors/train_parts.h"
#include "editors/train_rows.h"

#include <math.h>

/* --- options ----------------------------------------------------------------------------------------------------- */

/* clang-format off */
#define FT_ROWS(objective)                                                                                             \
    ER_TRAIN_ROWS("21", "layers whose down projection is trained, ascending", "25", "5e-4", "1e-2"),                   \
    {"norm_constraint", ER_OPT_DOUBLE, offsetof(er_hyper, norm_constraint), "0", 0, 1e6, NULL, ER_OPT_OFF,             \
     "no element moves farther than this in a batch; false or 0: no bound"},                                           \
    {"objective_optimization", ER_OPT_CHOICE, offsetof(er_hyper, objective_optimization), objective, 0, 0,             \
     "prompt_last|target_new", 0,                                                                                      \
     "prompt_last: every target id is read at the prompt's last token; target_new: each behind the ones before it"}
/* clang-format on */

static const er_option ft_rows[] = {FT_ROWS("prompt_last")};
static const er_option ft_m_rows[] = {FT_ROWS("target_new")};

static int ft_options(er_option_table *out, er_hyper *hyper, er_arena *arena, er_err *err)
{
    (void)arena, (void)err;
    *out = (er_option_table){"editor.", ft_rows, sizeof ft_rows / sizeof *ft_rows, hyper, NULL};
    return 0;
}

static int ft_m_options(er_option_table *out, er_hyper *hyper, er_arena *arena, er_err *err)
{
    (void)arena, (void)err;
    *out = (er_option_table){"editor.", ft_m_rows, sizeof ft_m_rows / sizeof *ft_m_rows, hyper, NULL};
    return 0;
}

static int check(const er_hyper *h, const er_config *config, int64_t batch, er_err *err)
{
    if (h->layers.count < 1) return er_fail(err, ER_E_INPUT, "editor.layers: name at least one layer");
    return er_train_check(h, config, batch, err);
}

static int check_m(const er_hyper *h, const er_config *config, int64_t batch, er_err *err)
{
    if (h->objective_optimization != ER_OBJECTIVE_TARGET_NEW)
        return er_fail(err, ER_E_INPUT, "editor.objective_optimization: prompt_last is method ft; expected target_new");
    return check(h, config, batch, err);
}

/* --- the matrix itself is what Adam moves ------------------------------------------------------------------------ */

typedef struct state {
    float *gradient;      /* of one matrix at a time */
    float **mean, **square; /* per matrix */
} state;

static void close(er_trainer *t)
{
    state *s = t->parameters;
    for (int64_t k = 0; k < t->matrices; k++) {
        if (s->mean) er_free(s->mean[k]);
        if (s->square) er_free(s->square[k]);
    }
    er_free(s->mean);
    er_free(s->square);
    er_free(s->gradient);
    er_free(s);
}

static int open(er_trainer *t, er_err *err)
{
    state *s = NULL;
    int64_t most = 0;
    ER_TRY(er_alloc(&s, 1, err));
    t->parameters = s;
    ER_TRY(er_alloc(&s->mean, (size_t)t->matrices, err));
    ER_TRY(er_alloc(&s->square, (size_t)t->matrices, err));
    for (int64_t k = 0; k < t->matrices; k++) {
        const int64_t n = t->matrix[k].rows * t->matrix[k].cols;
        ER_TRY(er_alloc(&s->mean[k], (size_t)n, err));
        ER_TRY(er_alloc(&s->square[k], (size_t)n, err));
        if (n > most) most = n;
    }
    return er_alloc(&s->gradient, (size_t)most, err);
}

static void clamp(const er_trained *m, double bound)
{
    const float eps = (float)bound;
    for (int64_t i = 0; i < m->rows * m->cols; i++) {
        const float low = m->start[i] - eps, high = m->start[i] + eps;
        m->now[i] = fminf(fmaxf(m->now[i], low), high);
    }
}

static int step(er_trainer *t, int64_t k, const er_token_grads *g, er_err *err)
{
    const state *s = t->parameters;
    const er_trained *m = &t->matrix[k];
    ER_TRY(er_train_sum(s->gradient, m->rows, m->cols, g, err));
    er_adam_step(&t->adam, m->now, s->gradient, s->mean[k], s->square[k], m->rows * m->cols, t->steps);
    if (t->edit->hyper->norm_constraint > 0) clamp(m, t->edit->hyper->norm_constraint);
    return 0;
}

static int settle(er_trainer *t, er_err *err)
{
    (void)t, (void)err;
    return 0;
}

/* The change as one fp32 matrix, as the programs return it: W_new = round(W + round(W_trained - W)). */
static int update(const er_trainer *t, int64_t k, er_update *out, er_err *err)
{
    const er_trained *m = &t->matrix[k];
    er_update u = {.kind = ER_UPDATE_DENSE, .outputs = m->rows, .inputs = m->cols};
    ER_TRY(er_update_room(&u, err));
    for (int64_t i = 0; i < m->rows * m->cols; i++) u.u[i] = m->now[i] - m->start[i];
    *out = u;
    return 0;
}

static const er_training training = {
    .open = open,
    .step = step,
    .settle = settle,
    .update = update,
    .close = close,
};

const er_editor er_editor_ft = {
    .name = "ft",
    .symbols = ER_SYMBOL_TRAINED "eps: the farthest that an element may go",
    .template_list = "rome",
    .rule = ER_RULE_ROME,
    .formula = "W <- clamp(W - Adam(dL/dW), W0 - eps, W0 + eps), L = mean nll of the target's ids at the prompt's last "
               "token; norm_constraint eps, no bound where it is 0",
    .options = ft_options,
    .check = check,
    .needs = er_train_needs,
    .template_lengths = er_train_template_lengths,
    .train = &training,
};

const er_editor er_editor_ft_m = {
    .name = "ft-m",
    .symbols = ER_SYMBOL_TRAINED "eps: the farthest that an element may go",
    .template_list = "rome",
    .rule = ER_RULE_ROME,
    .formula = "W <- clamp(W - Adam(dL/dW), W0 - eps, W0 + eps), L = mean nll of the target's ids, each behind the ones "
               "before it; norm_constraint eps, no bound where it is 0",
    .options = ft_m_options,
    .check = check_m,
    .needs = er_train_needs,
    .template_lengths = er_train_template_lengths,
    .train = &training,
};
