/* SPDX-License-Identifier: Apache-2.0 */
/* A job's figures for its plan: what is counted, and what is assumed where nothing can be. */
#include "base/file.h"
#include "runner/plan.h"
#include "runner/setup.h"

#include <stdio.h>

enum { DEFAULT_DOCUMENT = 512 };

static const char given_text[] = "as given", assumed_text[] = "assumed, near the means of CounterFact's records";

static void count_open_corpus(er_plan *p, er_plan_words *words, const er_setup *job)
{
    p->tokens = (double)er_corpus_tokens(job->corpus);
    p->document = p->tokens / (double)er_corpus_documents(job->corpus);
    snprintf(words->tokens, sizeof words->tokens, "the job's corpus");
}

/* Tokens of the corpus: counted with a tokenizer, else a token to four bytes, and no more than may be taken. */
static int count_corpus(er_plan *p, er_plan_words *words, er_setup *job, const er_config *c, er_tokenizer *t,
                        er_err *err)
{
    const int file = job->job.stats.corpus == ER_JOB_CORPUS_FILE;
    if (!(job->needs & ER_NEEDS_EIGEN)) return 0;
    if (job->job.stats.imported) {
        snprintf(words->tokens, sizeof words->tokens, "none to measure: imported as %.200s", job->job.stats.imported);
        return 0;
    }
    if (job->corpus) {
        count_open_corpus(p, words, job);
    } else if (t && (!file || er_file_exists(job->job.stats.file.path))) {
        /* a corpus is opened for its ids: of the model it reads no weights */
        er_model hollow = {.config = *c, .tokenizer = t, .longest_text = er_cost_longest_text(c)};
        er_model *own = job->model;
        job->model = &hollow;
        int code = er_setup_corpus(job, err);
        job->model = own;
        ER_TRY(code);
        count_open_corpus(p, words, job);
        er_corpus_close(job->corpus);
        job->corpus = NULL;
    } else {
        p->document = DEFAULT_DOCUMENT;
        p->tokens = er_plan_assume_tokens(&job->job, &p->document, words->tokens, sizeof words->tokens);
    }
    return 0;
}

static int count_texts(er_plan *p, er_plan_words *words, const er_setup *job, const er_tokenizer *t, const char *given,
                       const er_templates *known, int64_t most, er_err *err)
{
    er_plan_counted counted = {.scored = {13, 12, 3}, .shared = er_plan_shared_assumed}; /* CounterFact's */
    const int64_t unit = p->unit < p->batch ? p->unit : p->batch;
    ER_TRY(er_plan_texts_assumed(&counted.texts, job->editor, &job->hyper, given, err));
    if (!given && t && job->data.requests)
        ER_TRY(er_plan_texts_of(&counted, t, &job->job, &job->data, job->editor, &job->hyper, p->config, known, unit, most,
                                err));
    if (counted.requests)
        snprintf(words->texts, sizeof words->texts, "means of %lld of the job's requests", (long long)counted.requests);
    else
        snprintf(words->texts, sizeof words->texts, "%s", given ? given_text : assumed_text);
    p->texts = counted.texts;
    p->shared = counted.shared;
    p->prompts = counted.scored.prompts;
    p->prompt_tokens = counted.scored.tokens;
    p->prompt_heads = counted.scored.heads;
    p->moments = job->job.score.before + job->job.score.at_edit + job->job.score.at_end;
    if (job->job.score.every) p->moments += (double)p->edits / (double)job->job.score.every / 2;
    return 0;
}

int er_plan_of_job(er_plan *p, er_plan_words *words, struct er_setup *job, const er_config *c, er_tokenizer *t,
                   const char *given, const er_templates *known, int64_t most, er_err *err)
{
    static const int dtypes[] = {[ER_JOB_FP32] = ER_F32, [ER_JOB_BF16] = ER_BF16, [ER_JOB_FP16] = ER_F16};
    *words = (er_plan_words){.texts = ""};
    *p = (er_plan){.config = c, .path = job->job.model.path, .editor = job->editor, .hyper = &job->hyper,
                   .weights = dtypes[job->job.precision.weights], .edits = job->data.count, .batch = job->batch,
                   .unit = job->job.run.unit, .shards = job->job.run.shards, .texts_from = words->texts,
                   .tokens_from = words->tokens, .machine = er_machine_assumed()};
    ER_TRY(count_corpus(p, words, job, c, t, err));
    return count_texts(p, words, job, t, given, known, most, err);
}
