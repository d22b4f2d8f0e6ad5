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

static int is_ascii(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((uint8_t)text[i] >= 0x80) return 0;
    return 1;
}

static int unicode_form(int kind, er_text *out, const char *text, size_t n, er_err *err)
{
    if (is_ascii(text, n)) return er_text_bytes(out, text, n, err);
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
