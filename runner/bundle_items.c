/* SPDX-License-Identifier: Apache-2.0 */
/* Which files go into a bundle. Inputs that are no longer those of the run do not. */
#define _GNU_SOURCE
#include "base/file.h"
#include "base/memory.h"
#include "runner/bundle_parts.h"
#include "runner/drift.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* --- files ------------------------------------------------------------------------------------------------------- */

static int add_item(er_packing *p, const char *name, const char *path, er_err *err)
{
    struct stat info;
    er_packed it = {NULL, NULL, 0};
    if (stat(path, &info)) return er_fail(err, ER_E_IO, "%s: %s", path, strerror(errno));
    it.bytes = (int64_t)info.st_size;
    int code = er_strdup(&it.name, name, err);
    if (!code) code = er_strdup(&it.path, path, err);
    if (!code) code = er_grow(&p->items, &p->capacity, p->count + 1, err);
    if (code) {
        er_free(it.name);
        er_free(it.path);
        return code;
    }
    p->items[p->count++] = it;
    return 0;
}

static int add_run_file(er_packing *p, const char *name, er_err *err)
{
    char *path = NULL;
    ER_TRY(er_path_join(&path, p->folder, name, err));
    int code = add_item(p, name, path, err);
    er_free(path);
    return code;
}

static int add_ledger(er_packing *p, er_err *err)
{
    char *path = NULL;
    ER_TRY(er_path_join(&path, p->folder, "ledger", err));
    DIR *d = opendir(path);
    int code = d ? 0 : er_fail(err, ER_E_IO, "%s: %s", path, strerror(errno));
    for (struct dirent *e; !code && (e = readdir(d));) {
        er_text name = ER_TEXT_INIT;
        size_t n = strlen(e->d_name);
        if (n < 4 || strcmp(e->d_name + n - 3, ".h5") != 0) continue;
        code = er_text_format(&name, err, "ledger/%s", e->d_name);
        if (!code) code = add_run_file(p, name.at, err);
        er_text_free(&name);
    }
    if (d) closedir(d);
    er_free(path);
    return code;
}

/* A hash in inputs.json (at most one level down), which must be the one found now. */
static int check_hash(const er_packing *p, const json_t *stored, const er_hash *now, const char *path, er_err *err)
{
    er_hash then;
    const char *text = json_string_value(stored);
    if (!text || er_hash_parse(&then, text))
        return er_fail(err, ER_E_FORMAT, "%s/inputs.json: a hash is missing", p->folder);
    return er_hash_equal(&then, now) ? 0 : er_fail(err, ER_E_MISMATCH, "%s has changed since the run was made", path);
}

static int add_templates(er_packing *p, er_err *err)
{
    const char *path = p->setup.job.templates.file;
    er_templates t;
    if (p->setup.job.templates.source != ER_JOB_TEMPLATES_FILE) return 0;
    ER_TRY(er_templates_read(&t, path, p->setup.editor->template_list, p->setup.arena, err));
    ER_TRY(check_hash(p, json_object_get(p->inputs, "templates"), &t.hash, path, err));
    return add_item(p, "inputs/templates", path, err);
}

static int get_hash(er_hash *out, const er_packing *p, const json_t *parent, const char *name, er_err *err)
{
    const char *text = json_string_value(json_object_get(parent, name));
    if (text && !er_hash_parse(out, text)) return 0;
    return er_fail(err, ER_E_FORMAT, "%s: \"%s\" is no hash", p->folder, name);
}

/* The first line of drift.jsonl names what was measured; the file of held-out texts is part of it. */
static int check_drift(const er_packing *p, er_err *err)
{
    char *path = NULL, *text = NULL;
    size_t n = 0;
    er_hash then, now, weights, tokenizer;
    json_t *line = NULL;
    ER_TRY(er_path_join(&path, p->folder, "drift.jsonl", err));
    int code = er_file_read(&text, &n, path, err);
    const char *end = code ? NULL : memchr(text, '\n', n);
    if (!code) code = er_json_parse(&line, text, end ? (size_t)(end - text) : n, path, err);
    if (!code) code = get_hash(&then, p, line, "measured", err);
    if (!code) code = get_hash(&weights, p, p->inputs, "weights", err);
    if (!code) code = get_hash(&tokenizer, p, p->inputs, "tokenizer", err);
    if (!code) code = er_drift_content(&now, &p->setup.job, &weights, &tokenizer, err);
    if (!code && !er_hash_equal(&then, &now))
        code = er_fail(err, ER_E_MISMATCH, "%s has changed since the run was made", p->setup.job.score.drift.path);
    json_decref(line);
    er_free(text);
    er_free(path);
    return code;
}

