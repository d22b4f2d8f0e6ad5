/* SPDX-License-Identifier: Apache-2.0 */
/* The random sample of a sweep, and the sweep written back. A draw depends on the seed, the key's name and the point's
 * number alone: a larger count keeps the points that there were. */
#include "base/random.h"
#include "jobs/sweep_read.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ATTEMPTS = 1000 }; /* draws of one point, where values repeat */

typedef struct range {
    er_sweep_choice *values; /* of a list */
    int64_t count;
    double from, to; /* else a range */
    int scale, whole;
    er_sweep_choice place;
} range;

static const er_option range_rows[] = {
    {"from", ER_OPT_DOUBLE, offsetof(range, from), NULL, .flags = ER_OPT_REQUIRED, .help = "smallest value"},
    {"to", ER_OPT_DOUBLE, offsetof(range, to), NULL, .flags = ER_OPT_REQUIRED, .help = "largest value"},
    {"scale", ER_OPT_CHOICE, offsetof(range, scale), "linear", .choices = "linear|log", .help = "how it is drawn"},
    {"whole", ER_OPT_BOOL, offsetof(range, whole), "false", .help = "whole numbers only"},
};

static int read_range(er_sweep_reader *r, const er_yaml *key, range *out)
{
    er_option_table table = {NULL, range_rows, sizeof range_rows / sizeof *range_rows, out, NULL};
    char where[600];
    ER_TRY(er_sweep_expect(r, key, ER_YAML_MAP, key->key));
    ER_TRY(er_options_defaults(&table, r->arena, r->err));
    for (const er_yaml *c = key->first; c; c = c->next) {
        snprintf(where, sizeof where, "%.500s:%lld:%lld", r->sweep->path, (long long)c->value_line,
                 (long long)c->value_column);
        if (c->kind != ER_YAML_SCALAR)
            return er_sweep_fail(r, c->value_line, c->value_column, "%.60s.%.60s: %s, expected a value", key->key,
                                 c->key, er_yaml_kind_text(c));
        ER_TRY(er_options_set(&table, 1, c->key, c->text, 2, where, NULL, r->arena, r->err));
    }
    snprintf(where, sizeof where, "%.500s:%lld:%lld", r->sweep->path, (long long)key->line, (long long)key->column);
    ER_TRY(er_options_required(&table, 1, where, r->err));
    if (!(out->from < out->to))
        return er_sweep_fail(r, key->value_line, key->value_column, "%.100s: from %g to %g, expected a range", key->key,
                             out->from, out->to);
    if (out->scale && !(out->from > 0))
        return er_sweep_fail(r, key->value_line, key->value_column, "%.100s: from %g, expected more than 0 with scale "
                             "log", key->key, out->from);
    out->place = (er_sweep_choice){.key = key->key, .line = key->line, .column = key->column,
                                   .value_line = key->value_line, .value_column = key->value_column};
    return 0;
}

static int read_values(er_sweep_reader *r, const er_yaml *key, range *out)
{
    ER_TRY(er_sweep_expect(r, key, ER_YAML_LIST, key->key));
    ER_TRY(er_arena_take(r->arena, &out->values, (size_t)key->count, r->err));
    for (const er_yaml *v = key->first; v; v = v->next)
        ER_TRY(er_sweep_choice_of(&out->values[out->count++], r, key, v));
    return 0;
}

void er_sweep_between(char *text, size_t size, double from, double to, int log_scale, int whole, double u)
{
    double value = log_scale ? exp(log(from) + u * (log(to) - log(from))) : from + u * (to - from);
    if (whole) {
        double low = ceil(from), high = floor(to);
        value = log_scale ? floor(value + 0.5) : floor(low + u * (high - low + 1));
        value = value < low ? low : value > high ? high : value;
        snprintf(text, size, "%.0f", value);
        return;
    }
    snprintf(text, size, "%.6g", value); /* six digits: what a person can repeat, and no last bits of exp */
}

static int draw(er_sweep_reader *r, const range *x, uint64_t number, er_sweep_choice *out)
{
    uint32_t item = 2166136261u; /* the key's name as a number */
    for (const char *c = x->values ? x->values[0].key : x->place.key; *c; c++)
        item = (item ^ (uint32_t)(unsigned char)*c) * 16777619u;
    uint64_t seed = (uint64_t)r->sweep->random_seed;
    if (x->values) {
        *out = x->values[er_random_below((uint64_t)x->count, seed, ER_STREAM_SWEEP, item, number)];
        return 0;
    }
    char text[48];
    er_sweep_between(text, sizeof text, x->from, x->to, x->scale, x->whole,
                     er_random_uniform(seed, ER_STREAM_SWEEP, item, number));
    *out = x->place;
    out->value = er_arena_strdup(r->arena, text, r->err);
    return out->value ? 0 : ER_E_MEMORY;
}

static int is_new(const er_sweep_reader *r, size_t first, const er_sweep_choice *c, int64_t count)
{
    for (size_t p = first; p < r->point_count; p++) {
        int64_t same = 0;
        for (int64_t i = 0; i < count; i++) same += !strcmp(r->points[p].values[i], c[i].value);
        if (same == count) return 0;
    }
    return 1;
}

