/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/evaluate.h"

#include "base/memory.h"
#include "model/kernels.h"
#include "model/prefix.h"
#include "runner/states.h"

#include <string.h>

enum { HEAD_ROWS = 32 }; /* rows of logits made at once */

/* Where the figures of one answer gather; several items where its tokens have rows of their own. */
typedef struct sink {
    er_answer_score *to;
    double sum;
} sink;

/* One or two rows of a scored prompt. The last id of a row is only predicted, never run. A row whose run ids begin the other's needs no
 * text of its own; what texts begin with, runs once (model/prefix.h). */
typedef struct item {
    er_scored_row row[2];   /* fresh, truth; count 0: absent */
    sink *to[2];
    int64_t first[2];       /* the row's first answer token in *to */
    int64_t pad[2];         /* positions that the row's ids are moved by (EasyEdit's padding) */
    int64_t shared;         /* run positions that both rows have in common; all of the only row */
    int64_t text[2];        /* the text that runs each row, -1: absent */
} item;

typedef struct evaluation {
    const er_view *view;
    const er_scorer *scorer;
    er_work *work;
    item *items;
    sink *sinks;
    size_t item_room;
    int64_t count, sink_count, texts;
    int64_t *pad;    /* (texts) */
    int padded;      /* a row is moved: texts share nothing */
    er_prefixes prefixes;
    int64_t *wanted; /* (texts + bases) first position whose logits are read */
    er_span *spans;  /* (texts + bases) in the end: the wanted positions */
    int64_t *first;  /* (texts + bases) each span's first token in x */
    float *x;        /* their hidden states */
} evaluation;

/* One position whose logits are read: for one or both answers. */
typedef struct pick {
    const float *x;
    item *at;
    int64_t token[2]; /* index into the answer, -1: not read for it */
} pick;

static int64_t run_length(const er_scored_row *row) { return row->count ? row->count - 1 : 0; }

static int64_t shared_length(const item *it)
{
    const er_scored_row *a = &it->row[0], *b = &it->row[1];
    if (!a->count || !b->count) return run_length(a->count ? a : b);
    int64_t most = run_length(a) < run_length(b) ? run_length(a) : run_length(b), n = 0;
    while (n < most && it->pad[0] == it->pad[1] && a->ids[n] == b->ids[n]) n++;
    return n;
}

static int64_t add_text(evaluation *e, const item *it, int k, const int32_t **ids, int64_t *count)
{
    ids[e->texts] = it->row[k].ids;
    count[e->texts] = run_length(&it->row[k]);
    e->pad[e->texts] = it->pad[k];
    return e->texts++;
}

/* The longer row is a text; the other one is, too, unless the longer one begins with it. */
static void add_texts(evaluation *e, item *it, const int32_t **ids, int64_t *count)
{
    const int longer = run_length(&it->row[1]) > run_length(&it->row[0]) || !it->row[0].count, other = !longer;
    it->shared = shared_length(it);
    it->text[longer] = add_text(e, it, longer, ids, count);
    it->text[other] = it->text[longer];
    if (!it->row[other].count)
        it->text[other] = -1;
    else if (run_length(&it->row[other]) > it->shared)
        it->text[other] = add_text(e, it, other, ids, count);
}

/* Where the row's text is first read, and the base that it continues. */
static void want(const evaluation *e, const item *it)
{
    for (int k = 0; k < 2; k++) {
        const int64_t text = it->text[k], base = text >= 0 ? e->prefixes.base[text] : -1;
        if (text < 0) continue;
        const int64_t from = it->row[k].answer_start - 1;
        if (from < e->wanted[text]) e->wanted[text] = from;
        if (base >= 0 && from < e->wanted[base]) e->wanted[base] = from;
    }
}

static int lay_out(evaluation *e, er_arena *arena, er_err *err)
{
    const int32_t **ids = NULL;
    int64_t *count = NULL;
    ER_TRY(er_arena_take(arena, &ids, (size_t)(2 * e->count), err));
    ER_TRY(er_arena_take(arena, &count, (size_t)(2 * e->count), err));
    ER_TRY(er_arena_take(arena, &e->pad, (size_t)(2 * e->count), err));
    for (int64_t i = 0; i < e->count; i++) add_texts(e, &e->items[i], ids, count);
    ER_TRY(er_prefixes_find(&e->prefixes, ids, count, e->padded ? NULL : count, e->texts, arena, err));
    const size_t rows = (size_t)(e->texts + e->prefixes.bases);
    ER_TRY(er_arena_take(arena, &e->wanted, rows, err));
    ER_TRY(er_arena_take(arena, &e->first, rows, err));
    ER_TRY(er_arena_take(arena, &e->spans, rows, err));
    memcpy(e->wanted, e->prefixes.end, rows * sizeof *e->wanted);
    for (int64_t i = 0; i < e->count; i++) want(e, &e->items[i]);
    return 0;
}

