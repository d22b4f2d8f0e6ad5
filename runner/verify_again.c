/* SPDX-License-Identifier: Apache-2.0 */
#define _DEFAULT_SOURCE
#include "base/file.h"
#include "base/memory.h"
#include "runner/bundle.h"
#include "runner/difference.h"
#include "runner/run.h"
#include "runner/verify.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Links, so that nothing is written where the objects come from. */
static int link_object(const char *from, const char *to, const er_stats_key *key, int eigen, er_err *err)
{
    char *object = NULL, *link = NULL;
    int code = er_store_path(&object, from, key, eigen, err);
    if (!code) code = er_store_path(&link, to, key, eigen, err);
    char *whole = code ? NULL : realpath(object, NULL); /* NULL where it is not there: measured then */
    if (whole && symlink(whole, link)) code = er_fail(err, ER_E_IO, "%s: %s", link, strerror(errno));
    free(whole);
    er_free(object);
    er_free(link);
    return code;
}

static int make_store(const er_verifying *v, const char *to, er_err *err)
{
    er_input_stats *stats = NULL;
    int64_t count = 0;
    ER_TRY(er_make_folders(to, err));
    if (!v->store) return 0;
    ER_TRY(er_inputs_stats(&stats, &count, v->inputs, err));
    int code = 0;
    for (int64_t i = 0; !code && i < 2 * count; i++) code = link_object(v->store, to, &stats[i / 2].key, i % 2 != 0, err);
    er_free(stats);
    return code;
}

/* Lines: the job's path, then its overrides. */
static int describe(const er_verifying *v, er_text *out, er_err *err)
{
    char *again = NULL, *store = NULL, *job = NULL;
    int code = er_path_join(&again, v->scratch, "again", err);
    if (!code) code = er_path_join(&store, v->scratch, "store", err);
    if (!code) code = make_store(v, store, err);
    if (!code) code = er_path_join(&job, v->folder, "job.resolved.yaml", err);
    if (!code) code = er_text_format(out, err, "%s\nout=%s\nstats.store=%s", job, again, store);
    for (int i = 0; !code && i < v->set_count; i++) code = er_text_format(out, err, "\n%s", v->set[i]);
    er_free(again);
    er_free(store);
    er_free(job);
    return code;
}

int er_verify_again(er_verifying *v, er_world *w, er_text *text, er_err *err)
{
    er_text lines = ER_TEXT_INIT;
    const char *part[ER_VERIFY_SETS + 3];
    size_t count = 0;
    int64_t failed = 0;
    er_run_outcome outcome = {0};
    er_run_options options = {.force = 1, .outcome = &outcome};
    int code = er_world_agree(w, w->rank == 0 ? describe(v, &lines, err) : 0, err);
    if (!code) code = er_world_bcast_text(w, &lines, 0, err);
    char *rest = lines.at;
    while (!code && rest && count < sizeof part / sizeof *part) part[count++] = strsep(&rest, "\n");
    if (!code) code = er_run_job(w, part[0], part + 1, count - 1, &options, &failed, err);
    if (!code) code = er_world_agree(w, w->rank == 0 ? er_difference_runs(text, v->folder, outcome.folder, err) : 0, err);
    er_free(outcome.folder);
    er_text_free(&lines);
    return code;
}
