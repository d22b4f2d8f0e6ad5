/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/run.h"

#include "base/memory.h"
#include "base/random.h"
#include "runner/bits.h"
#include "runner/blob.h"
#include "runner/cases.h"
#include "runner/generated.h"

#include <stdio.h>
#include <string.h>

/* --- which cases when -------------------------------------------------------------------------------------------- */

int er_run_add_scoring(er_run *r, const char *moment, int64_t batch, int64_t edits, int64_t first, int64_t count,
                       er_err *err)
{
    er_scoring *s = &r->scorings[r->scoring_count];
    snprintf(s->moment, sizeof s->moment, "%s", moment);
    s->batch = batch, s->edits = edits, s->count = count;
    ER_TRY(er_arena_take(r->setup.arena, &s->cases, (size_t)count, err));
    for (int64_t i = 0; i < count; i++) s->cases[i] = first + i;
    r->scoring_count++;
    return 0;
}

/* `sample` of the first n edits, in s->cases, which has room for them: Floyd's choice by counter-based draws, then in
 * case order. */
static void choose_sample(er_scoring *s, int64_t n, int64_t sample, uint64_t seed)
{
    int64_t kept = 0;
    if (sample <= 0 || sample >= n) return;
    for (int64_t j = n - sample; j < n; j++) {
        int64_t t = (int64_t)er_random_below((uint64_t)j + 1, seed, ER_STREAM_SHUFFLE, (uint32_t)n, (uint64_t)j);
        int taken = 0;
        for (int64_t i = 0; i < kept; i++) taken |= s->cases[i] == t;
        int64_t value = taken ? j : t, at = kept++;
        for (; at > 0 && s->cases[at - 1] > value; at--) s->cases[at] = s->cases[at - 1];
        s->cases[at] = value;
    }
    s->count = sample;
}

/* One sample of all edits, of which a moment has those that are edited. */
static int choose_fixed(er_run *r, er_scoring *s, er_err *err)
{
    const er_job *job = &r->setup.job;
    int64_t edits = s->count, total = r->setup.data.count;
    if (job->score.sample <= 0 || job->score.sample >= total) return 0;
    ER_TRY(er_arena_take(r->setup.arena, &s->cases, (size_t)job->score.sample, err));
    choose_sample(s, total, job->score.sample, (uint64_t)job->seed);
    while (s->count && s->cases[s->count - 1] >= edits) s->count--;
    return 0;
}

int er_run_plan_scores(er_run *r, er_err *err)
{
    const er_setup *s = &r->setup;
    const er_job *job = &s->job;
    int64_t total = s->data.count, every = job->score.every;
    if (job->edit.mode == ER_JOB_SINGLE && (job->score.at_end || every))
        return er_fail(err, ER_E_INPUT, "score.at_end and score.every: with mode single no model holds all edits");
    ER_TRY(er_arena_take(s->arena, &r->scorings, (size_t)(2 + 2 * s->batches), err));
    if (job->score.before) ER_TRY(er_run_add_scoring(r, "before", -1, 0, 0, total, err));
    for (int64_t b = 0; b < s->batches; b++) {
        int64_t first, count;
        er_setup_batch(s, b, &first, &count);
        int64_t edits = job->edit.mode == ER_JOB_SINGLE ? count : first + count;
        if (job->score.at_edit) ER_TRY(er_run_add_scoring(r, "at_edit", b, edits, first, count, err));
        if (every && (first + count) % every == 0) {
            char moment[32];
            snprintf(moment, sizeof moment, "after_%lld", (long long)edits);
            ER_TRY(er_run_add_scoring(r, moment, b, edits, 0, edits, err));
            er_scoring *now = &r->scorings[r->scoring_count - 1];
            if (job->score.fixed) ER_TRY(choose_fixed(r, now, err));
            else choose_sample(now, now->count, job->score.sample, (uint64_t)job->seed);
        }
    }
    if (job->score.at_end) ER_TRY(er_run_add_scoring(r, "at_end", s->batches - 1, total, 0, total, err));
    return 0;
}

/* --- keys -------------------------------------------------------------------------------------------------------- */

er_scorer er_run_scorer(const er_run *r)
{
    const er_job *job = &r->setup.job;
    return (er_scorer){job->score.protocol, job->parity, job->score.greedy, job->score.generate, (uint64_t)job->seed, r->states};
}

