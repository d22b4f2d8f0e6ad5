/* SPDX-License-Identifier: Apache-2.0 */
#include "jobs/job.h"

#include "base/file.h"
#include "jobs/job_read.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* The scalar or other node of a dotted key, however the mappings above it are written. */
static const er_yaml *look_up(const er_yaml *map, const char *key)
{
    for (const er_yaml *c = map && map->kind == ER_YAML_MAP ? map->first : NULL; c; c = c->next) {
        size_t n = strlen(c->key);
        if (strcmp(c->key, key) == 0) return c;
        if (n == 0 || strncmp(c->key, key, n) || key[n] != '.') continue;
        const er_yaml *found = look_up(c, key + n + 1);
        if (found) return found;
    }
    return NULL;
}

static const er_job_setting *last_set(const er_job_setting *sets, size_t count, const char *key)
{
    size_t n = strlen(key);
    while (count-- > 0)
        if (strncmp(sets[count].text, key, n) == 0 && sets[count].text[n] == '=') return &sets[count];
    return NULL;
}

/* One early key, read before the others because they depend on it: --set, else the job file, else NULL. */
static int early(er_job_reader *r, const er_yaml *root, const er_job_setting *sets, size_t set_count, const char *key,
                 const char **value, const char **where)
{
    const er_yaml *node = look_up(root, key);
    const er_job_origin o = {r->job->path, ER_JOB_FILE, 0};
    const er_job_setting *set = last_set(sets, set_count, key);
    *value = set ? set->text + strlen(key) + 1 : NULL;
    *where = "--set";
    if (set && set->file) {
        const er_job_origin there = {set->file, ER_JOB_SET, 1};
        ER_TRY(er_job_where(where, r, &there, set->value_line, set->value_column));
    }
    if (*value && (!strcmp(*value, "null") || !strcmp(*value, "~"))) {
        *value = NULL;
        return 0;
    }
    if (*value || !node || er_yaml_is_null(node)) return 0;
    ER_TRY(er_job_where(where, r, &o, node->value_line, node->value_column));
    if (node->kind != ER_YAML_SCALAR)
        return er_fail(r->err, ER_E_INPUT, "%s: %s: %s, expected a text", *where, key, er_yaml_kind_text(node));
    *value = node->text;
    return 0;
}

static int add_table(er_job_reader *r, er_option_table table)
{
    size_t t = r->job->table_count;
    ER_TRY(er_options_defaults(&table, r->arena, r->err));
    ER_TRY(er_arena_take(r->arena, &r->place[t], table.count, r->err));
    for (size_t i = 0; i < table.count; i++) r->place[t][i] = NULL;
    r->job->tables[t] = table;
    r->job->table_count++;
    return 0;
}

/* Defaults that are paths are relative to the job file too. */
static int default_paths(er_job_reader *r)
{
    for (size_t t = 0; t < r->job->table_count; t++) {
        er_option_table *table = &r->job->tables[t];
        for (size_t i = 0; i < table->count; i++) {
            const er_option *row = &table->rows[i];
            if (row->type != ER_OPT_PATH || !row->preset || table->set[i]) continue;
            er_option_table alone = {NULL, row, 1, table->target, &table->set[i]};
            ER_TRY(er_options_set(&alone, 1, row->key, row->preset, ER_JOB_SET, "default", r->job->folder, r->arena,
                                  r->err));
            table->set[i] = ER_JOB_DEFAULT;
        }
    }
    return 0;
}

static int find_folder(er_job_reader *r)
{
    char *folder = NULL, real[PATH_MAX];
    ER_TRY(er_path_folder(&folder, r->job->path, r->err));
    const char *found = realpath(folder, real);
    er_free(folder);
    if (!found) return er_fail(r->err, ER_E_IO, "%s: %s", r->job->path, strerror(errno));
    r->job->folder = er_arena_strdup(r->arena, real, r->err);
    return r->job->folder ? 0 : ER_E_MEMORY;
}