static int draw_points(er_sweep_reader *r, const er_yaml *map, const range *ranges, int64_t keys)
{
    size_t first = r->point_count;
    er_sweep_choice *c = NULL;
    ER_TRY(er_arena_take(r->arena, &c, (size_t)keys, r->err));
    for (int64_t p = 0; p < r->sweep->random_count; p++) {
        int tries = 0;
        do {
            if (tries == ATTEMPTS)
                return er_sweep_fail(r, map->line, map->column, "random.count: %lld, but the values give hardly more "
                                     "than %lld different points", (long long)r->sweep->random_count, (long long)p);
            for (int64_t k = 0; k < keys; k++)
                ER_TRY(draw(r, &ranges[k], (uint64_t)p | (uint64_t)tries << 32, &c[k]));
            tries++;
        } while (!is_new(r, first, c, keys));
        ER_TRY(er_sweep_add(r, c, keys));
    }
    return 0;
}

int er_sweep_random(er_sweep_reader *r, const er_yaml *map)
{
    static const char *const names[] = {"count", "seed", "keys"};
    range *ranges = NULL;
    int64_t n = 0;
    ER_TRY(er_sweep_members(r, map, "random", names, 3, "keys"));
    const er_yaml *keys = er_yaml_child(map, "keys");
    if (!keys) return er_sweep_fail(r, map->line, map->column, "random.keys is missing: what is drawn");
    if (!r->sweep->random_count)
        return er_sweep_fail(r, map->line, map->column, "random.count is missing: how many points are drawn");
    ER_TRY(er_sweep_expect(r, keys, ER_YAML_MAP, "random.keys"));
    ER_TRY(er_arena_take(r->arena, &ranges, (size_t)keys->count, r->err));
    memset(ranges, 0, (size_t)keys->count * sizeof *ranges);
    for (const er_yaml *key = keys->first; key; key = key->next, n++)
        ER_TRY(key->kind == ER_YAML_LIST ? read_values(r, key, &ranges[n]) : read_range(r, key, &ranges[n]));
    return draw_points(r, map, ranges, n);
}

/* --- written back ------------------------------------------------------------------------------------------------ */

/* Quoted with '...', where only ' is special. */
static int put_quoted(er_text *t, const char *text, er_err *err)
{
    ER_TRY(er_text_add(t, "'", err));
    for (; *text; text++) ER_TRY(er_text_bytes(t, *text == '\'' ? "''" : text, *text == '\'' ? 2 : 1, err));
    return er_text_add(t, "'", err);
}

static int put_value(er_text *t, const char *value, er_err *err)
{
    return *value == '[' ? er_text_add(t, value, err) : put_quoted(t, value, err);
}

static int put_fixed(er_text *t, const er_sweep *s, er_err *err)
{
    if (s->fixed_count) ER_TRY(er_text_add(t, "set:\n", err));
    for (int64_t i = 0; i < s->fixed_count; i++) {
        const char *text = s->fixed[i].text, *equal = strchr(text, '=');
        int again = 0; /* the last one counts */
        if (!equal) return er_fail(err, ER_E_USAGE, "--set %.120s: expected key=value", text);
        for (int64_t j = i + 1; j < s->fixed_count; j++)
            again |= !strncmp(s->fixed[j].text, text, (size_t)(equal - text) + 1);
        if (again) continue;
        ER_TRY(er_text_format(t, err, "  %.*s: ", (int)(equal - text), text));
        ER_TRY(put_value(t, equal + 1, err));
        ER_TRY(er_text_add(t, "\n", err));
    }
    return 0;
}

static int put_points(er_text *t, const er_sweep *s, er_err *err)
{
    ER_TRY(er_text_add(t, "list:\n", err));
    for (int64_t p = 0; p < s->count; p++) {
        ER_TRY(er_text_add(t, "  - {", err));
        for (int64_t i = 0; i < s->points[p].count; i++) {
            ER_TRY(er_text_format(t, err, "%s%s: ", i ? ", " : "", s->points[p].keys[i]));
            ER_TRY(put_value(t, s->points[p].values[i], err));
        }
        ER_TRY(er_text_add(t, "}\n", err));
    }
    return 0;
}

int er_sweep_dump(er_text *t, const er_sweep *s, er_err *err)
{
    ER_TRY(er_text_add(t, "base: ", err));
    ER_TRY(put_quoted(t, s->base, err));
    ER_TRY(er_text_add(t, "\nout: ", err));
    ER_TRY(put_quoted(t, s->out, err));
    ER_TRY(er_text_add(t, "\nobjective: ", err));
    ER_TRY(put_quoted(t, s->objective, err));
    ER_TRY(er_text_format(t, err, "\nparallel: %lld\n", (long long)s->parallel));
    if (s->rungs.count) {
        ER_TRY(er_text_add(t, "halving:\n  rungs: [", err));
        for (int64_t i = 0; i < s->rungs.count; i++)
            ER_TRY(er_text_format(t, err, "%s%lld", i ? ", " : "", (long long)s->rungs.at[i]));
        ER_TRY(er_text_add(t, "]\n  keep: ", err));
        ER_TRY(put_quoted(t, s->keep_text, err));
        ER_TRY(er_text_add(t, "\n", err));
    }
    ER_TRY(put_fixed(t, s, err));
    return put_points(t, s, err);
}
