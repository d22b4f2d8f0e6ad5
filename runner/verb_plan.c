/* SPDX-License-Identifier: Apache-2.0 */
/* What a job will take, from its sizes alone: parameters, memory of a rank, disk, and rough times from operation counts
 * and the speed of the product kernel as measured here for a moment. */
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "model/kernels.h"
#include "runner/setup.h"
#include "runner/verbs.h"

#include <stdio.h>
#include <string.h>

static const er_flag flags[] = {
    {"set", "KEY=VALUE", "overrides a key of the job file; may be repeated"},
    {"show", "N", "print text, ids, subject index and target ids of the first N requests"},
    {0},
};

enum { MOST_SHOWN = 1000, TEXT_TOKENS = 12 }; /* typical tokens of a scored prompt or a template's row */

typedef struct sizes {
    const er_config *c;
    double layers, f, d, edits, batches, steps, rows, prompts, tokens, ranks;
} sizes;

static void line(const char *what, double value, const char *unit, const char *note)
{
    printf("  %-34s %10.3g %-5s %s\n", what, value, unit, note);
}

static void print_memory(const er_setup *s, const sizes *z)
{
    static const double bytes[] = {[ER_JOB_FP32] = 4, [ER_JOB_BF16] = 2, [ER_JOB_FP16] = 2};
    const double mb = 1e-6, f = z->f;
    printf("memory of a rank\n");
    line("weights", (double)er_config_parameters(z->c) * bytes[s->job.precision.weights] * mb, "MB",
         "fp32 in safetensors files is mapped and shared by the ranks of a node");
    line("edited matrices", z->layers * z->d * f * 4 * mb, "MB", "");
    if (s->needs & ER_NEEDS_EIGEN) {
        line("while measuring statistics", (z->layers * f * (f + 1) / 2 * 16 + f * f * 8) * mb, "MB", "");
        line("eigenpairs, rank 0", z->layers * (f * f + f) * 8 * mb, "MB", "");
    }
    if (s->editor->history_new) line("history, rank 0, at the end", z->layers * z->edits * f * 8 * mb, "MB", "at most");
    printf("disk\n");
    if (s->needs & ER_NEEDS_EIGEN)
        line("store", z->layers * (f * (f + 1) / 2 * 16 + (f * f + f) * 8) * mb, "MB", "reused by every run");
    line("ledger", z->edits * (z->layers * (z->d + 2 * f) + z->d) * 4 * mb, "MB", "");
}

/* fp32 products like those of forward passes, 0.1 s of them. */
static int measure_speed(double *flops, const sizes *z, er_err *err)
{
    enum { ROWS = 96 };
    int64_t d = z->c->hidden, f = z->c->inner;
    float *w = NULL, *x = NULL, *y = NULL;
    int code = er_alloc(&w, (size_t)(d * f), err);
    if (!code) code = er_alloc(&x, (size_t)(ROWS * f), err);
    if (!code) code = er_alloc(&y, (size_t)(ROWS * d), err);
    if (!code) {
        er_matrix m = {ER_F32, d, f, w};
        double start = er_seconds(), now = start, done = 0;
        while (now - start < 0.1) {
            er_product(y, d, x, f, ROWS, &m);
            done += 2.0 * (double)d * (double)f * ROWS;
            now = er_seconds();
        }
        *flops = done / (now - start);
    }
    er_free(w);
    er_free(x);
    er_free(y);
    return code;
}

static void print_times(const er_setup *s, const sizes *z, double flops)
{
    const er_hyper *h = &s->hyper;
    double block = (double)er_config_block_parameters(z->c), all = (double)z->c->layers * block;
    double head = (double)z->c->vocab * z->d, last = (double)h->layers.at[h->layers.count - 1] + 1;
    double after = (double)z->c->layers - last, moments = 0;
    /* forward and backward of the layers behind the edited one, positions from the subject's last token on */
    /* about 60 % of the steps happen before the loss is low enough; backward costs twice as much as forward */
    double step = (TEXT_TOKENS / 3.0) * 3 * (after * block + head / 4);
    double target = z->rows * (TEXT_TOKENS * last * block + 0.6 * z->steps * step);
    double scored = z->prompts * (TEXT_TOKENS * all + 1.5 * head);
    moments = s->job.score.before + s->job.score.at_edit + s->job.score.at_end;
    if (s->job.score.every) moments += z->edits / (double)s->job.score.every / 2;
    printf("time, roughly, at %.3g GF/s of each rank (measured now), %d thread%s\n", flops * 1e-9,
           s->world->threads, s->world->threads > 1 ? "s" : "");
    if (s->needs & ER_NEEDS_EIGEN) {
        line("statistics", z->tokens * (2 * last * block + z->layers * z->f * z->f) / flops, "s", "ranks share it");
        line("eigenpairs", z->layers * 10 * z->f * z->f * z->f / flops, "s", "a layer per rank");
    }
    line("targets", z->edits * 2 * target / flops, "s",
         s->batch == 1 ? "one edit per batch: only one rank works" : "ranks share it");
    line("scores", moments * z->edits * 2 * scored / flops, "s", "ranks share it");
    line("ranks that targets can use", (double)s->batch, "", "edits of a batch; units shrink until every rank has one");
}