static int open_judge(er_run *r, er_err *err)
{
    const er_job *job = &r->setup.job;
    const er_judge_files files = {job->score.snippets, job->score.tfidf_vocab, job->score.tfidf_idf};
    if (!job->score.generate || r->judge) return 0;
    return er_judge_open(&r->judge, files.snippets ? &files : NULL, err);
}

/* What is generated for a case beside its teacher-forced scores. */
static void hash_generated(er_hasher *h, const er_scorer *scorer, int64_t index)
{
    if (scorer->greedy) {
        er_hasher_text(h, "greedy");
        er_hasher_number(h, scorer->greedy);
    }
    if (index < scorer->texts) {
        er_hasher_text(h, "texts");
        er_hasher_number(h, (int64_t)scorer->seed);
    }
}

static void hash_texts(er_hasher *h, const er_request *q)
{
    er_hasher_number(h, q->generation_count);
    for (int64_t i = 0; i < q->generation_count; i++) er_hasher_text(h, q->generation[i]);
}

int er_run_make_case_keys(er_run *r, er_err *err)
{
    const er_setup *s = &r->setup;
    er_hash tokenizer = er_tokenizer_hash(s->model->tokenizer);
    const er_scorer scorer = er_run_scorer(r);
    ER_TRY(er_arena_take(s->arena, &r->case_keys, (size_t)s->data.count, err));
    for (int64_t i = 0; i < s->data.count; i++) {
        er_hasher *h = NULL;
        ER_TRY(er_hasher_new(&h, err));
        er_hasher_text(h, "scores");
        er_hasher_number(h, ER_BITS_VERSION);
        er_hasher_number(h, s->job.score.protocol);
        if (scorer.protocol != ER_JOB_SCORE_COUNTERFACT) er_hasher_text(h, er_scorer_name(&scorer));
        er_hasher_hash(h, &tokenizer);
        er_request_hash(h, &s->data.requests[i]);
        er_request_hash_scored(h, &s->data.requests[i]);
        hash_generated(h, &scorer, i);
        if (i < scorer.texts) hash_texts(h, &s->data.requests[i]);
        r->case_keys[i] = er_hasher_end(h);
        er_hasher_free(h);
    }
    return open_judge(r, err);
}

int er_run_score_key(const er_run *r, int64_t index, const er_hash *state, er_hash *key, er_err *err)
{
    er_hash both[2] = {r->case_keys[index], *state};
    (void)err;
    *key = er_hash_bytes(both, sizeof both);
    return 0;
}

void er_job_hash_unedited(er_hasher *h, const er_job *job, const er_hash *weights, const er_hash *tokenizer)
{
    er_hasher_number(h, ER_BITS_VERSION);
    er_hasher_hash(h, weights);
    er_hasher_hash(h, tokenizer);
    er_hasher_number(h, job->precision.weights);
    er_hasher_number(h, job->precision.compute);
    if (job->precision.optimizer) er_hasher_number(h, job->precision.optimizer);
}

void er_run_hash_unedited(er_hasher *h, const er_run *r)
{
    er_hash tokenizer = er_tokenizer_hash(r->setup.model->tokenizer);
    er_job_hash_unedited(h, &r->setup.job, &r->setup.model->weights, &tokenizer);
}

int er_run_shared_score_key(const er_run *r, int64_t index, er_hash *key, er_err *err)
{
    er_hasher *h = NULL;
    ER_TRY(er_hasher_new(&h, err));
    er_hasher_text(h, "unedited score");
    er_run_hash_unedited(h, r);
    er_hasher_hash(h, &r->case_keys[index]);
    *key = er_hasher_end(h);
    er_hasher_free(h);
    return 0;
}

void er_run_share(er_run *r, int all)
{
    er_err e = ER_ERR_INIT;
    if (!r->cache || !er_cache_publish(r->cache, all, &e)) return;
    er_log(ER_LOG_WARN, "nothing more is shared with other runs: %s", e.text);
    er_cache_close(r->cache);
    r->cache = NULL;
}

const er_hash *er_run_state(const er_run *r, int64_t batch)
{
    if (batch < 0) return &r->base;
    return r->heads && batch < r->head_count ? &r->heads[batch].after : NULL;
}

/* --- what is known ----------------------------------------------------------------------------------------------- */

/* The journal holds more than this job asks for at most; what is asked for is looked up case by case. */
static int from_journal(er_run *r, const er_hash *key, er_err *err)
{
    er_text bytes = ER_TEXT_INIT;
    int found = 0;
    int code = er_journal_read(r->journal, ER_JOURNAL_SCORES, key, &bytes, &found, err);
    if (!code && found) code = er_scores_put(&r->scores, key, bytes.at, bytes.length, err);
    er_text_free(&bytes);
    return code;
}

