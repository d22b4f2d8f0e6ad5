/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "runner/bundle.h"
#include "runner/subject.h"
#include "runner/verbs.h"
#include "runner/verify.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const er_flag flags[] = {
    {"model", "PATH", "the model, where it does not lie at the path that the run names"},
    {"data", "FILE", "the data file, compared with its hash; default: the bundle's, else the path that the run names"},
    {"ids", "FILE", "the file of case ids, where the job names one"},
    {"corpus", "FILE", "the corpus behind the statistics, compared with its hash"},
    {"store", "DIR", "statistics: compared with their hashes, used by --rerun instead of measuring again; never written to"},
    {"rerun", NULL, "run the job again from its inputs and compare every file; names the first record that differs"},
    {"scratch", "DIR", "where a folder of its own is made (default: TMPDIR or /tmp); with --rerun seen by all ranks"},
    {"keep", NULL, "leave that folder"},
    {0},
};

enum { INPUTS = 9 };

typedef struct verb {
    er_verifying v;
    const char *path;
    char *scratch, *run;    /* the folder of its own; the unpacked run in it */
    char *inputs[INPUTS];   /* what the bundle brought */
    er_hash content;
    int64_t files;
    er_text damage;
    int bundle, rerun;
} verb;

/* --- scratch ----------------------------------------------------------------------------------------------------- */

static int make_scratch(verb *x, const char *base, er_err *err)
{
    er_text t = ER_TEXT_INIT;
    const char *preset = getenv("TMPDIR");
    if (!base) base = preset && *preset ? preset : "/tmp";
    char *whole = realpath(base, NULL); /* paths in a job are relative to its folder */
    if (!whole) return er_fail(err, ER_E_IO, "%s: %s", base, strerror(errno));
    int code = er_text_format(&t, err, "%s/errata-verify-XXXXXX", whole);
    free(whole);
    if (!code && !mkdtemp(t.at)) code = er_fail(err, ER_E_IO, "%s: %s", t.at, strerror(errno));
    if (code) er_text_free(&t);
    else x->scratch = t.at;
    return code;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)info, (void)kind, (void)at;
    return remove(path);
}

static void drop_scratch(verb *x, int keep)
{
    if (!x->scratch) return;
    if (keep) er_log(ER_LOG_INFO, "kept: %s", x->scratch);
    else if (nftw(x->scratch, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT))
        er_log(ER_LOG_WARN, "%s: cannot be removed", x->scratch);
}

/* --- a bundle ---------------------------------------------------------------------------------------------------- */

/* The option's path, else that of the bundle's file where there is one, else NULL. */
static int choose(verb *x, int slot, const char *given, const char *name, const char **out, er_err *err)
{
    *out = given;
    if (given || !x->bundle) return 0;
    ER_TRY(er_path_join(&x->inputs[slot], x->run, name, err));
    if (er_file_exists(x->inputs[slot])) *out = x->inputs[slot];
    return 0;
}

static int open_bundle(verb *x, er_err *err)
{
    ER_TRY(er_path_join(&x->run, x->scratch, "run", err));
    ER_TRY(er_bundle_unpack(x->path, x->run, &x->content, &x->files, &x->damage, err));
    if (!x->damage.length) return 0;
    if (!x->rerun || strstr(x->damage.at, "job.resolved.yaml") || !strncmp(x->damage.at, "inputs", 6))
        return er_fail(err, ER_E_MISMATCH, "%s: %s", x->path, x->damage.at);
    er_log(ER_LOG_WARN, "%s: %s", x->path, x->damage.at); /* what differs in it is seen by the run that follows */
    return 0;
}

static int prepare(verb *x, const er_args *args, er_err *err)
{
    er_verifying *v = &x->v;
    struct stat info;
    int is_file = !stat(x->path, &info) && S_ISREG(info.st_mode);
    x->rerun = er_args_get(args, "rerun") != NULL;
    x->bundle = is_file;
    if (!is_file && !er_is_run(x->path))
        return er_fail(err, ER_E_USAGE, "%s: is neither a run's folder nor a bundle", x->path);
    if (x->bundle || x->rerun) ER_TRY(make_scratch(x, er_args_get(args, "scratch"), err));
    if (x->bundle) ER_TRY(open_bundle(x, err));
    v->folder = x->bundle ? x->run : x->path;
    v->scratch = x->scratch;
    v->model = er_args_get(args, "model");
    ER_TRY(choose(x, 0, er_args_get(args, "data"), "inputs/data", &v->data, err));
    ER_TRY(choose(x, 1, er_args_get(args, "ids"), "inputs/ids", &v->ids, err));
    ER_TRY(choose(x, 2, er_args_get(args, "corpus"), "inputs/corpus", &v->corpus, err));
    ER_TRY(choose(x, 3, NULL, "inputs/templates", &v->templates, err));
    ER_TRY(choose(x, 5, NULL, "inputs/drift", &v->drift, err));
    ER_TRY(choose(x, 6, NULL, "inputs/snippets", &v->snippets, err));
    ER_TRY(choose(x, 7, NULL, "inputs/tfidf_vocab", &v->tfidf_vocab, err));
    ER_TRY(choose(x, 8, NULL, "inputs/tfidf_idf", &v->tfidf_idf, err));
    v->corpus_at_hand = v->corpus != NULL;
    return choose(x, 4, er_args_get(args, "store"), "store", &v->store, err);
}

