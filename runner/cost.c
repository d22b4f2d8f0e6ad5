/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/cost.h"

#include "model/tensor.h"
#include "model/weights.h"

/* Constants of the arrays that are counted: model/model_fill.c, editors/target_lanes.c, stats/corpus.c, moment.h. */
enum { ROPE_POSITIONS = 8192, HEAD_BYTES = 64 << 20, LEAST_HEAD_ROWS = 16, PASS_TOKENS = 1024, BLOCK_DOCUMENTS = 8 };

static double larger(double a, double b) { return a > b ? a : b; }
static double smaller(double a, double b) { return a < b ? a : b; }

static double query_width(const er_config *c) { return (double)(c->heads * c->head_dim); }
static double kv_width(const er_config *c) { return (double)(c->kv_heads * c->head_dim); }

/* --- parameters and memory ---------------------------------------------------------------------------------------- */

er_cost_parameters er_cost_parameters_of(const er_config *c)
{
    er_cost_parameters p = {.block = er_config_block_parameters(c)};
    for (int64_t i = 0, n = er_slot_count(c); i < n; i++) {
        er_slot slot = er_slot_at(c, i);
        int64_t elements = slot.rows * slot.cols;
        p.all += elements;
        if (slot.layer >= 0) continue;
        switch (slot.row->kind) {
        case ER_SLOT_EMBEDDING: p.embedding += elements; break;
        case ER_SLOT_POSITIONS: p.positions += elements; break;
        case ER_SLOT_HEAD:
        case ER_SLOT_HEAD_BIAS: p.head += elements; break;
        default: p.rest += elements;
        }
    }
    return p;
}

double er_cost_block_matrices(const er_config *c)
{
    double sum = 0;
    for (int64_t i = 0, n = er_slot_count(c); i < n; i++) {
        er_slot slot = er_slot_at(c, i);
        if (slot.layer == 0 && slot.row->kind == ER_SLOT_MATRIX) sum += (double)(slot.rows * slot.cols);
    }
    return sum;
}

int64_t er_cost_longest_text(const er_config *c)
{
    return c->positions == ER_POSITION_LEARNED || c->max_positions < ROPE_POSITIONS ? c->max_positions : ROPE_POSITIONS;
}

double er_cost_model(const er_config *c, int weights) { return er_cost_model_part(c, weights, 0, c->layers); }

/* Whether the shard with layers [from, to) has a tensor. */
static int part_holds(const er_config *c, const er_slot *slot, int64_t from, int64_t to)
{
    const int first = from == 0, last = to == c->layers;
    if (slot->layer >= 0) return slot->layer >= from && slot->layer < to;
    switch (slot->row->kind) {
    case ER_SLOT_EMBEDDING: return first || (last && c->tied);
    case ER_SLOT_POSITIONS:
    case ER_SLOT_PROJECT_IN: return first;
    default: return last;
    }
}

double er_cost_model_part(const er_config *c, int weights, int64_t from, int64_t to)
{
    double bytes = 0, size = (double)er_dtype_bytes(weights);
    for (int64_t i = 0, n = er_slot_count(c); i < n; i++) {
        er_slot slot = er_slot_at(c, i);
        if (!part_holds(c, &slot, from, to)) continue;
        double elements = (double)slot.rows * (double)slot.cols;
        int gain = slot.row->kind == ER_SLOT_GAIN || slot.row->kind == ER_SLOT_FINAL_GAIN;
        bytes += elements * (slot.dims == 1 ? 4 : size);
        if (gain && c->gain_plus_one) bytes += elements * 4; /* as stored, and as it multiplies */
    }
    if (c->positions == ER_POSITION_LEARNED) return bytes;
    double table = (double)er_cost_longest_text(c) * (double)(c->rope_dim / 2) * 4;
    return bytes + 2 * table * (c->rope_local_base > 0 ? 2 : 1); /* cosine and sine */
}

double er_cost_kv(const er_config *c, int64_t from, int64_t to) { return 2 * kv_width(c) * 4 * (double)(to - from); }

