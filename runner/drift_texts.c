/* SPDX-License-Identifier: Apache-2.0 */
/* What drift is measured on: held-out texts, and the probe's prompts with the unedited model's answers. */
#include "runner/drift.h"

#include "base/memory.h"
#include "runner/bits.h"
#include "runner/blob.h"
#include "runner/watch.h"
#include "stats/moment.h"
#include "stats/store.h"

#include <string.h>

enum { TEXT_TOKENS = 256, ANSWER = 8 };

int er_drift_is_corpus(const er_job *j)
{
    return j->score.drift.path && j->stats.corpus == ER_JOB_CORPUS_FILE &&
           !strcmp(j->score.drift.path, j->stats.file.path);
}

/* Documents at the file's start that the statistics were measured on. */
static int64_t taken_documents(const er_job *j) { return er_drift_is_corpus(j) ? j->stats.file.documents : 0; }

/* The texts that the model writes for statistics have the seed, these the next one. */
static uint64_t own_seed(const er_job *j) { return (uint64_t)j->stats.sample.seed + 1; }

int er_drift_content(er_hash *out, const er_job *j, const er_hash *weights, const er_hash *tokenizer, er_err *err)
{
    er_hasher *h = NULL;
    er_hash file = {{0}};
    if (j->score.drift.path && j->score.drift.tokens) ER_TRY(er_hash_file(&file, j->score.drift.path, err));
    ER_TRY(er_hasher_new(&h, err));
    er_hasher_text(h, "drift");
    er_job_hash_unedited(h, j, weights, tokenizer);
    er_hasher_hash(h, &file);
    er_hasher_number(h, j->score.drift.path ? taken_documents(j) : (int64_t)own_seed(j));
    er_hasher_number(h, j->score.drift.tokens);
    er_hasher_number(h, j->score.drift.probe);
    er_hasher_number(h, ER_DRIFT_PROMPTS_VERSION);
    *out = er_hasher_end(h);
    er_hasher_free(h);
    return 0;
}

int er_drift_hash(er_run *r, er_err *err)
{
    if (r->drift.hashed) return 0;
    const er_hash tokenizer = er_tokenizer_hash(r->setup.model->tokenizer);
    ER_TRY(er_drift_content(&r->drift.content, &r->setup.job, &r->setup.model->weights, &tokenizer, err));
    r->drift.hashed = 1;
    return 0;
}

/* --- texts ------------------------------------------------------------------------------------------------------- */

static int put_ids(er_text *out, const int32_t *ids, int64_t n, int64_t start, er_err *err)
{
    ER_TRY(er_blob_put_number(out, start, err));
    ER_TRY(er_blob_put_number(out, n, err));
    return er_blob_put(out, ids, (size_t)n * sizeof *ids, err);
}

/* Documents behind `skip`, until `tokens` ids are predicted. */
static int take_documents(er_run *r, er_corpus *c, int64_t skip, er_text *out, int64_t *tokens, int64_t *count,
                          er_err *err)
{
    const int64_t wanted = r->setup.job.score.drift.tokens;
    int code = 0;
    for (int64_t b = 0, seen = 0; !code && b < er_corpus_blocks(c) && *tokens < wanted; b++) {
        er_ids ids[ER_BLOCK_DOCUMENTS] = {{0}};
        int64_t n = 0;
        code = er_corpus_block(c, b, ids, &n, r->setup.work, err);
        for (int64_t i = 0; i < n; i++) {
            int64_t left = wanted - *tokens, use = ids[i].count - 1 < left ? ids[i].count : left + 1;
            if (!code && seen++ >= skip && left > 0 && use > 1) {
                code = put_ids(out, ids[i].at, use, 1, err);
                *tokens += use - 1;
                ++*count;
            }
            er_ids_free(&ids[i]);
        }
    }
    return code;
}

/* Rank 0. The file is read as far as the tokens probably need it, then as a whole. */
static int held_out(er_run *r, er_text *out, int64_t *count, er_err *err)
{
    const er_job *j = &r->setup.job;
    const int64_t wanted = j->score.drift.tokens, longest = r->setup.model->longest_text, skip = taken_documents(j);
    int64_t tokens = 0;
    if (!wanted) return 0;
    for (int whole = 0; whole < 2 && tokens < wanted; whole++) {
        er_corpus *c = NULL;
        er_corpus_options o = {.path = j->score.drift.path, .max_tokens = TEXT_TOKENS < longest ? TEXT_TOKENS : longest};
        if (o.path) o.documents = whole ? 0 : skip + wanted / 16 + 16;
        else o.tokens = wanted + TEXT_TOKENS, o.seed = own_seed(j);
        out->length = 0;
        *count = tokens = 0;
        ER_TRY(er_corpus_open(&c, &o, r->setup.model, err));
        int code = take_documents(r, c, skip, out, &tokens, count, err);
        er_corpus_close(c);
        ER_TRY(code);
    }
    if (tokens < wanted)
        return er_fail(err, ER_E_INPUT, "score.drift.tokens: '%lld', but %s has %lld behind the statistics' texts",
                       (long long)wanted, j->score.drift.path ? j->score.drift.path : "the model's own text",
                       (long long)tokens);
    return 0;
}

/* --- the probe --------------------------------------------------------------------------------------------------- */

