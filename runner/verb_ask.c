/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"
#include "runner/subject.h"
#include "runner/verbs.h"

#include <stdio.h>
#include <string.h>

static const er_flag flags[] = {
    {"tokens", "N", "tokens to continue with; default: 20"},
    {"at", "N", "of a run: after its first N edits; default: all"},
    {0},
};

static int continued(er_text *out, const er_subject *s, const er_view *view, const char *prompt, int64_t tokens,
                     er_err *err)
{
    const er_tokenizer *t = s->model->tokenizer;
    er_ids ids = {0};
    er_draw greedy = {.top_k = 1};
    out->length = 0;
    int code = er_encode(t, &ids, prompt, strlen(prompt), 1, err);
    int64_t length = ids.count + tokens;
    if (!code && !ids.count) code = er_fail(err, ER_E_USAGE, "ask: an empty prompt");
    if (length > s->model->longest_text) length = s->model->longest_text;
    if (!code && ids.count < length) code = er_generate(view, &ids, 1, length, 1, &greedy, s->setup.work, err);
    if (!code) code = er_text_add(out, "", err);
    if (!code) code = er_decode(t, out, ids.at, ids.count, 1, err);
    er_ids_free(&ids);
    return code;
}

static int ask(const er_subject *s, const char *prompt, int64_t tokens, er_err *err)
{
    er_text text = ER_TEXT_INIT;
    int code = continued(&text, s, &s->plain, prompt, tokens, err);
    if (!code) printf(s->is_run ? "before: %s\n" : "%s\n", text.at);
    if (!code && s->is_run) {
        code = continued(&text, s, er_subject_view(s), prompt, tokens, err);
        if (!code) printf("after:  %s\n", text.at);
    }
    er_text_free(&text);
    return code;
}

static int call(er_world *w, const er_args *args, int *exit_code, er_err *err)
{
    er_subject s;
    int64_t at, tokens;
    (void)exit_code;
    ER_TRY(er_args_number(&at, args, "at", -1, 0, err));
    ER_TRY(er_args_number(&tokens, args, "tokens", 20, 1, err));
    ER_TRY(er_subject_open(&s, w, args->at[0], at, err));
    int code = 0;
    for (int i = 1; !code && i < args->count; i++) {
        if (i > 1) putchar('\n');
        code = ask(&s, args->at[i], tokens, err);
    }
    er_subject_close(&s);
    return code;
}

const er_verb er_verb_ask = {"ask", "MODEL|RUN TEXT...",
                             "continue prompts greedily; a run answers before and after its edits", 2, -1, 0, 0, flags, call};
