/* SPDX-License-Identifier: Apache-2.0 */
/* All points of a sweep's folder as one table. */
#include "base/file.h"
#include "base/memory.h"
#include "runner/sweep.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- the sweep's own files --------------------------------------------------------------------------------------- */

static int points_json(er_text *t, const er_sweep *s, const char (*names)[ER_POINT_NAME], er_err *err)
{
    ER_TRY(er_text_add(t, "{\n  \"schema\": 1,\n  \"objective\": ", err));
    ER_TRY(er_text_json(t, s->objective, err));
    ER_TRY(er_text_add(t, ",\n  \"keys\": [", err));
    for (int64_t k = 0; k < s->key_count; k++) {
        ER_TRY(er_text_add(t, k ? ", " : "", err));
        ER_TRY(er_text_json(t, s->keys[k], err));
    }
    ER_TRY(er_text_add(t, "],\n  \"points\": [", err));
    for (int64_t p = 0; p < s->count; p++) {
        ER_TRY(er_text_format(t, err, "%s\n    {\"point\": \"%s\", \"values\": {", p ? "," : "", names[p]));
        for (int64_t i = 0; i < s->points[p].count; i++) {
            ER_TRY(er_text_add(t, i ? ", " : "", err));
            ER_TRY(er_text_json(t, s->points[p].keys[i], err));
            ER_TRY(er_text_add(t, ": ", err));
            ER_TRY(er_text_json(t, s->points[p].values[i], err));
        }
        ER_TRY(er_text_add(t, "}}", err));
    }
    return er_text_add(t, "\n  ]\n}\n", err);
}

