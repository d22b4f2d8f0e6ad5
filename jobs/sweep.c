/* SPDX-License-Identifier: Apache-2.0 */
/* The sweep file's own keys, and grid and list. */
#include "jobs/sweep.h"

#include "base/file.h"
#include "jobs/sweep_read.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT(member) offsetof(er_sweep, member)

static const er_option rows[] = {
    {"base", ER_OPT_PATH, AT(base), NULL, .flags = ER_OPT_REQUIRED, .help = "the job file of every point"},
    {"out", ER_OPT_PATH, AT(out), NULL, .help = "folder of the sweep; default: sweeps/NAME beside the sweep file"},
    {"objective", ER_OPT_TEXT, AT(objective), "score",
     .help = "what the best point has most of: score, or MOMENT.score, or MOMENT.GROUP.METRIC"},
    {"parallel", ER_OPT_INT, AT(parallel), "1", .low = 1, .high = 10000,
     .help = "points at a time; the ranks are split into so many groups"},
    {"halving.rungs", ER_OPT_INT_LIST, AT(rungs), NULL, .low = 1, .high = 1e9,
     .help = "tuning facts that the points of each rung edit, ascending"},
    {"halving.keep", ER_OPT_TEXT, AT(keep_text), "1/3", .help = "share of a rung's points that the next one takes"},
    {"random.count", ER_OPT_INT, AT(random_count), "0", .low = 0, .high = ER_SWEEP_MOST, .help = "points drawn"},
    {"random.seed", ER_OPT_INT, AT(random_seed), "1", .low = 0, .high = 9007199254740992.0,
     .help = "seed of the draws"},
};

/* --- places and messages ----------------------------------------------------------------------------------------- */

int er_sweep_fail(const er_sweep_reader *r, int64_t line, int64_t column, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return er_fail(r->err, ER_E_INPUT, "%s:%lld:%lld: %s", r->sweep->path, (long long)line, (long long)column, text);
}

static int no_twins(const er_sweep_reader *r, const er_yaml *map)
{
    for (const er_yaml *c = map->first; c; c = c->next)
        for (const er_yaml *e = map->first; e != c; e = e->next)
            if (!strcmp(e->key, c->key))
                return er_sweep_fail(r, c->line, c->column, "key '%.100s' stands twice, first in line %lld", c->key,
                                     (long long)e->line);
    return 0;
}

int er_sweep_expect(const er_sweep_reader *r, const er_yaml *node, enum er_yaml_kind kind, const char *what)
{
    if (node->kind != kind)
        return er_sweep_fail(r, node->value_line, node->value_column, "%s: %s, expected %s", what,
                             er_yaml_kind_text(node), kind == ER_YAML_MAP ? "a mapping" : "a list");
    if (kind == ER_YAML_MAP) ER_TRY(no_twins(r, node));
    if (!node->first)
        return er_sweep_fail(r, node->value_line, node->value_column, "%s: empty", what);
    return 0;
}

/* --- values ------------------------------------------------------------------------------------------------------ */

/* A scalar as it stands, a list of scalars as "[4, 5]". */
static int value_text(const er_sweep_reader *r, const er_yaml *node, const char *key, const char **out)
{
    if (node->kind == ER_YAML_SCALAR) {
        *out = node->text;
        return 0;
    }
    er_text text = ER_TEXT_INIT;
    int code = node->kind == ER_YAML_LIST ? er_text_add(&text, "[", r->err)
                                          : er_sweep_fail(r, node->value_line, node->value_column, "%.100s: a mapping, "
                                                          "expected a value or a list of values", key);
    for (const er_yaml *c = node->first; !code && c; c = c->next)
        code = c->kind == ER_YAML_SCALAR
                   ? er_text_format(&text, r->err, "%s%s", c == node->first ? "" : ", ", c->text)
                   : er_sweep_fail(r, c->value_line, c->value_column, "%.100s: %s, expected a value", key,
                                   er_yaml_kind_text(c));
    if (!code) code = er_text_add(&text, "]", r->err);
    if (!code && !(*out = er_arena_strdup(r->arena, text.at, r->err))) code = ER_E_MEMORY;
    er_text_free(&text);
    return code;
}