static void fill_sizes(sizes *z, const er_setup *s)
{
    const er_hyper *h = &s->hyper;
    *z = (sizes){.c = &s->model->config, .layers = (double)h->layers.count};
    z->f = (double)z->c->inner, z->d = (double)z->c->hidden;
    z->edits = (double)s->data.count, z->batches = (double)s->batches;
    z->steps = (double)h->v_num_grad_steps;
    z->rows = 12;
    for (int64_t i = 0; i < s->data.count; i++)
        for (int64_t g = 0; g < s->data.requests[i].group_count; g++)
            z->prompts += (double)s->data.requests[i].groups[g].count / z->edits;
    z->tokens = s->corpus ? (double)er_corpus_tokens(s->corpus) : 0;
}

/* --- requests ---------------------------------------------------------------------------------------------------- */

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

static int show_request(const er_setup *s, const er_request *q, er_err *err)
{
    const char *plain[] = {"{}"};
    er_templates templates = {.count = 1, .text = plain};
    er_prompt p;
    const er_tokenizer *t = s->model->tokenizer;
    er_arena_mark mark = er_arena_mark_now(s->arena);
    printf("case %lld (request %lld): \"%s\", subject \"%s\", target \"%s\"%s%s%s\n", (long long)q->case_id,
           (long long)q->index, q->prompt, q->subject, q->target_new,
           q->flags & ER_REQUEST_SAME_TARGET ? ", already the answer" : "",
           q->flags & ER_REQUEST_CONFLICT ? ", conflicts with another record" : "",
           q->flags & ER_REQUEST_DUPLICATE_ID ? ", case id seen before" : "");
    int rome = !strcmp(s->editor->template_list, "rome");
    er_err why = ER_ERR_INIT;
    int code = er_prompt_make(&p, t, q, &templates, (enum er_parity)s->job.parity, rome, s->arena, &why);
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

static int print_plan(er_setup *s, int64_t shown, er_err *err)
{
    sizes z;
    double flops = 0;
    fill_sizes(&z, s);
    ER_TRY(measure_speed(&flops, &z, err));
    printf("%s: %s, %lld layers, d %lld, f %lld, vocabulary %lld, %lld parameters\n", s->job.model.path, z.c->family,
           (long long)z.c->layers, (long long)z.c->hidden, (long long)z.c->inner, (long long)z.c->vocab,
           (long long)er_config_parameters(z.c));
    printf("%s: %s\n%lld edits in %lld batches of %lld; run folder %s\n", s->editor->name, s->editor->formula,
           (long long)s->data.count, (long long)s->batches, (long long)s->batch, s->run);
    if (s->corpus)
        printf("statistics: %.0f tokens for %.0f dimensions, %.3g per dimension%s\n", z.tokens, z.f, z.tokens / z.f,
               z.tokens < 50 * z.f ? " (50 or more are advised)" : "");
    print_memory(s, &z);
    print_times(s, &z, flops);
    for (int64_t i = 0; i < shown && i < s->data.count; i++) {
        printf(i ? "" : "\n");
        ER_TRY(show_request(s, &s->data.requests[i], err));
    }
    return 0;
}

static int call(er_world *w, const er_args *args, int *exit_code, er_err *err)
{
    er_setup s = {0};
    const char **sets = NULL;
    size_t set_count = 0;
    int64_t shown;
    (void)exit_code;
    ER_TRY(er_args_number(&shown, args, "show", 0, 0, err));
    ER_TRY(er_args_all(&sets, &set_count, args, "set", err));
    int code = er_setup_job(&s, w, args->at[0], sets, set_count, err);
    if (!code) code = er_setup_open(&s, ER_SETUP_DATA | ER_SETUP_MODEL | ER_SETUP_NAME, err);
    if (!code) code = print_plan(&s, shown < MOST_SHOWN ? shown : MOST_SHOWN, err);
    er_setup_close(&s);
    er_free(sets);
    return code;
}

const er_verb er_verb_plan = {"plan", "JOB", "sizes of a job: memory, disk, rough times, and its requests as tokens",
                              1, 1, 0, 1, flags, call};
