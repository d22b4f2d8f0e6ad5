/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "runner/bundle.h"

#include "base/file.h"
#include "base/memory.h"
#include "runner/archive.h"
#include "runner/bundle_parts.h"
#include "runner/run.h"
#include "runner/subject.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char er_bundle_head[] = "bundle.json", er_bundle_env[] = "env.json", er_bundle_env_hash[] = "env.hash";

void er_line_hash(char text[ER_LINE_HASH + 1], const char *line, size_t n)
{
    char whole[ER_HASH_TEXT];
    er_hash hash = er_hash_bytes(line, n);
    er_hash_text(whole, &hash);
    memcpy(text, whole, ER_LINE_HASH);
    text[ER_LINE_HASH] = 0;
}

int er_bundle_content(er_hash *out, const char *run, const json_t *files, er_err *err)
{
    er_hasher *h = NULL;
    char *text = json_dumps(files, JSON_COMPACT | JSON_SORT_KEYS);
    int code = text ? er_hasher_new(&h, err) : er_fail(err, ER_E_MEMORY, "out of memory");
    if (!code) {
        er_hasher_text(h, "errata bundle");
        er_hasher_number(h, ER_BUNDLE_VERSION);
        er_hasher_text(h, run);
        er_hasher_text(h, text);
        *out = er_hasher_end(h);
    }
    er_hasher_free(h);
    free(text);
    return code;
}

/* --- the archive ------------------------------------------------------------------------------------------------- */

static int has_lines(const char *name)
{
    size_t n = strlen(name);
    return n > 6 && strcmp(name + n - 6, ".jsonl") == 0;
}

static int describe_lines(json_t *file, const er_packed *it, er_err *err)
{
    er_map map = {NULL, 0};
    json_t *lines = json_array();
    ER_TRY(er_map_open(&map, it->path, err));
    for (size_t at = 0; at < map.size;) {
        char text[ER_LINE_HASH + 1];
        const char *line = (const char *)map.data + at, *end = memchr(line, '\n', map.size - at);
        size_t n = end ? (size_t)(end - line) : map.size - at;
        er_line_hash(text, line, n);
        json_array_append_new(lines, json_string(text));
        at += n + 1;
    }
    er_map_close(&map);
    return json_object_set_new(file, "lines", lines) ? er_fail(err, ER_E_MEMORY, "out of memory") : 0;
}

static int describe(json_t *files, const er_packed *it, er_err *err)
{
    er_hash hash;
    char text[ER_HASH_TEXT];
    ER_TRY(er_hash_file(&hash, it->path, err));
    er_hash_text(text, &hash);
    json_t *file = json_pack("{s:s, s:I, s:s}", "name", it->name, "bytes", (json_int_t)it->bytes, "hash", text);
    if (!file || json_array_append_new(files, file)) return er_fail(err, ER_E_MEMORY, "out of memory");
    return has_lines(it->name) ? describe_lines(file, it, err) : 0;
}

static int make_head(er_text *out, const er_packing *p, const char *run, er_hash *content, er_err *err)
{
    char text[ER_HASH_TEXT];
    json_t *files = json_array();
    int code = files ? 0 : er_fail(err, ER_E_MEMORY, "out of memory");
    for (size_t i = 0; !code && i < p->count; i++) code = describe(files, &p->items[i], err);
    if (!code) code = er_bundle_content(content, run, files, err);
    if (code) {
        json_decref(files);
        return code;
    }
    er_hash_text(text, content);
    json_t *head = json_pack("{s:i, s:s, s:s, s:o}", "bundle", ER_BUNDLE_VERSION, "run", run, "content", text, "files",
                             files);
    char *json = head ? json_dumps(head, JSON_INDENT(1)) : NULL;
    code = json ? er_text_format(out, err, "%s\n", json) : er_fail(err, ER_E_MEMORY, "out of memory");
    free(json);
    json_decref(head);
    return code;
}

static int put_env(er_archive_writer *w, const er_packing *p, er_err *err)
{
    char *path = NULL, *bytes = NULL, text[ER_HASH_TEXT + 1];
    size_t n = 0;
    ER_TRY(er_path_join(&path, p->folder, er_bundle_env, err));
    int code = er_file_read(&bytes, &n, path, err);
    if (!code) {
        er_hash hash = er_hash_bytes(bytes, n);
        er_hash_text(text, &hash);
        text[ER_HASH_TEXT - 1] = '\n';
        code = er_archive_put(w, er_bundle_env, bytes, n, err);
        if (!code) code = er_archive_put(w, er_bundle_env_hash, text, ER_HASH_TEXT, err);
    }
    er_free(bytes);
    er_free(path);
    return code;
}