/* Paths on the command line are relative to the working folder, those in a job to the job's. */
static int settle_paths(verb *x, char *whole[4], er_err *err)
{
    const char **at[4] = {&x->v.model, &x->v.data, &x->v.ids, &x->v.corpus};
    for (int i = 0; i < 4; i++) {
        if (!*at[i]) continue;
        whole[i] = realpath(*at[i], NULL);
        if (!whole[i]) return er_fail(err, ER_E_IO, "%s: %s", *at[i], strerror(errno));
        *at[i] = whole[i];
    }
    return 0;
}

static int hold(verb *x, er_world *alone, er_err *err)
{
    er_verifying *v = &x->v;
    int code = er_verify_sets(v, alone, err);
    if (!code) code = er_verify(v, alone, err);
    if (code && x->damage.length && code == ER_E_MISMATCH) er_prefix(err, "%s; ", x->damage.at);
    if (code) er_prefix(err, "%s: ", x->path);
    if (!code && x->bundle) {
        char text[ER_HASH_TEXT];
        er_hash_text(text, &x->content);
        printf("%s: content %s, %lld files%s\n", x->path, text, (long long)x->files,
               x->damage.length ? "" : ": every hash holds");
    }
    if (!code && v->objects_wanted)
        printf("%s: %lld of %lld objects of statistics are there and hold\n", x->path, (long long)v->objects,
               (long long)v->objects_wanted);
    if (!code)
        printf("%s: %lld records, %lld edits: every hash holds\n", x->path, (long long)v->records, (long long)v->edits);
    return code;
}

/* --- the verb ---------------------------------------------------------------------------------------------------- */

static int run_again(verb *x, er_world *w, er_err *err)
{
    er_text text = ER_TEXT_INIT;
    int code = er_verify_again(&x->v, w, &text, err);
    if (!code && w->rank == 0 && text.length) code = er_fail(err, ER_E_MISMATCH, "%s: run again: %s", x->path, text.at);
    code = er_world_agree(w, code, err);
    if (!code && w->rank == 0 && x->damage.length) code = er_fail(err, ER_E_MISMATCH, "%s: %s", x->path, x->damage.at);
    code = er_world_agree(w, code, err);
    if (!code && w->rank == 0)
        printf("%s: run again on %d rank%s: bit-identical\n", x->path, w->size, w->size > 1 ? "s" : "");
    er_text_free(&text);
    return code;
}

static int call(er_world *w, const er_args *args, int *exit_code, er_err *err)
{
    verb x = {.path = args->at[0], .damage = ER_TEXT_INIT};
    er_world alone = {.size = 1, .node_ranks = 1, .threads = w->threads, .comm = MPI_COMM_NULL, .node = MPI_COMM_NULL};
    char *whole[4] = {NULL};
    int code = 0, rerun = er_args_get(args, "rerun") != NULL;
    (void)exit_code;
    if (w->rank == 0) code = prepare(&x, args, err);
    if (w->rank == 0 && !code) code = settle_paths(&x, whole, err);
    if (w->rank == 0 && !code) code = hold(&x, &alone, err);
    code = er_world_agree(w, code, err);
    if (!code && rerun) code = run_again(&x, w, err);
    er_verify_close(&x.v);
    if (w->rank == 0) drop_scratch(&x, er_args_get(args, "keep") != NULL);
    for (int i = 0; i < 4; i++) free(whole[i]);
    for (int i = 0; i < INPUTS; i++) er_free(x.inputs[i]);
    er_text_free(&x.damage);
    er_free(x.scratch);
    er_free(x.run);
    return code;
}

const er_verb er_verb_verify = {"verify", "RUN|BUNDLE", "replay the ledger and check every hash; --rerun runs it again", 1,
                                1, 1, 0, flags, call};
