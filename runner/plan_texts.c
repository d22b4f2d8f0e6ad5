/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens of an edit's texts: counted where there are a tokenizer and facts, else assumed. */
#include "base/options.h"
#include "runner/plan.h"

#include <stddef.h>
#include <string.h>

enum { MOST_LENGTHS = 16 };

int er_plan_rows(double *rows, double *prefix, const er_editor *editor, const er_hyper *hyper, er_err *err)
{
    int64_t lengths[MOST_LENGTHS][2], count = MOST_LENGTHS;
    const char *braces;
    if (editor->template_lengths(hyper, lengths, &count, &braces))
        return er_fail(err, ER_E_INPUT, "editor.context_template_length_params: more than %d pairs", MOST_LENGTHS);
    *rows = 1;
    *prefix = 0;
    for (int64_t i = 0; i < count; i++) {
        *rows += (double)lengths[i][1];
        *prefix += (double)(lengths[i][1] * (lengths[i][0] + 1));
    }
    *prefix /= *rows;
    return 0;
}

/* --tokens P,S,T */
static int read_given(er_cost_texts *out, const char *given, er_err *err)
{
    struct {
        er_int_list list;
    } target = {{0, NULL}};
    static const er_option row[] = {{.key = "tokens", .type = ER_OPT_INT_LIST, .offset = 0}};
    er_option_table table = {NULL, row, 1, &target, NULL};
    er_arena *arena = NULL;
    ER_TRY(er_arena_new(&arena, 0, err));
    int code = er_options_defaults(&table, arena, err);
    if (!code) code = er_options_set(&table, 1, "tokens", given, 3, "--tokens", ".", arena, err);
    const int64_t *at = target.list.at;
    if (!code && (target.list.count != 3 || at[1] < 1 || at[0] < at[1] || at[2] < 1))
        code = er_fail(err, ER_E_USAGE, "--tokens: '%s' are no three numbers P,S,T with P >= S >= 1 and T >= 1", given);
    if (!code) out->prompt = (double)at[0], out->subject = (double)at[1], out->target = (double)at[2];
    er_arena_free(arena);
    return code;
}

int er_plan_texts_assumed(er_cost_texts *out, const er_editor *editor, const er_hyper *hyper, const char *given,
                          er_err *err)
{
    er_cost_texts t = {.prompt = 9, .subject = 5, .target = 1, .drift = 4};
    ER_TRY(er_plan_rows(&t.rows, &t.prefix, editor, hyper, err));
    if (given) {
        ER_TRY(read_given(&t, given, err));
        t.drift = t.subject;
    }
    *out = t;
    return 0;
}