static int answer_unit(void *context, int64_t unit, er_text *out, er_err *err)
{
    const er_run *r = context;
    er_ids ids = {0};
    const er_draw greedy = {.top_k = 1};
    int code = er_encode(r->setup.model->tokenizer, &ids, er_drift_prompts[unit], strlen(er_drift_prompts[unit]), 1,
                         err);
    int64_t start = ids.count;
    if (!code) code = er_generate(&r->drift.base, &ids, 1, start + ANSWER, 1, &greedy, r->setup.work, err);
    if (!code) code = put_ids(out, ids.at, ids.count, start, err);
    er_ids_free(&ids);
    return code;
}

typedef struct answers {
    er_run *r;
    er_text *text; /* (score.drift.probe), rank 0 */
} answers;

static int answer_key(const er_run *r, int64_t unit, er_hash *key)
{
    er_hash both[2] = {r->drift.content, er_hash_bytes(&unit, sizeof unit)};
    *key = er_hash_bytes(both, sizeof both);
    return 0;
}

static int work_answer(void *context, int64_t unit, er_text *out, er_err *err)
{
    return answer_unit(((answers *)context)->r, unit, out, err);
}

static int sink_answer(void *context, int64_t unit, const char *bytes, size_t n, er_err *err)
{
    answers *a = context;
    er_hash key;
    ER_TRY(answer_key(a->r, unit, &key));
    if (a->text[unit].length) return 0;
    ER_TRY(er_text_bytes(&a->text[unit], bytes, n, err));
    if (!a->r->journal) return 0;
    ER_TRY(er_journal_add(a->r->journal, ER_JOURNAL_DRIFT, &key, bytes, n, err));
    return er_journal_sync(a->r->journal, err);
}

/* Collective. Answers behind the held-out texts in rank 0's *out. */
static int probe(er_run *r, er_text *out, er_err *err)
{
    const int64_t n = r->setup.job.score.drift.probe;
    answers a = {r, NULL};
    uint8_t *done = NULL;
    if (!n) return 0;
    int code = er_alloc(&a.text, (size_t)n, err);
    if (!code) code = er_alloc(&done, (size_t)n, err);
    for (int64_t i = 0; !code && r->journal && r->w->rank == 0 && i < n; i++) {
        er_hash key;
        int found = 0;
        code = answer_key(r, i, &key);
        if (!code) code = er_journal_read(r->journal, ER_JOURNAL_DRIFT, &key, &a.text[i], &found, err);
        done[i] = found != 0;
    }
    er_units phase = {"answers of the probe", n, done, work_answer, sink_answer, &a};
    code = er_world_agree(r->w, code, err);
    if (!code) code = er_world_units(r->w, &phase, err);
    for (int64_t i = 0; !code && r->w->rank == 0 && i < n; i++)
        code = er_text_bytes(out, a.text[i].at, a.text[i].length, err);
    for (int64_t i = 0; a.text && i < n; i++) er_text_free(&a.text[i]);
    er_free(a.text);
    er_free(done);
    return er_world_agree(r->w, code, err);
}

/* --- opening ----------------------------------------------------------------------------------------------------- */

static int read_texts(er_drift *d, const er_text *bytes, int64_t most, er_err *err)
{
    er_reader in = {bytes->at, bytes->length, 0};
    ER_TRY(er_alloc(&d->ids, (size_t)most, err));
    ER_TRY(er_alloc(&d->start, (size_t)most, err));
    while (in.left && !in.failed && d->count < most) {
        er_ids *ids = &d->ids[d->count];
        d->start[d->count] = er_blob_get_number(&in);
        int64_t n = er_blob_get_count(&in, sizeof *ids->at);
        if (n < 1) break;
        ER_TRY(er_grow(&ids->at, &ids->capacity, (size_t)n, err));
        er_blob_get(&in, ids->at, (size_t)n * sizeof *ids->at);
        ids->count = n;
        d->count++;
    }
    return er_blob_end(&in, "texts of the drift", err);
}

int er_drift_open(er_run *r, er_err *err)
{
    er_drift *d = &r->drift;
    er_text bytes = ER_TEXT_INIT;
    if (d->open) return 0;
    er_watch_work("texts of the drift", -1);
    ER_TRY(er_world_agree(r->w, er_view_open(&d->base, r->setup.model, err), err));
    int code = r->w->rank == 0 ? er_drift_hash(r, err) : 0;
    if (!code && r->w->rank == 0) code = held_out(r, &bytes, &d->held_out, err);
    code = er_world_agree(r->w, code, err);
    if (!code) code = er_world_bcast(r->w, &d->held_out, sizeof d->held_out, 0, err);
    if (!code) code = probe(r, &bytes, err);
    if (!code) code = er_world_bcast_text(r->w, &bytes, 0, err);
    if (!code) code = er_world_agree(r->w, read_texts(d, &bytes, d->held_out + r->setup.job.score.drift.probe, err), err);
    er_text_free(&bytes);
    d->open = !code;
    return code;
}

void er_drift_close(er_drift *d)
{
    for (int64_t i = 0; i < d->count; i++) er_ids_free(&d->ids[i]);
    er_free(d->ids);
    er_free(d->start);
    er_scores_free(&d->known);
    er_view_close(&d->base);
    memset(d, 0, sizeof *d);
}
