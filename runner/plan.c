/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/plan_parts.h"

#include "model/tensor.h"
#include "runner/cost_time.h"

#include <stdio.h>
#include <string.h>

enum { ADVISED_TOKENS = 50, MOST_EIGEN = 32767 }; /* tokens per dimension; LAPACK's 32-bit integers (stats/eigen) */

static const char *const block_names[] = {
    [ER_BLOCK_PRE] = "attention, then MLP", [ER_BLOCK_PARALLEL] = "attention and MLP side by side",
    [ER_BLOCK_POST] = "attention, then MLP, norms behind each"};

static void put_count(er_sheet *s, const char *key, double value, const char *title, const char *note)
{
    er_sheet_put(s, ER_FIGURE_COUNT, key, value, title, note);
}
static void put_number(er_sheet *s, const char *key, double value, const char *title, const char *note)
{
    er_sheet_put(s, ER_FIGURE_NUMBER, key, value, title, note);
}
static void put_bytes(er_sheet *s, const char *key, double value, const char *title, const char *note)
{
    er_sheet_put(s, ER_FIGURE_BYTES, key, value, title, note);
}
static void put_work(er_sheet *s, const char *key, double value, const char *title, const char *note)
{
    er_sheet_put(s, ER_FIGURE_FLOP, key, value, title, note);
}
static void put_seconds(er_sheet *s, const char *key, double value, const char *title, const char *note)
{
    er_sheet_put(s, ER_FIGURE_SECONDS, key, value, title, note);
}

/* --- the model ---------------------------------------------------------------------------------------------------- */

static void say_positions(er_sheet *s, const er_config *c)
{
    static const char *const scaling[] = {[ER_ROPE_PLAIN] = "", [ER_ROPE_LINEAR] = ", divided by a factor",
                                          [ER_ROPE_LLAMA3] = ", long waves divided (llama3)"};
    if (c->positions == ER_POSITION_LEARNED)
        er_sheet_say(s, "positions", "positions", "a learned table of %lld", (long long)c->max_positions);
    else
        er_sheet_say(s, "positions", "positions", "rotated %s, %lld of a head's %lld, base %g%s",
                     c->positions == ER_POSITION_PAIRS ? "in pairs" : "by halves", (long long)c->rope_dim,
                     (long long)c->head_dim, c->rope_base, scaling[c->rope_scaling]);
}

static void say_window(er_sheet *s, const er_config *c)
{
    int64_t windowed = 0;
    for (int64_t l = 0; l < c->layers; l++) windowed += er_config_window(c, l) != INT64_MAX;
    if (windowed)
        er_sheet_say(s, "window", "window", "%lld positions in %lld of %lld layers", (long long)c->window,
                     (long long)windowed, (long long)c->layers);
    else
        er_sheet_say(s, "window", "window", "none");
}

static void put_shape(er_sheet *s, const er_config *c)
{
    er_sheet_say(s, "family", "family", "%s", c->family);
    er_sheet_say(s, "block", "block", "%s", block_names[c->block]);
    put_count(s, "layers", (double)c->layers, "layers", NULL);
    put_count(s, "hidden", (double)c->hidden, "hidden size d", NULL);
    put_count(s, "inner", (double)c->inner, "width of the MLP f",
                 c->gated ? "gated; dimension of a key" : "dimension of a key");
    put_count(s, "heads", (double)c->heads, "heads", NULL);
    put_count(s, "kv_heads", (double)c->kv_heads, "key-value heads", NULL);
    put_count(s, "head_dim", (double)c->head_dim, "width of a head", NULL);
    put_count(s, "vocabulary", (double)c->vocab, "vocabulary V",
                 c->tied ? "the head is the embedding" : "with a head of its own");
    say_positions(s, c);
    say_window(s, c);
    put_count(s, "longest_text", (double)er_cost_longest_text(c), "longest text, tokens", NULL);
}

