/* SPDX-License-Identifier: Apache-2.0 */
/* Oniguruma's Ruby dialect -> PCRE2 with UTF and UCP.
 *
 * Most of a pattern means the same in both. Rewritten: \s and \S (PCRE2's also match U+180E), \w (PCRE2 10.42 leaves
 * marks out), script names (PCRE2 takes script extensions). Everything whose meaning differs and that no known
 * tokenizer uses is refused by name, because a pattern that is understood differently gives wrong ids silently. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/pretokenize.h"

#include <ctype.h>
#include <pcre2.h>
#include <stdio.h>
#include <string.h>

typedef struct reader {
    const char *pattern, *p;
    er_text *out;
    int in_class;
    er_err *err;
} reader;

static int refuse(const reader *r, const char *what)
{
    return er_fail(r->err, ER_E_UNSUPPORTED, "pre-tokenizer pattern '%.300s': %s at offset %zu", r->pattern, what,
                   (size_t)(r->p - r->pattern));
}

static int is_script(const char *name, size_t n)
{
    char test[64];
    int number;
    PCRE2_SIZE offset;
    if (n > 40) return 0;
    snprintf(test, sizeof test, "\\p{sc:%.*s}", (int)n, name);
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)test, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &number, &offset, NULL);
    pcre2_code_free(code);
    return code != NULL;
}

/* at \p or \P */
static int property(reader *r)
{
    const char *name = r->p + 2;
    char letter = r->p[1];
    if (*name != '{') return refuse(r, "a property without braces");
    name++;
    int negated = *name == '^';
    name += negated;
    size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_");
    if (n == 0 || name[n] != '}') return refuse(r, "a property name");
    r->p = name + n + 1;
    return er_text_format(r->out, r->err, "\\%c{%s%s%.*s}", letter, negated ? "^" : "",
                          n > 2 && is_script(name, n) ? "sc:" : "", (int)n, name);
}

/* at \x or \u */
static int code_point(reader *r)
{
    int braces = r->p[1] == 'x' && r->p[2] == '{';
    const char *digits = r->p + 2 + braces;
    size_t most = r->p[1] == 'u' ? 4 : braces ? 6 : 2, n = strspn(digits, "0123456789abcdefABCDEF");
    if (n > most && !braces) n = most;
    if (n == 0 || n > most || (r->p[1] == 'u' && n < 4) || (braces && digits[n] != '}'))
        return refuse(r, "a code point");
    char text[8] = {0};
    memcpy(text, digits, n);
    if (r->p[1] == 'x' && !braces && (n < 2 || text[0] > '7')) /* there it is a byte of UTF-8, here a code point */
        return refuse(r, "\\x of a byte beyond ASCII");
    r->p = digits + n + braces;
    return er_text_format(r->out, r->err, "\\x{%s}", text);
}

static int escape(reader *r)
{
    static const struct {
        char letter;
        const char *outside, *inside; /* NULL: refused */
    } known[] = {
        {'s', "\\p{White_Space}", "\\p{White_Space}"},
        {'S', "\\P{White_Space}", "\\P{White_Space}"},
        {'d', "\\p{Nd}", "\\p{Nd}"},
        {'D', "\\P{Nd}", "\\P{Nd}"},
        {'w', "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]", "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"},
        {'W', "[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]", NULL},
        {'n', "\\n", "\\n"},
        {'r', "\\r", "\\r"},
        {'t', "\\t", "\\t"},
        {'f', "\\f", "\\f"},
        {'v', "\\x0b", "\\x0b"},
        {'A', "\\A", NULL},
        {'z', "\\z", NULL},
    };
    char c = r->p[1];
    if (c == 'p' || c == 'P') return property(r);
    if (c == 'x' || c == 'u') return code_point(r);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i].letter != c) continue;
        const char *text = r->in_class ? known[i].inside : known[i].outside;
        if (!text) break;
        r->p += 2;
        return er_text_add(r->out, text, r->err);
    }
    if (!c || isalnum((unsigned char)c) || (unsigned char)c >= 0x80) return refuse(r, "an escape");
    r->p += 2;
    return er_text_bytes(r->out, r->p - 2, 2, r->err);
}

/* at ( */
static int group(reader *r)
{
    static const char *const same[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"};
    if (r->p[1] == '*') return refuse(r, "(*");
    if (r->p[1] != '?') return er_text_bytes(r->out, r->p++, 1, r->err);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        size_t n = strlen(same[i]);
        if (strncmp(r->p, same[i], n) != 0) continue;
        r->p += n;
        return er_text_add(r->out, same[i], r->err);
    }
    if (r->p == r->pattern && strncmp(r->p, "(?i)", 4) == 0) {
        r->p += 4;
        return er_text_add(r->out, "(?i)", r->err);
    }
    return refuse(r, "a group");
}

/* at {: a counted repeat or a plain brace */
static int brace(reader *r)
{
    const char *q = r->p + 1;
    size_t low = strspn(q, "0123456789"), high = 0;
    int comma = q[low] == ',';
    if (comma) high = strspn(q + low + 1, "0123456789");
    const char *end = q + low + (size_t)comma + high;
    if (*end != '}' || low + high == 0) return refuse(r, "a brace that counts nothing");
    if (end[1] == '+' || (end[1] == '?' && !comma)) return refuse(r, "a sign behind a counted repeat");
    int code = er_text_format(r->out, r->err, "{%s%.*s", low ? "" : "0", (int)(end + 1 - q), q);
    r->p = end + 1;
    return code;
}

static int class_start(reader *r)
{
    r->in_class = 1;
    size_t n = r->p[1] == '^' ? 2 : 1;
    int code = er_text_bytes(r->out, r->p, n, r->err);
    r->p += n;
    return code || *r->p != ']' ? code : refuse(r, "an empty class");
}

static int in_class(reader *r)
{
    if (*r->p == '[') return refuse(r, "a class in a class");
    if (r->p[0] == '&' && r->p[1] == '&') return refuse(r, "an intersection");
    if (*r->p == ']') r->in_class = 0;
    return er_text_bytes(r->out, r->p++, 1, r->err);
}

int er_regex_translate(er_text *out, const char *pattern, er_err *err)
{
    reader r = {pattern, pattern, out, 0, err};
    while (*r.p) {
        int code;
        if (*r.p == '\\')
            code = escape(&r);
        else if (r.in_class)
            code = in_class(&r);
        else if (*r.p == '[')
            code = class_start(&r);
        else if (*r.p == '(')
            code = group(&r);
        else if (*r.p == '{')
            code = brace(&r);
        else
            code = er_text_bytes(r.out, r.p++, 1, r.err);
        if (code) return code;
    }
    return r.in_class ? refuse(&r, "a class without an end") : er_text_bytes(out, "", 0, err);
}
