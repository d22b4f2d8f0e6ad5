/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/report_data.h"

#include "base/file.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const er_report_group er_report_groups[ER_REPORT_GROUPS] = {
    {"rewrite", "Eff"}, {"paraphrase", "Gen"}, {"neighborhood", "Spe"}};

int er_report_note(er_report *r, er_err *err, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    ER_TRY(er_grow(&r->notes, &r->note_room, (size_t)r->note_count + 1, err));
    char *copy = er_arena_strdup(r->arena, text, err);
    if (!copy) return ER_E_MEMORY;
    r->notes[r->note_count++] = copy;
    return 0;
}

const char *er_report_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

const char *er_report_option_of(const er_report *r, const char *key, const char *otherwise)
{
    for (int64_t i = 0; i < r->option_count; i++)
        if (!strcmp(r->options[i].key, key)) return r->options[i].value;
    return otherwise;
}

/* --- summary ----------------------------------------------------------------------------------------------------- */

static double number(const json_t *value)
{
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

static const json_t *moment_of(const er_report *r, const char *moment)
{
    return json_object_get(json_object_get(r->summary, "scores"), moment);
}

double er_report_score(const er_report *r, const char *moment, const char *group, const char *metric, const char *what)
{
    const json_t *g = json_object_get(moment_of(r, moment), group);
    return number(json_object_get(json_object_get(g, metric), what));
}

double er_report_total(const er_report *r, const char *moment)
{
    return number(json_object_get(moment_of(r, moment), "score"));
}

int64_t er_report_edits(const er_report *r, const char *what)
{
    return (int64_t)json_integer_value(json_object_get(json_object_get(r->summary, "edits"), what));
}

const char *er_report_last_moment(const er_report *r)
{
    const char *last = NULL, *key;
    json_t *value, *scores = json_object_get(r->summary, "scores");
    json_object_foreach(scores, key, value) last = key;
    return json_object_get(scores, "at_end") ? "at_end" : last;
}

/* --- files ------------------------------------------------------------------------------------------------------- */

static int has_file(const er_report *r, const char *name)
{
    char *path = NULL;
    int has = !er_path_join(&path, r->folder, name, NULL) && er_file_exists(path);
    er_free(path);
    return has;
}

static int read_summary(er_report *r, enum er_report_need need, er_err *err)
{
    char *path = NULL;
    r->unfinished = need != ER_REPORT_SUMMARY && !has_file(r, "summary.json") && has_file(r, "scores.journal");
    if (r->unfinished) return 0;
    ER_TRY(er_path_join(&path, r->folder, "summary.json", err));
    int code = er_json_read(&r->summary, path, err);
    if (!code && json_integer_value(json_object_get(r->summary, "schema")) != 1)
        code = er_fail(err, ER_E_FORMAT, "%s: no summary of a run (schema 1)", path);
    er_free(path);
    return code;
}

/* A small JSON file that may be missing. */
static int read_optional(er_report *r, json_t **out, const char *name, er_err *err)
{
    char *path = NULL;
    er_err why = ER_ERR_INIT;
    ER_TRY(er_path_join(&path, r->folder, name, err));
    int absent = !er_file_exists(path), code = absent ? 0 : er_json_read(out, path, &why);
    er_free(path);
    if (absent) return er_report_note(r, err, "%s is not there.", name);
    if (code == ER_E_MEMORY) return er_fail(err, code, "%s", why.text);
    return code ? er_report_note(r, err, "%s is left out: it cannot be read.", name) : 0;
}

int er_report_each_line(const er_report *r, const char *name, void (*take)(void *context, const json_t *line),
                        void *context, er_err *err)
{
    char *path = NULL, *text = NULL;
    size_t n = 0;
    int code = er_path_join(&path, r->folder, name, err);
    if (!code && er_file_exists(path)) code = er_file_read(&text, &n, path, err);
    for (const char *at = text, *end; !code && at && (end = memchr(at, '\n', n - (size_t)(at - text))); at = end + 1) {
        json_t *line = NULL;
        code = er_json_parse(&line, at, (size_t)(end - at), path, err);
        if (!code) take(context, line);
        json_decref(line);
    }
    er_free(text);
    er_free(path);
    return code;
}

static int read_job(er_report *r, int quiet, er_err *err)
{
    char *path = NULL, *text = NULL;
    size_t n = 0;
    er_err why = ER_ERR_INIT;
    ER_TRY(er_path_join(&path, r->folder, "job.resolved.yaml", err));
    int absent = !er_file_exists(path), code = absent ? 0 : er_file_read(&text, &n, path, &why);
    er_free(path);
    if (code == ER_E_MEMORY) return er_fail(err, code, "%s", why.text);
    if (absent || code) return quiet ? 0 : er_report_note(r, err, "job.resolved.yaml %s.", absent ? "is not there" :
                                                          "is left out: it cannot be read");
    r->job_text = er_arena_strdup(r->arena, text, err);
    er_free(text);
    return r->job_text ? er_report_read_options(r, err) : ER_E_MEMORY;
}

/* The folder's last part, also of "runs/x/" and "." */
static int name_folder(er_report *r, er_err *err)
{
    char *copy = er_arena_strdup(r->arena, r->folder, err);
    if (!copy) return ER_E_MEMORY;
    for (size_t n = strlen(copy); n > 1 && copy[n - 1] == '/'; n--) copy[n - 1] = 0;
    r->name = er_report_base(copy);
    return 0;
}

int er_report_open(er_report *r, const char *folder, enum er_report_need need, er_err *err)
{
    *r = (er_report){.folder = folder};
    ER_TRY(er_arena_new(&r->arena, 0, err));
    ER_TRY(name_folder(r, err));
    ER_TRY(read_summary(r, need, err));
    ER_TRY(read_job(r, need == ER_REPORT_SUMMARY, err));
    if (need == ER_REPORT_SUMMARY) return 0;
    if (!(r->guards = json_array())) return er_fail(err, ER_E_MEMORY, "out of memory");
    if (need == ER_REPORT_ALL) ER_TRY(read_optional(r, &r->inputs, "inputs.json", err));
    if (need == ER_REPORT_ALL) ER_TRY(read_optional(r, &r->env, "env.json", err));
    ER_TRY(er_report_read_lines(r, need == ER_REPORT_ALL, err));
    return r->unfinished ? er_report_unfinished(r, err) : 0;
}

void er_report_close(er_report *r)
{
    json_decref(r->summary);
    json_decref(r->inputs);
    json_decref(r->env);
    json_decref(r->guards);
    er_free(r->options);
    er_free(r->cases);
    er_free(r->targets);
    er_free(r->layers);
    er_free(r->spectra);
    er_free(r->phases);
    er_free(r->memory);
    er_free(r->notes);
    er_arena_free(r->arena);
    *r = (er_report){0};
}
