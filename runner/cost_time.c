/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/cost_time.h"

#include "editors/target.h"

#include <math.h>

/* Of the rates, what whole phases reach: products are not all of their work. From tests/bench/run.sh's shares by CPU time
 * (docs/performance.md), with positions counted that run. */
static const double share_targets = 0.65, share_keys = 0.75, share_scores = 0.68, share_statistics = 0.7,
                    share_solves = 0.5, share_eigen = 0.65;
static const double early_share = 0.6; /* of the steps is done before the loss is low enough, as runs here show */

static double larger(double a, double b) { return a > b ? a : b; }
static double smaller(double a, double b) { return a < b ? a : b; }

/* --- units ------------------------------------------------------------------------------------------------------- */

/* How `items` are cut: scores into units of run.unit; what a batch needs evenly, every taker with equally many units
 * (batch_targets.c). */
typedef struct cut {
    double units, rounds, busiest; /* rounds: units that the busiest taker has; busiest: their items */
} cut;

static cut cut_items(const er_plan *p, const er_machine *m, double items, int even)
{
    const double takers = (double)m->takers, most = (double)p->unit;
    cut out = {0};
    if (!(items > 0)) return out;
    out.units = even ? smaller(items, takers * ceil(items / (takers * most))) : ceil(items / most);
    out.rounds = ceil(out.units / takers);
    out.busiest = even ? ceil(items / takers) : smaller(out.rounds * most, items);
    return out;
}

/* `work` flop of an item; weights of `bytes` are read from memory once in each of `passes` passes over a unit. */
static double units_time(const er_machine *m, const cut *u, double work, double share, double bytes, double passes)
{
    return larger(u->busiest * work / (m->products * share), u->rounds * passes * bytes / m->read);
}

static double block_bytes(const er_plan *p, double blocks)
{
    return blocks * er_cost_block_matrices(p->config) * (p->weights == ER_BF16 || p->weights == ER_F16 ? 2 : 4);
}

static int64_t last_layer(const er_plan *p) { return p->hyper->layers.at[p->hyper->layers.count - 1]; }

static double steps_of(const er_plan *p)
{
    const double most = (double)p->hyper->v_num_grad_steps;
    return p->hyper->early_stop > 0 ? early_share * most : most;
}

double er_time_targets(const er_plan *p, const er_machine *m, double n)
{
    const er_config *c = p->config;
    const er_cost_target one = er_cost_target_run(c, last_layer(p), &p->texts, &p->shared);
    const cut u = cut_items(p, m, n, 1);
    const double steps = steps_of(p), later = (double)(c->layers - 1 - last_layer(p));
    const double head = 4 * (double)(c->vocab * c->embedding_width);
    return units_time(m, &u, er_cost_target_total(&one, steps), share_targets, block_bytes(p, later) + head,
                      2 * steps);
}

double er_time_keys(const er_plan *p, const er_machine *m, double n)
{
    const cut u = cut_items(p, m, n, 1);
    double blocks = 0;
    for (int64_t i = 0; i < p->hyper->layers.count; i++) blocks += (double)last_layer(p) + 1;
    return units_time(m, &u, er_cost_keys_run(p->config, &p->hyper->layers, &p->texts, &p->shared), share_keys,
                      block_bytes(p, blocks), 1);
}

double er_time_solves(const er_plan *p, const er_machine *m, double n, double before)
{
    const er_config *c = p->config;
    const double layers = (double)p->hyper->layers.count;
    const enum er_cost_solve kind = er_cost_solve_kind(p->editor, p->hyper);
    const double flop = er_cost_solve_layer(c, kind, n, before) + er_cost_apply(c, n);
    /* the matrix is read and written, hashed, and held against the clean one */
    return layers * (flop / (m->products64 * share_solves) + 4 * er_cost_overlay(c, 1) / m->read);
}

double er_time_scores(const er_plan *p, const er_machine *m, double records)
{
    const er_config *c = p->config;
    const cut u = cut_items(p, m, records, 0);
    const double one = p->prompts * er_cost_score_run(c, p->prompt_tokens, p->prompt_heads, &p->shared);
    return units_time(m, &u, one, share_scores,
                      block_bytes(p, (double)c->layers) + 4 * (double)(c->vocab * c->embedding_width), 1);
}

double er_time_statistics(const er_plan *p, const er_machine *m)
{
    const er_config *c = p->config;
    const er_int_list *layers = &p->hyper->layers;
    const double f = (double)c->inner, gram = (double)layers->count * f * (f + 1);
    const double forward = er_cost_statistics(c, layers, p->document) - gram;
    return p->tokens * (forward / m->products + gram / m->products64) / share_statistics / (double)m->takers;
}

double er_time_eigenpairs(const er_plan *p, const er_machine *m, double layers)
{
    return ceil(layers / (double)(m->takers * m->shards)) * er_cost_eigen_solve(p->config) / (m->core64 * share_eigen);
}

/* --- messages ---------------------------------------------------------------------------------------------------- */

/* Collectives of a batch, counted with tests/bench/messages.sh: agreements on failures and signals, which requests join;
 * of a layer these, the shape and the two factors of its update, and its hash. Before what is BULK everybody meets. */
