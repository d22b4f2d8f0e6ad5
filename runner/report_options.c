/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of job.resolved.yaml as flat texts: a report must read jobs of methods and versions that it does not know,
 * so it does not go through er_job_read. */
#include "runner/report_data.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

enum { MOST_DEPTH = 16 };

static int add(er_report *r, const char *key, const char *value, er_err *err)
{
    ER_TRY(er_grow(&r->options, &r->option_room, (size_t)r->option_count + 1, err));
    char *k = er_arena_strdup(r->arena, key, err), *v = er_arena_strdup(r->arena, value, err);
    if (!k || !v) return ER_E_MEMORY;
    r->options[r->option_count++] = (er_report_option){k, v};
    return 0;
}

static int list_text(er_text *out, yaml_document_t *document, const yaml_node_t *list, er_err *err)
{
    ER_TRY(er_text_add(out, "[", err));
    for (yaml_node_item_t *i = list->data.sequence.items.start; i < list->data.sequence.items.top; i++) {
        const yaml_node_t *node = yaml_document_get_node(document, *i);
        const char *text = node && node->type == YAML_SCALAR_NODE ? (const char *)node->data.scalar.value : "...";
        ER_TRY(er_text_add(out, i > list->data.sequence.items.start ? ", " : "", err));
        ER_TRY(er_text_add(out, text, err));
    }
    return er_text_add(out, "]", err);
}

static int walk(er_report *r, yaml_document_t *document, const yaml_node_t *node, const char *key, int depth,
                er_err *err)
{
    er_text text = ER_TEXT_INIT;
    int code = 0;
    if (!node || depth > MOST_DEPTH) return 0;
    if (node->type == YAML_SCALAR_NODE) return add(r, key, (const char *)node->data.scalar.value, err);
    if (node->type == YAML_SEQUENCE_NODE) {
        code = list_text(&text, document, node, err);
        if (!code) code = add(r, key, text.at, err);
        er_text_free(&text);
        return code;
    }
    for (yaml_node_pair_t *p = node->data.mapping.pairs.start; !code && p < node->data.mapping.pairs.top; p++) {
        const yaml_node_t *name = yaml_document_get_node(document, p->key);
        if (!name || name->type != YAML_SCALAR_NODE) continue;
        text.length = 0;
        code = er_text_format(&text, err, "%s%s%s", key, *key ? "." : "", (const char *)name->data.scalar.value);
        if (!code) code = walk(r, document, yaml_document_get_node(document, p->value), text.at, depth + 1, err);
    }
    er_text_free(&text);
    return code;
}

int er_report_read_options(er_report *r, er_err *err)
{
    yaml_parser_t parser;
    yaml_document_t document;
    if (!yaml_parser_initialize(&parser)) return er_fail(err, ER_E_MEMORY, "no memory for a YAML parser");
    yaml_parser_set_input_string(&parser, (const unsigned char *)r->job_text, strlen(r->job_text));
    int code = 0, read = yaml_parser_load(&parser, &document);
    if (read) {
        code = walk(r, &document, yaml_document_get_root_node(&document), "", 0, err);
        yaml_document_delete(&document);
    } else {
        code = er_report_note(r, err, "job.resolved.yaml is shown as it is: line %zu is no YAML.",
                              parser.problem_mark.line + 1);
    }
    yaml_parser_delete(&parser);
    return code;
}
