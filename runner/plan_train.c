/* SPDX-License-Identifier: Apache-2.0 */
/* What training costs (editors/train.h): sections of the plan that stand where solving methods have theirs. */
#include "base/memory.h"
#include "model/weights.h"
#include "runner/plan_parts.h"

#include <stdio.h>

/* The edited matrices and the passes of one request. */
typedef struct train {
    er_sheet *s;
    const er_plan *p;
    const er_config *c;
    int64_t matrices, from;
    double elements, largest, sides; /* rows x cols; rows + cols, of all */
    int dense;         /* the matrix itself is trained, else factors of `rank` */
    double row, heads; /* positions and rows of logits of a request */
    double once, step, sums;
} train;

static int measure(train *t, er_err *err)
{
    const er_plan *p = t->p;
    const er_config *c = t->c;
    er_edited *list = NULL;
    const int at_end = p->hyper->objective_optimization == 0 && !p->editor->edited; /* LoRA has no such choice */
    ER_TRY(er_editor_edited(&list, &t->matrices, p->editor, p->hyper, c, err));
    t->from = c->layers;
    for (int64_t k = 0; k < t->matrices; k++) {
        const double rows = (double)er_matrix_rows(c, list[k].which), cols = (double)er_matrix_cols(c, list[k].which);
        t->elements += rows * cols;
        t->sides += rows + cols;
        if (rows * cols > t->largest) t->largest = rows * cols;
        if (list[k].layer < t->from) t->from = list[k].layer;
    }
    er_free(list);
    t->dense = !p->editor->edited;
    t->row = p->texts.prompt - (at_end ? p->texts.target - 1 : 0);
    t->heads = at_end ? 1 : p->texts.target;
    t->once = er_cost_forward(c, 0, t->from, 0, t->row);
    t->step = er_cost_forward(c, t->from, c->layers, 0, t->row) + er_cost_backward(c, t->from, c->layers, 0, t->row) +
              t->heads * (er_cost_head(c) + er_cost_head_back(c));
    t->sums = t->dense ? 2 * t->row * t->elements : 4 * t->row * (double)p->hyper->rank * t->sides;
    return 0;
}

static double chunk(const train *t) { return (double)(t->p->hyper->batch_size < t->p->batch ? t->p->hyper->batch_size : t->p->batch); }

static void put_edit(const train *t)
{
    const er_plan *p = t->p;
    er_sheet_section(t->s, "edit", "edits");
    er_sheet_say(t->s, "method", "method", "%s", p->editor->name);
    er_sheet_put(t->s, ER_FIGURE_COUNT, "matrices", (double)t->matrices, "trained matrices", NULL);
    er_sheet_put(t->s, ER_FIGURE_COUNT, "edits", (double)p->edits, "edits", NULL);
    er_sheet_put(t->s, ER_FIGURE_COUNT, "batch", (double)p->batch, "of these in a batch", NULL);
    er_sheet_put(t->s, ER_FIGURE_COUNT, "chunk", chunk(t), "of these in a step", NULL);
    er_sheet_put(t->s, ER_FIGURE_COUNT, "steps", (double)p->hyper->num_steps, "epochs", "at most");
    er_sheet_say(t->s, "texts", "texts of an edit", "%s", p->texts_from);
    er_sheet_put(t->s, ER_FIGURE_NUMBER, "prompt", t->row, "positions of a row", NULL);
    er_sheet_put(t->s, ER_FIGURE_NUMBER, "target", p->texts.target, "tokens of the target", NULL);
}

static void put_flop(const train *t)
{
    er_sheet_section(t->s, "operations", "operations");
    er_sheet_put(t->s, ER_FIGURE_FLOP, "train_once", t->once, "blocks before the first trained matrix", "once an edit");
    er_sheet_put(t->s, ER_FIGURE_FLOP, "train_step", t->step, "loss and gradient of a request", "ranks share a step's");
    er_sheet_put(t->s, ER_FIGURE_FLOP, "train_sums", t->sums, "sums into the parameters' gradients",
                 "a request and step, on every rank");
    er_sheet_put(t->s, ER_FIGURE_FLOP, "edit", t->once + (double)t->p->hyper->num_steps * (t->step + t->sums), "an edit",
                 "all epochs");
}