enum { OF_BATCH = 10, OF_LAYER = 12, SMALL_BYTES = 16, BULK = 1 << 16 };
/* Of a unit's result its head, of an item its length and what stands beside the numbers (batch_targets.c). */
enum { NUMBER = 8, RESULT_HEAD = 16, TARGET_HEAD = 76 };

static double target_bytes(const er_plan *p)
{
    return NUMBER + TARGET_HEAD + 4 * (double)p->config->hidden +
           steps_of(p) * (double)sizeof(er_target_loss);
}

/* A collective over so many ranks, as a tree. */
static double deep(double ranks) { return ceil(log2(larger(ranks, 1))); }

static void add_units(er_messages *out, const er_machine *m, const cut *u, double items, double item)
{
    const double away = ((double)m->takers - 1) / (double)m->takers; /* of the units; the rest is rank 0's own */
    out->units += 2 * away * u->units + (double)m->takers - 1;       /* a number, a result, and an end for each */
    out->unit_bytes += away * (u->units * (NUMBER + RESULT_HEAD) + items * item) + NUMBER * ((double)m->takers - 1);
}

/* The stream and its gradient at each border of shards: targets in every step, keys once per layer. */
static void add_borders(er_messages *out, const er_plan *p, const er_machine *m, double n)
{
    const double between = (double)m->shards - 1, d = (double)p->config->hidden;
    const er_cost_target one = er_cost_target_run(p->config, last_layer(p), &p->texts, &p->shared);
    const cut u = cut_items(p, m, n, 1);
    const double layers = (double)p->hyper->layers.count, text = p->texts.prefix + p->texts.subject;
    out->borders = between * u.units * (2 * steps_of(p) + 2 + layers);
    out->border_bytes = between * n * 4 * d * (2 * steps_of(p) * one.active + one.positions * p->shared.rows +
                                               layers * p->texts.rows * text * p->shared.keys);
}

er_messages er_time_messages(const er_plan *p, const er_machine *m, double n)
{
    const er_config *c = p->config;
    const double ranks = (double)(m->takers * m->shards), layers = (double)p->hyper->layers.count;
    const double key = 4 * (double)p->editor->key_floats(c);
    const cut u = cut_items(p, m, n, 1);
    er_messages out = {0};
    if (ranks < 2) return out;
    add_units(&out, m, &u, n, target_bytes(p));
    for (int64_t i = 0; i < p->hyper->layers.count; i++) add_units(&out, m, &u, n, key);
    const double meetings = (4 * n * (double)c->hidden > BULK) + (4 * n * (double)c->inner > BULK);
    out.collectives = OF_BATCH + (OF_LAYER + meetings) * layers;
    out.collective_bytes = out.collectives * SMALL_BYTES + n + n * er_cost_update(c, p->hyper->layers.count);
    if (m->shards > 1) add_borders(&out, p, m, n);
    /* all units pass by rank 0; a group's borders one after the other, groups side by side */
    out.seconds = (out.units / 2 + 2 * out.collectives * deep(ranks)) * m->latency +
                  (out.unit_bytes + out.collective_bytes * deep(ranks)) / m->bandwidth +
                  (out.borders * m->latency + out.border_bytes / m->bandwidth) / (double)m->takers;
    return out;
}

er_times er_time_edits(const er_plan *p, const er_machine *m)
{
    er_times t = {0};
    for (int64_t before = 0; before < p->edits; before += p->batch) {
        const double n = smaller((double)p->batch, (double)(p->edits - before));
        t.targets += er_time_targets(p, m, n);
        t.keys += er_time_keys(p, m, n);
        t.solves += er_time_solves(p, m, n, p->editor->history_new ? (double)before : 0);
        t.messages += er_time_messages(p, m, n).seconds;
    }
    t.all = t.targets + t.keys + t.solves + t.messages;
    return t;
}

/* --- memory ------------------------------------------------------------------------------------------------------ */

double er_plan_rank_memory(const er_plan *p, int weights, int64_t from, int64_t to, int home)
{
    const er_config *c = p->config;
    const er_int_list *layers = &p->hyper->layers;
    const double unit = smaller((double)p->batch, (double)p->unit), records = smaller((double)p->edits, (double)p->unit);
    int64_t mine = 0;
    for (int64_t i = 0; i < layers->count; i++) mine += layers->at[i] >= from && layers->at[i] < to;
    double bytes = er_cost_program(c) + er_cost_model_part(c, weights, from, to) + er_cost_overlay(c, mine);
    double most = er_cost_target_memory_run(c, last_layer(p), &p->texts, &p->shared, unit, from, to);
    if (p->moments > 0)
        most = larger(most, er_cost_score_memory(c, records * p->prompts * p->prompt_tokens * p->shared.scores, from,
                                                 to));
    if (!home) return bytes + most;
    if (mine && (p->editor->needs(p->hyper) & ER_NEEDS_EIGEN)) /* a moment is read, too, for its spectrum */
        bytes += (double)mine * er_cost_eigenpairs(c) + er_cost_moment(c);
    if (p->editor->history_new) bytes += (double)mine * er_cost_history(c, (double)p->edits);
    return bytes + larger(most, er_cost_solving_batch(c, p->editor, mine, (double)p->batch));
}