/* Positions counted with the padding in front; without bases, text i is row i. */
static int embed_padded(const evaluation *e, er_err *err)
{
    const er_model *m = e->view->model;
    float *x = e->x;
    for (int64_t i = 0; i < e->texts; i++) {
        const er_span span = {i, e->pad[i], e->prefixes.end[i]};
        ER_TRY(er_embed(m, x, e->prefixes.ids[i], &span, 1, err));
        x += span.count * m->config.hidden;
    }
    return 0;
}

/* Every text's stream before the first edited block is kept: into e->x as its rows' spans ask. A base is the beginning
 * of any of its texts. */
static int find_states(const evaluation *e, er_states *states)
{
    const er_prefixes *p = &e->prefixes;
    const int64_t d = e->view->model->config.hidden;
    if (!states || e->padded) return 0;
    for (int64_t i = 0; i < e->texts; i++)
        if (!er_states_find(states, p->ids[i], p->end[i])) return 0;
    for (int64_t i = 0; i < e->texts; i++) {
        const float *kept = er_states_find(states, p->ids[i], p->end[i]);
        const int64_t own = p->length[i], base = p->base[i];
        memcpy(e->x + e->first[i] * d, kept + own * d, (size_t)((p->end[i] - own) * d) * sizeof *kept);
        if (base >= 0) memcpy(e->x + e->first[base] * d, kept, (size_t)(own * d) * sizeof *kept);
    }
    return 1;
}

static int keep_states(const evaluation *e, er_states *states, er_err *err)
{
    const er_prefixes *p = &e->prefixes;
    const int64_t d = e->view->model->config.hidden;
    for (int64_t i = 0; i < e->texts; i++) {
        const int64_t own = p->length[i], base = p->base[i];
        float *room;
        ER_TRY(er_states_keep(states, &room, p->ids[i], p->end[i], err));
        if (!room) continue;
        if (base >= 0) memcpy(room, e->x + e->first[base] * d, (size_t)(own * d) * sizeof *room);
        memcpy(room + own * d, e->x + e->first[i] * d, (size_t)((p->end[i] - own) * d) * sizeof *room);
    }
    return 0;
}

/* The blocks below the first edited one, or what an earlier evaluation kept of them. *from: the first block to run. */
static int run_lower(evaluation *e, er_cache **cache, int64_t *from, er_err *err)
{
    const er_model *m = e->view->model;
    er_states *states = e->padded ? NULL : e->scorer->states;
    const int64_t edited = states ? er_states_layer(states) : 0, rows = e->texts + e->prefixes.bases;
    *from = edited;
    if (find_states(e, states)) return er_prefixes_cache(cache, &e->prefixes, m, edited, m->config.layers, err);
    ER_TRY(e->padded ? embed_padded(e, err) : er_prefixes_embed(&e->prefixes, m, e->x, err));
    ER_TRY(er_prefixes_cache(cache, &e->prefixes, m, 0, m->config.layers, err));
    ER_TRY(er_forward(e->view, *cache, e->spans, rows, e->x, 0, edited, NULL, NULL, e->work, err));
    return states ? keep_states(e, states, err) : 0;
}

static int run_rows(evaluation *e, er_arena *arena, er_err *err)
{
    const er_model *m = e->view->model;
    const int64_t rows = e->texts + e->prefixes.bases;
    int64_t from = 0;
    er_cache *cache = NULL;
    ER_TRY(er_arena_take(arena, &e->x, (size_t)(er_prefixes_tokens(&e->prefixes) * m->config.hidden), err));
    er_prefixes_spans(&e->prefixes, e->spans);
    for (int64_t r = 0, token = 0; r < rows; token += e->spans[r++].count) e->first[r] = token;
    int code = run_lower(e, &cache, &from, err);
    if (!code)
        code = er_forward_wanted(e->view, cache, e->spans, rows, e->wanted, e->x, from, m->config.layers, NULL, e->work,
                                 err);
    er_cache_free(cache);
    for (int64_t r = 0, token = 0; r < rows; token += e->spans[r++].count) e->first[r] = token;
    return code;
}

/* Hidden state of a text's position, which is wanted: its own, or its base's. */
static const float *state_at(const evaluation *e, int64_t text, int64_t position)
{
    const int64_t row = position < e->prefixes.length[text] ? e->prefixes.base[text] : text;
    return e->x + (e->first[row] + position - e->spans[row].start) * e->view->model->config.hidden;
}

