/* SPDX-License-Identifier: Apache-2.0 */
#define _DEFAULT_SOURCE
#include "runner/verify.h"

#include "base/file.h"
#include "base/memory.h"
#include "runner/bundle.h"
#include "runner/drift.h"
#include "runner/signals.h"

#include <string.h>

/* --- overrides --------------------------------------------------------------------------------------------------- */

static int add_set(er_verifying *v, const char *key, const char *value, er_err *err)
{
    er_text t = ER_TEXT_INIT;
    if (!value) return 0;
    ER_ALWAYS(v->set_count < ER_VERIFY_SETS);
    int code = er_text_format(&t, err, "%s=%s", key, value);
    if (code) er_text_free(&t);
    else v->set[v->set_count++] = t.at;
    return code;
}

static int job_path(char **out, const er_verifying *v, er_err *err)
{
    return er_path_join(out, v->folder, "job.resolved.yaml", err);
}

/* Corpus and held-out text. Where the job has one file for both they stay one: the texts behind the statistics'
 * documents are meant, and the bundle has it once. */
static int set_texts(er_verifying *v, const er_job *j, er_err *err)
{
    const int one = er_drift_is_corpus(j);
    const char *corpus = v->corpus ? v->corpus : one ? v->drift : NULL;
    ER_TRY(add_set(v, "stats.corpus.path", corpus, err));
    return j->score.drift.path ? add_set(v, "score.drift.path", one ? corpus : v->drift, err) : 0;
}

/* All three or none. */
static int set_references(er_verifying *v, const er_job *j, er_err *err)
{
    if (!j->score.snippets) return 0;
    ER_TRY(add_set(v, "score.snippets", v->snippets, err));
    ER_TRY(add_set(v, "score.tfidf_vocab", v->tfidf_vocab, err));
    return add_set(v, "score.tfidf_idf", v->tfidf_idf, err);
}

int er_verify_sets(er_verifying *v, er_world *alone, er_err *err)
{
    char *job = NULL;
    er_setup s = {.quiet = 1};
    ER_TRY(job_path(&job, v, err));
    int code = er_setup_job(&s, alone, job, NULL, 0, err);
    er_free(job);
    if (!code && v->corpus && (s.job.stats.imported || s.job.stats.corpus != ER_JOB_CORPUS_FILE))
        code = er_fail(err, ER_E_USAGE, "%s: the run's statistics are not those of a file", v->folder);
    if (!code) code = add_set(v, "model.path", v->model, err);
    if (!code) code = add_set(v, "data.path", v->data, err);
    if (!code && s.job.data.ids) code = add_set(v, "data.ids", v->ids, err);
    if (!code) code = set_texts(v, &s.job, err);
    if (!code) code = set_references(v, &s.job, err);
    if (!code && s.job.templates.source == ER_JOB_TEMPLATES_FILE) code = add_set(v, "templates.file", v->templates, err);
    er_setup_close(&s);
    return code;
}

/* --- inputs ------------------------------------------------------------------------------------------------------ */

/* A hash that inputs.json names against the one found now. */
static int check_input(const json_t *inputs, const char *name, const er_hash *now, const char *what, er_err *err)
{
    er_hash then;
    char a[ER_HASH_TEXT], b[ER_HASH_TEXT];
    const char *text = json_string_value(json_object_get(inputs, name));
    if (!text || er_hash_parse(&then, text))
        return er_fail(err, ER_E_FORMAT, "inputs.json: \"%s\" is no hash", name);
    if (er_hash_equal(&then, now)) return 0;
    er_hash_text(a, &then);
    er_hash_text(b, now);
    return er_fail(err, ER_E_MISMATCH, "%s has changed since the run was made: %s is %s, was %s", what, name, b, a);
}

static int check_templates(er_verifying *v, er_err *err)
{
    char *path = NULL;
    er_templates t;
    ER_TRY(er_path_join(&path, v->folder, "templates.json", err));
    int code = er_templates_read(&t, path, v->setup.editor->template_list, v->setup.arena, err);
    if (!code) code = check_input(v->inputs, "templates", &t.hash, path, err);
    er_free(path);
    return code;
}

static int check_corpus(er_verifying *v, er_err *err)
{
    const json_t *stats = json_object_get(v->inputs, "stats");
    if (!json_is_object(stats)) return 0;
    ER_TRY(er_setup_corpus(&v->setup, err));
    er_hash now = er_setup_corpus_hash(&v->setup);
    return check_input(stats, "corpus", &now, v->setup.job.stats.file.path, err);
}

