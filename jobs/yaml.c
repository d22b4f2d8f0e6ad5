/* SPDX-License-Identifier: Apache-2.0 */
#include "jobs/yaml.h"

#include "base/file.h"

#include <string.h>
#include <yaml.h>

enum { DEPTH_MOST = 64 };

typedef struct reader {
    yaml_parser_t parser;
    const char *name, *text;
    size_t size;
    er_arena *arena;
    er_err *err;
} reader;

static int fail_at(const reader *r, yaml_mark_t mark, const char *what)
{
    return er_fail(r->err, ER_E_INPUT, "%s:%zu:%zu: %s", r->name, mark.line + 1, mark.column + 1, what);
}

/* Whether line number `line` (from 0) begins with white space that holds a tab; *column is the tab's. */
static int tab_indents(const reader *r, size_t line, size_t *column)
{
    const char *at = r->text, *end = r->text + r->size;
    for (; line > 0 && at < end; line--) {
        const char *next = memchr(at, '\n', (size_t)(end - at));
        at = next ? next + 1 : end;
    }
    for (const char *start = at; at < end && (*at == ' ' || *at == '\t'); at++) {
        *column = (size_t)(at - start);
        if (*at == '\t') return 1;
    }
    return 0;
}

static int parser_error(const reader *r)
{
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR) return er_fail(r->err, ER_E_MEMORY, "%s: no memory for its YAML", r->name);
    const char *problem = p->problem ? p->problem : "not YAML";
    if (p->error == YAML_READER_ERROR) {
        size_t line = 1, column = 1;
        for (size_t i = 0; i < p->problem_offset && i < r->size; i++) {
            if (r->text[i] == '\n') {
                line++;
                column = 0;
            }
            column += ((unsigned char)r->text[i] & 0xc0) != 0x80;
        }
        return er_fail(r->err, ER_E_INPUT, "%s:%zu:%zu: %s, expected UTF-8 text", r->name, line, column, problem);
    }
    yaml_mark_t mark = p->problem_mark;
    size_t column = 0;
    if (tab_indents(r, mark.line, &column)) {
        mark.column = column;
        return fail_at(r, mark, "a tab cannot indent, expected spaces");
    }
    if (p->context)
        return er_fail(r->err, ER_E_INPUT, "%s:%zu:%zu: %s, %s", r->name, mark.line + 1, mark.column + 1, problem,
                       p->context);
    return fail_at(r, mark, problem);
}

static int next_event(reader *r, yaml_event_t *event)
{
    return yaml_parser_parse(&r->parser, event) ? 0 : parser_error(r);
}

static int refuse_decoration(const reader *r, const yaml_event_t *e)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (e->type) {
    case YAML_ALIAS_EVENT: return fail_at(r, e->start_mark, "aliases (*name) are not supported, expected a value");
    case YAML_SCALAR_EVENT: anchor = e->data.scalar.anchor, tag = e->data.scalar.tag; break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = e->data.sequence_start.anchor, tag = e->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT: anchor = e->data.mapping_start.anchor, tag = e->data.mapping_start.tag; break;
    default: break;
    }
    if (anchor) return fail_at(r, e->start_mark, "anchors (&name) are not supported, expected a value");
    if (tag) return fail_at(r, e->start_mark, "tags (!name) are not supported, expected a value");
    return 0;
}

static int scalar_text(const reader *r, const yaml_event_t *e, char **out)
{
    size_t n = e->data.scalar.length;
    if (memchr(e->data.scalar.value, 0, n)) return fail_at(r, e->start_mark, "a text holds the character 0");
    ER_TRY(er_arena_take(r->arena, out, n + 1, r->err));
    memcpy(*out, e->data.scalar.value, n);
    (*out)[n] = 0;
    return 0;
}

static int build(reader *r, const yaml_event_t *e, er_yaml *node, int depth);

/* One event becomes one node; the event is consumed. */
static int take(reader *r, yaml_event_t *e, er_yaml *node, int depth)
{
    int code = refuse_decoration(r, e);
    if (!code) code = build(r, e, node, depth);
    yaml_event_delete(e);
    return code;
}

static int take_key(reader *r, yaml_event_t *e, er_yaml *node)
{
    char *key = NULL;
    int code = refuse_decoration(r, e);
    if (!code && e->type != YAML_SCALAR_EVENT) code = fail_at(r, e->start_mark, "expected a key");
    if (!code) code = scalar_text(r, e, &key);
    node->key = key;
    node->line = (int64_t)e->start_mark.line + 1;
    node->column = (int64_t)e->start_mark.column + 1;
    yaml_event_delete(e);
    return code;
}

