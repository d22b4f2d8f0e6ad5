/* SPDX-License-Identifier: Apache-2.0 */
/* YAML (and JSON, which is nearly a part of it) as a tree of texts with places; the reader of the tree decides what a
 * text means. Anchors, aliases, tags, several documents and nesting beyond 64 levels are refused. */
#ifndef ER_JOBS_YAML_H
#define ER_JOBS_YAML_H

#include "base/error.h"
#include "base/memory.h"

#include <stddef.h>
#include <stdint.h>

enum er_yaml_kind { ER_YAML_SCALAR, ER_YAML_LIST, ER_YAML_MAP };

typedef struct er_yaml er_yaml;
struct er_yaml {
    enum er_yaml_kind kind;
    int plain;           /* a scalar without quotes */
    const char *text;    /* scalar: UTF-8 without 0 inside */
    const char *key;     /* the key of a member of a map, else NULL */
    int64_t line, column; /* of the key for members of a map, else of the value; from 1 */
    int64_t value_line, value_column;
    int64_t count;       /* children of a list or a map, in order: */
    er_yaml *first, *next;
};

/* Everything lives in the arena. *root is NULL for an empty document. Errors: ER_E_INPUT, "NAME:LINE:COLUMN: ...". */
int er_yaml_parse(er_yaml **root, const char *text, size_t size, const char *name, er_arena *arena, er_err *err);
int er_yaml_read(er_yaml **root, const char *path, er_arena *arena, er_err *err);

/* The last child of a map with that key, or NULL; map may be NULL or no map. */
const er_yaml *er_yaml_child(const er_yaml *map, const char *key);
/* An unquoted null or ~. */
int er_yaml_is_null(const er_yaml *node);
/* "a mapping", "a list", "a value". */
const char *er_yaml_kind_text(const er_yaml *node);

#endif
