/* SPDX-License-Identifier: Apache-2.0 */
/* Option tables as YAML, as a help page and as a docs table. */
#include "base/options.h"
#include "base/options_value.h"

#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

typedef struct entry {
    const char *prefix;
    const er_option *row;
    const void *target;
    int unset; /* no default, and nobody set it */
} entry;

static int list_entries(entry **out, size_t *count, const er_option_table *tables, size_t tables_count, er_err *err)
{
    entry *list = NULL;
    size_t n = 0, k = 0;
    for (size_t t = 0; t < tables_count; t++) n += tables[t].count;
    ER_TRY(er_alloc(&list, n, err));
    for (size_t t = 0; t < tables_count; t++)
        for (size_t i = 0; i < tables[t].count; i++)
            list[k++] = (entry){tables[t].prefix ? tables[t].prefix : "", &tables[t].rows[i], tables[t].target,
                                !tables[t].rows[i].preset && tables[t].set && !tables[t].set[i]};
    *out = list;
    *count = n;
    return 0;
}

static void key_of(char key[256], const entry *e) { snprintf(key, 256, "%s%s", e->prefix, e->row->key); }

/* A double-quoted YAML scalar: what the YAML reader calls unprintable, and its exotic line ends, are escaped. */
static int quote(er_text *out, const char *text, er_err *err)
{
    const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)text;
    utf8proc_ssize_t left = (utf8proc_ssize_t)strlen(text);
    ER_TRY(er_text_add(out, "\"", err));
    while (left > 0) {
        utf8proc_int32_t c;
        utf8proc_ssize_t n = utf8proc_iterate(p, left, &c);
        if (n < 1) return er_fail(err, ER_E_INPUT, "a path that is no UTF-8 cannot be written as YAML");
        if (c == '"' || c == '\\')
            ER_TRY(er_text_format(out, err, "\\%c", (char)c));
        else if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || c >= 0xfe00)
            ER_TRY(er_text_format(out, err, "\\U%08x", (unsigned)c));
        else
            ER_TRY(er_text_bytes(out, p, (size_t)n, err));
        p += n;
        left -= n;
    }
    return er_text_add(out, "\"", err);
}

static int dump_value(er_text *out, const entry *e, er_err *err)
{
    if (e->unset) return er_text_add(out, "null", err);
    if (e->row->type != ER_OPT_TEXT && e->row->type != ER_OPT_PATH)
        return er_option_print(out, e->row, e->target, err);
    const char *text;
    memcpy(&text, (const char *)e->target + e->row->offset, sizeof text);
    return text ? quote(out, text, err) : er_text_add(out, "null", err);
}

/* Everything below "path" (which ends in '.', or is empty), in the order of first appearance. */
static int dump_level(er_text *out, const entry *list, size_t count, const char *path, int depth, er_err *err)
{
    size_t m = strlen(path);
    for (size_t i = 0; i < count; i++) {
        char key[256], other[256];
        key_of(key, &list[i]);
        if (strncmp(key, path, m)) continue;
        size_t n = strcspn(key + m, ".");
        int leaf = !key[m + n], seen = 0;
        for (size_t j = 0; j < i && !leaf && !seen; j++) {
            key_of(other, &list[j]);
            seen = strncmp(other, key, m + n + 1) == 0;
        }
        if (seen) continue;
        ER_TRY(er_text_format(out, err, "%*s%.*s:%s", depth * 2, "", (int)n, key + m, leaf ? " " : "\n"));
        if (leaf) {
            ER_TRY(dump_value(out, &list[i], err));
            ER_TRY(er_text_add(out, "\n", err));
        } else {
            key[m + n + 1] = 0;
            ER_TRY(dump_level(out, list, count, key, depth + 1, err));
        }
    }
    return 0;
}

int er_options_dump(er_text *out, const er_option_table *tables, size_t tables_count, er_err *err)
{
    entry *list = NULL;
    size_t count = 0;
    ER_TRY(list_entries(&list, &count, tables, tables_count, err));
    int code = dump_level(out, list, count, "", 0, err);
    er_free(list);
    return code;
}

static int help_row(er_text *out, const char *key, const er_option *row, const char *expected, int markdown,
                    er_err *err)
{
    const char *preset = row->preset ? row->preset : row->flags & ER_OPT_REQUIRED ? "required" : "unset";
    const char *help = row->help ? row->help : "";
    if (!markdown)
        return er_text_format(out, err, "  %-26s %s\n  %-26s %s (default: %s)\n", key, help, "", expected, preset);
    ER_TRY(er_text_format(out, err, "| `%s` | %s | `%s` | ", key, expected, preset));
    for (const char *at = help; *at; at++) {
        if (*at == '|') ER_TRY(er_text_add(out, "\\", err));
        ER_TRY(er_text_bytes(out, at, 1, err));
    }
    return er_text_add(out, " |\n", err);
}

int er_options_help(er_text *out, const er_option_table *tables, size_t tables_count, int markdown, er_err *err)
{
    if (markdown) ER_TRY(er_text_add(out, "| key | value | default | meaning |\n|---|---|---|---|\n", err));
    for (size_t t = 0; t < tables_count; t++) {
        for (size_t i = 0; i < tables[t].count; i++) {
            const entry e = {tables[t].prefix ? tables[t].prefix : "", &tables[t].rows[i], NULL, 0};
            char key[256];
            er_text expected = ER_TEXT_INIT;
            key_of(key, &e);
            int code = er_option_expected(&expected, e.row, err);
            if (!code) code = help_row(out, key, e.row, expected.at, markdown, err);
            er_text_free(&expected);
            if (code) return code;
        }
    }
    return 0;
}