int er_sweep_choice_of(er_sweep_choice *out, const er_sweep_reader *r, const er_yaml *key, const er_yaml *value)
{
    *out = (er_sweep_choice){.key = key->key, .line = key->line, .column = key->column,
                             .value_line = value->value_line, .value_column = value->value_column};
    return value_text(r, value, key->key, &out->value);
}

static int setting_of(er_job_setting *out, const er_sweep_reader *r, const er_sweep_choice *c)
{
    size_t n = strlen(c->key) + strlen(c->value) + 2;
    char *text = NULL;
    if (strlen(c->key) > 120) return er_sweep_fail(r, c->line, c->column, "unknown key '%.100s...'", c->key);
    ER_TRY(er_arena_take(r->arena, &text, n, r->err));
    snprintf(text, n, "%s=%s", c->key, c->value);
    *out = (er_job_setting){text, r->sweep->path, c->line, c->column, c->value_line, c->value_column};
    return 0;
}

static int note_key(er_sweep_reader *r, const char *key)
{
    for (size_t i = 0; i < r->key_count; i++)
        if (!strcmp(r->keys[i], key)) return 0;
    ER_TRY(er_grow(&r->keys, &r->key_room, r->key_count + 1, r->err));
    r->keys[r->key_count++] = key;
    return 0;
}

int er_sweep_add(er_sweep_reader *r, const er_sweep_choice *choices, int64_t count)
{
    er_sweep_point *p;
    if (r->point_count >= ER_SWEEP_MOST)
        return er_sweep_fail(r, choices[0].line, choices[0].column, "more than %d points", ER_SWEEP_MOST);
    ER_TRY(er_grow(&r->points, &r->point_room, r->point_count + 1, r->err));
    p = &r->points[r->point_count];
    p->count = count;
    ER_TRY(er_arena_take(r->arena, &p->settings, (size_t)count, r->err));
    ER_TRY(er_arena_take(r->arena, &p->keys, (size_t)count, r->err));
    ER_TRY(er_arena_take(r->arena, &p->values, (size_t)count, r->err));
    for (int64_t i = 0; i < count; i++) {
        ER_TRY(setting_of(&p->settings[i], r, &choices[i]));
        p->keys[i] = choices[i].key;
        p->values[i] = choices[i].value;
        ER_TRY(note_key(r, choices[i].key));
    }
    r->point_count++;
    return 0;
}

/* --- grid and list ----------------------------------------------------------------------------------------------- */

static int read_axis(er_sweep_reader *r, const er_yaml *key, er_sweep_choice *values)
{
    int64_t n = 0;
    ER_TRY(er_sweep_expect(r, key, ER_YAML_LIST, key->key));
    for (const er_yaml *v = key->first; v; v = v->next, n++) {
        ER_TRY(er_sweep_choice_of(&values[n], r, key, v));
        for (int64_t i = 0; i < n; i++)
            if (!strcmp(values[i].value, values[n].value))
                return er_sweep_fail(r, v->value_line, v->value_column, "%.100s: '%.100s' stands twice", key->key,
                                     values[n].value);
    }
    return 0;
}

/* The last key counts fastest. */
static int expand(er_sweep_reader *r, er_sweep_choice *const *axis, const int64_t *length, int64_t keys)
{
    er_sweep_choice *now = NULL;
    int64_t *at = NULL;
    ER_TRY(er_arena_take(r->arena, &now, (size_t)keys, r->err));
    ER_TRY(er_arena_take(r->arena, &at, (size_t)keys, r->err));
    memset(at, 0, (size_t)keys * sizeof *at);
    for (;;) {
        for (int64_t k = 0; k < keys; k++) now[k] = axis[k][at[k]];
        ER_TRY(er_sweep_add(r, now, keys));
        int64_t k = keys - 1;
        while (k >= 0 && ++at[k] == length[k]) at[k--] = 0;
        if (k < 0) return 0;
    }
}

