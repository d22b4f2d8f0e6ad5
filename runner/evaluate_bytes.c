/* SPDX-License-Identifier: Apache-2.0 */
/* Scores of cases as bytes, and back. */
#include "runner/evaluate.h"

#include "base/memory.h"
#include "runner/blob.h"

#include <string.h>

int er_case_score_new(er_case_score *out, const er_request *request, er_arena *arena, er_err *err)
{
    *out = (er_case_score){.group_count = request->group_count};
    ER_TRY(er_arena_take(arena, &out->groups, (size_t)request->group_count, err));
    for (int64_t g = 0; g < request->group_count; g++) {
        er_group_score *group = &out->groups[g];
        group->count = request->groups[g].count;
        ER_TRY(er_arena_take(arena, &group->prompts, (size_t)group->count, err));
        memset(group->prompts, 0, (size_t)group->count * sizeof *group->prompts);
    }
    return 0;
}

static int put_answer(er_text *out, const er_answer_score *a, er_err *err)
{
    ER_TRY(er_blob_put_number(out, a->tokens, err));
    if (!a->tokens) return 0;
    ER_TRY(er_blob_put_float(out, a->nll, err));
    ER_TRY(er_blob_put(out, a->ok, (size_t)a->tokens, err));
    return er_blob_put(out, a->top, (size_t)a->tokens * sizeof *a->top, err);
}

static int put_text(er_text *out, const char *text, er_err *err)
{
    const size_t n = strlen(text);
    ER_TRY(er_blob_put_number(out, (int64_t)n, err));
    return er_blob_put(out, text, n, err);
}

static int put_made(er_text *out, const er_made *m, er_err *err)
{
    ER_TRY(er_blob_put_number(out, m->tokens, err));
    if (!m->tokens) return 0;
    ER_TRY(er_blob_put(out, m->ok, (size_t)m->tokens, err));
    return put_text(out, m->text, err);
}

/* What is generated stands behind the rest, where there is any. */
static int put_generated(er_text *out, const er_case_score *score, er_err *err)
{
    if (!score->greedy && !score->text_count) return 0;
    ER_TRY(er_blob_put_number(out, score->greedy, err));
    for (int64_t g = 0; score->greedy && g < score->group_count; g++)
        for (int64_t p = 0; p < score->groups[g].count; p++) ER_TRY(put_made(out, &score->groups[g].prompts[p].made, err));
    ER_TRY(er_blob_put_number(out, score->text_count, err));
    for (int64_t i = 0; i < score->text_count; i++) ER_TRY(put_text(out, score->texts[i], err));
    return 0;
}

int er_case_score_put(er_text *out, const er_case_score *score, er_err *err)
{
    for (int64_t g = 0; g < score->group_count; g++) {
        for (int64_t p = 0; p < score->groups[g].count; p++) {
            ER_TRY(put_answer(out, &score->groups[g].prompts[p].fresh, err));
            ER_TRY(put_answer(out, &score->groups[g].prompts[p].truth, err));
        }
    }
    return put_generated(out, score, err);
}

static int get_answer(er_answer_score *a, er_reader *r, er_arena *arena, er_err *err)
{
    a->tokens = er_blob_get_count(r, 1 + sizeof *a->top);
    if (a->tokens <= 0) {
        a->tokens = 0;
        return 0;
    }
    a->nll = er_blob_get_float(r);
    ER_TRY(er_arena_take(arena, &a->ok, (size_t)a->tokens, err));
    ER_TRY(er_arena_take(arena, &a->top, (size_t)a->tokens, err));
    er_blob_get(r, a->ok, (size_t)a->tokens);
    er_blob_get(r, a->top, (size_t)a->tokens * sizeof *a->top);
    return 0;
}

static int get_text(const char **out, er_reader *r, er_arena *arena, er_err *err)
{
    int64_t n = er_blob_get_count(r, 1);
    char *text = NULL;
    if (n < 0) n = 0;
    ER_TRY(er_arena_take(arena, &text, (size_t)n + 1, err));
    er_blob_get(r, text, (size_t)n);
    text[n] = 0;
    *out = text;
    return 0;
}

static int get_made(er_made *m, er_reader *r, er_arena *arena, er_err *err)
{
    m->tokens = er_blob_get_count(r, 1);
    if (m->tokens <= 0) {
        m->tokens = 0;
        return 0;
    }
    ER_TRY(er_arena_take(arena, &m->ok, (size_t)m->tokens, err));
    er_blob_get(r, m->ok, (size_t)m->tokens);
    return get_text(&m->text, r, arena, err);
}

static int get_generated(er_case_score *out, er_reader *r, er_arena *arena, er_err *err)
{
    if (!r->left || r->failed) return 0;
    out->greedy = er_blob_get_number(r);
    for (int64_t g = 0; out->greedy && g < out->group_count; g++)
        for (int64_t p = 0; p < out->groups[g].count; p++) ER_TRY(get_made(&out->groups[g].prompts[p].made, r, arena, err));
    const int64_t n = er_blob_get_count(r, sizeof(int64_t));
    if (n <= 0) return 0;
    ER_TRY(er_arena_take(arena, &out->texts, (size_t)n, err));
    for (; out->text_count < n; out->text_count++) ER_TRY(get_text(&out->texts[out->text_count], r, arena, err));
    return 0;
}

int er_case_score_get(er_case_score *out, const er_request *request, const char *bytes, size_t n, er_arena *arena,
                      er_err *err)
{
    er_reader r = {bytes, n, 0};
    ER_TRY(er_case_score_new(out, request, arena, err));
    for (int64_t g = 0; g < out->group_count; g++) {
        for (int64_t p = 0; p < out->groups[g].count; p++) {
            ER_TRY(get_answer(&out->groups[g].prompts[p].fresh, &r, arena, err));
            ER_TRY(get_answer(&out->groups[g].prompts[p].truth, &r, arena, err));
        }
    }
    ER_TRY(get_generated(out, &r, arena, err));
    return er_blob_end(&r, "stored scores", err);
}
