/* SPDX-License-Identifier: Apache-2.0 */
/* A run that has not ended: what its files hold already, in the place of summary.json. Scores are kept by hash in the
 * journal: model and data must be there to read them. */
#include "runner/report_data.h"

#include "base/file.h"
#include "runner/run.h"

#include <stdlib.h>
#include <string.h>

static json_int_t whole_option(const er_report *r, const char *key)
{
    return (json_int_t)strtoll(er_report_option_of(r, key, "0"), NULL, 10);
}

/* drift.jsonl as the summary has it; a last line that is not whole is left out. */
static int read_drift(json_t *moments, const er_report *r, er_err *err)
{
    char *path = NULL, *text = NULL;
    size_t size = 0;
    ER_TRY(er_path_join(&path, r->folder, "drift.jsonl", err));
    int code = er_file_exists(path) ? er_file_read(&text, &size, path, err) : 0;
    er_free(path);
    for (size_t at = 0; !code && text && at < size;) {
        const char *end = memchr(text + at, '\n', size - at);
        size_t n = end ? (size_t)(end - text) - at : size - at;
        json_t *line = json_loadb(text + at, n, 0, NULL);
        const char *moment = json_string_value(json_object_get(line, "moment"));
        if (moment && json_object_set(moments, moment, line)) code = er_fail(err, ER_E_MEMORY, "out of memory");
        json_decref(line);
        at += n + 1;
    }
    er_free(text);
    return code;
}

/* Moments that are scored; a note where they cannot be read. */
static int read_scores(er_report *r, er_err *err)
{
    er_text text = ER_TEXT_INIT;
    er_err why = ER_ERR_INIT;
    json_t *scores = NULL;
    int code = er_run_so_far(&text, r->folder, &why);
    if (!code) code = er_json_parse(&scores, text.at, text.length, "scores", &why);
    er_text_free(&text);
    int failed = !code && json_object_update(r->summary, scores);
    json_decref(scores);
    if (code == ER_E_MEMORY || failed) return er_fail(err, ER_E_MEMORY, "out of memory");
    return code ? er_report_note(r, err, "Its scores cannot be read: %s.", why.text) : 0;
}

int er_report_unfinished(er_report *r, er_err *err)
{
    json_int_t failed = 0, batch = whole_option(r, "edit.batch"), count = whole_option(r, "data.count");
    for (int64_t i = 0; i < r->target_count; i++) failed += r->targets[i].failed;
    json_t *moments = json_object();
    if (!moments) return er_fail(err, ER_E_MEMORY, "out of memory");
    int code = read_drift(moments, r, err);
    const int any = json_object_size(moments) > 0;
    if (!code) {
        r->summary = json_pack("{s:i, s:s, s:{s:I, s:I, s:I}, s:{s:s, s:I, s:I}, s:{}, s:O}", "schema", 1, "method",
                               er_report_option_of(r, "editor.method", "?"), "edits", "requested", count, "applied",
                               (json_int_t)r->target_count - failed, "failed", failed, "protocol", "mode",
                               er_report_option_of(r, "edit.mode", "?"), "batch", batch, "count", count, "scores",
                               "guards", r->guards);
        if (!r->summary) code = er_fail(err, ER_E_MEMORY, "out of memory");
    }
    if (!code && any && json_object_set_new(r->summary, "drift", json_pack("{s:O}", "moments", moments)))
        code = er_fail(err, ER_E_MEMORY, "out of memory");
    json_decref(moments);
    ER_TRY(code);
    ER_TRY(er_report_note(r, err, "The run has not ended: %lld of its %lld edits are made.", (long long)r->target_count,
                          (long long)count));
    return read_scores(r, err);
}