static int read_grid(er_sweep_reader *r, const er_yaml *grid)
{
    er_sweep_choice **axis = NULL;
    int64_t *length = NULL, n = 0;
    ER_TRY(er_sweep_expect(r, grid, ER_YAML_MAP, "grid"));
    ER_TRY(er_arena_take(r->arena, &axis, (size_t)grid->count, r->err));
    ER_TRY(er_arena_take(r->arena, &length, (size_t)grid->count, r->err));
    for (const er_yaml *key = grid->first; key; key = key->next, n++) {
        length[n] = key->kind == ER_YAML_LIST ? key->count : 0;
        ER_TRY(er_arena_take(r->arena, &axis[n], (size_t)length[n], r->err));
        ER_TRY(read_axis(r, key, axis[n]));
    }
    return expand(r, axis, length, n);
}

static int read_list(er_sweep_reader *r, const er_yaml *list)
{
    ER_TRY(er_sweep_expect(r, list, ER_YAML_LIST, "list"));
    for (const er_yaml *point = list->first; point; point = point->next) {
        er_sweep_choice *choices = NULL;
        int64_t n = 0;
        ER_TRY(er_sweep_expect(r, point, ER_YAML_MAP, "a point of list"));
        ER_TRY(er_arena_take(r->arena, &choices, (size_t)point->count, r->err));
        for (const er_yaml *c = point->first; c; c = c->next) ER_TRY(er_sweep_choice_of(&choices[n++], r, c, c));
        ER_TRY(er_sweep_add(r, choices, n));
    }
    return 0;
}

static int read_fixed(er_sweep_reader *r, const er_yaml *map)
{
    er_sweep *s = r->sweep;
    ER_TRY(er_sweep_expect(r, map, ER_YAML_MAP, "set"));
    for (const er_yaml *c = map->first; c; c = c->next) {
        er_sweep_choice choice;
        ER_TRY(er_sweep_choice_of(&choice, r, c, c));
        ER_TRY(setting_of(&s->fixed[s->fixed_count++], r, &choice));
    }
    return 0;
}

/* --- the file ---------------------------------------------------------------------------------------------------- */

static int set_row(er_sweep_reader *r, const er_yaml *node, const char *key)
{
    char where[PATH_MAX + 48];
    const char *value = NULL;
    snprintf(where, sizeof where, "%s:%lld:%lld", r->sweep->path, (long long)node->value_line,
             (long long)node->value_column);
    ER_TRY(value_text(r, node, key, &value));
    return er_options_set(&r->table, 1, key, value, 2, where, r->sweep->folder, r->arena, r->err);
}

static int unknown(const er_sweep_reader *r, const er_yaml *c, const char *group, const char *const *names,
                   size_t count)
{
    const char *near = er_nearest(c->key, names, count);
    er_text list = ER_TEXT_INIT;
    int code = 0;
    for (size_t i = 0; !code && i < count; i++)
        code = er_text_format(&list, r->err, "%s%s", i ? ", " : "", names[i]);
    if (!code && near)
        code = er_sweep_fail(r, c->line, c->column, "unknown key '%s%.100s', did you mean '%s%s'?", group, c->key,
                             group, near);
    if (!code)
        code = er_sweep_fail(r, c->line, c->column, "unknown key '%s%.100s', expected one of %s", group, c->key,
                             list.at);
    er_text_free(&list);
    return code;
}

