/* SPDX-License-Identifier: Apache-2.0 */
/* From the tree of a YAML file to option rows: nested mappings become dotted keys. */
#include "base/options_value.h"
#include "jobs/job_read.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *prefix_of(const er_job *job, size_t table)
{
    return job->tables[table].prefix ? job->tables[table].prefix : "";
}

int er_job_find(const er_job *job, const char *key, size_t *table, size_t *row)
{
    for (size_t t = 0; t < job->table_count; t++) {
        size_t n = strlen(prefix_of(job, t));
        if (strncmp(key, prefix_of(job, t), n)) continue;
        for (size_t i = 0; i < job->tables[t].count; i++) {
            if (strcmp(key + n, job->tables[t].rows[i].key)) continue;
            *table = t;
            *row = i;
            return 1;
        }
    }
    return 0;
}

const char *er_job_place(const er_job_reader *r, const char *key)
{
    size_t t = 0, i = 0;
    const char *place = er_job_find(r->job, key, &t, &i) ? r->place[t][i] : NULL;
    return place ? place : r->job->path;
}

int er_job_source_of(const er_job *job, const char *key)
{
    size_t t = 0, i = 0;
    return er_job_find(job, key, &t, &i) ? job->tables[t].set[i] : ER_JOB_DEFAULT;
}

int er_job_where(const char **out, er_job_reader *r, const er_job_origin *o, int64_t line, int64_t column)
{
    size_t size = strlen(o->name) + 48;
    char *text = NULL;
    ER_TRY(er_arena_take(r->arena, &text, size, r->err));
    if (o->source == ER_JOB_SET && !o->placed)
        snprintf(text, size, "%s", o->name);
    else
        snprintf(text, size, "%s:%lld:%lld", o->name, (long long)line, (long long)column);
    *out = text;
    return 0;
}

int er_job_note_add(er_job_reader *r, int warning, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    ER_TRY(er_grow(&r->notes, &r->note_capacity, r->note_count + 1, r->err));
    const char *kept = er_arena_strdup(r->arena, text, r->err);
    if (!kept) return ER_E_MEMORY;
    r->notes[r->note_count++] = (er_job_note){warning, kept};
    return 0;
}

/* "stats.corpus: {sample: ...}" is how the sample may also be written. */
const char *er_job_settled(const char *key)
{
    static const char alias[] = "stats.corpus.sample";
    if (strncmp(key, alias, sizeof alias - 1)) return key;
    if (key[sizeof alias - 1] == 0) return "stats.sample";
    if (!strcmp(key + sizeof alias - 1, ".tokens")) return "stats.sample.tokens";
    if (!strcmp(key + sizeof alias - 1, ".seed")) return "stats.sample.seed";
    return key;
}

/* Full key of the i-th row over all tables into text; 0 when there is none. */
static int row_key(const er_job *job, size_t i, char text[256])
{
    for (size_t t = 0; t < job->table_count; t++) {
        if (i < job->tables[t].count) {
            snprintf(text, 256, "%s%s", prefix_of(job, t), job->tables[t].rows[i].key);
            return 1;
        }
        i -= job->tables[t].count;
    }
    return 0;
}

static int is_group(const er_job *job, const char *key)
{
    char name[256];
    size_t n = strlen(key);
    for (size_t i = 0; row_key(job, i, name); i++)
        if (strncmp(name, key, n) == 0 && name[n] == '.') return 1;
    return 0;
}

/* Every key and every group, each once, into an arena list. */
static int known_names(er_job_reader *r, const char ***out, size_t *count)
{
    char name[256];
    const char **list = NULL;
    size_t rows = 0, n = 0;
    while (row_key(r->job, rows, name)) rows++;
    ER_TRY(er_arena_take(r->arena, &list, rows * 4, r->err));
    for (size_t i = 0; row_key(r->job, i, name); i++) {
        for (char *dot = strchr(name, '.'); n < rows * 4; dot = strchr(dot + 1, '.')) {
            if (dot) *dot = 0;
            if (!(list[n++] = er_arena_strdup(r->arena, name, r->err))) return ER_E_MEMORY;
            if (!dot) break;
            *dot = '.';
        }
    }
    *out = list;
    *count = n;
    return 0;
}

