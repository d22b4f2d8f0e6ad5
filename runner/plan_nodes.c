/* SPDX-License-Identifier: Apache-2.0 */
/* Times on several nodes, as replicas of the model or with shards: cost_time.h for each number of nodes. */
#include "base/options.h"
#include "runner/cost_time.h"

#include <stdio.h>
#include <string.h>

enum { MOST_NODES = 32 };

/* One layout on so many nodes. Each node's rates are those of p->machine. */
typedef struct layout {
    const char *name;
    int64_t shards, ranks; /* ranks of a node */
} layout;

/* A group's ranks work one after the other, and a node does what its ranks that are at work share: with fewer groups than
 * nodes nodes idle, with more a group gets its part of a node. */
static er_machine machine_of(const er_plan *p, const layout *l, int64_t nodes)
{
    er_machine m = p->machine;
    m.shards = l->shards;
    m.takers = nodes * l->ranks / l->shards;
    const double part = m.takers > nodes ? (double)nodes / (double)m.takers : 1;
    m.products *= part;
    m.products64 *= part;
    m.read *= part;
    return m;
}

static void put_layout(er_sheet *s, const er_plan *p, const layout *l, int64_t nodes)
{
    er_plan plan = *p;
    char key[64], title[96], note[200];
    if (nodes * l->ranks % l->shards) return;
    const er_machine one = machine_of(p, &(layout){"one", 1, 1}, 1), m = machine_of(p, l, nodes);
    const er_times alone = er_time_edits(&plan, &one), t = er_time_edits(&plan, &m);
    snprintf(key, sizeof key, "%s_%lld", l->name, (long long)nodes);
    snprintf(title, sizeof title, "%lld %s, %lld group%s", (long long)nodes, nodes > 1 ? "nodes" : "node",
             (long long)m.takers, m.takers > 1 ? "s" : "");
    snprintf(note, sizeof note, "targets %.4g, keys %.4g, solves %.4g, messages %.3g s; %.2f x one node, %.0f %%",
             t.targets, t.keys, t.solves, t.messages, alone.all / t.all, 100 * alone.all / t.all / (double)nodes);
    er_sheet_put(s, ER_FIGURE_SECONDS, key, t.all, title, note);
}

static int read_nodes(int64_t *nodes, int *count, const char *text, er_err *err)
{
    char one[32];
    *count = 0;
    for (const char *at = text; *at;) {
        const size_t n = strcspn(at, ",");
        snprintf(one, sizeof one, "%.*s", (int)(n < sizeof one ? n : sizeof one - 1), at);
        if (*count == MOST_NODES || er_parse_int(&nodes[*count], one) || nodes[*count] < 1)
            return er_fail(err, ER_E_USAGE, "--nodes: '%s' is no list of at most %d numbers from 1 up", text, MOST_NODES);
        ++*count;
        at += n + (at[n] == ',');
    }
    return 0;
}

static void put_layouts(er_sheet *s, const er_plan *p, const layout *l, const char *title, const int64_t *nodes,
                        int count)
{
    er_sheet_section(s, l->name, title);
    for (int i = 0; i < count && !s->code; i++) put_layout(s, p, l, nodes[i]);
}

static void put_messages(er_sheet *s, const er_plan *p, int64_t nodes)
{
    er_machine m = machine_of(p, &(layout){"replicas", 1, 1}, nodes);
    const er_messages x = er_time_messages(p, &m, (double)p->batch);
    char title[64];
    snprintf(title, sizeof title, "messages of a batch, %lld replicas", (long long)nodes);
    er_sheet_section(s, "messages", title);
    er_sheet_put(s, ER_FIGURE_COUNT, "units", x.units, "numbers and results of units", "to and from rank 0");
    er_sheet_put(s, ER_FIGURE_BYTES, "units", x.unit_bytes, "their bytes", "targets and keys");
    er_sheet_put(s, ER_FIGURE_COUNT, "collectives", x.collectives, "collectives", "agreements, broadcasts, comparisons");
    er_sheet_put(s, ER_FIGURE_BYTES, "collectives", x.collective_bytes, "their bytes at a rank", "updates above all");
}

void er_plan_nodes(er_sheet *s, const er_plan *p, const char *text)
{
    int64_t nodes[MOST_NODES];
    int count;
    char title[160];
    if (s->code) return;
    if (p->editor->train) {
        s->code = er_fail(s->err, ER_E_UNSUPPORTED, "--nodes: not for methods that train yet");
        return;
    }
    s->code = read_nodes(nodes, &count, text, s->err);
    if (s->code || !count) return;
    snprintf(title, sizeof title, "all edits on nodes of %.4g GFLOP/s, %.3g GB/s of network, %.3g us; a replica each",
             p->machine.products * 1e-9, p->machine.bandwidth * 1e-9, p->machine.latency * 1e6);
    put_layouts(s, p, &(layout){"replicas", 1, 1}, title, nodes, count);
    if (p->shards > 1) {
        snprintf(title, sizeof title, "%lld shards, a rank per node", (long long)p->shards);
        put_layouts(s, p, &(layout){"shards", p->shards, 1}, title, nodes, count);
        snprintf(title, sizeof title, "%lld shards, %lld ranks per node", (long long)p->shards, (long long)p->shards);
        put_layouts(s, p, &(layout){"shards_full", p->shards, p->shards}, title, nodes, count);
    }
    put_messages(s, p, nodes[count - 1]);
}
