/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/memory.h"
#include "runner/run.h"
#include "runner/subject.h"
#include "runner/sweep.h"
#include "runner/verbs.h"

#include <stdio.h>
#include <string.h>

static const er_flag flags[] = {{0}};

typedef struct progress {
    int64_t edits, failed, batches;
} progress;

static int read_ledger(progress *p, const char *folder, er_err *err)
{
    char *ledger = NULL;
    int found = 1, code = er_path_join(&ledger, folder, "ledger", err);
    while (!code && found) {
        er_record head;
        code = er_record_read(&head, ledger, p->batches, 1, &found, err);
        if (code || !found) break;
        for (int64_t i = 0; i < head.requests; i++) p->failed += head.targets[i].failed != 0;
        p->edits += head.requests;
        p->batches++;
        er_record_free(&head);
    }
    er_free(ledger);
    return code;
}

/* Who works on it: the lock tells; "" when nobody does. */
static int read_holder(char *holder, size_t size, const char *folder, er_err *err)
{
    char *path = NULL;
    er_err held = ER_ERR_INIT;
    int lock = -1;
    holder[0] = 0;
    ER_TRY(er_run_lock_path(&path, folder, err));
    if (er_file_exists(path) && er_lock_take(&lock, path, &held)) {
        const char *who = strstr(held.text, "held by ");
        snprintf(holder, size, "%.200s", who ? who + 8 : held.text);
    }
    er_lock_release(lock);
    er_free(path);
    return 0;
}

static int has_file(const char *folder, const char *name)
{
    char *path = NULL;
    if (er_path_join(&path, folder, name, NULL)) return 0;
    int has = er_file_exists(path);
    er_free(path);
    return has;
}

static int status_of(er_world *w, const char *folder, er_err *err)
{
    er_setup s = {.quiet = 1};
    progress p = {0};
    char *job = NULL, holder[256];
    if (!er_is_run(folder)) return er_fail(err, ER_E_USAGE, "%s: is no folder of a run", folder);
    ER_TRY(er_path_join(&job, folder, "job.resolved.yaml", err));
    int code = er_setup_job(&s, w, job, NULL, 0, err);
    er_free(job);
    if (!code) code = er_setup_open(&s, ER_SETUP_DATA, err);
    if (!code) code = read_ledger(&p, folder, err);
    if (!code) code = read_holder(holder, sizeof holder, folder, err);
    if (!code) {
        int finished = p.edits >= s.data.count && has_file(folder, "summary.json");
        finished = finished && !has_file(folder, "scores.journal");
        printf("%s: %s, %lld of %lld edits in %lld of %lld batches, %lld failed: ", folder, s.editor->name,
               (long long)p.edits, (long long)s.data.count, (long long)p.batches, (long long)s.batches,
               (long long)p.failed);
        if (*holder) printf("running (%s)\n", holder);
        else printf(finished ? "finished\n" : "unfinished, run the job again to continue\n");
    }
    er_setup_close(&s);
    return code;
}

static int status_of_sweep(const char *folder, er_err *err)
{
    er_table t;
    er_text text = ER_TEXT_INIT;
    ER_TRY(er_table_read(&t, folder, err));
    int code = er_table_left(&text, &t, err);
    if (!code) printf("%s: %s", folder, text.at);
    er_text_free(&text);
    er_table_free(&t);
    return code;
}

static int call(er_world *w, const er_args *args, int *exit_code, er_err *err)
{
    (void)exit_code;
    for (int i = 0; i < args->count; i++)
        ER_TRY(er_is_sweep(args->at[i]) ? status_of_sweep(args->at[i], err) : status_of(w, args->at[i], err));
    return 0;
}

const er_verb er_verb_status = {"status", "RUN|SWEEP...", "what is done, failed, left, and who works on it", 1, -1, 0, 0,
                                flags, call};