int er_sweep_members(er_sweep_reader *r, const er_yaml *map, const char *group, const char *const *names, size_t count,
                     const char *skip)
{
    ER_TRY(er_sweep_expect(r, map, ER_YAML_MAP, group));
    for (const er_yaml *c = map->first; c; c = c->next) {
        char key[64], dotted[64];
        size_t i = 0;
        snprintf(dotted, sizeof dotted, "%s.", group);
        while (i < count && strcmp(names[i], c->key)) i++;
        if (i == count) return unknown(r, c, dotted, names, count);
        if (skip && !strcmp(skip, c->key)) continue;
        snprintf(key, sizeof key, "%s.%s", group, c->key);
        ER_TRY(set_row(r, c, key));
    }
    return 0;
}

static int read_top(er_sweep_reader *r, const er_yaml *root)
{
    static const char *const names[] = {"base", "out", "objective", "parallel", "halving", "grid", "list", "random",
                                        "set"};
    static const char *const halving[] = {"rungs", "keep"};
    ER_TRY(er_sweep_expect(r, root, ER_YAML_MAP, "the sweep"));
    for (const er_yaml *c = root->first; c; c = c->next) {
        size_t i = 0, count = sizeof names / sizeof *names;
        while (i < count && strcmp(names[i], c->key)) i++;
        if (i == count) return unknown(r, c, "", names, count);
        if (i < 4) ER_TRY(set_row(r, c, c->key));
        if (i == 4) ER_TRY(er_sweep_members(r, c, "halving", halving, 2, NULL));
    }
    const er_yaml *fixed = er_yaml_child(root, "set"), *grid = er_yaml_child(root, "grid");
    const er_yaml *list = er_yaml_child(root, "list"), *random = er_yaml_child(root, "random");
    ER_TRY(er_arena_take(r->arena, &r->sweep->fixed, (size_t)(fixed ? fixed->count : 0) + r->set_count, r->err));
    if (fixed) ER_TRY(read_fixed(r, fixed));
    if (grid) ER_TRY(read_grid(r, grid));
    if (list) ER_TRY(read_list(r, list));
    if (random) ER_TRY(er_sweep_random(r, random));
    if (!r->point_count)
        return er_sweep_fail(r, 1, 1, "no points, expected a mapping 'grid', a list 'list' or a mapping 'random'");
    return 0;
}

/* "1/3" or "0.33". */
static int read_keep(er_sweep_reader *r, const er_yaml *root)
{
    const er_yaml *halving = er_yaml_child(root, "halving"), *keep = er_yaml_child(halving, "keep");
    er_sweep *s = r->sweep;
    char first[32];
    double a = 0, b = 1;
    const char *slash = strchr(s->keep_text, '/');
    size_t n = slash ? (size_t)(slash - s->keep_text) : strlen(s->keep_text);
    snprintf(first, sizeof first, "%.*s", (int)(n < 31 ? n : 31), s->keep_text);
    int bad = er_parse_double(&a, first) || (slash && er_parse_double(&b, slash + 1)) || !(b > 0);
    s->keep = bad ? 0 : a / b;
    if (s->keep > 0 && s->keep < 1) return 0;
    return er_sweep_fail(r, keep ? keep->value_line : 1, keep ? keep->value_column : 1,
                         "halving.keep: '%.40s', expected a share between 0 and 1 such as 1/3", s->keep_text);
}

static int check_rungs(er_sweep_reader *r, const er_yaml *root)
{
    const er_yaml *halving = er_yaml_child(root, "halving"), *rungs = er_yaml_child(halving, "rungs");
    er_sweep *s = r->sweep;
    ER_TRY(read_keep(r, root));
    if (halving && !s->rungs.count)
        return er_sweep_fail(r, halving->line, halving->column, "halving.rungs is missing: facts of each rung");
    for (int64_t i = 1; i < s->rungs.count; i++)
        if (s->rungs.at[i] <= s->rungs.at[i - 1])
            return er_sweep_fail(r, rungs->value_line, rungs->value_column, "halving.rungs: %lld behind %lld, expected "
                                 "ascending numbers", (long long)s->rungs.at[i], (long long)s->rungs.at[i - 1]);
    return 0;
}

