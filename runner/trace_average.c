/* SPDX-License-Identifier: Apache-2.0 */
/* Indirect effects averaged over facts, by place of the position and layer, and the layers that follow from them. */
#include "base/json.h"
#include "base/memory.h"
#include "runner/trace.h"

#include <math.h>
#include <string.h>

const char *const er_trace_places[ER_PLACES] = {"subject_first", "subject_middle", "subject_last",
                                                "after_first",   "after_middle",   "last"};

/* One fact's line as it is read back. */
typedef struct fact {
    const json_t *line;
    double corrupted;
    int64_t positions, first, end; /* the subject's tokens */
} fact;

/* ER_PLACES: none, before the subject, where nothing can be restored. */
static int place_of(const fact *f, int64_t position)
{
    if (position < f->first) return ER_PLACES;
    if (position == f->end - 1) return ER_PLACE_SUBJECT_LAST;
    if (position < f->end) return position == f->first ? ER_PLACE_SUBJECT_FIRST : ER_PLACE_SUBJECT_MIDDLE;
    if (position == f->positions - 1) return ER_PLACE_LAST;
    return position == f->end ? ER_PLACE_AFTER_FIRST : ER_PLACE_AFTER_MIDDLE;
}

static double number(const json_t *value) { return json_is_number(value) ? json_number_value(value) : (double)NAN; }

/* Mean effect of a fact over its positions of a place at a layer; NAN: it has none. */
static double effect_at(const fact *f, const json_t *rows, int place, int64_t layer)
{
    double sum = 0;
    int64_t n = 0;
    for (int64_t p = 0; p < f->positions; p++) {
        if (place_of(f, p) != place) continue;
        sum += number(json_array_get(json_array_get(rows, (size_t)p), (size_t)layer)) - f->corrupted;
        n++;
    }
    return n ? sum / (double)n : (double)NAN;
}

/* Mean and standard error over facts, the mean first, in the facts' order. */
static er_trace_mean average(const fact *facts, int64_t count, const char *kind, int place, int64_t layer)
{
    er_trace_mean m = {0, (double)NAN, 0};
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < count; i++) {
        const double e = effect_at(&facts[i], json_object_get(facts[i].line, kind), place, layer);
        if (!isfinite(e)) continue;
        sum += e;
        m.n++;
    }
    m.effect = m.n ? sum / (double)m.n : (double)NAN;
    for (int64_t i = 0; i < count; i++) {
        const double e = effect_at(&facts[i], json_object_get(facts[i].line, kind), place, layer);
        if (isfinite(e)) squares += (e - m.effect) * (e - m.effect);
    }
    if (m.n > 1) m.error = sqrt(squares / (double)(m.n - 1) / (double)m.n);
    return m;
}

static int read_fact(fact *f, const json_t *line, int64_t layers, unsigned kinds, er_err *err)
{
    const json_t *subject = json_object_get(line, "subject_tokens"), *tokens = json_object_get(line, "tokens");
    *f = (fact){.line = line, .corrupted = number(json_object_get(line, "corrupted")),
                .positions = (int64_t)json_array_size(tokens),
                .first = json_integer_value(json_array_get(subject, 0)),
                .end = json_integer_value(json_array_get(subject, 1))};
    int bad = f->first < 0 || f->end <= f->first || f->end > f->positions;
    for (int k = 0; !bad && k < ER_TRACE_KINDS; k++) {
        const json_t *rows = json_object_get(line, er_trace_kinds[k]);
        if (!(kinds & 1u << k)) continue;
        bad = (int64_t)json_array_size(rows) != f->positions;
        for (int64_t p = 0; !bad && p < f->positions; p++)
            bad = (int64_t)json_array_size(json_array_get(rows, (size_t)p)) != layers;
    }
    return bad ? er_fail(err, ER_E_FORMAT, "trace.jsonl: a line is no trace of %lld layers", (long long)layers) : 0;
}

/* The greatest cell, and the run of `propose` layers with the greatest sum, at the subject's last token: where the
 * published methods edit, and the key is read. The first block's MLP says which token it is: restoring it undoes the
 * noise and recalls nothing, so windows that reach it do not count where enough others are left. */
static void choose_layers(er_trace_means *m, int64_t window, int64_t propose)
{
    const int64_t behind = window / 2 + 1, first = m->layers - behind >= propose ? behind : 0;
    const er_trace_mean *row = m->cell[ER_TRACE_MLP];
    double most = -(double)INFINITY;
    m->best = m->low = m->high = -1;
    if (!row || !m->known) return;
    row += ER_PLACE_SUBJECT_LAST * m->layers;
    for (int64_t l = first; l < m->layers; l++)
        if (m->best < 0 || row[l].effect > row[m->best].effect) m->best = l;
    for (int64_t low = first; low + propose <= m->layers; low++) {
        double sum = 0;
        for (int64_t l = low; l < low + propose; l++) sum += row[l].effect;
        if (!(sum > most)) continue;
        most = sum;
        m->low = low;
        m->high = low + propose - 1;
    }
}

static int average_all(er_trace_means *m, const fact *facts, unsigned kinds, er_arena *arena, er_err *err)
{
    for (int64_t i = 0; i < m->known; i++) {
        m->clean += number(json_object_get(facts[i].line, "clean")) / (double)m->known;
        m->corrupted += facts[i].corrupted / (double)m->known;
    }
    for (int k = 0; k < ER_TRACE_KINDS; k++) {
        if (!(kinds & 1u << k)) continue;
        ER_TRY(er_arena_take(arena, &m->cell[k], (size_t)(ER_PLACES * m->layers), err));
        for (int64_t i = 0; i < ER_PLACES * m->layers; i++)
            m->cell[k][i] = average(facts, m->known, er_trace_kinds[k], (int)(i / m->layers), i % m->layers);
    }
    return 0;
}

int er_trace_average(er_trace_means *out, const er_text *const *lines, int64_t count, int64_t layers, unsigned kinds,
                     int64_t window, int64_t propose, er_arena *arena, er_err *err)
{
    er_trace_means m = {.layers = layers, .examined = count};
    json_t *all = json_array();
    fact *facts = NULL;
    int code = all ? er_arena_take(arena, &facts, (size_t)count, err) : er_fail(err, ER_E_MEMORY, "no memory");
    for (int64_t i = 0; !code && i < count; i++) {
        json_t *line = NULL;
        code = er_json_parse(&line, lines[i]->at, lines[i]->length, "trace.jsonl", err);
        if (!code && json_array_append_new(all, line)) code = er_fail(err, ER_E_MEMORY, "no memory for the traces");
        if (!code && json_is_true(json_object_get(line, "known")))
            code = read_fact(&facts[m.known++], line, layers, kinds, err);
    }
    if (!code) code = average_all(&m, facts, kinds, arena, err);
    if (!code) choose_layers(&m, window, propose);
    json_decref(all);
    if (!code) *out = m;
    return code;
}
