/* SPDX-License-Identifier: Apache-2.0 */
/* A job's texts counted: how long they are, and what those of a unit have in common. */
#include "model/prefix.h"
#include "runner/plan.h"

#include <string.h>

const er_cost_shared er_plan_shared_assumed = {.rows = 0.51, .before = 0.38, .keys = 0.40, .plain = 0.9, .scores = 0.91};

/* Positions, all and those that run. */
typedef struct share {
    double all, run;
} share;

/* Sums over requests, over their rows, and over units. */
typedef struct sums {
    double requests, rows, row, plain, subject, target, drift;
    double prompts, tokens, heads;
    share rows_run, before, keys, plain_run, scores;
} sums;

/* What a unit's texts are made of. */
typedef struct counting {
    sums s;
    const er_tokenizer *t;
    const er_templates *templates;
    enum er_parity parity;
    enum er_target_rule rule;
    er_arena *arena;
} counting;

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

/* --- what is shared ---------------------------------------------------------------------------------------------- */

typedef struct texts {
    int64_t n;
    const int32_t **ids;
    int64_t *count, *most, *plain;
} texts;

static int make_room(texts *x, int64_t n, er_arena *arena, er_err *err)
{
    *x = (texts){0};
    ER_TRY(er_arena_take(arena, &x->ids, (size_t)n, err));
    ER_TRY(er_arena_take(arena, &x->count, (size_t)n, err));
    ER_TRY(er_arena_take(arena, &x->most, (size_t)n, err));
    return er_arena_take(arena, &x->plain, (size_t)n, err);
}

static void add_text(texts *x, const int32_t *ids, int64_t count, int64_t most, int plain)
{
    x->ids[x->n] = ids;
    x->count[x->n] = count;
    x->most[x->n] = most;
    x->plain[x->n++] = plain;
}

static double add_share(share *s, const texts *x, const er_prefixes *p)
{
    double all = 0;
    for (int64_t i = 0; i < x->n; i++) all += (double)x->count[i];
    s->all += all;
    s->run += (double)er_prefixes_tokens(p);
    return all;
}

/* Rows of targets may share what stands before the subject's last token (editors/target_lanes.c). */
static int share_rows(counting *c, const er_prompt *p, int64_t n, int64_t rows, er_err *err)
{
    texts x;
    er_prefixes shared;
    double active = 0;
    ER_TRY(make_room(&x, rows + n, c->arena, err));
    for (int64_t i = 0; i < n; i++) {
        for (int64_t r = 0; r <= p[i].templates; r++) {
            const er_text_row *row = r < p[i].templates ? &p[i].rows[r] : &p[i].kl;
            add_text(&x, row->ids, row->count, row->subject, 0);
            active += (double)(row->count - row->subject);
        }
    }
    ER_TRY(er_prefixes_find(&shared, x.ids, x.count, x.most, x.n, c->arena, err));
    const double all = add_share(&c->s.rows_run, &x, &shared);
    c->s.before.all += all - active;
    c->s.before.run += (double)er_prefixes_tokens(&shared) - active;
    return 0;
}

/* Texts of keys may share all but the subject's last token; a plain one goes on with the base it continues
 * (editors/keys.c). */
static int share_keys(counting *c, const er_prompt *p, int64_t n, int64_t rows, er_err *err)
{
    texts x;
    er_prefixes shared;
    uint8_t *taken = NULL;
    ER_TRY(make_room(&x, rows, c->arena, err));
    for (int64_t i = 0; i < n; i++)
        for (int64_t r = 0; r < p[i].templates; r++)
            add_text(&x, p[i].keys[r].ids, p[i].keys[r].count, p[i].keys[r].count - 1, r == 0);
    ER_TRY(er_prefixes_find(&shared, x.ids, x.count, x.most, x.n, c->arena, err));
    add_share(&c->s.keys, &x, &shared);
    ER_TRY(er_arena_take(c->arena, &taken, (size_t)(x.n + shared.bases), err));
    memset(taken, 0, (size_t)(x.n + shared.bases));
    for (int64_t i = 0; i < x.n; i++) {
        const int64_t base = shared.base[i];
        if (!x.plain[i]) continue;
        c->s.plain_run.all += (double)x.count[i];
        c->s.plain_run.run += (double)(shared.end[i] - shared.length[i]);
        if (base >= 0 && !taken[base]++) c->s.plain_run.run += (double)shared.end[base];
    }
    return 0;
}

/* --- scored prompts ---------------------------------------------------------------------------------------------- */

static int add_answer(counting *c, texts *x, const char *prompt, const char *answer, int first, er_err *err)
{
    er_scored_row row;
    if (!answer || !*answer) return 0;
    ER_TRY(er_scored_row_make(&row, c->t, prompt, answer, c->arena, err));
    const double own = (double)(row.count - row.answer_start);
    c->s.tokens += first ? (double)(row.count - 1) : own - 1; /* both answers share the prompt */
    c->s.heads += own;
    if (first) add_text(x, row.ids, row.count - 1, row.count - 1, 0);
    return 0;
}