/* What may stand below the group that key is in: "a, b, c". */
static int siblings(er_job_reader *r, const char *key, er_text *out)
{
    char name[256], earlier[256];
    const char *dot = strrchr(key, '.');
    size_t n = dot ? (size_t)(dot - key) + 1 : 0;
    for (size_t i = 0; row_key(r->job, i, name); i++) {
        if (strncmp(name, key, n)) continue;
        size_t m = n + strcspn(name + n, ".");
        int seen = 0;
        for (size_t j = 0; j < i && !seen && row_key(r->job, j, earlier); j++)
            seen = strncmp(earlier, name, m) == 0 && (!earlier[m] || earlier[m] == '.');
        if (!seen) ER_TRY(er_text_format(out, r->err, "%s%.*s", out->at ? ", " : "", (int)(m - n), name + n));
    }
    return 0;
}

static int unknown(er_job_reader *r, const char *where, const char *key)
{
    const char **names = NULL;
    size_t count = 0;
    ER_TRY(known_names(r, &names, &count));
    const char *near = er_nearest(key, names, count);
    if (near) return er_fail(r->err, ER_E_INPUT, "%s: unknown key '%.100s', did you mean '%s'?", where, key, near);
    er_text list = ER_TEXT_INIT;
    int code = siblings(r, key, &list);
    if (!code)
        code = er_fail(r->err, ER_E_INPUT, "%s: unknown key '%.100s'%s%s", where, key,
                       list.at ? ", expected one of " : "", list.at ? list.at : "");
    er_text_free(&list);
    return code;
}

/* A list of scalars as "4, 5, 6"; lists inside ("[[5, 10], [10, 10]]") are flattened, as the rows keep them. */
static int list_items(er_job_reader *r, const er_yaml *list, er_text *out)
{
    for (const er_yaml *c = list->first; c; c = c->next) {
        if (c->kind == ER_YAML_LIST)
            ER_TRY(list_items(r, c, out));
        else
            ER_TRY(er_text_format(out, r->err, "%s%s", out->length > 1 ? ", " : "",
                                  c->kind == ER_YAML_SCALAR ? c->text : "a mapping"));
    }
    return 0;
}

static int list_text(er_job_reader *r, const er_yaml *list, er_text *out)
{
    ER_TRY(er_text_add(out, "[", r->err));
    ER_TRY(list_items(r, list, out));
    return er_text_add(out, "]", r->err);
}

static int set_row(er_job_reader *r, const er_job_origin *o, const char *key, const char *value, const char *where)
{
    size_t t = 0, i = 0;
    ER_TRY(er_options_set(r->job->tables, r->job->table_count, key, value, o->source, where, r->job->folder, r->arena,
                          r->err));
    if (er_job_find(r->job, key, &t, &i)) r->place[t][i] = where;
    return 0;
}

static int wrong_kind(er_job_reader *r, const char *where, const char *key, const er_option *row, const er_yaml *node)
{
    er_text expected = ER_TEXT_INIT;
    int code = er_option_expected(&expected, row, r->err);
    if (!code)
        code = er_fail(r->err, ER_E_INPUT, "%s: %s: %s, expected %s", where, key, er_yaml_kind_text(node), expected.at);
    er_text_free(&expected);
    return code;
}

static const char *const face_places[] = {"", "parity: easyedit", "parity: authors"}; /* by er_job_parity */

int er_job_parity_of(const char *name)
{
    for (int face = ER_JOB_PARITY_EASYEDIT; name && face <= ER_JOB_PARITY_AUTHORS; face++)
        if (!strcmp(name, face_places[face] + strlen("parity: "))) return face;
    return ER_JOB_PARITY_NONE;
}

int er_job_preset(er_job_reader *r, int face, const char *key, const char *value)
{
    size_t t = 0, i = 0;
    ER_TRY(er_options_set(r->job->tables, r->job->table_count, key, value, ER_JOB_HPARAMS, face_places[face],
                          r->job->folder, r->arena, r->err));
    ER_ALWAYS(er_job_find(r->job, key, &t, &i));
    r->job->tables[t].set[i] = ER_JOB_DEFAULT;
    r->place[t][i] = face_places[face];
    return 0;
}

int er_job_reset(er_job_reader *r, const char *key)
{
    size_t t = 0, i = 0;
    ER_ALWAYS(er_job_find(r->job, key, &t, &i));
    er_option_table row = r->job->tables[t];
    row.rows += i;
    row.count = 1;
    ER_TRY(er_options_defaults(&row, r->arena, r->err));
    r->job->tables[t].set[i] = ER_JOB_DEFAULT;
    r->place[t][i] = NULL;
    return 0;
}

