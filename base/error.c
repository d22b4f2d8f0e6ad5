/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *text;
    int exit_code;
} codes[] = {
    {"ok", 0},
#define X(name, text, exit_code) {text, exit_code},
    ER_CODES(X)
#undef X
};

static size_t code_index(int code)
{
    size_t index = code < 0 ? (size_t)-code : 0;
    return index < sizeof codes / sizeof *codes ? index : (size_t)-ER_E_INTERNAL;
}

const char *er_code_text(int code) { return codes[code_index(code)].text; }

int er_exit_code(int code) { return codes[code_index(code)].exit_code; }

int er_fail_at(er_err *err, const char *file, int line, int code, const char *format, ...)
{
    if (err) {
        va_list args;
        err->code = code;
        err->file = file;
        err->line = line;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
    }
    return code;
}

int er_prefix(er_err *err, const char *format, ...)
{
    if (!err) return ER_E_INTERNAL;
    char old[sizeof err->text];
    memcpy(old, err->text, sizeof old);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    if (n < 0) n = 0;
    size_t used = (size_t)n < sizeof err->text ? (size_t)n : sizeof err->text - 1;
    size_t left = sizeof err->text - 1 - used;
    size_t length = strlen(old);
    if (length > left) length = left;
    memcpy(err->text + used, old, length);
    err->text[used + length] = 0;
    return err->code;
}

void er_bug(const char *file, int line, const char *condition)
{
    fprintf(stderr, "errata: bug at %s:%d: %s does not hold\n", file, line, condition);
    abort();
}