void er_plan_model(er_sheet *s, const er_config *c, const char *path)
{
    const er_cost_parameters p = er_cost_parameters_of(c);
    const double halves = er_cost_model(c, ER_BF16);
    er_sheet_section(s, "model", path);
    put_shape(s, c);
    er_sheet_section(s, "parameters", "parameters");
    put_count(s, "all", (double)p.all, "all", NULL);
    put_count(s, "block", (double)p.block, "one block", NULL);
    put_count(s, "embedding", (double)p.embedding, "embedding", NULL);
    if (p.positions) put_count(s, "positions", (double)p.positions, "table of positions", NULL);
    put_count(s, "head", (double)p.head, "head", c->tied ? "beside the embedding" : NULL);
    put_count(s, "rest", (double)p.rest, "final norm and the like", NULL);
    er_sheet_section(s, "memory", "memory of the model");
    put_bytes(s, "weights_fp32", er_cost_model(c, ER_F32), "weights, fp32",
                 "norms, biases and tables stay fp32 in any type");
    put_bytes(s, "weights_bf16", halves, "weights, bf16", NULL);
    put_bytes(s, "weights_fp16", er_cost_model(c, ER_F16), "weights, fp16", NULL);
    put_bytes(s, "kv_per_token", er_cost_kv(c, 0, c->layers), "keys and values of a token", NULL);
    put_bytes(s, "tape_per_token", er_cost_tape(c, 0, c->layers, 20), "tape of a token",
                 "all blocks, for a gradient, 20 positions seen");
}

/* --- the edit ----------------------------------------------------------------------------------------------------- */

/* The plan and what its sections share. */
typedef struct view {
    er_sheet *s;
    const er_plan *p;
    const er_config *c;
    const er_int_list *layers;
    int64_t last;
    int eigen, history;
    er_cost_target target;
} view;