static int has_norm(const er_config *c, int which)
{
    for (int64_t i = 0, n = er_slot_count(c); i < n; i++) {
        er_slot slot = er_slot_at(c, i);
        if (slot.layer > 0) break;
        if (slot.layer == 0 && slot.row->kind == ER_SLOT_GAIN && slot.row->which == which) return 1;
    }
    return 0;
}

double er_cost_tape(const er_config *c, int64_t from, int64_t to, double seen)
{
    const double d = (double)c->hidden, f = (double)c->inner, q = query_width(c);
    double floats = d + 2 * q + f, weights = 0;
    if (has_norm(c, ER_NORM_Q)) floats += q;
    if (has_norm(c, ER_NORM_K)) floats += kv_width(c);
    if (has_norm(c, ER_NORM_ATTENTION_OUT)) floats += d;
    if (has_norm(c, ER_NORM_MLP_OUT)) floats += d;
    if (c->block != ER_BLOCK_PARALLEL) floats += d;
    if (c->gated) floats += f;
    for (int64_t l = from; l < to; l++) weights += (double)c->heads * smaller(seen, (double)er_config_window(c, l));
    return 4 * (floats * (double)(to - from) + weights);
}

double er_cost_scratch(const er_config *c, int gradients)
{
    const double d = (double)c->hidden, f = (double)c->inner, q = query_width(c);
    double floats = 2 * d + 2 * q + 2 * kv_width(c) + 2 * f;
    if (c->gated || gradients) floats += f;
    if (c->block == ER_BLOCK_PARALLEL || gradients) floats += d;
    if (gradients) floats += d + q;
    return 4 * floats;
}

double er_cost_overlay(const er_config *c, int64_t layers)
{
    return (double)layers * (double)c->hidden * (double)c->inner * 4;
}

/* --- flop of passes ----------------------------------------------------------------------------------------------- */

/* Sum over positions 0 .. n - 1 of what each sees, its own included. */
static double triangle(double n, double window)
{
    return n <= window ? n * (n + 1) / 2 : window * (window + 1) / 2 + (n - window) * window;
}

static double visible(const er_config *c, int64_t layer, double start, double count)
{
    const double window = (double)er_config_window(c, layer);
    return triangle(start + count, window) - triangle(start, window);
}

static double products(const er_config *c, int64_t from, int64_t to, double count)
{
    return (double)(to - from) * count * 2 * er_cost_block_matrices(c);
}

double er_cost_forward(const er_config *c, int64_t from, int64_t to, double start, double count)
{
    double sum = products(c, from, to, count), pairs = 0;
    for (int64_t l = from; l < to; l++) pairs += visible(c, l, start, count);
    if (from == 0 && c->embedding_width != c->hidden) sum += count * 2 * (double)(c->embedding_width * c->hidden);
    return sum + pairs * 4 * query_width(c); /* scores, and values mixed */
}

double er_cost_backward(const er_config *c, int64_t from, int64_t to, double start, double count)
{
    double pairs = 0, own = 0;
    for (int64_t l = from; l < to; l++) {
        pairs += visible(c, l, start, count);
        own += visible(c, l, 0, count);
    }
    const double each = c->score_cap > 0 ? 6 : 4; /* weights and query; capped scores are made again */
    return products(c, from, to, count) + (pairs * each + own * 4) * query_width(c);
}

double er_cost_head(const er_config *c)
{
    const double e = (double)c->embedding_width, d = (double)c->hidden;
    return 2 * (double)c->vocab * e + (c->embedding_width != c->hidden ? 2 * d * e : 0);
}

double er_cost_head_back(const er_config *c) { return er_cost_head(c) * (c->logit_cap > 0 ? 2 : 1); }

/* --- an edit ------------------------------------------------------------------------------------------------------ */

/* The first block that every step runs: where a norm follows the edited matrix, its own (editors/target.h). */
static int64_t first_of_step(const er_config *c, int64_t layer) { return layer + !er_config_norms_output(c); }