/* Held-out texts; those of the statistics' corpus stand in inputs/corpus where that is packed. */
static int add_drift(er_packing *p, int corpus, er_err *err)
{
    const er_job *j = &p->setup.job;
    if (!j->score.drift.path || !j->score.drift.tokens) return 0;
    ER_TRY(check_drift(p, err));
    if (corpus && er_drift_is_corpus(j)) return 0;
    return add_item(p, "inputs/drift", j->score.drift.path, err);
}

/* What consistency is judged by. */
static int add_references(er_packing *p, er_err *err)
{
    const er_job *j = &p->setup.job;
    const char *const path[] = {j->score.snippets, j->score.tfidf_vocab, j->score.tfidf_idf};
    static const char *const key[] = {"snippets", "tfidf_vocab", "tfidf_idf"};
    static const char *const name[] = {"inputs/snippets", "inputs/tfidf_vocab", "inputs/tfidf_idf"};
    const json_t *stored = json_object_get(p->inputs, "references");
    for (int i = 0; path[0] && i < 3; i++) {
        er_map map;
        ER_TRY(er_map_open(&map, path[i], err));
        const er_hash now = er_hash_bytes(map.data, map.size);
        er_map_close(&map);
        ER_TRY(check_hash(p, json_object_get(stored, key[i]), &now, path[i], err));
        ER_TRY(add_item(p, name[i], path[i], err));
    }
    return 0;
}

static int add_data(er_packing *p, er_err *err)
{
    const er_job *j = &p->setup.job;
    ER_TRY(er_setup_open(&p->setup, ER_SETUP_DATA, err));
    ER_TRY(check_hash(p, json_object_get(json_object_get(p->inputs, "data"), "file"), &p->setup.data.source,
                      j->data.path, err));
    if (j->data.ids) ER_TRY(add_item(p, "inputs/ids", j->data.ids, err));
    return add_item(p, "inputs/data", j->data.path, err);
}

static int add_stats(er_packing *p, er_err *err)
{
    er_input_stats *stats = NULL;
    int64_t count = 0;
    const char *store = p->setup.job.stats.store;
    int code = er_inputs_stats(&stats, &count, p->inputs, err);
    for (int64_t i = 0; !code && i < 2 * count; i++) {
        char *path = NULL;
        er_text name = ER_TEXT_INIT;
        const er_hash none = {{0}};
        if (er_hash_equal(&stats[i / 2].content[i % 2], &none)) continue; /* an imported projection has no moment */
        code = er_store_path(&path, store, &stats[i / 2].key, i % 2 != 0, err);
        if (!code) code = er_text_format(&name, err, "store/%s", strrchr(path, '/') + 1);
        if (!code) code = add_item(p, name.at, path, err);
        er_text_free(&name);
        er_free(path);
    }
    er_free(stats);
    return code;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const er_packed *)a)->name, ((const er_packed *)b)->name);
}

int er_packing_fill(er_packing *p, const er_bundle_options *options, er_err *err)
{
    static const char *const names[] = {"job.resolved.yaml", "inputs.json", "templates.json", "events.jsonl",
                                        "cases.jsonl", "summary.json", "summary.csv"};
    const er_job *j = &p->setup.job;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) ER_TRY(add_run_file(p, names[i], err));
    if (j->precision.measure) ER_TRY(add_run_file(p, "precision.jsonl", err));
    if (j->score.drift.tokens || j->score.drift.probe) ER_TRY(add_run_file(p, "drift.jsonl", err));
    ER_TRY(add_ledger(p, err));
    ER_TRY(add_templates(p, err));
    if (options->data) {
        ER_TRY(add_data(p, err));
        ER_TRY(add_drift(p, options->corpus, err));
        ER_TRY(add_references(p, err));
    }
    if (options->corpus && !j->stats.imported && j->stats.corpus == ER_JOB_CORPUS_FILE)
        ER_TRY(add_item(p, "inputs/corpus", j->stats.file.path, err));
    if (options->stats) ER_TRY(add_stats(p, err));
    qsort(p->items, p->count, sizeof *p->items, by_name);
    return 0;
}
