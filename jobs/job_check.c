/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold between the keys of a job. */
#include "jobs/job_read.h"

#include <string.h>

/* The strongest source that set one of the keys; *key is the key it set. */
static int strongest(const er_job *job, const char *const *keys, const char **key)
{
    int most = ER_JOB_DEFAULT;
    *key = keys[0];
    for (; *keys; keys++) {
        int source = er_job_source_of(job, *keys);
        if (source <= most) continue;
        most = source;
        *key = *keys;
    }
    return most;
}

static int reset(er_job_reader *r, const char *const *keys)
{
    for (; *keys; keys++) ER_TRY(er_job_reset(r, *keys));
    return 0;
}

/* *out: 0 for the first member (also when none is set), 1 for the second. */
static int choose(er_job_reader *r, int *out, const char *const *first, const char *const *second)
{
    const char *a = NULL, *b = NULL;
    int from_a = strongest(r->job, first, &a), from_b = strongest(r->job, second, &b);
    if (from_a && from_a == from_b)
        return er_fail(r->err, ER_E_INPUT, "%s: key '%s' stands beside '%s' (%s), expected one of them",
                       er_job_place(r, b), b, a, er_job_place(r, a));
    *out = from_b > from_a;
    return reset(r, *out ? first : second);
}

static int check_choices(er_job_reader *r)
{
    static const char *const file_order[] = {"data.order", NULL}, *const shuffle[] = {"data.order.shuffle", NULL};
    static const char *const sample[] = {"stats.sample.tokens", "stats.sample.seed", NULL};
    static const char *const corpus[] = {"stats.corpus.path", "stats.corpus.documents", "stats.corpus.max_tokens",
                                         NULL};
    static const char *const generate[] = {"templates.generate.seed", NULL}, *const file[] = {"templates.file", NULL};
    er_job *job = r->job;
    ER_TRY(choose(r, &job->data.order, file_order, shuffle));
    ER_TRY(choose(r, &job->stats.corpus, sample, corpus));
    ER_TRY(choose(r, &job->templates.source, generate, file));
    if (job->stats.corpus == ER_JOB_CORPUS_FILE && !job->stats.file.path)
        return er_fail(r->err, ER_E_INPUT, "%s: key 'stats.corpus.path' is missing: the corpus needs a file",
                       er_job_place(r, er_job_source_of(job, "stats.corpus.documents") ? "stats.corpus.documents"
                                                                                       : "stats.corpus.max_tokens"));
    return 0;
}

static int check_batch(er_job_reader *r)
{
    er_job *job = r->job;
    int given = er_job_source_of(job, "edit.batch") != ER_JOB_DEFAULT;
    if (job->edit.mode == ER_JOB_BATCH) {
        if (given)
            ER_TRY(er_job_note_add(r, 1, "%s: edit.batch is not read with edit.mode batch, which edits all at once",
                                   er_job_place(r, "edit.batch")));
        if (r->batch_most && (job->data.count == 0 || job->data.count > r->batch_most))
            return er_fail(r->err, ER_E_INPUT, "%s: edit.mode: 'batch', but %s edits at most %lld at a time, expected "
                           "sequential or single", er_job_place(r, "edit.mode"), job->editor.method,
                           (long long)r->batch_most);
        job->edit.batch = 0;
        return 0;
    }
    if (!given && job->edit.mode == ER_JOB_SINGLE) job->edit.batch = 1;
    if (!given && r->batch_most && job->edit.batch > r->batch_most) job->edit.batch = r->batch_most;
    if (r->batch_most && job->edit.batch > r->batch_most)
        return er_fail(r->err, ER_E_INPUT, "%s: edit.batch: '%lld', but %s edits at most %lld at a time, expected %lld",
                       er_job_place(r, "edit.batch"), (long long)job->edit.batch, job->editor.method,
                       (long long)r->batch_most, (long long)r->batch_most);
    return 0;
}

static int check_moments(er_job_reader *r)
{
    er_job *job = r->job;
    if (job->edit.mode == ER_JOB_SINGLE && !er_job_source_of(job, "score.at_end")) job->score.at_end = 0;
    if (job->edit.mode == ER_JOB_SINGLE && job->score.at_end)
        return er_fail(r->err, ER_E_INPUT, "%s: score.at_end: 'true', expected false with edit.mode single, where no "
                       "model holds all edits", er_job_place(r, "score.at_end"));
    if (job->score.every && job->edit.mode != ER_JOB_SEQUENTIAL)
        return er_fail(r->err, ER_E_INPUT, "%s: score.every: '%lld', expected 0 with edit.mode %s, where no model "
                       "gathers batch after batch", er_job_place(r, "score.every"), (long long)job->score.every,
                       job->edit.mode == ER_JOB_SINGLE ? "single" : "batch");
    if (job->score.every && job->score.every % job->edit.batch)
        return er_fail(r->err, ER_E_INPUT, "%s: score.every: '%lld', expected a multiple of edit.batch, which is %lld",
                       er_job_place(r, "score.every"), (long long)job->score.every, (long long)job->edit.batch);
    return 0;
}

/* The records for tuning are skipped by every run of the job. */
static void settle_tuning(er_job *job)
{
    job->data.tuned = job->data.tune;
    job->data.skip += job->data.tune;
    job->data.tune = 0;
}

/* Published zsRE tables edit to the true answer, EasyEdit to the alternative: a silent default would be one of two
 * experiments. A face names its program. */
static int check_target(er_job_reader *r)
{
    const int face = r->job->parity;
    if (r->job->data.format != ER_JOB_ZSRE || r->job->data.target != ER_JOB_TARGET_NONE) return 0;
    if (face != ER_JOB_PARITY_NONE)
        return er_job_preset(r, face, "data.target", face == ER_JOB_PARITY_EASYEDIT ? "alt" : "answers");
    return er_fail(r->err, ER_E_INPUT, "%s: key 'data.target' is missing: with data.format zsre it has no default, "
                   "expected answers (published tables) or alt (EasyEdit)", er_job_place(r, "data.format"));
}

/* Consistency is made of three files and of generated texts. */
static int check_references(er_job_reader *r)
{
    static const char *const keys[] = {"score.snippets", "score.tfidf_vocab", "score.tfidf_idf"};
    const er_job *job = r->job;
    const char *const files[] = {job->score.snippets, job->score.tfidf_vocab, job->score.tfidf_idf};
    int given = -1, missing = -1;
    for (int i = 2; i >= 0; i--) *(files[i] ? &given : &missing) = i;
    if (given < 0) return 0;
    if (missing >= 0)
        return er_fail(r->err, ER_E_INPUT, "%s: key '%s' is missing: reference texts need %s, %s and %s",
                       er_job_place(r, keys[given]), keys[missing], keys[0], keys[1], keys[2]);
    if (job->score.generate) return 0;
    return er_fail(r->err, ER_E_INPUT, "%s: %s without score.generate, expected the number of cases to generate texts for",
                   er_job_place(r, keys[given]), keys[given]);
}

int er_job_check(er_job_reader *r)
{
    ER_TRY(check_references(r));
    ER_TRY(check_target(r));
    settle_tuning(r->job);
    ER_TRY(check_choices(r));
    ER_TRY(check_batch(r));
    ER_TRY(check_moments(r));
    return er_job_check_guards(r);
}
