/* SPDX-License-Identifier: Apache-2.0 */
/* One point's state file. */
#include "base/file.h"
#include "base/memory.h"
#include "runner/sweep.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const states[] = {"waiting", "running", "done", "failed"};

const char *er_point_state_text(int state) { return states[state]; }

int er_point_folder(char **path, const char *out, const char *name, er_err *err)
{
    er_text t = ER_TEXT_INIT;
    int code = er_text_format(&t, err, "%s/points/%s", out, name);
    if (code) er_text_free(&t);
    *path = t.at;
    return code;
}

int er_point_lock_path(char **path, const char *out, const char *name, er_err *err)
{
    er_text t = ER_TEXT_INIT;
    int code = er_text_format(&t, err, "%s/points/.%s.lock", out, name);
    if (code) er_text_free(&t);
    *path = t.at;
    return code;
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

static int read_file(er_point *p, const char *path, er_err *err)
{
    ER_TRY(er_json_read(&p->json, path, err));
    const char *state = json_string_value(json_object_get(p->json, "state"));
    const char *job = json_string_value(json_object_get(p->json, "job"));
    p->state = -1;
    for (int i = 0; state && i < 4; i++)
        if (!strcmp(states[i], state)) p->state = i;
    p->has_job = job && er_hash_parse(&p->job, job) == 0;
    if (p->state < 0 || !p->has_job) return er_fail(err, ER_E_FORMAT, "%s: not the state of a point", path);
    return 0;
}

/* Who works on it, now. */
static int read_holder(er_point *p, const char *out, er_err *err)
{
    char *path = NULL;
    er_err held = ER_ERR_INIT;
    int lock = -1;
    ER_TRY(er_point_lock_path(&path, out, p->name, err));
    if (er_file_exists(path) && er_lock_take(&lock, path, &held)) {
        const char *who = strstr(held.text, "held by ");
        if (who) snprintf(p->holder, sizeof p->holder, "%.100s", who + 8);
    }
    er_lock_release(lock);
    er_free(path);
    return 0;
}

int er_point_read(er_point *p, const char *out, const char *name, er_err *err)
{
    char *folder = NULL, *path = NULL;
    *p = (er_point){.state = ER_POINT_WAITING};
    snprintf(p->name, sizeof p->name, "%.12s", name);
    ER_TRY(er_point_folder(&folder, out, name, err));
    int code = er_path_join(&path, folder, "point.json", err);
    if (!code && er_file_exists(path)) code = read_file(p, path, err);
    if (!code && p->state == ER_POINT_RUNNING) code = read_holder(p, out, err);
    if (!code && p->state == ER_POINT_RUNNING && !*p->holder) p->state = ER_POINT_WAITING; /* killed */
    er_free(folder);
    er_free(path);
    if (code) er_point_free(p);
    return code;
}

int er_point_read_file(er_point *p, const char *path, er_err *err)
{
    *p = (er_point){.state = ER_POINT_WAITING};
    if (!er_file_exists(path)) return 0;
    int code = read_file(p, path, err);
    const char *name = json_string_value(json_object_get(p->json, "point"));
    if (!code) snprintf(p->name, sizeof p->name, "%.12s", name ? name : "");
    if (code) er_point_free(p);
    return code;
}

void er_point_free(er_point *p)
{
    json_decref(p->json);
    p->json = NULL;
}

double er_point_number(const er_point *p, const char *name)
{
    const json_t *value = json_object_get(p->json, name);
    if (!value) value = json_object_get(json_object_get(p->json, "scores"), name);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

int er_point_settled(const er_point *p, const er_hash *job, int64_t rung)
{
    if (!p->has_job || !er_hash_equal(&p->job, job)) return ER_POINT_WAITING;
    if (rung < 0 ? p->state == ER_POINT_DONE : er_point_rungs(p) > rung) return ER_POINT_DONE;
    return p->state == ER_POINT_FAILED ? ER_POINT_FAILED : ER_POINT_WAITING;
}

int64_t er_point_rungs(const er_point *p)
{
    return (int64_t)json_array_size(json_object_get(p->json, "rungs"));
}

double er_point_rung(const er_point *p, int64_t r)
{
    const json_t *value = json_array_get(json_object_get(p->json, "rungs"), (size_t)r);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

const char *er_point_reason(const er_point *p)
{
    const char *reason = json_string_value(json_object_get(p->json, "reason"));
    return reason ? reason : "";
}

/* --- writing ----------------------------------------------------------------------------------------------------- */

static int set_new(json_t *object, const char *key, json_t *value, er_err *err)
{
    return json_object_set_new(object, key, value) ? er_fail(err, ER_E_MEMORY, "no memory for a point's state") : 0;
}

/* {"before": {"rewrite": {"success": {"mean": }}}} becomes "before.rewrite.success": mean. */
static int flatten(json_t *to, const json_t *from, const char *prefix, er_err *err)
{
    const char *key;
    const json_t *value;
    if (!from) return 0;
    void *i = json_object_iter((json_t *)(uintptr_t)from);
    for (; i; i = json_object_iter_next((json_t *)(uintptr_t)from, i)) {
        char name[200];
        key = json_object_iter_key(i);
        value = json_object_iter_value(i);
        snprintf(name, sizeof name, "%.100s%s%.90s", prefix, *prefix ? "." : "", key);
        const json_t *mean = json_object_get(value, "mean");
        if (json_is_number(value) || json_is_number(mean))
            ER_TRY(set_new(to, name, json_real(json_number_value(mean ? mean : value)), err));
        else if (json_is_object(value) && !mean)
            ER_TRY(flatten(to, value, name, err));
    }
    return 0;
}

/* "score" stands for the last moment's. */
static json_t *find_objective(const json_t *scores, const char *name)
{
    static const char *const ends[] = {"at_end.score", "at_edit.score"};
    const json_t *value = json_object_get(scores, name);
    for (int i = 0; !value && i < 2 && !strcmp(name, "score"); i++) value = json_object_get(scores, ends[i]);
    return json_is_number(value) ? json_real(json_number_value(value)) : json_null();
}

static int put_scores(json_t *to, const er_point_news *n, er_err *err)
{
    char *path = NULL;
    json_t *summary = NULL, *scores = json_object();
    int code = er_path_join(&path, n->outcome->folder, "summary.json", err);
    if (!code) code = er_json_read(&summary, path, err);
    if (!code) code = flatten(scores, json_object_get(summary, "scores"), "", err);
    if (!code) code = set_new(to, "objective", find_objective(scores, n->objective), err);
    if (!code) code = set_new(to, "scores", json_incref(scores), err);
    json_decref(scores);
    json_decref(summary);
    er_free(path);
    return code;
}

static int put_work(json_t *to, const er_counts *c, er_err *err)
{
    const struct {
        const char *name;
        int64_t value;
    } all[] = {{"moments", c->moments}, {"eigenpairs", c->eigenpairs}, {"targets", c->targets},
               {"targets_reused", c->targets_reused}, {"scores", c->scores}, {"scores_reused", c->scores_reused},
               {"templates", c->templates}, {"templates_reused", c->templates_reused}};
    json_t *work = json_object();
    int code = set_new(to, "work", work, err);
    for (size_t i = 0; !code && i < sizeof all / sizeof *all; i++)
        code = set_new(work, all[i].name, json_integer(all[i].value), err);
    return code;
}

/* The objectives of the rungs before, and of this one when it is done; all there are for a point that waits again. */
static int put_rungs(json_t *to, const er_point_news *n, er_err *err)
{
    er_point before;
    if (n->rung < 0 && n->state != ER_POINT_WAITING) return 0;
    ER_TRY(er_point_read(&before, n->out, n->name, err));
    const int same = before.has_job && er_hash_equal(&before.job, n->job);
    const int64_t had = same ? er_point_rungs(&before) : 0;
    json_t *rungs = json_array();
    for (int64_t r = 0; r < had && (n->rung < 0 || r < n->rung); r++)
        json_array_append(rungs, json_array_get(json_object_get(before.json, "rungs"), (size_t)r));
    er_point_free(&before);
    if (n->state == ER_POINT_DONE) json_array_append(rungs, json_object_get(to, "objective"));
    return set_new(to, "rungs", rungs, err);
}

static int put_outcome(json_t *to, const er_point_news *n, er_err *err)
{
    const er_run_outcome *o = n->outcome;
    if (!o || !o->folder) return 0;
    const char *slash = strrchr(o->folder, '/');
    char run[300];
    snprintf(run, sizeof run, "run/%.250s", slash ? slash + 1 : o->folder);
    ER_TRY(set_new(to, "run", json_string(run), err));
    if (n->state != ER_POINT_DONE) return 0;
    ER_TRY(set_new(to, "edits", json_integer(o->requested), err));
    ER_TRY(set_new(to, "failed_edits", json_integer(o->failed), err));
    ER_TRY(put_work(to, &o->counts, err));
    return put_scores(to, n, err);
}

static int put_point(json_t *to, const er_point_news *n, er_err *err)
{
    char job[ER_HASH_TEXT];
    json_t *values = json_object();
    er_hash_text(job, n->job);
    ER_TRY(set_new(to, "schema", json_integer(1), err));
    ER_TRY(set_new(to, "point", json_string(n->name), err));
    ER_TRY(set_new(to, "state", json_string(states[n->state]), err));
    ER_TRY(set_new(to, "values", values, err));
    for (int64_t i = 0; i < n->values->count; i++)
        ER_TRY(set_new(values, n->values->keys[i], json_string(n->values->values[i]), err));
    ER_TRY(set_new(to, "job", json_string(job), err));
    if (n->reason) ER_TRY(set_new(to, "reason", json_string(n->reason), err));
    return put_outcome(to, n, err);
}

int er_point_write(const er_point_news *n, er_err *err)
{
    char *folder = NULL, *path = NULL, *text = NULL;
    json_t *json = json_object();
    int code = n->folder ? er_strdup(&folder, n->folder, err) : er_point_folder(&folder, n->out, n->name, err);
    if (!code) code = er_make_folders(folder, err);
    if (!code) code = er_path_join(&path, folder, "point.json", err);
    if (!code) code = put_point(json, n, err);
    if (!code) code = put_rungs(json, n, err);
    if (!code && !(text = json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(9))))
        code = er_fail(err, ER_E_MEMORY, "no memory for a point's state");
    if (!code) code = er_save_bytes(path, text, strlen(text), err);
    free(text);
    json_decref(json);
    er_free(path);
    er_free(folder);
    return code;
}
