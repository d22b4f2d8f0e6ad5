/* SPDX-License-Identifier: Apache-2.0 */
#include "phases.h"

#include "base/log.h"
#include "editors/keys.h"
#include "editors/target.h"
#include "model/generate.h"
#include "runner/cost.h"
#include "runner/evaluate.h"
#include "runner/plan.h"

#include <string.h>

static const int64_t edited[] = {4, 5, 6, 7, 8};
static const er_int_list layers = {5, edited};

/* Real token counts of one request. */
static er_cost_texts texts_of(const er_prompt *p)
{
    er_cost_texts t = {.rows = (double)p->templates, .prompt = (double)p->rows[0].count,
                       .subject = (double)(p->rows[0].subject + 1), .target = (double)p->target_count,
                       .drift = (double)p->kl.count};
    for (int64_t r = 0; r < p->templates; r++) t.prefix += (double)(p->rows[r].count - p->rows[0].count);
    t.prefix /= t.rows;
    return t;
}

/* What the texts of requests first .. first + n - 1 share when they are one unit. */
static int shared_by(er_cost_shared *out, const bench *b, const char *method, const er_templates *texts, int64_t first,
                     int64_t n, er_err *err)
{
    const er_editor *editor;
    const er_hyper none = {0};
    er_plan_counted counted = {.shared = er_cost_alone};
    er_dataset data = b->data;
    data.requests += first;
    data.count = n;
    ER_TRY(er_editor_find(&editor, method, err));
    ER_TRY(er_plan_texts_of(&counted, b->model->tokenizer, &b->job, &data, editor, &none, &b->model->config, texts,
                            n, n, err));
    *out = counted.shared;
    return 0;
}

/* Weights of blocks [from, to) as they lie in memory. */
static double block_bytes(const bench *b, int64_t from, int64_t to)
{
    return 4 * er_cost_block_matrices(&b->model->config) * (double)(to - from);
}

static double head_bytes(const bench *b)
{
    return 4 * (double)b->model->config.vocab * (double)b->model->config.embedding_width;
}

static int optimise(bench *b, const er_edit_context *edit, const er_target_plan *plan, const er_prompt *prompts,
                    int64_t count, const er_cost_shared *shared, sample *out, er_err *err)
{
    const er_config *c = &b->model->config;
    er_arena_mark mark = er_arena_mark_now(b->arena);
    er_target *targets;
    ER_TRY(er_arena_take(b->arena, &targets, (size_t)count, err));
    ER_TRY(er_target_optimise(edit, &b->view, plan, prompts, count, targets, b->work, err));
    double most = 0;
    for (int64_t i = 0; i < count; i++) {
        const double steps = (double)targets[i].steps;
        er_cost_texts t = texts_of(&prompts[i]);
        const er_cost_target apart = er_cost_target_of(c, plan->layer, &t);
        const er_cost_target runs = er_cost_target_run(c, plan->layer, &t, shared);
        out->apart += er_cost_target_total(&apart, steps);
        out->flops += er_cost_target_total(&runs, steps);
        if (steps > most) most = steps;
        er_target_free(&targets[i]);
    }
    out->bytes += block_bytes(b, 0, c->layers) +
                  (2 * most - 1) * (block_bytes(b, plan->layer + 1, c->layers) + head_bytes(b));
    er_arena_release(b->arena, mark);
    return 0;
}

/* Early stopping is off: every round does the same work. */
static er_hyper hyper_of(double decay, double clamp)
{
    return (er_hyper){.layers = layers, .v_num_grad_steps = 25, .v_lr = 0.5, .v_loss_layer = -1,
                      .v_weight_decay = decay, .clamp_norm_factor = clamp, .kl_factor = 0.0625, .early_stop = 0};
}

int phase_targets(bench *b, const phase *p, sample *out, er_err *err)
{
    er_hyper hyper = hyper_of(0.5, 0.75);
    er_edit_context edit = {b->model, &hyper, &b->memit_texts, ER_PARITY_NONE};
    er_target_plan plan = {.layer = p->more, .init = ER_INIT_BLOCK_OUTPUT};
    er_cost_shared shared;
    bench_watch w;
    ER_TRY(shared_by(&shared, b, "memit", &b->memit_texts, 0, p->size, err));
    bench_start(&w);
    ER_TRY(optimise(b, &edit, &plan, b->memit, p->size, &shared, out, err));
    bench_end(&w, out);
    return 0;
}

int phase_rome(bench *b, const phase *p, sample *out, er_err *err)
{
    er_hyper hyper = hyper_of(1e-3, 4);
    er_edit_context edit = {b->model, &hyper, &b->rome_texts, ER_PARITY_NONE};
    er_target_plan plan = {.layer = p->more, .init = ER_INIT_MLP_OUTPUT};
    er_cost_shared shared; /* of the first one: all have the same templates */
    bench_watch w;
    ER_TRY(shared_by(&shared, b, "rome", &b->rome_texts, 0, 1, err));
    bench_start(&w);
    for (int64_t i = 0; i < p->size; i++) ER_TRY(optimise(b, &edit, &plan, b->rome + i, 1, &shared, out, err));
    bench_end(&w, out);
    return 0;
}

