/* SPDX-License-Identifier: Apache-2.0 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/pretokenize.h"

#include "base/memory.h"
#include "model/bpe.h"

#include <pcre2.h>
#include <string.h>
#include <utf8proc.h>

enum { PATTERN_MOST = 16384 };

/* English contractions, then runs of letters, numbers and the rest, each with one space before; white space keeps its
 * last space for the word that follows. */
static const char gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static const char *const behavior_names[] = {
#define X(name, text) text,
    ER_BEHAVIORS(X)
#undef X
};
enum { BEHAVIORS = sizeof behavior_names / sizeof *behavior_names };

const char *er_behavior_name(int behavior) { return behavior_names[behavior]; }

int er_behavior_find(const char *name)
{
    for (int i = 0; i < BEHAVIORS; i++)
        if (strcmp(name, behavior_names[i]) == 0) return i;
    return -1;
}

/* --- making ------------------------------------------------------------------------------------------------------- */

static int compile_text(pcre2_code **out, const char *text, uint32_t options, const char *shown, er_err *err)
{
    int number;
    PCRE2_SIZE offset;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return er_fail(err, ER_E_MEMORY, "no memory for a pattern");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, options, &number, &offset, context);
    pcre2_compile_context_free(context);
    if (!code) {
        PCRE2_UCHAR reason[128];
        pcre2_get_error_message(number, reason, sizeof reason / sizeof *reason);
        return er_fail(err, ER_E_UNSUPPORTED, "pre-tokenizer pattern '%.300s': %s", shown, (const char *)reason);
    }
    /* without JIT (other CPUs, hardened kernels) the interpreter matches the same */
    (void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
    *out = code;
    return 0;
}

static int compile(pcre2_code **out, const char *pattern, int literal, er_err *err)
{
    if (literal) return compile_text(out, pattern, PCRE2_UTF | PCRE2_LITERAL, pattern, err);
    er_text translated = ER_TEXT_INIT;
    int code = er_regex_translate(&translated, pattern, err);
    /* in Ruby's dialect ^ and $ are always about lines */
    if (!code) code = compile_text(out, translated.at, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, pattern, err);
    er_text_free(&translated);
    return code;
}

int er_pretokenizer_add(er_pretokenizer *p, const er_step *step, er_err *err)
{
    if (p->count == ER_STEPS_MAX)
        return er_fail(err, ER_E_UNSUPPORTED, "pre-tokenizer of more than %d steps", ER_STEPS_MAX);
    if (er_pretokenizer_is_bytes(p))
        return er_fail(err, ER_E_UNSUPPORTED, "pre-tokenizer ByteLevel with another step behind it");
    er_step *to = &p->steps[p->count];
    *to = *step;
    to->pattern = NULL;
    to->code = NULL;
    const char *pattern = NULL;
    if (step->kind == ER_STEP_BYTES && !step->plain) {
        pattern = gpt2_pattern;
        to->behavior = ER_ISOLATED;
    } else if (step->kind == ER_STEP_META) {
        pattern = step->pattern;
        to->literal = 1;
        to->behavior = ER_MERGED_NEXT;
        ER_TRY(er_strdup(&to->pattern, pattern, err));
    } else if (step->kind == ER_STEP_SPLIT) {
        pattern = step->pattern;
        if (!*pattern || strlen(pattern) > PATTERN_MOST)
            return er_fail(err, ER_E_UNSUPPORTED, "pre-tokenizer pattern of %zu bytes", strlen(pattern));
        ER_TRY(er_strdup(&to->pattern, pattern, err));
    }
    p->count++;
    return pattern ? compile(&to->code, pattern, to->literal, err) : 0;
}

void er_pretokenizer_fini(er_pretokenizer *p)
{
    for (int i = 0; i < p->count; i++) {
        er_free(p->steps[i].pattern);
        pcre2_code_free(p->steps[i].code);
    }
    p->count = 0;
}

