/* SPDX-License-Identifier: Apache-2.0 */
/* Growing text, and the nearest known word for error messages. */
#ifndef ER_BASE_TEXT_H
#define ER_BASE_TEXT_H

#include "base/error.h"

#include <stdarg.h>
#include <stddef.h>

typedef struct er_text {
    char *at; /* always ends in 0 once something was added; NULL before */
    size_t length, capacity;
} er_text;

#define ER_TEXT_INIT {NULL, 0, 0}

int er_text_add(er_text *t, const char *text, er_err *err);
int er_text_bytes(er_text *t, const void *bytes, size_t n, er_err *err);
int er_text_format(er_text *t, er_err *err, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* A JSON string with its quotes; bytes that are no UTF-8 become U+FFFD. */
int er_text_json(er_text *t, const char *text, er_err *err);
/* A JSON number: %.9g (exact for every float), null when not finite. */
int er_text_float(er_text *t, double value, er_err *err);
void er_text_free(er_text *t);

/* The candidate nearest to `word` by edit distance, NULL when none is near. */
const char *er_nearest(const char *word, const char *const *candidates, size_t count);

#endif
