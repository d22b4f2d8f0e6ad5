/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "runner/subject.h"
#include "runner/verbs.h"

#include <stdio.h>
#include <string.h>

static const er_flag flags[] = {{0}};

typedef struct verifying {
    er_setup setup;
    er_overlay overlay;
    char *ledger;
    int64_t records, edits;
} verifying;

/* A hash that inputs.json names against the one found now. */
static int check_input(const json_t *inputs, const char *name, const er_hash *now, const char *what, er_err *err)
{
    er_hash then;
    const char *text = json_string_value(json_object_get(inputs, name));
    if (!text || er_hash_parse(&then, text))
        return er_fail(err, ER_E_FORMAT, "inputs.json: \"%s\" is no hash", name);
    if (er_hash_equal(&then, now)) return 0;
    return er_fail(err, ER_E_MISMATCH, "%s has changed since the run was made", what);
}

static int check_inputs(verifying *v, const char *folder, er_err *err)
{
    char *path = NULL, *templates = NULL;
    json_t *inputs = NULL;
    er_templates t;
    er_hash tokenizer = er_tokenizer_hash(v->setup.model->tokenizer);
    int code = er_path_join(&path, folder, "inputs.json", err);
    if (!code) code = er_path_join(&templates, folder, "templates.json", err);
    if (!code && er_file_exists(path)) {
        code = er_json_read(&inputs, path, err);
        if (!code) code = check_input(inputs, "weights", &v->setup.model->weights, v->setup.job.model.path, err);
        if (!code) code = check_input(inputs, "tokenizer", &tokenizer, "the tokenizer", err);
        if (!code) code = er_templates_read(&t, templates, v->setup.editor->template_list, v->setup.arena, err);
        if (!code) code = check_input(inputs, "templates", &t.hash, templates, err);
        json_decref(inputs);
    }
    er_free(path);
    er_free(templates);
    return code;
}

static int replay(verifying *v, er_err *err)
{
    er_hash previous;
    memset(&previous, 0, sizeof previous);
    for (;; v->records++) {
        er_record r;
        er_hash state;
        int found = 0;
        int read = er_record_read(&r, v->ledger, v->records, 0, &found, err);
        if (read == ER_E_FORMAT) return ER_E_MISMATCH; /* HDF5's own checksums may be the first to notice */
        ER_TRY(read);
        if (!found) return 0;
        if (v->setup.job.edit.mode == ER_JOB_SINGLE) er_overlay_restore(&v->overlay);
        int code = er_hash_equal(&r.previous, &previous)
                       ? er_ledger_fold(&v->overlay, v->setup.world, &r, err)
                       : er_fail(err, ER_E_MISMATCH, "record %lld does not follow the record before it",
                                 (long long)v->records);
        if (!code) code = er_overlay_state(&v->overlay, &state, err);
        if (!code && !er_hash_equal(&state, &r.after))
            code = er_fail(err, ER_E_MISMATCH, "record %lld does not end in the state that it names",
                           (long long)v->records);
        v->edits += r.requests;
        previous = r.self;
        er_record_free(&r);
        ER_TRY(code);
    }
}

static int verify(verifying *v, er_world *w, const char *folder, er_err *err)
{
    char *job = NULL;
    if (!er_is_run(folder)) return er_fail(err, ER_E_USAGE, "%s: is no folder of a run", folder);
    ER_TRY(er_path_join(&job, folder, "job.resolved.yaml", err));
    int code = er_setup_job(&v->setup, w, job, NULL, 0, err);
    er_free(job);
    if (!code) code = er_setup_open(&v->setup, ER_SETUP_MODEL, err);
    if (!code) code = er_path_join(&v->ledger, folder, "ledger", err);
    if (!code) code = check_inputs(v, folder, err);
    if (!code) code = er_overlay_open(&v->overlay, v->setup.model, &v->setup.hyper.layers, err);
    if (!code) code = replay(v, err);
    if (!code)
        printf("%s: %lld records, %lld edits: every hash holds\n", folder, (long long)v->records,
               (long long)v->edits);
    if (code) er_prefix(err, "%s: ", folder);
    return code;
}

static int call(er_world *w, const er_args *args, int *exit_code, er_err *err)
{
    verifying v = {.setup = {.quiet = 1}};
    (void)exit_code;
    int code = verify(&v, w, args->at[0], err);
    er_overlay_close(&v.overlay);
    er_free(v.ledger);
    er_setup_close(&v.setup);
    return code;
}

const er_verb er_verb_verify = {"verify", "RUN", "replay the ledger and check every hash", 1, 1, 0, 0, flags, call};
