/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens of an edit's texts: counted where there are a tokenizer and facts, else assumed. */
#include "base/options.h"
#include "runner/plan.h"

#include <stddef.h>
#include <string.h>

enum { MOST_COUNTED = 1000, MOST_LENGTHS = 16 };

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

/* Sums over requests and over their rows. */
typedef struct sums {
    double requests, rows, row, plain, subject, target, drift;
    double prompts, tokens, heads;
} sums;

static void add_prompt(sums *s, const er_prompt *p)
{
    s->requests++;
    s->rows += (double)p->templates;
    for (int64_t r = 0; r < p->templates; r++) s->row += (double)p->rows[r].count;
    s->plain += (double)p->rows[0].count;
    s->subject += (double)(p->rows[0].subject + 1);
    s->target += (double)p->target_count;
    s->drift += (double)p->kl.count;
}

static int add_answer(sums *s, const er_tokenizer *t, const char *prompt, const char *answer, int first,
                      er_arena *arena, er_err *err)
{
    er_scored_row row;
    if (!answer || !*answer) return 0;
    ER_TRY(er_scored_row_make(&row, t, prompt, answer, arena, err));
    const double own = (double)(row.count - row.answer_start);
    s->tokens += first ? (double)(row.count - 1) : own - 1; /* both answers share the prompt */
    s->heads += own;
    return 0;
}

static int add_scored(sums *s, const er_tokenizer *t, const er_request *q, er_arena *arena, er_err *err)
{
    for (int64_t g = 0; g < q->group_count; g++) {
        const er_prompt_group *group = &q->groups[g];
        for (int64_t i = 0; i < group->count; i++) {
            const char *own = group->answers ? group->answers[i] : NULL;
            s->prompts++;
            ER_TRY(add_answer(s, t, group->prompts[i], own ? own : q->target_new, 1, arena, err));
            if (!own) ER_TRY(add_answer(s, t, group->prompts[i], q->target_true, 0, arena, err));
        }
    }
    return 0;
}

static int add_request(sums *s, const er_tokenizer *t, const er_request *q, const er_templates *templates, int parity,
                       enum er_target_rule rule, er_arena *arena, er_err *err)
{
    er_prompt p;
    er_err why = ER_ERR_INIT;
    er_arena_mark mark = er_arena_mark_now(arena);
    int code = er_prompt_make(&p, t, q, templates, (enum er_parity)parity, rule, arena, &why);
    if (!code) {
        add_prompt(s, &p);
        code = add_scored(s, t, q, arena, &why);
    }
    er_arena_release(arena, mark);
    if (code && code != ER_E_INPUT && err) *err = why;
    return code == ER_E_INPUT ? 0 : code; /* what cannot be encoded is a failed edit, not a failed plan */
}

int er_plan_texts_of(er_cost_texts *out, er_plan_scored *scored, int64_t *counted, const er_tokenizer *t,
                     const er_job *job, const er_dataset *data, const er_editor *editor, const er_hyper *hyper,
                     const er_config *config, er_err *err)
{
    const enum er_target_rule rule = er_editor_rule(editor, config);
    static const char *plain[] = {"{}"};
    const int file = job->templates.source == ER_JOB_TEMPLATES_FILE;
    er_templates templates = {.count = 1, .text = plain};
    sums s = {0};
    er_arena *arena = NULL;
    double rows = 1, prefix = 0;
    *counted = 0;
    ER_TRY(er_arena_new(&arena, 0, err));
    int code = file ? er_templates_read(&templates, job->templates.file, editor->template_list, arena, err)
                    : er_plan_rows(&rows, &prefix, editor, hyper, err);
    for (int64_t i = 0; !code && i < data->count && s.requests < MOST_COUNTED; i++)
        code = add_request(&s, t, &data->requests[i], &templates, job->parity, rule, arena, err);
    er_arena_free(arena);
    ER_TRY(code);
    if (!(s.requests > 0)) return 0;
    *counted = (int64_t)s.requests;
    *out = (er_cost_texts){.rows = file ? s.rows / s.requests : rows,
                           .prefix = file ? s.row / s.rows - s.plain / s.requests : prefix,
                           .prompt = s.plain / s.requests,
                           .subject = s.subject / s.requests,
                           .target = s.target / s.requests,
                           .drift = s.drift / s.requests};
    *scored = (er_plan_scored){s.prompts / s.requests, 0, 0};
    if (s.prompts > 0) scored->tokens = s.tokens / s.prompts, scored->heads = s.heads / s.prompts;
    return 0;
}
