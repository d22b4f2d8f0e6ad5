/* SPDX-License-Identifier: Apache-2.0 */
/* JSON files through jansson, with the file's name and the place in every error. */
#ifndef ER_BASE_JSON_H
#define ER_BASE_JSON_H

#include "base/error.h"

#include <jansson.h>
#include <stddef.h>

/* Any JSON value; duplicate keys and NUL characters in strings are errors. Text errors are ER_E_INPUT with
 * "NAME:LINE:COLUMN: ...", a missing file is ER_E_IO. The caller holds one reference: json_decref. */
int er_json_read(json_t **out, const char *path, er_err *err);
int er_json_parse(json_t **out, const char *text, size_t size, const char *name, er_err *err);

/* "a list", "a text", ...: what a value is, for messages. */
const char *er_json_kind(const json_t *value);

#endif