/* The hparams file's tree, or NULL without one; *path is its name. */
static int read_hparams(er_job_reader *r, const er_yaml *root, const er_job_setting *sets, size_t set_count,
                        er_yaml **tree, const char **path)
{
    const char *name = NULL, *where = NULL;
    ER_TRY(early(r, root, sets, set_count, "editor.hparams", &name, &where));
    *tree = NULL;
    if (!name) return 0;
    struct {
        const char *path;
    } target = {NULL};
    static const er_option row = {"editor.hparams", ER_OPT_PATH, 0, NULL, .help = ""};
    er_option_table alone = {NULL, &row, 1, &target, NULL};
    ER_TRY(er_options_defaults(&alone, r->arena, r->err));
    ER_TRY(er_options_set(&alone, 1, row.key, name, ER_JOB_SET, where, r->job->folder, r->arena, r->err));
    *path = target.path;
    int code = er_yaml_read(tree, target.path, r->arena, r->err);
    if (code == ER_E_IO && r->err) return er_prefix(r->err, "%s: editor.hparams: ", where);
    if (!code && !*tree) return er_fail(r->err, ER_E_INPUT, "%s:1:1: empty, expected a mapping", *path);
    return code;
}

/* Finds the method and asks for its rows. */
static int open_editor(er_job_reader *r, const er_yaml *root, const er_job_editor *editor, const er_job_setting *sets,
                       size_t set_count, const er_yaml *hparams, const char *hparams_path)
{
    const char *method = NULL, *where = NULL;
    er_option_table table = {0};
    ER_TRY(early(r, root, sets, set_count, "editor.method", &method, &where));
    if (!method && hparams) {
        const er_job_origin o = {hparams_path, ER_JOB_HPARAMS, 0};
        const er_yaml *name = er_yaml_child(hparams, "alg_name");
        ER_TRY(er_job_hparams_method(&method, r, hparams));
        if (method) {
            ER_TRY(er_job_where(&where, r, &o, name->value_line, name->value_column));
            ER_TRY(er_options_set(r->job->tables, 1, "editor.method", method, ER_JOB_HPARAMS, where, NULL, r->arena,
                                  r->err));
        }
    }
    if (!method)
        return er_fail(r->err, ER_E_INPUT, "%s: key 'editor.method' is missing: the editing method%s", r->job->path,
                       hparams ? " (the hparams file has no alg_name)" : "");
    r->method = method;
    int code = editor->table(editor->context, method, &table, &r->batch_most, r->err);
    if (code) return r->err ? er_prefix(r->err, "%s: ", where) : code;
    return add_table(r, table);
}

/* Texts of the face's presets, before anything else sets their keys: they stay defaults, with a place. */
static int apply_presets(er_job_reader *r, const er_yaml *root, const er_job_editor *editor, const er_job_setting *sets,
                         size_t set_count)
{
    const char *parity = NULL, *where = NULL, *key = NULL, *value = NULL;
    ER_TRY(early(r, root, sets, set_count, "parity", &parity, &where));
    const int face = er_job_parity_of(parity);
    for (int64_t i = 0; editor->preset && editor->preset(editor->context, face, i, &key, &value); i++)
        ER_TRY(er_job_preset(r, face, key, value));
    return 0;
}

static int read_all(er_job_reader *r, const er_yaml *root, const er_job_editor *editor, const er_job_setting *sets,
                    size_t set_count)
{
    er_job *job = r->job;
    const char *hparams_path = NULL, **said = NULL;
    er_yaml *hparams = NULL;
    const er_job_origin file = {job->path, ER_JOB_FILE, 0};
    ER_TRY(read_hparams(r, root, sets, set_count, &hparams, &hparams_path));
    ER_TRY(open_editor(r, root, editor, sets, set_count, hparams, hparams_path));
    ER_TRY(apply_presets(r, root, editor, sets, set_count));
    if (hparams) {
        ER_TRY(er_job_hparams(r, hparams_path, hparams));
        ER_TRY(er_job_hparams_keep(r, &said));
    }
    ER_TRY(er_job_apply(r, &file, root, ""));
    for (size_t i = 0; i < set_count; i++) ER_TRY(er_job_apply_set(r, &sets[i]));
    if (!hparams) return 0;
    ER_TRY(er_job_hparams_agree(r));
    return er_job_hparams_overrides(r, hparams_path, said);
}

