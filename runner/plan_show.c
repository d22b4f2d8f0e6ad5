/* SPDX-License-Identifier: Apache-2.0 */
/* What the tokenizer makes of a job's requests, for people. */
#include "runner/plan.h"
#include "runner/setup.h"

#include <stdio.h>
#include <string.h>

enum { MOST_SHOWN = 1000 };

static int print_ids(const er_tokenizer *t, const int32_t *ids, int64_t n, er_err *err)
{
    er_text text = ER_TEXT_INIT, quoted = ER_TEXT_INIT;
    int code = 0;
    for (int64_t i = 0; i < n; i++) printf("%s%d", i ? " " : "", ids[i]);
    code = er_text_add(&text, "", err);
    if (!code) code = er_decode(t, &text, ids, n, 0, err);
    if (!code) code = er_text_json(&quoted, text.at, err);
    if (!code) printf("  %s\n", quoted.at);
    er_text_free(&text);
    er_text_free(&quoted);
    return code;
}

static int show_request(const er_setup *s, const er_config *config, const er_tokenizer *t, const er_request *q,
                        er_err *err)
{
    const char *plain[] = {"{}"};
    er_templates templates = {.count = 1, .text = plain};
    er_prompt p;
    er_arena_mark mark = er_arena_mark_now(s->arena);
    printf("case %lld (request %lld): \"%s\", subject \"%s\", target \"%s\"%s%s%s\n", (long long)q->case_id,
           (long long)q->index, q->prompt, q->subject, q->target_new,
           q->flags & ER_REQUEST_SAME_TARGET ? ", already the answer" : "",
           q->flags & ER_REQUEST_CONFLICT ? ", conflicts with another record" : "",
           q->flags & ER_REQUEST_DUPLICATE_ID ? ", case id seen before" : "");
    er_err why = ER_ERR_INIT;
    int code = er_prompt_make(&p, t, q, &templates, (enum er_parity)s->job.parity, er_editor_rule(s->editor, config),
                              s->arena, &why);
    if (code == ER_E_INPUT) {
        printf("  cannot be edited: %s\n", why.text);
        code = 0;
    } else if (code) {
        if (err) *err = why;
    } else {
        printf("  row      ");
        code = print_ids(t, p.rows[0].ids, p.rows[0].count, err);
        printf("  subject  index %lld, id %d\n", (long long)p.rows[0].subject, p.rows[0].ids[p.rows[0].subject]);
        printf("  target   ");
        if (!code) code = print_ids(t, p.target, p.target_count, err);
        printf("  answer   predicted from index %lld%s\n", (long long)p.rows[0].answer,
               p.split_inside ? "; the prompt's ids are no prefix of the whole: split by character offset" : "");
    }
    er_arena_release(s->arena, mark);
    return code;
}

int er_plan_show(const er_setup *job, const er_config *config, const er_tokenizer *t, const er_err *why, int64_t most,
                 er_err *err)
{
    if (most > MOST_SHOWN) most = MOST_SHOWN;
    if (most && !t) return er_fail(err, ER_E_INPUT, "--show needs the model's tokenizer: %s", why->code ? why->text : "none");
    if (most && !job->data.requests) return er_fail(err, ER_E_INPUT, "--show: %s is not there", job->job.data.path);
    for (int64_t i = 0; i < most && i < job->data.count; i++) {
        printf(i ? "" : "\n");
        ER_TRY(show_request(job, config, t, &job->data.requests[i], err));
    }
    return 0;
}