int er_table_write(const er_sweep *s, const char (*names)[ER_POINT_NAME], er_err *err)
{
    er_text t = ER_TEXT_INIT;
    int code = points_json(&t, s, names, err);
    if (!code) code = er_save_text(s->out, "sweep.json", &t, err);
    t.length = 0;
    if (!code) code = er_sweep_dump(&t, s, err);
    if (!code) code = er_save_text(s->out, "sweep.resolved.yaml", &t, err);
    er_text_free(&t);
    return code;
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

int er_is_sweep(const char *folder)
{
    char *path = NULL;
    if (er_path_join(&path, folder, "sweep.json", NULL)) return 0;
    int is = er_file_exists(path);
    er_free(path);
    return is;
}

static const json_t *point_json(const er_table *t, int64_t p)
{
    return json_array_get(json_object_get(t->sweep, "points"), (size_t)p);
}

static int read_points(er_table *t, const char *path, er_err *err)
{
    const json_t *keys = json_object_get(t->sweep, "keys"), *points = json_object_get(t->sweep, "points");
    t->objective = json_string_value(json_object_get(t->sweep, "objective"));
    if (!t->objective || !json_is_array(keys) || !json_is_array(points))
        return er_fail(err, ER_E_FORMAT, "%s: not the points of a sweep", path);
    t->key_count = (int64_t)json_array_size(keys);
    ER_TRY(er_alloc(&t->keys, (size_t)t->key_count, err));
    for (int64_t k = 0; k < t->key_count; k++)
        if (!(t->keys[k] = json_string_value(json_array_get(keys, (size_t)k))))
            return er_fail(err, ER_E_FORMAT, "%s: a key is no text", path);
    int64_t count = (int64_t)json_array_size(points);
    ER_TRY(er_alloc(&t->points, (size_t)count, err));
    for (; t->count < count; t->count++) {
        const char *name = json_string_value(json_object_get(point_json(t, t->count), "point"));
        if (!name || strlen(name) != ER_POINT_NAME - 1 || strspn(name, "0123456789abcdef") != ER_POINT_NAME - 1)
            return er_fail(err, ER_E_FORMAT, "%s: point %lld has no name", path, (long long)t->count + 1);
        ER_TRY(er_point_read(&t->points[t->count], t->out, name, err));
    }
    return 0;
}

int er_table_read(er_table *t, const char *folder, er_err *err)
{
    char *path = NULL;
    *t = (er_table){0};
    int code = er_path_join(&path, folder, "sweep.json", err);
    if (!code) code = er_strdup(&t->out, folder, err);
    if (!code) code = er_json_read(&t->sweep, path, err);
    if (!code) code = read_points(t, path, err);
    er_free(path);
    if (code) er_table_free(t);
    return code;
}

void er_table_free(er_table *t)
{
    for (int64_t p = 0; p < t->count; p++) er_point_free(&t->points[p]);
    er_free(t->points);
    er_free(t->keys);
    er_free(t->out);
    json_decref(t->sweep);
    *t = (er_table){0};
}

const char *er_table_value(const er_table *t, int64_t p, const char *key)
{
    const char *value = json_string_value(json_object_get(json_object_get(point_json(t, p), "values"), key));
    return value ? value : "";
}

int64_t er_table_best(const er_table *t)
{
    int64_t best = -1, furthest = 0;
    double most = 0;
    for (int64_t p = 0; p < t->count; p++)
        if (er_point_rungs(&t->points[p]) > furthest) furthest = er_point_rungs(&t->points[p]);
    for (int64_t p = 0; p < t->count; p++) {
        double value = er_point_number(&t->points[p], "objective");
        if (t->points[p].state != ER_POINT_DONE || isnan(value) || er_point_rungs(&t->points[p]) < furthest ||
            (best >= 0 && !(value > most))) continue;
        best = p;
        most = value;
    }
    return best;
}

int er_table_winner(er_point *p, const er_table *t, er_err *err)
{
    char *path = NULL;
    ER_TRY(er_path_join(&path, t->out, "best/point.json", err));
    int code = er_point_read_file(p, path, err);
    er_free(path);
    return code;
}

/* --- as text ----------------------------------------------------------------------------------------------------- */

/* Quoted where a comma, a quote or a line end asks for it. */
static int csv_text(er_text *t, const char *text, er_err *err)
{
    if (!strpbrk(text, ",\"\n\r")) return er_text_add(t, text, err);
    ER_TRY(er_text_add(t, "\"", err));
    for (; *text; text++)
        ER_TRY(*text == '"' ? er_text_add(t, "\"\"", err) : er_text_bytes(t, text, 1, err));
    return er_text_add(t, "\"", err);
}

/* Names of all scores, each once, in the order in which points bring them. Borrowed. */
static int score_names(const char ***out, size_t *count, const er_table *t, er_err *err)
{
    size_t room = 0;
    *out = NULL;
    *count = 0;
    for (int64_t p = 0; p < t->count; p++) {
        json_t *scores = json_object_get(t->points[p].json, "scores");
        for (void *i = json_object_iter(scores); i; i = json_object_iter_next(scores, i)) {
            const char *name = json_object_iter_key(i);
            size_t at = 0;
            while (at < *count && strcmp((*out)[at], name)) at++;
            if (at < *count) continue;
            ER_TRY(er_grow(out, &room, *count + 1, err));
            (*out)[(*count)++] = name;
        }
    }
    return 0;
}

static int csv_number(er_text *t, const er_point *p, const char *name, er_err *err)
{
    double value = er_point_number(p, name);
    ER_TRY(er_text_add(t, ",", err));
    return isnan(value) ? 0 : er_text_format(t, err, "%.9g", value);
}

static int csv_rows(er_text *t, const er_table *table, const char *const *names, size_t count, er_err *err)
{
    static const char *const numbers[] = {"objective", "edits", "failed_edits"};
    ER_TRY(er_text_add(t, "number,point,state", err));
    for (int64_t k = 0; k < table->key_count; k++) {
        ER_TRY(er_text_add(t, ",", err));
        ER_TRY(csv_text(t, table->keys[k], err));
    }
    for (size_t i = 0; i < 3; i++) ER_TRY(er_text_format(t, err, ",%s", numbers[i]));
    for (size_t i = 0; i < count; i++) ER_TRY(er_text_format(t, err, ",%s", names[i]));
    ER_TRY(er_text_add(t, ",reason\n", err));
    for (int64_t p = 0; p < table->count; p++) {
        const er_point *point = &table->points[p];
        ER_TRY(er_text_format(t, err, "%lld,%s,%s", (long long)p + 1, point->name, er_point_state_text(point->state)));
        for (int64_t k = 0; k < table->key_count; k++) {
            ER_TRY(er_text_add(t, ",", err));
            ER_TRY(csv_text(t, er_table_value(table, p, table->keys[k]), err));
        }
        for (size_t i = 0; i < 3; i++) ER_TRY(csv_number(t, point, numbers[i], err));
        for (size_t i = 0; i < count; i++) ER_TRY(csv_number(t, point, names[i], err));
        ER_TRY(er_text_add(t, ",", err));
        ER_TRY(csv_text(t, er_point_reason(point), err));
        ER_TRY(er_text_add(t, "\n", err));
    }
    return 0;
}

int er_table_csv(er_text *t, const er_table *table, er_err *err)
{
    const char **names = NULL;
    size_t count = 0;
    int code = score_names(&names, &count, table, err);
    if (!code) code = csv_rows(t, table, names, count, err);
    er_free(names);
    return code;
}

int er_table_save_csv(const er_table *table, er_err *err)
{
    er_text t = ER_TEXT_INIT;
    int code = er_table_csv(&t, table, err);
    if (!code) code = er_save_text(table->out, "points.csv", &t, err);
    er_text_free(&t);
    return code;
}

/* The last part of a key, where that is enough to tell it from the others. */
static const char *short_key(const er_table *t, int64_t k)
{
    const char *dot = strrchr(t->keys[k], '.'), *name = dot ? dot + 1 : t->keys[k];
    for (int64_t i = 0; i < t->key_count; i++) {
        const char *other = strrchr(t->keys[i], '.');
        if (i != k && !strcmp(other ? other + 1 : t->keys[i], name)) return t->keys[k];
    }
    return name;
}

static int width_of(const er_table *t, int64_t k)
{
    size_t most = strlen(short_key(t, k));
    for (int64_t p = 0; p < t->count; p++) {
        size_t n = strlen(er_table_value(t, p, t->keys[k]));
        if (n > most) most = n;
    }
    return (int)(most < 60 ? most : 60);
}

int er_table_text(er_text *t, const er_table *table, er_err *err)
{
    int64_t best = er_table_best(table);
    ER_TRY(er_text_format(t, err, "%6s  %-12s  %-7s", "number", "point", "state"));
    for (int64_t k = 0; k < table->key_count; k++)
        ER_TRY(er_text_format(t, err, "  %*s", width_of(table, k), short_key(table, k)));
    ER_TRY(er_text_format(t, err, "  %s\n", table->objective));
    for (int64_t p = 0; p < table->count; p++) {
        const er_point *point = &table->points[p];
        double value = er_point_number(point, "objective");
        ER_TRY(er_text_format(t, err, "%6lld  %-12s  %-7s", (long long)p + 1, point->name,
                              er_point_state_text(point->state)));
        for (int64_t k = 0; k < table->key_count; k++)
            ER_TRY(er_text_format(t, err, "  %*.60s", width_of(table, k), er_table_value(table, p, table->keys[k])));
        if (isnan(value)) ER_TRY(er_text_format(t, err, "  -"));
        else ER_TRY(er_text_format(t, err, "  %.4f%s", value, p == best ? "  best" : ""));
        if (point->state == ER_POINT_FAILED) ER_TRY(er_text_format(t, err, "  %.200s", er_point_reason(point)));
        if (*point->holder) ER_TRY(er_text_format(t, err, "  %s", point->holder));
        ER_TRY(er_text_add(t, "\n", err));
    }
    return 0;
}

int er_table_json(er_text *t, const er_table *table, er_err *err)
{
    ER_TRY(er_text_add(t, "[", err));
    for (int64_t p = 0; p < table->count; p++) {
        const er_point *point = &table->points[p];
        json_t *copy = point->json ? json_deep_copy(point->json) : json_object();
        int bad = json_object_set_new(copy, "number", json_integer(p + 1)) ||
                  json_object_set_new(copy, "point", json_string(point->name)) ||
                  json_object_set_new(copy, "state", json_string(er_point_state_text(point->state))) ||
                  json_object_set(copy, "values", json_object_get(point_json(table, p), "values"));
        char *text = bad ? NULL : json_dumps(copy, JSON_COMPACT | JSON_REAL_PRECISION(9));
        int code = text ? er_text_format(t, err, "%s\n%s", p ? "," : "", text)
                        : er_fail(err, ER_E_MEMORY, "no memory for a table of points");
        free(text);
        json_decref(copy);
        ER_TRY(code);
    }
    return er_text_add(t, "\n]\n", err);
}

int er_table_print(er_text *t, const er_table *table, const char *format, er_err *err)
{
    if (!format) return er_table_text(t, table, err);
    if (!strcmp(format, "csv")) return er_table_csv(t, table, err);
    if (!strcmp(format, "json")) return er_table_json(t, table, err);
    return er_fail(err, ER_E_USAGE, "--output %s: expected csv or json", format);
}