static int put_all(const er_packing *p, const char *to, const er_text *head, er_err *err)
{
    er_archive_writer *w = NULL;
    ER_TRY(er_archive_create(&w, to, err));
    int code = er_archive_put(w, er_bundle_head, head->at, head->length, err);
    for (size_t i = 0; !code && i < p->count; i++)
        code = er_archive_put_file(w, p->items[i].name, p->items[i].path, p->items[i].bytes, err);
    if (!code) code = put_env(w, p, err);
    if (!code) return er_archive_end(w, err);
    er_archive_abandon(w);
    return code;
}

/* --- the whole --------------------------------------------------------------------------------------------------- */

static int open_run(er_packing *p, er_world *w, er_err *err)
{
    char *path = NULL, *inputs = NULL, *journal = NULL;
    int code = er_path_join(&journal, p->folder, "scores.journal", err);
    if (!code) code = er_path_join(&path, p->folder, "summary.json", err);
    if (!code && (!er_file_exists(path) || er_file_exists(journal)))
        code = er_fail(err, ER_E_INPUT, "%s: the run is not finished", p->folder);
    er_free(path);
    er_free(journal);
    ER_TRY(code);
    ER_TRY(er_path_join(&path, p->folder, "job.resolved.yaml", err));
    code = er_setup_job(&p->setup, w, path, NULL, 0, err);
    if (!code) code = er_path_join(&inputs, p->folder, "inputs.json", err);
    if (!code) code = er_json_read(&p->inputs, inputs, err);
    er_free(path);
    er_free(inputs);
    return code;
}

/* The last part of the folder's real path. */
static int run_name(char **out, const char *folder, er_err *err)
{
    char *whole = realpath(folder, NULL);
    if (!whole) return er_fail(err, ER_E_IO, "%s: %s", folder, strerror(errno));
    const char *slash = strrchr(whole, '/');
    int code = er_strdup(out, slash ? slash + 1 : whole, err);
    free(whole);
    return code;
}

static int write_bundle(er_bundle_made *out, er_packing *p, er_world *w, const er_bundle_options *options, er_err *err)
{
    char *run = NULL;
    er_text head = ER_TEXT_INIT, to = ER_TEXT_INIT;
    ER_TRY(open_run(p, w, err));
    ER_TRY(er_packing_fill(p, options, err));
    ER_TRY(run_name(&run, p->folder, err));
    int code = make_head(&head, p, run, &out->content, err);
    if (!code) code = options->to ? er_text_add(&to, options->to, err) : er_text_format(&to, err, "%s.tar", run);
    if (!code) code = put_all(p, to.at, &head, err);
    out->files = (int64_t)p->count;
    for (size_t i = 0; i < p->count; i++) out->bytes += p->items[i].bytes;
    er_free(run);
    er_text_free(&head);
    if (code) er_text_free(&to);
    else out->path = to.at;
    return code;
}

/* A run that somebody is extending is refused; a folder that cannot be written to needs no lock. */
static int lock_run(int *lock, const char *folder, er_err *err)
{
    char *path = NULL;
    er_err held = ER_ERR_INIT;
    ER_TRY(er_run_lock_path(&path, folder, err));
    int code = er_lock_take(lock, path, &held);
    er_free(path);
    if (!code || !strstr(held.text, "held by")) return 0;
    if (err) *err = held;
    return code;
}

int er_bundle_write(er_bundle_made *out, er_world *w, const char *folder, const er_bundle_options *options, er_err *err)
{
    er_packing p = {.folder = folder, .setup = {.quiet = 1}};
    er_bundle_made made = {0};
    int lock = -1;
    if (!er_is_run(folder)) return er_fail(err, ER_E_USAGE, "%s: is no folder of a run", folder);
    ER_TRY(lock_run(&lock, folder, err));
    int code = write_bundle(&made, &p, w, options, err);
    for (size_t i = 0; i < p.count; i++) {
        er_free(p.items[i].name);
        er_free(p.items[i].path);
    }
    er_free(p.items);
    json_decref(p.inputs);
    er_setup_close(&p.setup);
    er_lock_release(lock);
    if (!code) *out = made;
    return code;
}