/* Positions of one item that predict an answer's id, shared ones once. picks NULL: only counts. */
static int64_t picks_of(const evaluation *e, item *it, pick *picks)
{
    int64_t n = 0;
    for (int64_t p = 0; p < it->shared; p++) {
        int64_t token[2];
        for (int k = 0; k < 2; k++) {
            int64_t t = it->row[k].count ? p - (it->row[k].answer_start - 1) : -1;
            token[k] = t >= 0 ? t : -1;
        }
        if (token[0] < 0 && token[1] < 0) continue;
        if (picks) picks[n] = (pick){state_at(e, it->text[token[0] < 0], p), it, {token[0], token[1]}};
        n++;
    }
    for (int k = 0; k < 2; k++) {
        for (int64_t p = it->shared; p < run_length(&it->row[k]); p++) {
            int64_t t = p - (it->row[k].answer_start - 1);
            if (t < 0) continue;
            if (picks) picks[n] = (pick){state_at(e, it->text[k], p), it, {k == 0 ? t : -1, k == 1 ? t : -1}};
            n++;
        }
    }
    return n;
}

/* What a row of logits says, whoever asks. */
typedef struct logits_row {
    float all; /* log of the sum of exponentials */
    int64_t top;
} logits_row;

static void read_logits(const pick *p, const float *logits, const logits_row *row)
{
    for (int k = 0; k < 2; k++) {
        int64_t t = p->token[k];
        if (t < 0) continue;
        const er_scored_row *scored = &p->at->row[k];
        int32_t id = scored->ids[scored->answer_start + t];
        sink *to = p->at->to[k];
        t += p->at->first[k];
        to->sum += (double)(row->all - logits[id]);
        to->to->ok[t] = row->top == id;
        to->to->top[t] = (int32_t)row->top;
    }
}

static int run_head(evaluation *e, er_arena *arena, er_err *err)
{
    const er_model *m = e->view->model;
    const int64_t d = m->config.hidden, vocab = m->config.vocab;
    pick *picks = NULL;
    float *x = NULL, *logits = NULL;
    int64_t count = 0;
    for (int64_t i = 0; i < e->count; i++) count += picks_of(e, &e->items[i], NULL);
    ER_TRY(er_arena_take(arena, &picks, (size_t)count, err));
    for (int64_t i = 0, n = 0; i < e->count; i++) n += picks_of(e, &e->items[i], picks + n);
    ER_TRY(er_arena_take(arena, &x, (size_t)(HEAD_ROWS * d), err));
    ER_TRY(er_arena_take(arena, &logits, (size_t)(HEAD_ROWS * vocab), err));
    for (int64_t first = 0; first < count; first += HEAD_ROWS) {
        int64_t rows = count - first < HEAD_ROWS ? count - first : HEAD_ROWS;
        for (int64_t r = 0; r < rows; r++) memcpy(x + r * d, picks[first + r].x, (size_t)d * sizeof *x);
        ER_TRY(er_head(m, logits, x, rows, e->work, err));
        logits_row read[HEAD_ROWS];
#pragma omp parallel for schedule(static) if (rows > 1)
        for (int64_t r = 0; r < rows; r++) read[r].all = er_log_sum_exp(logits + r * vocab, vocab, &read[r].top);
        for (int64_t r = 0; r < rows; r++) read_logits(&picks[first + r], logits + r * vocab, &read[r]);
    }
    return 0;
}

static int encode(const evaluation *e, er_score_rows *rows, const char *prompt, const char *answer,
                  er_answer_score *to, er_arena *arena, er_err *err)
{
    const er_model *m = e->view->model;
    *rows = (er_score_rows){0};
    if (!answer) return 0;
    ER_TRY(er_score_rows_make(rows, e->scorer, m->tokenizer, prompt, answer, arena, err));
    for (int64_t i = 0; i < rows->count; i++) {
        const er_scored_row *row = &rows->rows[i];
        if (row->count > m->longest_text)
            return er_fail(err, ER_E_INPUT, "\"%.60s...\" has %lld tokens, the model takes %lld", prompt,
                           (long long)row->count, (long long)m->longest_text);
        if (row->answer_start < 1) return er_fail(err, ER_E_INPUT, "\"%s\": nothing stands before the answer", prompt);
    }
    to->tokens = rows->tokens;
    ER_TRY(er_arena_take(arena, &to->ok, (size_t)to->tokens, err));
    return er_arena_take(arena, &to->top, (size_t)to->tokens, err);
}

static int add_item(evaluation *e, item **out, er_err *err)
{
    ER_TRY(er_grow(&e->items, &e->item_room, (size_t)e->count + 1, err));
    *out = &e->items[e->count++];
    **out = (item){0};
    return 0;
}