/* A score of the unedited model comes from the cache, or goes there when this run alone has it. */
static int share_score(er_run *r, int64_t index, const er_hash *key, er_err *err)
{
    const er_text *mine = er_scores_find(&r->scores, key);
    er_hash shared;
    size_t n = 0;
    ER_TRY(er_run_shared_score_key(r, index, &shared, err));
    if (mine) return er_cache_add(r->cache, ER_JOURNAL_SCORES, &shared, mine->at ? mine->at : "", mine->length, err);
    const char *bytes = er_cache_find(r->cache, ER_JOURNAL_SCORES, &shared, &n);
    r->setup.counts.scores_reused += bytes != NULL;
    return bytes ? er_scores_put(&r->scores, key, bytes, n, err) : 0;
}

int er_run_load_scores(er_run *r, er_err *err)
{
    ER_TRY(er_run_make_case_keys(r, err));
    ER_TRY(er_cases_load(r, err));
    for (int64_t i = 0; i < r->scoring_count; i++) {
        const er_scoring *s = &r->scorings[i];
        const er_hash *state = er_run_state(r, s->batch);
        for (int64_t c = 0; state && c < s->count; c++) {
            er_hash key;
            ER_TRY(er_run_score_key(r, s->cases[c], state, &key, err));
            if (!er_scores_find(&r->scores, &key)) ER_TRY(from_journal(r, &key, err));
            if (r->cache && s->batch < 0) ER_TRY(share_score(r, s->cases[c], &key, err));
        }
    }
    return 0;
}

static int is_known(const er_run *r, int64_t index, const er_hash *state)
{
    er_hash key;
    return er_run_score_key(r, index, state, &key, NULL) == 0 && er_scores_find(&r->scores, &key) != NULL;
}

int er_run_missing_scores(const er_run *r, int64_t *missing, er_err *err)
{
    (void)err;
    *missing = 0;
    for (int64_t i = 0; i < r->scoring_count; i++) {
        const er_scoring *s = &r->scorings[i];
        const er_hash *state = er_run_state(r, s->batch);
        for (int64_t c = 0; c < s->count; c++) *missing += !state || !is_known(r, s->cases[c], state);
    }
    return 0;
}

int er_run_get_score(const er_run *r, int64_t index, const er_hash *state, er_case_score *out, er_arena *arena,
                     er_err *err)
{
    er_hash key;
    ER_TRY(er_run_score_key(r, index, state, &key, err));
    const er_text *bytes = er_scores_find(&r->scores, &key);
    if (!bytes) return er_fail(err, ER_E_INTERNAL, "case %lld was never scored", (long long)index);
    return er_case_score_get(out, &r->setup.data.requests[index], bytes->at ? bytes->at : "", bytes->length, arena,
                             err);
}

/* --- units ------------------------------------------------------------------------------------------------------- */

typedef struct scoring_phase {
    er_run *r;
    const er_scoring *s;
    const er_hash *state; /* rank 0 */
    er_progress progress;
} scoring_phase;

static void unit_cases(const scoring_phase *p, int64_t unit, int64_t *first, int64_t *count)
{
    int64_t size = p->r->setup.job.run.unit;
    *first = unit * size;
    *count = p->s->count - *first < size ? p->s->count - *first : size;
}

static int score_cases(const scoring_phase *p, int64_t first, int64_t count, er_text *out, er_arena *arena,
                       er_err *err)
{
    const er_run *r = p->r;
    const er_request **requests = NULL;
    er_case_score *scores = NULL;
    er_text one = ER_TEXT_INIT;
    ER_TRY(er_arena_take(arena, &requests, (size_t)count, err));
    ER_TRY(er_arena_take(arena, &scores, (size_t)count, err));
    for (int64_t i = 0; i < count; i++) requests[i] = &r->setup.data.requests[p->s->cases[first + i]];
    const er_scorer scorer = er_run_scorer(r);
    int code = er_evaluate_as(scores, &r->overlay.view, &scorer, requests, count, arena, r->setup.work, err);
    if (!code) code = er_generated(scores, &r->overlay.view, &scorer, requests, count, arena, r->setup.work, err);
    er_setup_warn_beyond(&r->setup);
    for (int64_t i = 0; !code && i < count; i++) {
        one.length = 0;
        code = er_case_score_put(&one, &scores[i], err);
        if (!code) code = er_blob_put_number(out, (int64_t)one.length, err);
        if (!code) code = er_blob_put(out, one.at ? one.at : "", one.length, err);
    }
    er_text_free(&one);
    return code;
}

