/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/sheet.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *copy(er_sheet *s, const char *text)
{
    const char *kept = er_arena_strdup(s->arena, text ? text : "", s->err);
    if (!kept) s->code = ER_E_MEMORY;
    return kept;
}

static void add(er_sheet *s, er_sheet_row row)
{
    if (s->code) return;
    row.key = copy(s, row.key);
    row.title = copy(s, row.title);
    row.note = copy(s, row.note);
    row.text = copy(s, row.text);
    if (!s->code) s->code = er_grow(&s->row, &s->capacity, s->count + 1, s->err);
    if (!s->code) s->row[s->count++] = row;
}

void er_sheet_section(er_sheet *s, const char *key, const char *title)
{
    add(s, (er_sheet_row){.section = 1, .key = key, .title = title});
}

void er_sheet_put(er_sheet *s, enum er_figure kind, const char *key, double value, const char *title, const char *note)
{
    add(s, (er_sheet_row){.kind = kind, .key = key, .title = title, .note = note, .value = value});
}

void er_sheet_say(er_sheet *s, const char *key, const char *title, const char *format, ...)
{
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    add(s, (er_sheet_row){.kind = ER_FIGURE_TEXT, .key = key, .title = title, .text = text});
}

void er_sheet_free(er_sheet *s)
{
    er_free(s->row);
    s->row = NULL;
    s->count = s->capacity = 0;
}

static void format_count(char *out, size_t size, double value)
{
    char digits[32];
    int n = snprintf(digits, sizeof digits, "%.0f", value), at = 0;
    for (int i = 0; i < n && at + 2 < (int)size; i++) {
        if (i && (n - i) % 3 == 0) out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = 0;
}

/* Decimal multiples, four digits. */
static void format_scaled(char *out, size_t size, double value, const char *unit)
{
    static const char *const prefix[] = {"", "k", "M", "G", "T", "P", "E"};
    size_t i = 0;
    while (value >= 999.95 && i + 1 < sizeof prefix / sizeof *prefix) value /= 1000, i++;
    snprintf(out, size, "%.4g %s%s", value, prefix[i], unit);
}

static void format_figure(char *out, size_t size, const er_sheet_row *row)
{
    switch (row->kind) {
    case ER_FIGURE_COUNT: format_count(out, size, row->value); break;
    case ER_FIGURE_BYTES: format_scaled(out, size, row->value, "B"); break;
    case ER_FIGURE_FLOP: format_scaled(out, size, row->value, "FLOP"); break;
    case ER_FIGURE_SECONDS: snprintf(out, size, "%.3g s", row->value); break;
    default: snprintf(out, size, "%.4g", row->value);
    }
}

int er_sheet_text(const er_sheet *s, er_text *out, er_err *err)
{
    for (size_t i = 0; i < s->count; i++) {
        const er_sheet_row *row = &s->row[i];
        char figure[64];
        if (row->section) {
            ER_TRY(er_text_format(out, err, "%s%s\n", i ? "\n" : "", row->title));
        } else if (row->kind == ER_FIGURE_TEXT) {
            ER_TRY(er_text_format(out, err, "  %-38s  %s\n", row->title, row->text));
        } else {
            format_figure(figure, sizeof figure, row);
            ER_TRY(er_text_format(out, err, "  %-38s %16s%s%s\n", row->title, figure, *row->note ? "  " : "",
                                  row->note));
        }
    }
    return 0;
}

static json_t *json_of(const er_sheet_row *row)
{
    if (row->kind == ER_FIGURE_TEXT) return json_string(row->text);
    if (fabs(row->value) < 9e15 && !(row->value - floor(row->value) > 0)) return json_integer((json_int_t)row->value);
    return json_real(row->value);
}

int er_sheet_json(const er_sheet *s, er_text *out, er_err *err)
{
    static const char *const ending[] = {[ER_FIGURE_COUNT] = "", [ER_FIGURE_NUMBER] = "", [ER_FIGURE_TEXT] = "",
                                         [ER_FIGURE_BYTES] = "_bytes", [ER_FIGURE_FLOP] = "_flop",
                                         [ER_FIGURE_SECONDS] = "_seconds"};
    json_t *root = json_object(), *section = root;
    int failed = !root;
    for (size_t i = 0; i < s->count && !failed; i++) {
        const er_sheet_row *row = &s->row[i];
        char key[128];
        snprintf(key, sizeof key, "%s%s", row->key, row->section ? "" : ending[row->kind]);
        if (row->section) {
            section = json_object();
            failed = json_object_set_new(root, key, section);
        } else {
            failed = json_object_set_new(section, key, json_of(row));
        }
    }
    char *text = failed ? NULL : json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(10));
    int code = text ? er_text_format(out, err, "%s\n", text) : er_fail(err, ER_E_MEMORY, "no memory for JSON");
    free(text);
    json_decref(root);
    return code;
}