static int children(reader *r, er_yaml *parent, int depth)
{
    yaml_event_type_t end = parent->kind == ER_YAML_MAP ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT;
    for (er_yaml **tail = &parent->first;; tail = &(*tail)->next) {
        yaml_event_t e;
        er_yaml *child = NULL;
        ER_TRY(next_event(r, &e));
        if (e.type == end) {
            yaml_event_delete(&e);
            return 0;
        }
        int code = er_arena_take(r->arena, &child, 1, r->err);
        if (code) {
            yaml_event_delete(&e);
            return code;
        }
        memset(child, 0, sizeof *child);
        if (parent->kind == ER_YAML_MAP) {
            ER_TRY(take_key(r, &e, child));
            ER_TRY(next_event(r, &e));
        }
        ER_TRY(take(r, &e, child, depth + 1));
        *tail = child;
        parent->count++;
    }
}

static int build(reader *r, const yaml_event_t *e, er_yaml *node, int depth)
{
    node->value_line = (int64_t)e->start_mark.line + 1;
    node->value_column = (int64_t)e->start_mark.column + 1;
    if (!node->key) {
        node->line = node->value_line;
        node->column = node->value_column;
    }
    if (depth > DEPTH_MOST) return fail_at(r, e->start_mark, "more than 64 levels of nesting");
    if (e->type == YAML_SCALAR_EVENT) {
        char *text = NULL;
        ER_TRY(scalar_text(r, e, &text));
        node->kind = ER_YAML_SCALAR;
        node->text = text;
        node->plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        return 0;
    }
    node->kind = e->type == YAML_MAPPING_START_EVENT ? ER_YAML_MAP : ER_YAML_LIST;
    return children(r, node, depth);
}

static int document(reader *r, er_yaml **root)
{
    er_yaml *node = NULL;
    yaml_event_t e;
    ER_TRY(next_event(r, &e)); /* stream start */
    yaml_event_delete(&e);
    ER_TRY(next_event(r, &e)); /* document start, or the end of an empty stream */
    int empty = e.type == YAML_STREAM_END_EVENT;
    yaml_event_delete(&e);
    if (!empty) {
        ER_TRY(er_arena_take(r->arena, &node, 1, r->err));
        memset(node, 0, sizeof *node);
        ER_TRY(next_event(r, &e));
        ER_TRY(take(r, &e, node, 0));
        ER_TRY(next_event(r, &e)); /* document end */
        yaml_event_delete(&e);
        ER_TRY(next_event(r, &e));
        int code = e.type == YAML_STREAM_END_EVENT ? 0 : fail_at(r, e.start_mark, "expected one document, not several");
        yaml_event_delete(&e);
        if (code) return code;
    }
    *root = node;
    return 0;
}

int er_yaml_parse(er_yaml **root, const char *text, size_t size, const char *name, er_arena *arena, er_err *err)
{
    reader r = {.name = name, .text = text, .size = size, .arena = arena, .err = err};
    if (!yaml_parser_initialize(&r.parser)) return er_fail(err, ER_E_MEMORY, "%s: no memory for its YAML", name);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, size);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    int code = document(&r, root);
    yaml_parser_delete(&r.parser);
    return code;
}

int er_yaml_read(er_yaml **root, const char *path, er_arena *arena, er_err *err)
{
    char *text = NULL;
    size_t size = 0;
    ER_TRY(er_file_read(&text, &size, path, err));
    int code = er_yaml_parse(root, text, size, path, arena, err);
    er_free(text);
    return code;
}

const er_yaml *er_yaml_child(const er_yaml *map, const char *key)
{
    const er_yaml *found = NULL;
    for (const er_yaml *c = map && map->kind == ER_YAML_MAP ? map->first : NULL; c; c = c->next)
        if (strcmp(c->key, key) == 0) found = c;
    return found;
}

int er_yaml_is_null(const er_yaml *node)
{
    return node->kind == ER_YAML_SCALAR && node->plain && (!strcmp(node->text, "null") || !strcmp(node->text, "~"));
}

const char *er_yaml_kind_text(const er_yaml *node)
{
    return node->kind == ER_YAML_MAP ? "a mapping" : node->kind == ER_YAML_LIST ? "a list" : "a value";
}