int phase_keys(bench *b, const phase *p, sample *out, er_err *err)
{
    const er_config *c = &b->model->config;
    er_arena_mark mark = er_arena_mark_now(b->arena);
    float *keys;
    er_cost_shared shared;
    bench_watch w;
    int64_t times = 0;
    ER_TRY(shared_by(&shared, b, "memit", &b->memit_texts, 0, p->size, err));
    ER_TRY(er_arena_take(b->arena, &keys, (size_t)(p->size * (c->inner + c->hidden)), err));
    bench_start(&w);
    do {
        for (int64_t i = 0; i < layers.count; i++) {
            ER_TRY(er_keys_memit(&b->view, layers.at[i], layers.at[layers.count - 1], 0, b->memit, p->size, keys, b->work,
                                 err));
            out->bytes += block_bytes(b, 0, layers.at[layers.count - 1] + 1);
        }
        for (int64_t i = 0; i < p->size; i++) {
            er_cost_texts t = texts_of(&b->memit[i]);
            out->apart += er_cost_keys(c, &layers, &t);
            out->flops += er_cost_keys_run(c, &layers, &t, &shared);
        }
    } while (bench_again(&w, out, &times));
    er_arena_release(b->arena, mark);
    return 0;
}

/* --- scores -------------------------------------------------------------------------------------------------------- */

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Ids that both answers share run once; the head where an answer's id is predicted. */
static int flops_of_prompt(double *flops, bench *b, const char *prompt, const char *fresh, const char *truth,
                           er_err *err)
{
    const er_config *c = &b->model->config;
    er_scored_row row[2] = {{0}};
    const char *answer[2] = {fresh, truth};
    double heads = 0;
    int64_t shared = 0, runs[2] = {0};
    for (int k = 0; k < 2; k++) {
        if (!answer[k]) continue;
        ER_TRY(er_scored_row_make(&row[k], b->model->tokenizer, prompt, answer[k], b->arena, err));
        runs[k] = row[k].count - 1;
        heads += (double)(row[k].count - row[k].answer_start);
    }
    if (fresh && truth) {
        while (shared < smaller(runs[0], runs[1]) && row[0].ids[shared] == row[1].ids[shared]) shared++;
        for (int64_t at = smaller(row[0].answer_start, row[1].answer_start) - 1; at < shared; at++) heads--;
    }
    *flops += er_cost_forward(c, 0, c->layers, 0, (double)shared) + heads * er_cost_head(c);
    for (int k = 0; k < 2; k++)
        if (answer[k]) *flops += er_cost_forward(c, 0, c->layers, (double)shared, (double)(runs[k] - shared));
    return 0;
}

static int flops_of_case(double *flops, bench *b, const er_request *r, er_err *err)
{
    for (int64_t g = 0; g < r->group_count; g++) {
        const er_prompt_group *group = &r->groups[g];
        for (int64_t i = 0; i < group->count; i++)
            ER_TRY(flops_of_prompt(flops, b, group->prompts[i], group->answers ? NULL : r->target_new,
                                   group->answers ? group->answers[i] : r->target_true, err));
    }
    return 0;
}

int phase_scores(bench *b, const phase *p, sample *out, er_err *err)
{
    const er_config *c = &b->model->config;
    er_arena_mark mark = er_arena_mark_now(b->arena);
    const er_request **requests;
    er_case_score *scores;
    double flops = 0;
    er_plan_counted counted = {.shared = er_cost_alone};
    const er_hyper none = {0};
    const er_editor *editor;
    er_dataset data = b->data;
    bench_watch w;
    int64_t times = 0;
    data.count = p->size;
    ER_TRY(er_editor_find(&editor, "memit", err));
    ER_TRY(er_plan_texts_of(&counted, b->model->tokenizer, &b->job, &data, editor, &none, c, &b->memit_texts,
                            p->size, p->size, err));
    const er_plan_scored *scored = &counted.scored;
    ER_TRY(er_arena_take(b->arena, &requests, (size_t)p->size, err));
    ER_TRY(er_arena_take(b->arena, &scores, (size_t)p->size, err));
    for (int64_t i = 0; i < p->size; i++) {
        requests[i] = &b->data.requests[i];
        ER_TRY(flops_of_case(&flops, b, requests[i], err));
    }
    bench_start(&w);
    do {
        ER_TRY(er_evaluate(scores, &b->view, requests, p->size, b->arena, b->work, err));
        out->apart += flops;
        out->flops += (double)p->size * scored->prompts *
                      er_cost_score_run(c, scored->tokens, scored->heads, &counted.shared);
        out->bytes += block_bytes(b, 0, c->layers) + head_bytes(b);
    } while (bench_again(&w, out, &times));
    er_arena_release(b->arena, mark);
    return 0;
}

/* --- generation ---------------------------------------------------------------------------------------------------- */

int phase_generate(bench *b, const phase *p, sample *out, er_err *err)
{
    const er_config *c = &b->model->config;
    const er_draw greedy = {.top_k = 1};
    er_arena_mark mark = er_arena_mark_now(b->arena);
    static const char text[] = "The city of Lyon is in the country of";
    er_ids *ids;
    bench_watch w;
    ER_TRY(er_arena_take(b->arena, &ids, (size_t)p->size, err));
    memset(ids, 0, (size_t)p->size * sizeof *ids);
    int code = 0;
    for (int64_t i = 0; !code && i < p->size; i++)
        code = er_encode(b->model->tokenizer, &ids[i], text, sizeof text - 1, 1, err);
    const int64_t start = ids[0].count;
    bench_start(&w);
    if (!code) code = er_generate(&b->view, ids, p->size, start + p->more, 0, &greedy, b->work, err);
    bench_end(&w, out);
    out->flops = (double)p->size * (er_cost_forward(c, 0, c->layers, 0, (double)(start + p->more - 1)) +
                                    (double)p->more * er_cost_head(c));
    out->bytes = (double)p->more * (block_bytes(b, 0, c->layers) + head_bytes(b));
    for (int64_t i = 0; i < p->size; i++) er_ids_free(&ids[i]);
    er_arena_release(b->arena, mark);
    return code;
}