static int add_scored(counting *c, texts *x, const er_request *q, er_err *err)
{
    for (int64_t g = 0; g < q->group_count; g++) {
        const er_prompt_group *group = &q->groups[g];
        for (int64_t i = 0; i < group->count; i++) {
            const char *own = group->answers ? group->answers[i] : NULL;
            c->s.prompts++;
            ER_TRY(add_answer(c, x, group->prompts[i], own ? own : q->target_new, 1, err));
            if (!own) ER_TRY(add_answer(c, x, group->prompts[i], q->target_true, 0, err));
        }
    }
    return 0;
}

static int64_t prompts_of(const er_request *q)
{
    int64_t n = 0;
    for (int64_t g = 0; g < q->group_count; g++) n += q->groups[g].count;
    return n;
}

static int share_scores(counting *c, const er_request *const *q, int64_t n, er_err *err)
{
    texts x;
    er_prefixes shared;
    int64_t prompts = 0;
    for (int64_t i = 0; i < n; i++) prompts += prompts_of(q[i]);
    ER_TRY(make_room(&x, prompts, c->arena, err));
    for (int64_t i = 0; i < n; i++) ER_TRY(add_scored(c, &x, q[i], err));
    ER_TRY(er_prefixes_find(&shared, x.ids, x.count, x.most, x.n, c->arena, err));
    add_share(&c->s.scores, &x, &shared);
    return 0;
}

/* --- units ------------------------------------------------------------------------------------------------------- */

static int add_unit(counting *c, const er_request *requests, int64_t n, er_err *err)
{
    er_prompt *p = NULL;
    const er_request **q = NULL;
    int64_t good = 0, rows = 0;
    ER_TRY(er_arena_take(c->arena, &p, (size_t)n, err));
    ER_TRY(er_arena_take(c->arena, &q, (size_t)n, err));
    for (int64_t i = 0; i < n; i++) {
        er_err why = ER_ERR_INIT;
        int code = er_prompt_make(&p[good], c->t, &requests[i], c->templates, c->parity, c->rule, c->arena, &why);
        if (code == ER_E_INPUT) continue; /* what cannot be encoded is a failed edit, not a failed plan */
        if (code && err) *err = why;
        if (code) return code;
        add_prompt(&c->s, &p[good]);
        rows += p[good].templates;
        q[good++] = &requests[i];
    }
    if (!good) return 0;
    ER_TRY(share_rows(c, p, good, rows, err));
    ER_TRY(share_keys(c, p, good, rows, err));
    return share_scores(c, q, good, err);
}

static double ratio(const share *s) { return s->all > 0 ? s->run / s->all : 1; }

static void take(er_plan_counted *out, const sums *s, double rows, double prefix, int written)
{
    out->requests = (int64_t)s->requests;
    out->texts = (er_cost_texts){.rows = written ? s->rows / s->requests : rows,
                                 .prefix = written ? s->row / s->rows - s->plain / s->requests : prefix,
                                 .prompt = s->plain / s->requests,
                                 .subject = s->subject / s->requests,
                                 .target = s->target / s->requests,
                                 .drift = s->drift / s->requests};
    out->scored = (er_plan_scored){s->prompts / s->requests, 0, 0};
    if (s->prompts > 0) out->scored.tokens = s->tokens / s->prompts, out->scored.heads = s->heads / s->prompts;
    if (written)
        out->shared = (er_cost_shared){.rows = ratio(&s->rows_run), .before = ratio(&s->before), .keys = ratio(&s->keys),
                                       .plain = ratio(&s->plain_run)};
    out->shared.scores = ratio(&s->scores);
}

int er_plan_texts_of(er_plan_counted *out, const er_tokenizer *t, const er_job *job, const er_dataset *data,
                     const er_editor *editor, const er_hyper *hyper, const er_config *config,
                     const er_templates *known, int64_t unit, int64_t most, er_err *err)
{
    static const char *plain[] = {"{}"};
    const int file = job->templates.source == ER_JOB_TEMPLATES_FILE, written = file || known;
    er_templates templates = {.count = 1, .text = plain};
    counting c = {.t = t, .templates = known ? known : &templates, .parity = (enum er_parity)job->parity,
                  .rule = er_editor_rule(editor, config)};
    double rows = 1, prefix = 0;
    int code = 0;
    out->requests = 0;
    ER_TRY(er_arena_new(&c.arena, 0, err));
    if (!written) code = er_plan_rows(&rows, &prefix, editor, hyper, err);
    else if (!known) code = er_templates_read(&templates, job->templates.file, editor->template_list, c.arena, err);
    for (int64_t i = 0; !code && i < data->count && c.s.requests < (double)most; i += unit) {
        er_arena_mark mark = er_arena_mark_now(c.arena);
        code = add_unit(&c, &data->requests[i], data->count - i < unit ? data->count - i : unit, err);
        er_arena_release(c.arena, mark);
    }
    er_arena_free(c.arena);
    ER_TRY(code);
    if (c.s.requests > 0) take(out, &c.s, rows, prefix, written);
    return 0;
}
