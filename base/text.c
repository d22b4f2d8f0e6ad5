/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"

#include "base/memory.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

int er_text_bytes(er_text *t, const void *bytes, size_t n, er_err *err)
{
    ER_TRY(er_grow(&t->at, &t->capacity, t->length + n + 1, err));
    if (n) memcpy(t->at + t->length, bytes, n);
    t->length += n;
    t->at[t->length] = 0;
    return 0;
}

int er_text_add(er_text *t, const char *text, er_err *err) { return er_text_bytes(t, text, strlen(text), err); }

int er_text_format(er_text *t, er_err *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) return er_fail(err, ER_E_INTERNAL, "cannot format '%s'", format);
    ER_TRY(er_grow(&t->at, &t->capacity, t->length + (size_t)n + 1, err));
    va_start(args, format);
    vsnprintf(t->at + t->length, (size_t)n + 1, format, args);
    va_end(args);
    t->length += (size_t)n;
    return 0;
}

int er_text_json(er_text *t, const char *text, er_err *err)
{
    const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)text;
    utf8proc_ssize_t left = (utf8proc_ssize_t)strlen(text);
    ER_TRY(er_text_add(t, "\"", err));
    while (left > 0) {
        utf8proc_int32_t point;
        utf8proc_ssize_t n = utf8proc_iterate(p, left, &point);
        if (n < 1) {
            ER_TRY(er_text_add(t, "\\ufffd", err));
            n = 1;
        } else if (point == '"' || point == '\\') {
            ER_TRY(er_text_format(t, err, "\\%c", (char)point));
        } else if (point == '\n') {
            ER_TRY(er_text_add(t, "\\n", err));
        } else if (point < 0x20 || point == 0x7f) {
            ER_TRY(er_text_format(t, err, "\\u%04x", (unsigned)point));
        } else {
            ER_TRY(er_text_bytes(t, p, (size_t)n, err));
        }
        p += n;
        left -= n;
    }
    return er_text_add(t, "\"", err);
}

int er_text_float(er_text *t, double value, er_err *err)
{
    return isfinite(value) ? er_text_format(t, err, "%.9g", value) : er_text_add(t, "null", err);
}

void er_text_free(er_text *t)
{
    er_free(t->at);
    *t = (er_text)ER_TEXT_INIT;
}

enum { WORD = 64 };

static size_t distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b), row[WORD + 1];
    if (n > WORD || m > WORD) return (size_t)-1;
    for (size_t j = 0; j <= m; j++) row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t change = diagonal + (tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]));
            diagonal = row[j];
            if (row[j] + 1 < change) change = row[j] + 1;
            if (row[j - 1] + 1 < change) change = row[j - 1] + 1;
            row[j] = change;
        }
    }
    return row[m];
}

const char *er_nearest(const char *word, const char *const *candidates, size_t count)
{
    const char *best = NULL;
    size_t least = strlen(word) / 2 + 2;
    for (size_t i = 0; i < count; i++) {
        size_t d = distance(word, candidates[i]);
        if (d < least) {
            least = d;
            best = candidates[i];
        }
    }
    return best;
}
