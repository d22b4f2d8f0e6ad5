/* SPDX-License-Identifier: Apache-2.0 */
/* Normalization: Unicode forms by utf8proc, and the two rules that SentencePiece-like tokenizers are made of. */
#include "model/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static const struct {
    const char *name;
    int options;
} forms[] = {
    [ER_NFC] = {"NFC", UTF8PROC_STABLE | UTF8PROC_COMPOSE},
    [ER_NFD] = {"NFD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE},
    [ER_NFKC] = {"NFKC", UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
    [ER_NFKD] = {"NFKD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT},
    [ER_PREPEND] = {"Prepend", 0},
    [ER_REPLACE] = {"Replace", 0},
};

const char *er_normal_name(int kind) { return forms[kind].name; }

int er_normal_find(const char *name)
{
    for (int i = ER_NFC; i <= ER_NFKD; i++)
        if (strcmp(name, forms[i].name) == 0) return i;
    return -1;
}

/* The reference library's tables end with Unicode 9: what came later and has a decomposition, a combining class or a
 * part in a composition is left alone there, and parts what stands around it. */
static const uint32_t later[][2] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},     {0xC3C, 0xC3C},
    {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},
    {0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},   {0xA82C, 0xA82C},   {0xAB69, 0xAB69},   {0x10781, 0x107BA},
    {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85},
    {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x11930, 0x11943},
    {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D45},
    {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E030, 0x1E06D}, {0x1E08F, 0x1E08F},
    {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}, {0x1F16C, 0x1F16C},
    {0x1FBF0, 0x1FBF9},
};

static int is_later(uint32_t point)
{
    size_t low = 0, high = sizeof later / sizeof *later;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (point > later[middle][1])
            low = middle + 1;
        else
            high = middle;
    }
    return low < sizeof later / sizeof *later && point >= later[low][0];
}

/* Bytes up to the next later character; *plain: the form changes none of them (NFC: all are below U+0300; others: all are
 * ASCII). */
static size_t stretch(int kind, const char *text, size_t n, int *plain)
{
    uint32_t point, least = kind == ER_NFC ? 0x300 : 0x80;
    *plain = 1;
    for (size_t i = 0, step; i < n; i += step) {
        if ((uint8_t)text[i] < 0x80) {
            step = 1;
            continue;
        }
        step = er_utf8_next(text + i, n - i, &point);
        if (point >= 0x7FD && is_later(point)) return i;
        if (point >= least) *plain = 0;
    }
    return n;
}

static int map_form(int kind, er_text *out, const char *text, size_t n, er_err *err)
{
    utf8proc_uint8_t *made = NULL;
    utf8proc_ssize_t length = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, &made,
                                           (utf8proc_option_t)forms[kind].options);
    if (length < 0)
        return er_fail(err, length == UTF8PROC_ERROR_NOMEM ? ER_E_MEMORY : ER_E_INPUT, "%s of %zu bytes: %s",
                       forms[kind].name, n, utf8proc_errmsg(length));
    int code = er_text_bytes(out, made, (size_t)length, err);
    free(made); /* utf8proc's */
    return code;
}

static int unicode_form(int kind, er_text *out, const char *text, size_t n, er_err *err)
{
    for (size_t i = 0; i < n;) {
        int plain;
        size_t length = stretch(kind, text + i, n - i, &plain);
        if (length && plain) ER_TRY(er_text_bytes(out, text + i, length, err));
        if (length && !plain) ER_TRY(map_form(kind, out, text + i, length, err));
        i += length;
        if (i == n) break;
        length = er_utf8_next(text + i, n - i, NULL);
        ER_TRY(er_text_bytes(out, text + i, length, err));
        i += length;
    }
    return 0;
}

static int replace(const er_normal *z, er_text *out, const char *text, size_t n, er_err *err)
{
    size_t done = 0;
    for (size_t i = 0; i + z->what.length <= n;) {
        const char *hit = memchr(text + i, z->what.at[0], n - z->what.length + 1 - i);
        if (!hit) break;
        i = (size_t)(hit - text);
        if (memcmp(hit, z->what.at, z->what.length) != 0) {
            i++;
            continue;
        }
        ER_TRY(er_text_bytes(out, text + done, i - done, err));
        ER_TRY(er_text_bytes(out, z->with.at, z->with.length, err));
        done = i += z->what.length;
    }
    return er_text_bytes(out, text + done, n - done, err);
}

static int one_step(const er_normal *z, er_text *out, const char *text, size_t n, er_err *err)
{
    if (n == 0) return 0;
    if (z->kind == ER_REPLACE) return replace(z, out, text, n, err);
    if (z->kind == ER_PREPEND) {
        ER_TRY(er_text_bytes(out, z->with.at, z->with.length, err));
        return er_text_bytes(out, text, n, err);
    }
    for (size_t i = 0; i < n;) {
        size_t valid = er_utf8_valid(text + i, n - i);
        if (valid) ER_TRY(unicode_form(z->kind, out, text + i, valid, err));
        i += valid;
        if (i < n) ER_TRY(er_text_bytes(out, text + i++, 1, err));
    }
    return 0;
}

int er_normalize(const er_normalizer *z, er_text *out, const char *text, size_t n, er_err *err)
{
    if (z->count == 0) return er_text_bytes(out, text, n, err);
    er_text now = ER_TEXT_INIT, next = ER_TEXT_INIT;
    int code = 0;
    for (int i = 0; i < z->count && !code; i++) {
        int last = i == z->count - 1;
        next.length = 0;
        code = one_step(&z->steps[i], last ? out : &next, i ? now.at : text, i ? now.length : n, err);
        er_text swap = now;
        now = next;
        next = swap;
    }
    er_text_free(&now);
    er_text_free(&next);
    return code;
}
