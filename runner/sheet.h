/* SPDX-License-Identifier: Apache-2.0 */
/* A list of named figures in sections, printed for people or as JSON. */
#ifndef ER_RUNNER_SHEET_H
#define ER_RUNNER_SHEET_H

#include "base/memory.h"
#include "base/text.h"

#include <stdint.h>

/* How a figure is printed, and what its key ends in: bytes as kB, MB, ... ("_bytes"), operations as GFLOP, ...
 * ("_flop"), seconds ("_seconds"), counts with all digits, numbers with four. */
enum er_figure { ER_FIGURE_COUNT, ER_FIGURE_NUMBER, ER_FIGURE_BYTES, ER_FIGURE_FLOP, ER_FIGURE_SECONDS,
                 ER_FIGURE_TEXT };

typedef struct er_sheet_row {
    int section; /* title is a section's, key its name in JSON */
    enum er_figure kind;
    const char *key, *title, *note;
    double value;
    const char *text;
} er_sheet_row;

/* Texts are copied into the arena. The first error stays in *err and later calls do nothing: check `code` once. */
typedef struct er_sheet {
    er_arena *arena;
    er_sheet_row *row;
    size_t count, capacity;
    int code;
    er_err *err;
} er_sheet;

void er_sheet_section(er_sheet *s, const char *key, const char *title);
/* note: NULL or what stands behind the figure. */
void er_sheet_put(er_sheet *s, enum er_figure kind, const char *key, double value, const char *title, const char *note);
void er_sheet_say(er_sheet *s, const char *key, const char *title, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void er_sheet_free(er_sheet *s);

int er_sheet_text(const er_sheet *s, er_text *out, er_err *err);
/* {"section": {"key": number or text, ...}, ...} */
int er_sheet_json(const er_sheet *s, er_text *out, er_err *err);

#endif
