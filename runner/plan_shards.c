/* SPDX-License-Identifier: Apache-2.0 */
/* What the ranks of a model that is spread over several of them hold (run.shards), and how many a given memory needs. */
#include "base/memory.h"
#include "model/tensor.h"
#include "runner/cost_time.h"
#include "runner/plan_parts.h"

#include <stdio.h>

static double largest(const er_plan *p, int weights, const int64_t *cut, int shards)
{
    double most = 0;
    for (int s = 0; s < shards; s++) {
        const double bytes = er_plan_rank_memory(p, weights, cut[s], cut[s + 1], 1);
        if (bytes > most) most = bytes;
    }
    return most;
}

static void put_shard(er_sheet *s, const er_plan *p, int weights, const int64_t *cut, int shard)
{
    char key[32], title[64], note[96];
    const double held = er_cost_model_part(p->config, weights, cut[shard], cut[shard + 1]);
    snprintf(key, sizeof key, "shard_%d", shard);
    snprintf(title, sizeof title, "shard %d, layers %lld to %lld", shard, (long long)cut[shard],
             (long long)cut[shard + 1] - 1);
    snprintf(note, sizeof note, "of this %.4g MB weights, of which a node holds one copy", held * 1e-6);
    er_sheet_put(s, ER_FIGURE_BYTES, key, er_plan_rank_memory(p, weights, cut[shard], cut[shard + 1], 1), title, note);
}

/* The fewest shards with which no rank needs more than p->rank_memory. */
static void put_needed(er_sheet *s, const er_plan *p, int weights, int64_t *cut)
{
    char note[96];
    for (int n = 1; n <= p->config->layers && !s->code; n++) {
        s->code = er_relay_cut(cut, p->config, n, s->err);
        const double most = largest(p, weights, cut, n);
        if (s->code || most > p->rank_memory) continue;
        snprintf(note, sizeof note, "the largest rank takes %.4g MB", most * 1e-6);
        er_sheet_put(s, ER_FIGURE_COUNT, "needed", (double)n, "shards needed", note);
        return;
    }
    er_sheet_say(s, "needed", "shards needed", "more than there are layers: not even %lld shards are enough",
                 (long long)p->config->layers);
}

void er_plan_shards(er_sheet *s, const er_plan *p)
{
    const int weights = p->weights < 0 ? ER_F32 : p->weights;
    char title[96];
    int64_t *cut = NULL;
    if (s->code || (p->shards < 2 && !(p->rank_memory > 0))) return;
    if (p->shards > p->config->layers) {
        s->code = er_fail(s->err, ER_E_INPUT, "run.shards: %lld shards of a model with %lld layers",
                          (long long)p->shards, (long long)p->config->layers);
        return;
    }
    s->code = er_arena_take(s->arena, &cut, (size_t)p->config->layers + 1, s->err);
    snprintf(title, sizeof title, "memory of a rank by shards, %s weights, while editing", er_dtype_name(weights));
    er_sheet_section(s, "shards", title);
    if (!s->code && p->rank_memory > 0) put_needed(s, p, weights, cut);
    if (!s->code) s->code = er_relay_cut(cut, p->config, p->shards > 1 ? (int)p->shards : 1, s->err);
    for (int i = 0; !s->code && p->shards > 1 && i < p->shards; i++) put_shard(s, p, weights, cut, i);
}