static void say_layers(const view *v)
{
    char text[256] = "";
    size_t n = 0;
    for (int64_t i = 0; i < v->layers->count && n + 24 < sizeof text; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%lld", i ? ", " : "", (long long)v->layers->at[i]);
    er_sheet_say(v->s, "layers", "layers", "%s", text);
}

static void put_edit(const view *v)
{
    const er_plan *p = v->p;
    const er_cost_texts *t = &p->texts;
    er_sheet_section(v->s, "edit", "edits");
    er_sheet_say(v->s, "method", "method", "%s", p->editor->name);
    say_layers(v);
    put_count(v->s, "edits", (double)p->edits, "edits", NULL);
    put_count(v->s, "batch", (double)p->batch, "of these in a batch", NULL);
    put_count(v->s, "steps", (double)p->hyper->v_num_grad_steps, "steps of a target", "at most");
    er_sheet_say(v->s, "texts", "texts of an edit", "%s", p->texts_from);
    put_number(v->s, "rows", t->rows, "rows", "the prompt alone and behind its templates");
    put_number(v->s, "prefix", t->prefix, "positions before the prompt", "mean over the rows");
    put_number(v->s, "prompt", t->prompt, "positions of prompt and target", NULL);
    put_number(v->s, "subject", t->subject, "of these up to the subject's end", NULL);
    put_number(v->s, "target", t->target, "tokens of the target", NULL);
    put_number(v->s, "active", v->target.active, "active positions of a step",
                 "all rows, from the subject's last token on");
    put_number(v->s, "shared_rows", 100 * p->shared.rows, "of 100 positions run, rows",
               "what texts of a unit begin with runs once");
    put_number(v->s, "shared_keys", 100 * p->shared.keys, "of 100 positions run, keys", NULL);
    if (!(p->prompts > 0)) return;
    put_number(v->s, "scored_prompts", p->prompts, "scored prompts of a record", NULL);
    put_number(v->s, "scored_positions", p->prompt_tokens, "positions of a scored prompt", "with its answers");
    put_number(v->s, "moments", p->moments, "scored moments", NULL);
}

static void put_statistics(const view *v)
{
    const er_plan *p = v->p;
    const double n = (double)v->layers->count, moment = er_cost_moment(v->c), pairs = er_cost_eigenpairs(v->c);
    char note[160];
    if (!v->eigen) return;
    er_sheet_section(v->s, "statistics", "statistics");
    if (!(p->tokens > 0)) snprintf(note, sizeof note, "%s", p->tokens_from); /* imported: nothing is measured */
    else snprintf(note, sizeof note, "%s; %.3g per dimension%s", p->tokens_from, p->tokens / (double)v->c->inner,
             p->tokens < ADVISED_TOKENS * (double)v->c->inner ? ", 50 or more are advised" : "");
    put_count(v->s, "tokens", p->tokens, "tokens", note);
    put_bytes(v->s, "moment", moment, "second moment of a layer", "memory while measuring, and store");
    put_bytes(v->s, "eigenpairs", pairs, "eigenpairs of a layer", "rank 0 while editing, and store");
    put_bytes(v->s, "store", n * (moment + pairs), "store, all layers", "on disk, reused by every run");
    put_bytes(v->s, "measuring_rank0", er_cost_measuring(v->c, v->layers->count, p->document, 1),
                 "while measuring, rank 0", "beside the weights");
    put_bytes(v->s, "measuring", er_cost_measuring(v->c, v->layers->count, p->document, 0),
                 "while measuring, other ranks", "beside the weights");
    put_bytes(v->s, "solving", er_cost_solving(v->c), "while computing eigenpairs",
                 v->c->inner > MOST_EIGEN ? "refused: more than 32,767 dimensions need a LAPACK with 64-bit integers"
                                          : "a layer at a time, beside the weights");
}

static void put_flop(const view *v)
{
    const er_plan *p = v->p;
    const er_config *c = v->c;
    const er_cost_target *t = &v->target;
    const double steps = (double)p->hyper->v_num_grad_steps, n = (double)p->batch, layers = (double)v->layers->count;
    const enum er_cost_solve kind = er_cost_solve_kind(p->editor, p->hyper);
    const double keys = er_cost_keys(c, v->layers, &p->texts), total = er_cost_target_total(t, steps);
    const er_cost_target run = er_cost_target_run(c, v->last, &p->texts, &p->shared);
    const double runs = er_cost_target_total(&run, steps) + er_cost_keys_run(c, v->layers, &p->texts, &p->shared);
    const double later = v->history && p->edits > p->batch ? (double)(p->edits - p->batch) : 0;
    er_sheet_section(v->s, "operations", "operations");
    put_work(v->s, "forward_token", er_cost_forward(c, 0, c->layers, 0, 20) / 20 + er_cost_head(c),
                 "forward, a token with its head", "texts of 20 tokens");
    put_work(v->s, "target_once", t->once, "target, before the first step",
                 "blocks up to the last edited one, later ones before the subject");
    put_work(v->s, "target_step", t->loss + t->gradient, "target, a step", "loss and gradient");
    put_work(v->s, "target", total, "target, all steps", NULL);
    put_work(v->s, "keys", keys, "keys of an edit", "all edited layers");
    put_work(v->s, "edit", total + keys, "an edit: target and keys", "each text for itself");
    put_work(v->s, "edit_run", runs, "of this run", "what texts of a unit begin with runs once");
    put_work(v->s, "solve_first", layers * er_cost_solve_layer(c, kind, n, 0),
                 v->history ? "solves of the first batch" : "solves of a batch", "fp64, rank 0");
    if (later > 0)
        put_work(v->s, "solve_last", layers * er_cost_solve_layer(c, kind, n, later),
                     "solves of the last batch", "fp64, rank 0, at most");
    put_work(v->s, "apply", layers * er_cost_apply(c, n), "rounding a batch into the weights",
                 "fp64, every rank");
    if (!v->eigen) return;
    put_work(v->s, "statistics_token", er_cost_statistics(c, v->layers, p->document),
                 "statistics, a token", "all layers in one pass");
    put_work(v->s, "eigen_layer", er_cost_eigen_solve(c), "eigenpairs of a layer",
                 "in products' worth: 10 f^3");
}

static void put_ranks(const view *v)
{
    static const struct {
        int type;
        const char *name;
    } types[] = {{ER_F32, "fp32"}, {ER_BF16, "bf16"}, {ER_F16, "fp16"}};
    const er_plan *p = v->p;
    const double layers = (double)v->layers->count, unit = (double)(p->batch < p->unit ? p->batch : p->unit);
    er_sheet_section(v->s, "rank", "memory of a rank while editing");
    put_bytes(v->s, "program", er_cost_program(v->c), "program and tokenizer", "every rank");
    put_bytes(v->s, "overlay", er_cost_overlay(v->c, v->layers->count), "edited matrices", "fp32, every rank");
    put_bytes(v->s, "targets", er_cost_target_memory(v->c, v->last, &p->texts, unit), "a unit of targets",
                 "run.unit edits side by side, every rank");
    if (v->eigen)
        put_bytes(v->s, "eigenpairs", layers * er_cost_eigenpairs(v->c), "eigenpairs", "rank 0");
    if (v->history)
        put_bytes(v->s, "history", layers * er_cost_history(v->c, (double)p->edits), "history at the end",
                     "rank 0, at most");
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char key[32], title[64];
        if (p->weights >= 0 && p->weights != types[i].type) continue;
        snprintf(key, sizeof key, "rank0_%s", types[i].name);
        snprintf(title, sizeof title, "rank 0, %s weights", types[i].name);
        put_bytes(v->s, key, er_plan_rank_memory(p, types[i].type, 0, v->c->layers, 1), title,
                     i && p->weights < 0 ? NULL : "with the weights, of which a node holds one copy");
        snprintf(key, sizeof key, "rank_%s", types[i].name);
        snprintf(title, sizeof title, "another rank, %s weights", types[i].name);
        put_bytes(v->s, key, er_plan_rank_memory(p, types[i].type, 0, v->c->layers, 0), title, NULL);
    }
    er_sheet_section(v->s, "disk", "disk");
    put_bytes(v->s, "update_edit", er_cost_update(v->c, v->layers->count), "update of an edit",
                 "its columns and rows in all layers");
    put_bytes(v->s, "ledger_edit", er_cost_ledger(v->c, p->editor, v->layers->count), "ledger of an edit",
                 "with keys and target");
    put_bytes(v->s, "ledger", (double)p->edits * er_cost_ledger(v->c, p->editor, v->layers->count), "ledger", NULL);
}