int er_job_apply_value(er_job_reader *r, const er_job_origin *o, const char *key, const er_yaml *node)
{
    size_t t = 0, i = 0;
    const char *where = NULL;
    ER_ALWAYS(er_job_find(r->job, key, &t, &i));
    const er_option *row = &r->job->tables[t].rows[i];
    ER_TRY(er_job_where(&where, r, o, node->value_line, node->value_column));
    if (er_yaml_is_null(node) && !row->preset) return er_job_reset(r, key); /* unset: so the resolved copy says it */
    if (node->kind == ER_YAML_SCALAR) return set_row(r, o, key, node->text, where);
    if (node->kind != ER_YAML_LIST || (row->type != ER_OPT_INT_LIST && !(row->flags & ER_OPT_LIST)))
        return wrong_kind(r, where, key, row, node);
    er_text text = ER_TEXT_INIT;
    int code = list_text(r, node, &text);
    if (!code) code = set_row(r, o, key, text.at, where);
    er_text_free(&text);
    return code;
}

static int apply_child(er_job_reader *r, const er_job_origin *o, const er_yaml *child, const char *key)
{
    size_t t = 0, i = 0;
    int row = er_job_find(r->job, key, &t, &i), group = is_group(r->job, key);
    const char *where = NULL;
    if (group && child->kind == ER_YAML_MAP) {
        char prefix[256];
        snprintf(prefix, sizeof prefix, "%s.", key);
        return er_job_apply(r, o, child, prefix);
    }
    if (row) return er_job_apply_value(r, o, key, child);
    if (group && child->kind == ER_YAML_SCALAR && child->plain && (!*child->text || er_yaml_is_null(child))) return 0;
    if (group) {
        ER_TRY(er_job_where(&where, r, o, child->value_line, child->value_column));
        return er_fail(r->err, ER_E_INPUT, "%s: %s: %s, expected a mapping", where, key, er_yaml_kind_text(child));
    }
    ER_TRY(er_job_where(&where, r, o, child->line, child->column));
    return unknown(r, where, key);
}

int er_job_apply(er_job_reader *r, const er_job_origin *o, const er_yaml *map, const char *prefix)
{
    for (const er_yaml *c = map->first; c; c = c->next) {
        char key[256];
        const char *where = NULL;
        for (const er_yaml *e = map->first; e != c; e = e->next) {
            if (strcmp(e->key, c->key)) continue;
            ER_TRY(er_job_where(&where, r, o, c->line, c->column));
            return er_fail(r->err, ER_E_INPUT, "%s: key '%s%.100s' stands twice, first in line %lld", where, prefix,
                           c->key, (long long)e->line);
        }
        snprintf(key, sizeof key, "%s%.120s", prefix, c->key);
        ER_TRY(apply_child(r, o, c, er_job_settled(key)));
    }
    return 0;
}

int er_job_apply_set(er_job_reader *r, const er_job_setting *setting)
{
    const char *text = setting->text, *equal = strchr(text, '=');
    char name[160], key[128];
    snprintf(name, sizeof name, "--set %.120s", text);
    er_job_origin o = {setting->file, ER_JOB_SET, 1};
    if (!setting->file) o = (er_job_origin){er_arena_strdup(r->arena, name, r->err), ER_JOB_SET, 0};
    if (!o.name) return ER_E_MEMORY;
    if (!equal || equal == text || (size_t)(equal - text) >= sizeof key)
        return er_fail(r->err, ER_E_INPUT, "%s: expected key=value", name);
    memcpy(key, text, (size_t)(equal - text));
    key[equal - text] = 0;
    er_yaml child = {.kind = ER_YAML_SCALAR, .plain = 1, .text = equal + 1, .key = key, .line = setting->line,
                     .column = setting->column, .value_line = setting->value_line,
                     .value_column = setting->value_column};
    if (equal[1] == '{') {
        er_yaml *map = NULL;
        ER_TRY(er_yaml_parse(&map, equal + 1, strlen(equal + 1), o.name, r->arena, r->err));
        child = *map;
        child.key = key;
        child.next = NULL;
    }
    return apply_child(r, &o, &child, er_job_settled(key));
}