int er_pretokenizer_is_bytes(const er_pretokenizer *p)
{
    return p->count > 0 && p->steps[p->count - 1].kind == ER_STEP_BYTES;
}

/* --- finding delimiters ------------------------------------------------------------------------------------------- */

typedef struct range {
    size_t start, end;
} range;

/* 1: found, 0: no more */
static int find_number(range *found, const char *text, size_t n, size_t from)
{
    for (size_t i = from, step; i < n; i += step) {
        uint32_t point;
        step = er_utf8_next(text + i, n - i, &point);
        int is_number = point - '0' < 10;
        if (point >= 0x80) {
            utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)point);
            is_number = c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_NO;
        }
        if (is_number) {
            *found = (range){i, i + step};
            return 1;
        }
    }
    return 0;
}

/* An empty match right behind the match before (which ended at `from`, unless this is the first search) is none: the
 * search goes on one character further. */
static int find_pattern(range *found, const er_step *step, pcre2_match_data *match, const char *text, size_t n,
                        size_t from, int first, er_err *err)
{
    for (size_t at = from; at <= n;) {
        uint32_t options = PCRE2_NO_UTF_CHECK;
        int rc = pcre2_match(step->code, (PCRE2_SPTR)text, n, at, options, match, NULL);
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
            rc = pcre2_match(step->code, (PCRE2_SPTR)text, n, at, options | PCRE2_NO_JIT, match, NULL);
        if (rc == PCRE2_ERROR_NOMATCH) return 0;
        if (rc < 0) {
            PCRE2_UCHAR reason[128];
            pcre2_get_error_message(rc, reason, sizeof reason / sizeof *reason);
            return er_fail(err, ER_E_UNSUPPORTED, "pre-tokenizer pattern '%.300s' on a text of %zu bytes: %s",
                           step->pattern ? step->pattern : gpt2_pattern, n, (const char *)reason);
        }
        const PCRE2_SIZE *o = pcre2_get_ovector_pointer(match);
        *found = (range){o[0], o[1]};
        if (first || found->end > from) return 1;
        if (at == n) return 0;
        at += er_utf8_next(text + at, n - at, NULL);
    }
    return 0;
}

/* --- cutting ------------------------------------------------------------------------------------------------------ */

typedef struct cutter {
    const er_pretokenizer *p;
    er_pretokenize_work *work;
    er_emit *emit;
    void *context;
    int first; /* what is cut starts where the whole text does */
} cutter;

/* A piece, and whether it starts where the whole text does. */
static int run_step(const cutter *c, int index, const char *text, size_t n, int first, er_err *err);

/* A span waits until it is known whether its neighbour joins it. */
typedef struct waiting {
    size_t start, end;
    int any, delimiter;
} waiting;

static int pass_on(const cutter *c, int index, const char *text, size_t start, size_t end, er_err *err)
{
    return start == end ? 0 : run_step(c, index + 1, text + start, end - start, c->first && start == 0, err);
}

static int joins(int behavior, const waiting *w, int delimiter)
{
    switch (behavior) {
    case ER_MERGED_PREVIOUS: return delimiter && !w->delimiter;
    case ER_MERGED_NEXT: return !delimiter && w->delimiter;
    case ER_CONTIGUOUS: return delimiter == w->delimiter;
    default: return 0;
    }
}

static int add_span(const cutter *c, int index, waiting *w, const char *text, range r, int delimiter, er_err *err)
{
    int behavior = c->p->steps[index].behavior;
    if (behavior == ER_ISOLATED) return pass_on(c, index, text, r.start, r.end, err);
    if (behavior == ER_REMOVED) return delimiter ? 0 : pass_on(c, index, text, r.start, r.end, err);
    if (w->any && joins(behavior, w, delimiter)) {
        w->end = r.end;
        w->delimiter = delimiter;
        return 0;
    }
    waiting before = *w;
    *w = (waiting){r.start, r.end, 1, delimiter};
    return before.any ? pass_on(c, index, text, before.start, before.end, err) : 0;
}