er_cost_target er_cost_target_of(const er_config *c, int64_t layer, const er_cost_texts *t)
{
    const int64_t top = c->layers, low = first_of_step(c, layer);
    const double row = t->prefix + t->prompt, before = t->prefix + t->subject - 1, active = t->prompt - t->subject + 1;
    er_cost_target out = {.positions = t->rows * row + t->drift, .active = t->rows * active + 1,
                          .heads = t->rows * t->target + 1};
    out.once = t->rows * (er_cost_forward(c, 0, layer + 1, 0, row) + er_cost_forward(c, low, top, 0, before)) +
               er_cost_forward(c, 0, layer + 1, 0, t->drift) + er_cost_forward(c, low, top, 0, t->drift - 1);
    out.loss = t->rows * er_cost_forward(c, low, top, before, active) +
               er_cost_forward(c, low, top, t->drift - 1, 1) + out.heads * er_cost_head(c);
    out.gradient = t->rows * er_cost_backward(c, low, top, before, active) +
                   er_cost_backward(c, low, top, t->drift - 1, 1) + out.heads * er_cost_head_back(c);
    return out;
}

double er_cost_target_total(const er_cost_target *t, double steps)
{
    return t->once + steps * t->loss + (steps > 1 ? steps - 1 : 0) * t->gradient;
}

double er_cost_target_memory(const er_config *c, int64_t layer, const er_cost_texts *t, double requests)
{
    return er_cost_target_memory_part(c, layer, t, requests, 0, c->layers);
}

double er_cost_target_memory_part(const er_config *c, int64_t layer, const er_cost_texts *t, double requests,
                                  int64_t from, int64_t to)
{
    return er_cost_target_memory_run(c, layer, t, &er_cost_alone, requests, from, to);
}

double er_cost_target_memory_run(const er_config *c, int64_t layer, const er_cost_texts *t, const er_cost_shared *s,
                                 double requests, int64_t from, int64_t to)
{
    const er_cost_target one = er_cost_target_of(c, layer, t);
    const double d = (double)c->hidden, v = (double)c->vocab, row = t->prefix + t->prompt;
    const double all = requests * one.positions * s->rows, active = requests * one.active;
    double logits = smaller(larger((double)(HEAD_BYTES / 4) / v, LEAST_HEAD_ROWS), requests * one.heads);
    double kept = 4 * (3 * active * d + logits * (v + 2 * d) + (requests + 1) * v + 5 * requests * d);
    if (c->logit_cap > 0) kept += 4 * logits * v;
    double once = er_cost_kv(c, from, to) * all + (all + (all - active)) * d * 4 + er_cost_scratch(c, 0) * all;
    /* gradients of keys and values: room for whole rows */
    const int64_t step = first_of_step(c, layer), low = step < from ? from : step < to ? step : to;
    double steps = er_cost_kv(c, low, to) * all + er_cost_tape(c, low, to, row) * active +
                   er_cost_scratch(c, 1) * active + 2 * 4 * kv_width(c) * row * requests * (t->rows + 1);
    return kept + larger(once, steps);
}

double er_cost_keys(const er_config *c, const er_int_list *layers, const er_cost_texts *t)
{
    const int64_t last = layers->at[layers->count - 1];
    double sum = 0;
    for (int64_t i = 0; i < layers->count; i++) {
        sum += t->rows * er_cost_forward(c, 0, layers->at[i] + 1, 0, t->prefix + t->subject);
        sum += er_cost_forward(c, layers->at[i] + 1, last + 1, 0, t->subject);
    }
    return sum;
}

enum er_cost_solve er_cost_solve_kind(const er_editor *editor, const er_hyper *hyper)
{
    if (!(editor->needs(hyper) & ER_NEEDS_EIGEN)) return ER_COST_SOLVE_NONE;
    if (editor->history_new) return ER_COST_SOLVE_HISTORY;
    return editor->most_batch == 1 ? ER_COST_SOLVE_ROME : ER_COST_SOLVE_MEMIT;
}

/* AlphaEdit while 2 N <= rank: keys projected by the smaller half of the eigenvectors at most; new rows of the Gram
 * matrix and of its factor; solves for n columns; V. */