static void put_times(const view *v)
{
    const er_plan *p = v->p;
    const er_machine *m = &p->machine;
    const char *alone = p->batch == 1 ? "one edit per batch: only one rank works" : "ranks share it";
    char title[160];
    if (!p->machine_from) return;
    snprintf(title, sizeof title, "time, roughly, of one rank of %.3g GFLOP/s, %.3g in fp64, %.3g GB/s (%s)",
             m->products * 1e-9, m->products64 * 1e-9, m->read * 1e-9, p->machine_from);
    er_sheet_section(v->s, "time", title);
    if (v->eigen) {
        put_seconds(v->s, "statistics", er_time_statistics(p, m), "statistics", "ranks share it");
        put_seconds(v->s, "eigenpairs", er_time_eigenpairs(p, m, (double)v->layers->count), "eigenpairs",
                    "a layer per rank");
    }
    const er_times t = er_time_edits(p, m);
    put_seconds(v->s, "targets", t.targets, "targets", alone);
    put_seconds(v->s, "keys", t.keys, "keys", alone);
    put_seconds(v->s, "solves", t.solves, "solves", "rank 0; rounding into the weights, every rank");
    if (p->prompts > 0)
        put_seconds(v->s, "scores", p->moments * er_time_scores(p, m, (double)p->edits), "scores", "ranks share it");
    put_count(v->s, "ranks", (double)p->batch, "ranks that targets can use",
                 "edits of a batch; units are cut so that every rank has equally many");
}

/* The same edit by every method with its own presets; a method of one layer takes the last. */
static void put_methods(const view *v)
{
    const er_editor *e;
    er_sheet_section(v->s, "methods", "operations of an edit by method (targets and keys)");
    for (int64_t i = 0; !v->s->code && (e = er_editor_at(i)); i++) {
        er_option_table table = {0};
        er_hyper hyper = {0};
        er_cost_texts texts = v->p->texts;
        er_int_list layers = *v->layers;
        char note[96];
        if (e->train) continue;
        v->s->code = e->options(&table, &hyper, v->s->arena, v->s->err);
        if (!v->s->code) v->s->code = er_options_defaults(&table, v->s->arena, v->s->err);
        if (!v->s->code) v->s->code = er_plan_rows(&texts.rows, &texts.prefix, e, &hyper, v->s->err);
        if (v->s->code) return;
        if (e->most_batch == 1) layers = (er_int_list){1, v->layers->at + v->layers->count - 1};
        const er_cost_target target = er_cost_target_of(v->c, v->last, &texts);
        snprintf(note, sizeof note, "%.0f rows, %lld layer%s, %lld steps", texts.rows, (long long)layers.count,
                 layers.count > 1 ? "s" : "", (long long)hyper.v_num_grad_steps);
        put_work(v->s, e->name, er_cost_target_total(&target, (double)hyper.v_num_grad_steps) +
                     er_cost_keys(v->c, &layers, &texts), e->name, note);
    }
}

void er_plan_edit(er_sheet *s, const er_plan *p)
{
    if (p->editor->train) {
        er_plan_train(s, p);
        return;
    }
    view v = {.s = s, .p = p, .c = p->config, .layers = &p->hyper->layers};
    v.last = v.layers->at[v.layers->count - 1];
    v.eigen = (p->editor->needs(p->hyper) & ER_NEEDS_EIGEN) != 0;
    v.history = p->editor->history_new != NULL;
    v.target = er_cost_target_of(p->config, v.last, &p->texts);
    put_edit(&v);
    put_statistics(&v);
    put_flop(&v);
    if (p->weights < 0) put_methods(&v);
    put_ranks(&v);
    er_plan_shards(s, p);
    put_times(&v);
}
