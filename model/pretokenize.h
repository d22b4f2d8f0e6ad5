/* SPDX-License-Identifier: Apache-2.0 */
/* Text -> pieces: what is merged by itself. Private to the tokenizer.
 *
 * A pre-tokenizer is a short list of steps; each step cuts the pieces of the step before, and sees nothing but its
 * piece (look-ahead ends at the piece's end). Immutable once made; matches lie in the caller's er_pretokenize_work. */
#ifndef ER_MODEL_PRETOKENIZE_H
#define ER_MODEL_PRETOKENIZE_H

#include "base/error.h"
#include "base/text.h"

#include <stddef.h>
#include <stdint.h>

enum { ER_STEPS_MAX = 16 };

/* What becomes of the delimiter, in Hugging Face's words. */
#define ER_BEHAVIORS(X)                                                                                                \
    X(REMOVED, "Removed")                                                                                              \
    X(ISOLATED, "Isolated")                                                                                            \
    X(MERGED_PREVIOUS, "MergedWithPrevious")                                                                           \
    X(MERGED_NEXT, "MergedWithNext")                                                                                   \
    X(CONTIGUOUS, "Contiguous")
enum er_behavior {
#define X(name, text) ER_##name,
    ER_BEHAVIORS(X)
#undef X
};

enum er_prefix { ER_PREFIX_NEVER, ER_PREFIX_ALWAYS, ER_PREFIX_FIRST };

enum er_step_kind {
    ER_STEP_DIGITS, /* delimiters are characters of category N; ISOLATED or CONTIGUOUS */
    ER_STEP_SPLIT,  /* delimiters are matches of a pattern */
    ER_STEP_BYTES,  /* GPT-2's pattern (unless plain), and pieces are bytes from here on: the last step */
    ER_STEP_META    /* spaces become the mark, which may be put in front; cut before each mark unless plain */
};

typedef struct er_step {
    int kind, behavior;
    int invert;               /* what does not match is the delimiter */
    int literal;              /* the pattern is a string, not an expression */
    int prefix_space;         /* ER_STEP_BYTES: a piece without a leading space gets one; ER_STEP_META: an er_prefix,
                               * a piece without a leading mark gets one (FIRST: only where the whole text starts) */
    int plain;                /* ER_STEP_BYTES: no pattern; ER_STEP_META: no cuts */
    char *pattern;            /* as in tokenizer.json (ER_STEP_META: the mark, one character); owned */
    struct pcre2_real_code_8 *code; /* owned; NULL for digits and plain bytes */
} er_step;

typedef struct er_pretokenizer {
    er_step steps[ER_STEPS_MAX];
    int count;
} er_pretokenizer;

/* Appends a step with the given fields (pattern is copied; code is ignored and compiled here). A pattern that uses
 * what the two dialects understand differently is ER_E_UNSUPPORTED and named. */
int er_pretokenizer_add(er_pretokenizer *p, const er_step *step, er_err *err);
void er_pretokenizer_fini(er_pretokenizer *p);
int er_pretokenizer_is_bytes(const er_pretokenizer *p); /* ends in ER_STEP_BYTES */
const char *er_behavior_name(int behavior);
int er_behavior_find(const char *name); /* -1: none */

typedef struct er_pretokenize_work {
    struct pcre2_real_match_data_8 *match;
    er_text prefixed[ER_STEPS_MAX];
} er_pretokenize_work;
void er_pretokenize_work_free(er_pretokenize_work *work);

/* Calls emit with each piece of n bytes of UTF-8, in order; pieces are never empty. The first error ends it. first:
 * text starts where the text that the user gave starts. */
typedef int er_emit(void *context, const char *piece, size_t n, er_err *err);
int er_pretokenize(const er_pretokenizer *p, const char *text, size_t n, int first, er_pretokenize_work *work,
                   er_emit *emit, void *context, er_err *err);

/* An expression in Oniguruma's Ruby dialect (what tokenizer.json holds) in PCRE2's, same matches; or
 * ER_E_UNSUPPORTED. */
int er_regex_translate(er_text *out, const char *pattern, er_err *err);

#endif