static double history_rows(double f, double n, double before)
{
    const double all = before + n, gram = f * (all * all - before * before);
    return 2 * f * f * n + gram + (all * all * all - before * before * before) / 3 + n * n * n + all * all * n +
           2 * f * all * n;
}

/* Afterwards, in at most f, and less than 2 N, coordinates r: keys projected and mapped, their sum; factor; solves; V;
 * and the keys once more when they join. */
static double history_moment(double f, double n, double all)
{
    const double r = smaller(2 * all, f), keys = 2 * f * f * n + 2 * f * r * n + r * r * n;
    return 2 * keys + r * r * r / 3 + 2 * r * r * n + 2 * f * r * n;
}

double er_cost_solve_layer(const er_config *c, enum er_cost_solve kind, double n, double before)
{
    const double f = (double)c->inner, all = before + n;
    switch (kind) {
    case ER_COST_SOLVE_ROME: return 4 * f * f; /* into the eigenvectors' coordinates and back */
    case ER_COST_SOLVE_MEMIT: /* the same for n keys; Gram matrix, factor, two triangular solves */
        return 4 * f * f * n + f * n * n + n * n * n / 3 + 2 * f * n * n;
    case ER_COST_SOLVE_HISTORY: return 2 * all <= f ? history_rows(f, n, before) : history_moment(f, n, all);
    default: return 0;
    }
}

double er_cost_apply(const er_config *c, double n) { return 2 * (double)c->hidden * (double)c->inner * n; }

double er_cost_update(const er_config *c, int64_t layers) { return 4 * (double)(layers * (c->hidden + c->inner)); }

double er_cost_ledger(const er_config *c, const er_editor *editor, int64_t layers)
{
    return er_cost_update(c, layers) + 4 * (double)(layers * editor->key_floats(c) + c->hidden);
}

double er_cost_history(const er_config *c, double edits)
{
    const double f = (double)c->inner;
    /* while 2 N <= rank: projected keys and a factor; afterwards the system in at most f, less than 2 N, dimensions */
    const double rows = smaller(edits, f / 2), rank = smaller(2 * edits, f);
    return larger(rows * f * 8 + rows * rows * 4, rank * rank * 4);
}

/* --- statistics --------------------------------------------------------------------------------------------------- */

double er_cost_moment(const er_config *c) { return (double)c->inner * ((double)c->inner + 1) / 2 * 16; }

double er_cost_eigenpairs(const er_config *c) { return ((double)c->inner * (double)c->inner + (double)c->inner) * 8; }

double er_cost_measuring(const er_config *c, int64_t layers, double document, int rank0)
{
    const double f = (double)c->inner, d = (double)c->hidden;
    double pass = PASS_TOKENS * (er_cost_scratch(c, 0) + er_cost_kv(c, 0, 1));
    double sums = (double)layers * er_cost_moment(c) * (rank0 ? 2 : 1);
    return sums + f * f * 8 + pass + BLOCK_DOCUMENTS * document * d * 4;
}

double er_cost_solving(const er_config *c)
{
    const double f = (double)c->inner; /* the moment, its mean, the Gram matrix of before, vectors, LAPACK's work */
    return er_cost_moment(c) + 2 * f * f * 8 + er_cost_eigenpairs(c) + (1 + 6 * f + 2 * f * f) * 8 + (3 + 5 * f) * 4;
}

double er_cost_statistics(const er_config *c, const er_int_list *layers, double document)
{
    const double f = (double)c->inner;
    int64_t last = 0;
    for (int64_t i = 0; i < layers->count; i++)
        if (layers->at[i] > last) last = layers->at[i];
    return er_cost_forward(c, 0, last + 1, 0, document) / document + (double)layers->count * f * (f + 1);
}

double er_cost_eigen_solve(const er_config *c)
{
    const double f = (double)c->inner;
    return 10 * f * f * f;
}

double er_cost_score(const er_config *c, double tokens, double heads)
{
    return er_cost_forward(c, 0, c->layers, 0, tokens) + heads * er_cost_head(c);
}