/* A prompt's rows: the i-th of both answers side by side, which begin alike. */
static int add_prompt(evaluation *e, const char *prompt, const char *const answer[2], er_prompt_score *out,
                      er_arena *arena, er_err *err)
{
    er_answer_score *to[2] = {&out->fresh, &out->truth};
    er_score_rows rows[2];
    sink *sinks[2];
    for (int k = 0; k < 2; k++) {
        ER_TRY(encode(e, &rows[k], prompt, answer[k], to[k], arena, err));
        sinks[k] = &e->sinks[e->sink_count];
        if (answer[k]) e->sinks[e->sink_count++] = (sink){to[k], 0};
    }
    for (int64_t i = 0; i < rows[0].count || i < rows[1].count; i++) {
        item *it = NULL;
        ER_TRY(add_item(e, &it, err));
        for (int k = 0; k < 2; k++) {
            if (i >= rows[k].count) continue;
            it->row[k] = rows[k].rows[i];
            it->to[k] = sinks[k];
            it->first[k] = i;
        }
    }
    return 0;
}

/* EasyEdit evaluates the prompts of a group as one batch, padded on the left to its longest row, and hands the model no
 * positions: learned positions then count the padding. It has one batch per answer. */
static void pad_group(evaluation *e, int64_t first)
{
    const er_config *c = &e->view->model->config;
    if (e->scorer->protocol != ER_JOB_SCORE_EASYEDIT || e->scorer->parity != ER_JOB_PARITY_EASYEDIT) return;
    if (c->positions != ER_POSITION_LEARNED) return;
    for (int k = 0; k < 2; k++) {
        int64_t longest = 0;
        for (int64_t i = first; i < e->count; i++)
            if (e->items[i].row[k].count > longest) longest = e->items[i].row[k].count;
        for (int64_t i = first; i < e->count; i++) {
            e->items[i].pad[k] = e->items[i].row[k].count ? longest - e->items[i].row[k].count : 0;
            e->padded |= e->items[i].pad[k] > 0;
        }
    }
}

static int encode_case(evaluation *e, er_case_score *out, const er_request *r, er_arena *arena, er_err *err)
{
    for (int64_t g = 0; g < r->group_count; g++) {
        const er_prompt_group *group = &r->groups[g];
        const int64_t first = e->count;
        for (int64_t p = 0; p < group->count; p++) {
            const char *const answer[2] = {group->answers ? NULL : r->target_new,
                                           group->answers ? group->answers[p] : r->target_true};
            ER_TRY(add_prompt(e, group->prompts[p], answer, &out->groups[g].prompts[p], arena, err));
        }
        pad_group(e, first);
    }
    return 0;
}

static int evaluate(evaluation *e, er_case_score *out, const er_request *const *requests, int64_t count,
                    er_arena *arena, er_arena *scratch, er_err *err)
{
    int64_t most = 0;
    for (int64_t i = 0; i < count; i++)
        for (int64_t g = 0; g < requests[i]->group_count; g++) most += requests[i]->groups[g].count;
    ER_TRY(er_arena_take(scratch, &e->sinks, (size_t)(2 * most), err));
    for (int64_t i = 0; i < count; i++) {
        ER_TRY(er_case_score_new(&out[i], requests[i], arena, err));
        if (encode_case(e, &out[i], requests[i], arena, err))
            return er_prefix(err, "case %lld: ", (long long)requests[i]->case_id);
    }
    if (!e->count) return 0;
    ER_TRY(lay_out(e, scratch, err));
    ER_TRY(run_rows(e, scratch, err));
    ER_TRY(run_head(e, scratch, err));
    for (int64_t i = 0; i < e->sink_count; i++)
        e->sinks[i].to->nll = (float)(e->sinks[i].sum / (double)e->sinks[i].to->tokens);
    return 0;
}

int er_evaluate_as(er_case_score *out, const er_view *view, const er_scorer *scorer, const er_request *const *requests,
                   int64_t count, er_arena *arena, er_work *work, er_err *err)
{
    evaluation e = {.view = view, .scorer = scorer, .work = work};
    er_arena *scratch = NULL;
    ER_TRY(er_arena_new(&scratch, 0, err));
    int code = evaluate(&e, out, requests, count, arena, scratch, err);
    er_free(e.items);
    er_arena_free(scratch);
    return code;
}

int er_evaluate(er_case_score *out, const er_view *view, const er_request *const *requests, int64_t count,
                er_arena *arena, er_work *work, er_err *err)
{
    const er_scorer plain = {0};
    return er_evaluate_as(out, view, &plain, requests, count, arena, work, err);
}