/* --set: of every point, and of no point its own. */
static int join_sets(er_sweep_reader *r, const char *const *sets)
{
    er_sweep *s = r->sweep;
    for (size_t i = 0; i < r->set_count; i++) {
        size_t n = strcspn(sets[i], "=");
        for (size_t k = 0; k < r->key_count; k++)
            if (strlen(r->keys[k]) == n && !strncmp(r->keys[k], sets[i], n))
                return er_fail(r->err, ER_E_USAGE, "--set %.120s: the sweep's points set this key", sets[i]);
        s->fixed[s->fixed_count++] = (er_job_setting){.text = sets[i]};
    }
    return 0;
}

static int default_out(er_sweep_reader *r)
{
    er_sweep *s = r->sweep;
    const char *slash = strrchr(s->path, '/'), *stem = slash ? slash + 1 : s->path, *dot = strrchr(stem, '.');
    size_t n = dot && dot > stem ? (size_t)(dot - stem) : strlen(stem), size = strlen(s->folder) + n + 16;
    char *out = NULL;
    if (s->out) return 0;
    ER_TRY(er_arena_take(r->arena, &out, size, r->err));
    snprintf(out, size, "%s/sweeps/%.*s", s->folder, (int)n, stem);
    s->out = out;
    return 0;
}

static int find_folder(er_sweep_reader *r)
{
    char *folder = NULL, real[PATH_MAX];
    ER_TRY(er_path_folder(&folder, r->sweep->path, r->err));
    const char *found = realpath(folder, real);
    er_free(folder);
    if (!found) return er_fail(r->err, ER_E_IO, "%s: %s", r->sweep->path, strerror(errno));
    r->sweep->folder = er_arena_strdup(r->arena, real, r->err);
    return r->sweep->folder ? 0 : ER_E_MEMORY;
}

static int read_sweep(er_sweep_reader *r, const char *const *sets)
{
    er_sweep *s = r->sweep;
    er_yaml *root = NULL;
    ER_TRY(find_folder(r));
    ER_TRY(er_yaml_read(&root, s->path, r->arena, r->err));
    if (!root)
        return er_fail(r->err, ER_E_INPUT, "%s:1:1: empty, expected a mapping with the keys of a sweep", s->path);
    ER_TRY(er_options_defaults(&r->table, r->arena, r->err));
    ER_TRY(read_top(r, root));
    ER_TRY(er_options_required(&r->table, 1, s->path, r->err));
    ER_TRY(check_rungs(r, root));
    ER_TRY(join_sets(r, sets));
    ER_TRY(default_out(r));
    ER_TRY(er_arena_take(r->arena, &s->keys, r->key_count, r->err));
    ER_TRY(er_arena_take(r->arena, &s->points, r->point_count, r->err));
    memcpy(s->keys, r->keys, r->key_count * sizeof *s->keys);
    memcpy(s->points, r->points, r->point_count * sizeof *s->points);
    s->key_count = (int64_t)r->key_count;
    s->count = (int64_t)r->point_count;
    return 0;
}

int er_sweep_read(er_sweep *out, const char *path, const char *const *sets, size_t set_count, er_arena *arena,
                  er_err *err)
{
    er_sweep work = {.path = er_arena_strdup(arena, path, err)};
    er_sweep_reader r = {.sweep = &work, .set_count = set_count, .arena = arena, .err = err};
    if (!work.path) return ER_E_MEMORY;
    r.table = (er_option_table){NULL, rows, sizeof rows / sizeof *rows, &work, NULL};
    int code = read_sweep(&r, sets);
    er_free(r.keys);
    er_free(r.points);
    if (!code) *out = work;
    return code;
}

const char *er_sweep_value(const er_sweep_point *point, const char *key)
{
    for (int64_t i = 0; i < point->count; i++)
        if (!strcmp(point->keys[i], key)) return point->values[i];
    return NULL;
}