static int cut(const cutter *c, int index, const char *text, size_t n, er_err *err)
{
    const er_step *step = &c->p->steps[index];
    waiting w = {0};
    size_t done = 0;
    for (int first = 1;; first = 0) {
        range r;
        int found = step->kind == ER_STEP_DIGITS ? find_number(&r, text, n, done)
                                                 : find_pattern(&r, step, c->work->match, text, n, done, first,
                                                                err);
        if (found < 0) return found;
        if (!found) break;
        if (r.start > done) ER_TRY(add_span(c, index, &w, text, (range){done, r.start}, step->invert, err));
        ER_TRY(add_span(c, index, &w, text, r, !step->invert, err));
        done = r.end;
    }
    if (done < n) ER_TRY(add_span(c, index, &w, text, (range){done, n}, step->invert, err));
    return w.any ? pass_on(c, index, text, w.start, w.end, err) : 0;
}

/* A space before the piece, unless it has one. */
static int prefix_space(const cutter *c, int index, const char **text, size_t *n, er_err *err)
{
    er_text *buffer = &c->work->prefixed[index];
    if (**text == ' ') return 0;
    buffer->length = 0;
    ER_TRY(er_text_add(buffer, " ", err));
    ER_TRY(er_text_bytes(buffer, *text, *n, err));
    *text = buffer->at;
    *n = buffer->length;
    return 0;
}

static int mark_spaces(const cutter *c, int index, const char **text, size_t *n, int first, er_err *err)
{
    const er_step *step = &c->p->steps[index];
    er_text *buffer = &c->work->prefixed[index];
    size_t mark = strlen(step->pattern), done = 0;
    int wanted = step->prefix_space == ER_PREFIX_ALWAYS || (step->prefix_space == ER_PREFIX_FIRST && first);
    int marked = **text == ' ' || (*n >= mark && memcmp(*text, step->pattern, mark) == 0);
    buffer->length = 0;
    if (wanted && !marked) ER_TRY(er_text_bytes(buffer, step->pattern, mark, err));
    for (const char *hit; (hit = memchr(*text + done, ' ', *n - done)); done = (size_t)(hit - *text) + 1) {
        ER_TRY(er_text_bytes(buffer, *text + done, (size_t)(hit - *text) - done, err));
        ER_TRY(er_text_bytes(buffer, step->pattern, mark, err));
    }
    ER_TRY(er_text_bytes(buffer, *text + done, *n - done, err));
    *text = buffer->at;
    *n = buffer->length;
    return 0;
}

static int run_step(const cutter *c, int index, const char *text, size_t n, int first, er_err *err)
{
    if (index == c->p->count) return c->emit(c->context, text, n, err);
    const er_step *step = &c->p->steps[index];
    if (step->kind == ER_STEP_BYTES && step->prefix_space) ER_TRY(prefix_space(c, index, &text, &n, err));
    if (step->kind == ER_STEP_BYTES && step->plain) return c->emit(c->context, text, n, err);
    if (step->kind == ER_STEP_META) ER_TRY(mark_spaces(c, index, &text, &n, first, err));
    if (step->kind == ER_STEP_META && step->plain) return run_step(c, index + 1, text, n, first, err);
    cutter here = *c;
    here.first = first;
    return cut(&here, index, text, n, err);
}

int er_pretokenize(const er_pretokenizer *p, const char *text, size_t n, int first, er_pretokenize_work *work,
                   er_emit *emit, void *context, er_err *err)
{
    if (n == 0) return 0;
    if (!work->match && !(work->match = pcre2_match_data_create(1, NULL)))
        return er_fail(err, ER_E_MEMORY, "no memory for a match");
    cutter c = {p, work, emit, context, first};
    return run_step(&c, 0, text, n, first, err);
}

void er_pretokenize_work_free(er_pretokenize_work *work)
{
    pcre2_match_data_free(work->match);
    work->match = NULL;
    for (int i = 0; i < ER_STEPS_MAX; i++) er_text_free(&work->prefixed[i]);
}