static double training(const train *t)
{
    const er_config *c = t->c;
    const double n = t->p->batch < t->p->unit ? (double)t->p->batch : (double)t->p->unit;
    const double unit = n < chunk(t) ? n : chunk(t), tokens = unit * t->row;
    double bytes = 4 * t->elements;                                              /* as trained so far */
    bytes += t->dense ? 4 * (2 * t->elements + t->largest) : 12 * (double)t->p->hyper->rank * t->sides;
    bytes += 8 * chunk(t) * t->row * t->sides;                                   /* a step's vectors, and joined */
    bytes += tokens * (er_cost_tape(c, t->from, c->layers, t->row) + er_cost_scratch(c, 1) + er_cost_kv(c, t->from, c->layers));
    return bytes + 4 * unit * t->heads * (double)c->vocab;
}

static double update_bytes(const train *t) { return 4 * (t->dense ? t->elements : (double)t->p->hyper->rank * t->sides); }

static void put_memory(const train *t)
{
    static const struct {
        int type;
        const char *name;
    } types[] = {{ER_F32, "fp32"}, {ER_BF16, "bf16"}, {ER_F16, "fp16"}};
    const double batches = (double)((t->p->edits + t->p->batch - 1) / t->p->batch);
    er_sheet_section(t->s, "rank", "memory of a rank while editing");
    er_sheet_put(t->s, ER_FIGURE_BYTES, "overlay", 4 * t->elements, "edited matrices", "fp32, every rank");
    er_sheet_put(t->s, ER_FIGURE_BYTES, "training", training(t), "training", "every rank");
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char key[32], title[64];
        if (t->p->weights >= 0 && t->p->weights != types[i].type) continue;
        snprintf(key, sizeof key, "rank_%s", types[i].name);
        snprintf(title, sizeof title, "a rank, %s weights", types[i].name);
        er_sheet_put(t->s, ER_FIGURE_BYTES, key, er_cost_model(t->c, types[i].type) + 4 * t->elements + training(t), title,
                     i && t->p->weights < 0 ? NULL : "with the weights, of which a node holds one copy");
    }
    er_sheet_section(t->s, "disk", "disk");
    er_sheet_put(t->s, ER_FIGURE_BYTES, "update_batch", update_bytes(t), "update of a batch",
                 t->dense ? "whole matrices" : "factors");
    er_sheet_put(t->s, ER_FIGURE_BYTES, "ledger", batches * update_bytes(t), "ledger", NULL);
}

static void put_times(const train *t)
{
    const er_plan *p = t->p;
    char title[160];
    if (!p->machine_from) return;
    snprintf(title, sizeof title, "time, roughly, at %.3g GFLOP/s of each rank (%s)", p->machine.products * 1e-9, p->machine_from);
    er_sheet_section(t->s, "time", title);
    er_sheet_put(t->s, ER_FIGURE_SECONDS, "training",
                 (double)p->edits * (t->once + (double)p->hyper->num_steps * (t->step + t->sums)) / p->machine.products, "training",
                 chunk(t) > 1 ? "all epochs; ranks share a step's requests" : "all epochs; one request a step: one rank works");
    if (p->prompts > 0)
        er_sheet_put(t->s, ER_FIGURE_SECONDS, "scores",
                     p->moments * (double)p->edits * p->prompts / p->machine.products *
                         er_cost_score(t->c, p->prompt_tokens, p->prompt_heads),
                     "scores", "ranks share it");
    er_sheet_put(t->s, ER_FIGURE_COUNT, "ranks", chunk(t), "ranks that training can use", "requests of a step");
}

void er_plan_train(er_sheet *s, const er_plan *p)
{
    train t = {.s = s, .p = p, .c = p->config};
    if (!s->code) s->code = measure(&t, s->err);
    if (s->code) return;
    put_edit(&t);
    put_flop(&t);
    put_memory(&t);
    put_times(&t);
}