static int check_object(er_verifying *v, er_store *store, const er_input_stats *s, int eigen, er_err *err)
{
    er_moment moment = {0};
    er_eigen pairs = {0};
    er_hash now;
    const er_hash none = {{0}};
    int found = 0;
    if (er_hash_equal(&s->content[eigen], &none)) return 0; /* of an imported projection */
    v->objects_wanted++;
    ER_TRY(er_store_hash(store, &s->key, eigen, &now, &found, err));
    if (!found) return 0;
    if (!er_hash_equal(&now, &s->content[eigen]))
        return er_fail(err, ER_E_MISMATCH, "%s: the %s of layer %lld are not those of the run", v->store,
                       eigen ? "eigenpairs" : "second moments", (long long)s->key.layer);
    int code = eigen ? er_store_eigen(store, &s->key, &pairs, &found, err)
                     : er_store_moment(store, &s->key, &moment, &found, NULL, 0, err);
    er_moment_free(&moment);
    er_eigen_free(&pairs);
    v->objects += !code;
    return code;
}

static int check_store(er_verifying *v, er_err *err)
{
    er_input_stats *stats = NULL;
    er_store *store = NULL;
    int64_t count = 0;
    if (!er_file_exists(v->store)) return er_fail(err, ER_E_IO, "%s: No such file or directory", v->store);
    ER_TRY(er_inputs_stats(&stats, &count, v->inputs, err));
    int code = er_store_open(&store, v->store, err);
    for (int64_t i = 0; !code && i < 2 * count; i++) code = check_object(v, store, &stats[i / 2], i % 2 != 0, err);
    er_store_close(store);
    er_free(stats);
    return code;
}

static int check_inputs(er_verifying *v, er_err *err)
{
    char *path = NULL;
    er_hash tokenizer = er_tokenizer_hash(v->setup.model->tokenizer);
    ER_TRY(er_path_join(&path, v->folder, "inputs.json", err));
    int there = er_file_exists(path), code = there ? er_json_read(&v->inputs, path, err) : 0;
    er_free(path);
    if (code || !there) return code;
    ER_TRY(check_input(v->inputs, "weights", &v->setup.model->weights, v->setup.job.model.path, err));
    ER_TRY(check_input(v->inputs, "tokenizer", &tokenizer, "the tokenizer", err));
    ER_TRY(check_templates(v, err));
    if (v->data)
        ER_TRY(check_input(json_object_get(v->inputs, "data"), "file", &v->setup.data.source, v->setup.job.data.path, err));
    if (v->corpus_at_hand) ER_TRY(check_corpus(v, err));
    return v->store ? check_store(v, err) : 0;
}

/* --- records ----------------------------------------------------------------------------------------------------- */

static int fold(er_verifying *v, const er_record *r, const er_hash *previous, er_err *err)
{
    er_hash state;
    if (!er_hash_equal(&r->previous, previous))
        return er_fail(err, ER_E_MISMATCH, "record %lld does not follow the record before it", (long long)v->records);
    if (v->setup.job.edit.mode == ER_JOB_SINGLE) er_overlay_restore(&v->overlay);
    ER_TRY(er_ledger_fold(&v->overlay, v->setup.world, r, err));
    ER_TRY(er_overlay_state(&v->overlay, &state, err));
    if (er_hash_equal(&state, &r->after)) return 0;
    return er_fail(err, ER_E_MISMATCH, "record %lld does not end in the state that it names", (long long)v->records);
}

static int replay(er_verifying *v, er_err *err)
{
    er_hash previous, base;
    memset(&previous, 0, sizeof previous);
    ER_TRY(er_overlay_state(&v->overlay, &base, err));
    if (v->inputs) ER_TRY(check_input(v->inputs, "unedited", &base, "the unedited model", err));
    for (;; v->records++) {
        er_record r;
        int found = 0;
        if (er_signal_seen()) return er_fail(err, ER_E_SIGNAL, "stopped by a signal");
        int read = er_record_read(&r, v->ledger, v->records, 0, &found, err);
        if (read == ER_E_FORMAT) return ER_E_MISMATCH; /* HDF5's own checksums may be the first to notice */
        ER_TRY(read);
        if (!found) return 0;
        int code = fold(v, &r, &previous, err);
        v->edits += r.requests;
        previous = r.self;
        er_record_free(&r);
        ER_TRY(code);
    }
}

int er_verify(er_verifying *v, er_world *alone, er_err *err)
{
    char *job = NULL;
    ER_TRY(job_path(&job, v, err));
    v->setup.quiet = 1;
    int code = er_setup_job(&v->setup, alone, job, (const char *const *)v->set, (size_t)v->set_count, err);
    er_free(job);
    if (!code) code = er_setup_open(&v->setup, ER_SETUP_MODEL | (v->data ? ER_SETUP_DATA : 0), err);
    if (!code) code = er_path_join(&v->ledger, v->folder, "ledger", err);
    if (!code) code = check_inputs(v, err);
    if (!code) code = er_setup_overlay(&v->setup, &v->overlay, err);
    return code ? code : replay(v, err);
}

void er_verify_close(er_verifying *v)
{
    for (int i = 0; i < v->set_count; i++) er_free(v->set[i]);
    er_overlay_close(&v->overlay);
    er_free(v->ledger);
    json_decref(v->inputs);
    er_setup_close(&v->setup);
}