static int read_job(er_job_reader *r, const er_job_editor *editor, const er_job_setting *sets, size_t set_count)
{
    er_job *job = r->job;
    er_yaml *root = NULL;
    ER_TRY(find_folder(r));
    ER_TRY(er_yaml_read(&root, job->path, r->arena, r->err));
    if (!root || root->kind != ER_YAML_MAP)
        return er_fail(r->err, ER_E_INPUT, "%s:1:1: %s, expected a mapping with the keys of a job", job->path,
                       root ? er_yaml_kind_text(root) : "empty");
    ER_TRY(add_table(r, (er_option_table){NULL, er_job_rows, er_job_row_count, job, NULL}));
    ER_TRY(read_all(r, root, editor, sets, set_count));
    ER_TRY(er_options_required(job->tables, job->table_count, job->path, r->err));
    ER_TRY(er_job_check(r));
    return default_paths(r);
}

/* What the reader holds goes to the arena and into the job. */
static int keep_places(er_job_reader *r)
{
    er_job_said *said = NULL;
    ER_TRY(er_arena_take(r->arena, &said, r->said_count, r->err));
    if (r->said_count) memcpy(said, r->said, r->said_count * sizeof *said);
    r->job->said = said;
    r->job->said_count = (int64_t)r->said_count;
    for (size_t t = 0; t < r->job->table_count; t++) r->job->place[t] = r->place[t];
    return 0;
}

static int keep_notes(er_job_reader *r)
{
    er_job_note *kept = NULL;
    ER_TRY(er_arena_take(r->arena, &kept, r->note_count, r->err));
    if (r->note_count) memcpy(kept, r->notes, r->note_count * sizeof *kept);
    r->job->notes = kept;
    r->job->note_count = (int64_t)r->note_count;
    return 0;
}

int er_job_settings(er_job_setting **out, const char *const *sets, size_t count, er_arena *arena, er_err *err)
{
    ER_TRY(er_arena_take(arena, out, count, err));
    for (size_t i = 0; i < count; i++) (*out)[i] = (er_job_setting){.text = sets[i]};
    return 0;
}

int er_job_read(er_job *job, const char *path, const er_job_editor *editor, const char *const *sets, size_t set_count,
                er_arena *arena, er_err *err)
{
    er_job_setting *settings = NULL;
    ER_TRY(er_job_settings(&settings, sets, set_count, arena, err));
    return er_job_read_settings(job, path, editor, settings, set_count, arena, err);
}

int er_job_read_settings(er_job *job, const char *path, const er_job_editor *editor, const er_job_setting *settings,
                         size_t count, er_arena *arena, er_err *err)
{
    er_job work = {.path = er_arena_strdup(arena, path, err)};
    er_job_reader r = {.job = &work, .arena = arena, .err = err};
    if (!work.path) return ER_E_MEMORY;
    int code = read_job(&r, editor, settings, count);
    if (!code) code = keep_notes(&r);
    if (!code) code = keep_places(&r);
    er_free(r.notes);
    er_free(r.said);
    if (code) return code;
    *job = work;
    job->tables[0].target = job;
    return 0;
}

const char *er_job_place_of(const er_job *job, const char *key)
{
    size_t t = 0, i = 0;
    return er_job_find(job, key, &t, &i) && job->place[t] ? job->place[t][i] : NULL;
}

const er_job_said *er_job_said_of(const er_job *job, const char *key)
{
    for (int64_t i = 0; i < job->said_count; i++)
        if (!strcmp(job->said[i].key, key)) return &job->said[i];
    return NULL;
}

void er_job_hash(er_hasher *h, const er_job *job, int identity)
{
    er_hasher_number(h, job->data.order);
    er_hasher_number(h, job->stats.corpus);
    er_hasher_number(h, job->templates.source);
    er_options_hash(h, job->tables, job->table_count, identity);
}
