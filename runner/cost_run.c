/* SPDX-License-Identifier: Apache-2.0 */
/* The part of cost.h that knows of units: positions that run once for several texts, and what a process holds. */
#include "runner/cost.h"

const er_cost_shared er_cost_alone = {1, 1, 1, 1, 1};

/* Program and libraries; LAPACK's, HDF5's and MPI's buffers. Of a token: its text, and merges that make it. */
static const double program_bytes = 40e6, token_bytes = 280;

/* --- passes that are not read everywhere -------------------------------------------------------------------------- */

/* Keys and values of one position in one block. */
static double keys_and_values(const er_config *c) { return 4 * (double)(c->hidden * c->kv_heads * c->head_dim); }

/* Blocks [from, to) over texts of `length` positions, `texts` of them, of which the share `s` runs; behind the last block
 * the stream is read at `wanted` positions, at the texts' ends. */
static double read_at(const er_config *c, int64_t from, int64_t to, double texts, double length, double s,
                      double wanted)
{
    const double run = s * texts * length;
    if (from >= to || !(length > 0)) return 0;
    if (wanted > run) wanted = run;
    return s * texts * er_cost_forward(c, from, to - 1, 0, length) + (run - wanted) * keys_and_values(c) +
           wanted * er_cost_forward(c, to - 1, to, length - 1, 1);
}

er_cost_target er_cost_target_run(const er_config *c, int64_t layer, const er_cost_texts *t, const er_cost_shared *s)
{
    const int64_t top = c->layers, low = layer + !er_config_norms_output(c);
    const double row = t->prefix + t->prompt, before = t->prefix + t->subject - 1;
    er_cost_target out = er_cost_target_of(c, layer, t);
    out.once = s->rows * (t->rows * er_cost_forward(c, 0, layer + 1, 0, row) +
                          er_cost_forward(c, 0, layer + 1, 0, t->drift)) +
               read_at(c, low, top, t->rows, before, s->before, 0) + read_at(c, low, top, 1, t->drift - 1, s->before, 0);
    return out;
}

double er_cost_keys_run(const er_config *c, const er_int_list *layers, const er_cost_texts *t, const er_cost_shared *s)
{
    const int64_t last = layers->at[layers->count - 1];
    double sum = 0;
    for (int64_t i = 0; i < layers->count; i++) {
        const int64_t layer = layers->at[i];
        const double on = layer < last ? s->plain * t->subject : 1; /* the plain text goes on whole */
        sum += read_at(c, 0, layer + 1, t->rows, t->prefix + t->subject, s->keys, t->rows - 1 + on);
        sum += read_at(c, layer + 1, last + 1, 1, t->subject, s->plain, 1);
    }
    return sum;
}

double er_cost_score_run(const er_config *c, double tokens, double heads, const er_cost_shared *s)
{
    return read_at(c, 0, c->layers, 1, tokens, s->scores, heads) + heads * er_cost_head(c);
}

/* --- memory ------------------------------------------------------------------------------------------------------- */

double er_cost_score_memory(const er_config *c, double positions, int64_t from, int64_t to)
{
    enum { HEAD_ROWS = 32 }; /* runner/evaluate.c */
    const double d = (double)c->hidden;
    return positions * (er_cost_kv(c, from, to) + er_cost_scratch(c, 0) + 2 * 4 * d) +
           4 * HEAD_ROWS * (d + (double)c->vocab);
}

double er_cost_solving_batch(const er_config *c, const er_editor *editor, int64_t layers, double n)
{
    const double d = (double)c->hidden, f = (double)c->inner;
    /* the record's factors and keys; of the layer at work keys, their coordinates and V in fp64, the small system */
    return n * er_cost_ledger(c, editor, layers) + 8 * n * (3 * f + 2 * d) + 8 * n * n;
}

double er_cost_program(const er_config *c) { return program_bytes + token_bytes * (double)c->vocab; }