static int score_unit(void *context, int64_t unit, er_text *out, er_err *err)
{
    const scoring_phase *p = context;
    int64_t first, count;
    er_arena *arena = NULL;
    unit_cases(p, unit, &first, &count);
    ER_TRY(er_arena_new(&arena, 0, err));
    int code = score_cases(p, first, count, out, arena, err);
    er_arena_free(arena);
    return code;
}

static int sink_scores(void *context, int64_t unit, const char *bytes, size_t n, er_err *err)
{
    scoring_phase *p = context;
    er_run *r = p->r;
    er_reader in = {bytes, n, 0};
    int64_t first, count;
    unit_cases(p, unit, &first, &count);
    for (int64_t i = 0; i < count; i++) {
        er_hash key;
        int64_t length = er_blob_get_count(&in, 1);
        if (length < 0) break;
        ER_TRY(er_run_score_key(r, p->s->cases[first + i], p->state, &key, err));
        if (!er_scores_find(&r->scores, &key)) {
            if (r->journal)
                ER_TRY(er_journal_add(r->journal, ER_JOURNAL_SCORES, &key, in.at, (size_t)length, err));
            ER_TRY(er_scores_put(&r->scores, &key, in.at, (size_t)length, err));
            er_progress_add(&p->progress, 1);
            r->setup.counts.scores++;
            if (r->cache && p->s->batch < 0) ER_TRY(share_score(r, p->s->cases[first + i], &key, err));
        }
        in.at += length;
        in.left -= (size_t)length;
    }
    ER_TRY(er_blob_end(&in, "scores of a unit", err));
    return r->journal ? er_journal_sync(r->journal, err) : 0;
}

static int score_one(er_run *r, const er_scoring *s, er_err *err)
{
    scoring_phase p = {.r = r, .s = s, .state = er_run_state(r, s->batch)};
    int64_t units = (s->count + r->setup.job.run.unit - 1) / r->setup.job.run.unit, known = 0, left = 0;
    uint8_t *done = NULL;
    int code = er_alloc(&done, (size_t)units, err);
    for (int64_t u = 0; !code && r->w->rank == 0 && u < units; u++) {
        int64_t first, count;
        unit_cases(&p, u, &first, &count);
        done[u] = 1;
        for (int64_t i = 0; i < count; i++) {
            int have = is_known(r, s->cases[first + i], p.state);
            done[u] &= (uint8_t)have;
            known += have;
        }
        left += !done[u];
    }
    code = er_world_agree(r->w, code, err);
    if (!code) code = er_world_bcast(r->w, &left, sizeof left, 0, err);
    if (!code && left) {
        double start = er_seconds();
        const int64_t before = r->setup.counts.scores;
        er_units phase = {"scores", units, done, score_unit, sink_scores, &p};
        er_progress_start(&p.progress, s->moment, "cases", known, s->count);
        code = er_world_units(r->w, &phase, err);
        er_progress_end(&p.progress);
        if (s->batch < 0) er_run_share(r, 1);
        int timed = r->w->rank == 0 && r->journal;
        if (!code)
            code = timed ? er_run_time_planned(r, s->moment, s->batch, er_seconds() - start,
                                               er_forecast_scores(r, r->setup.counts.scores - before), err) : 0;
        code = er_world_agree(r->w, code, err);
    }
    er_free(done);
    return code;
}

/* Where scorings follow each other, half of run.memory is for what they have in common. */
static int open_states(er_run *r, er_err *err)
{
    int64_t first = r->setup.model->config.layers;
    for (int64_t i = 0; i < r->overlay.count; i++)
        if (r->overlay.layers[i] < first) first = r->overlay.layers[i];
    if (r->states || r->scoring_count < 2 || !r->overlay.count || first < 1) return 0;
    return er_states_new(&r->states, first, r->setup.model->config.hidden, r->setup.job.run.memory / 2, err);
}

int er_run_score(er_run *r, int64_t batch, er_err *err)
{
    ER_TRY(er_world_agree(r->w, open_states(r, err), err));
    for (int64_t i = 0; i < r->scoring_count; i++)
        if (r->scorings[i].batch == batch) ER_TRY(score_one(r, &r->scorings[i], err));
    return 0;
}
