/* SPDX-License-Identifier: Apache-2.0 */
/* A bundle on its way back into a folder. Nothing in it is believed: names come from a small alphabet and stay in the
 * folder, entries must be those of bundle.json in its order, sizes are checked before anything is written. */
#define _GNU_SOURCE
#include "base/file.h"
#include "base/memory.h"
#include "runner/archive.h"
#include "runner/bundle_parts.h"
#include "runner/difference.h"

#include <stdio.h>
#include <string.h>

typedef struct unpacking {
    const char *path, *folder;
    er_archive_reader *reader;
    json_t *head;
    er_text *damage;
} unpacking;

/* --- statistics named by a run ----------------------------------------------------------------------------------- */

static int get_hash(er_hash *out, const json_t *parent, const char *name, er_err *err)
{
    const char *text = json_string_value(json_object_get(parent, name));
    if (!text || er_hash_parse(out, text)) return er_fail(err, ER_E_FORMAT, "inputs.json: \"%s\" is no hash", name);
    return 0;
}

static int get_layer(er_input_stats *out, const json_t *inputs, const json_t *stats, const json_t *layer, er_err *err)
{
    er_input_stats s;
    memset(&s, 0, sizeof s);
    const json_t *number = json_object_get(layer, "layer"), *dimension = json_object_get(stats, "dimension");
    if (!json_is_integer(number) || !json_is_integer(dimension))
        return er_fail(err, ER_E_FORMAT, "inputs.json: \"stats\" has no layer or dimension");
    s.key.layer = json_integer_value(number);
    s.key.dimension = json_integer_value(dimension);
    snprintf(s.key.matrix, sizeof s.key.matrix, "mlp.down_proj");
    ER_TRY(get_hash(&s.key.weights, inputs, "weights", err));
    ER_TRY(get_hash(&s.key.tokenizer, inputs, "tokenizer", err));
    ER_TRY(get_hash(&s.key.corpus, stats, "corpus", err));
    ER_TRY(get_hash(&s.content[0], layer, "moment", err));
    ER_TRY(get_hash(&s.content[1], layer, "eigen", err));
    *out = s;
    return 0;
}

int er_inputs_stats(er_input_stats **out, int64_t *count, const json_t *inputs, er_err *err)
{
    const json_t *stats = json_object_get(inputs, "stats"), *layers = json_object_get(stats, "layers");
    size_t n = json_array_size(layers);
    er_input_stats *list = NULL;
    *out = NULL;
    *count = 0;
    if (!n) return 0;
    ER_TRY(er_alloc(&list, n, err));
    for (size_t i = 0; i < n; i++) {
        int code = get_layer(&list[i], inputs, stats, json_array_get(layers, i), err);
        if (!code) continue;
        er_free(list);
        return code;
    }
    *out = list;
    *count = (int64_t)n;
    return 0;
}

/* --- bundle.json ------------------------------------------------------------------------------------------------- */

static int check_file(const unpacking *u, const json_t *file, er_err *err)
{
    const char *name = json_string_value(json_object_get(file, "name")), *slash = name ? strchr(name, '/') : NULL;
    const char *hash = json_string_value(json_object_get(file, "hash"));
    er_hash parsed;
    if (!name || !hash || er_hash_parse(&parsed, hash) || !json_is_integer(json_object_get(file, "bytes")))
        return er_fail(err, ER_E_FORMAT, "%s: bundle.json: an entry has no name, size or hash", u->path);
    static const char *const folders[] = {"ledger/", "inputs/", "store/"};
    int known = !slash;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        known |= strncmp(name, folders[i], strlen(folders[i])) == 0;
    if (!known || !er_archive_name(name))
        return er_fail(err, ER_E_INPUT, "%s: refused: bundle.json names \"%.200s\"", u->path, name);
    return 0;
}

static int check_head(const unpacking *u, er_hash *content, er_err *err)
{
    const json_t *files = json_object_get(u->head, "files");
    const char *run = json_string_value(json_object_get(u->head, "run"));
    const char *text = json_string_value(json_object_get(u->head, "content"));
    er_hash then;
    size_t i;
    json_t *file;
    if (json_integer_value(json_object_get(u->head, "bundle")) != ER_BUNDLE_VERSION)
        return er_fail(err, ER_E_UNSUPPORTED, "%s: is no bundle of version %d", u->path, ER_BUNDLE_VERSION);
    if (!json_is_array(files) || !run || !text || er_hash_parse(&then, text))
        return er_fail(err, ER_E_FORMAT, "%s: bundle.json lacks run, content or files", u->path);
    json_array_foreach((json_t *)(uintptr_t)files, i, file) ER_TRY(check_file(u, file, err));
    ER_TRY(er_bundle_content(content, run, files, err));
    if (er_hash_equal(&then, content)) return 0;
    return er_fail(err, ER_E_MISMATCH, "%s: bundle.json does not match its content hash", u->path);
}

static int read_head(unpacking *u, er_hash *content, er_err *err)
{
    const char *name = NULL;
    char *text = NULL;
    int64_t bytes = 0;
    size_t n = 0;
    ER_TRY(er_archive_next(u->reader, &name, &bytes, err));
    if (!name || strcmp(name, er_bundle_head) != 0)
        return er_fail(err, ER_E_FORMAT, "%s: is no bundle of errata: it does not begin with bundle.json", u->path);
    ER_TRY(er_archive_text(u->reader, &text, &n, ER_BUNDLE_HEAD_MOST, err));
    int code = er_json_parse(&u->head, text, n, er_bundle_head, err);
    er_free(text);
    if (code == ER_E_INPUT && err) code = err->code = ER_E_FORMAT;
    return code ? code : check_head(u, content, err);
}

/* --- files ------------------------------------------------------------------------------------------------------- */

/* ": line 3 (case 1000, at_end)", the first whose hash is another. */
static int damaged_line(er_text *out, const json_t *lines, const char *path, er_err *err)
{
    er_map map = {NULL, 0};
    size_t at = 0, i = 0;
    ER_TRY(er_map_open(&map, path, err));
    int code = 0;
    for (; !code && at < map.size; i++) {
        char text[ER_LINE_HASH + 1];
        const char *line = (const char *)map.data + at, *end = memchr(line, '\n', map.size - at);
        size_t n = end ? (size_t)(end - line) : map.size - at;
        const char *wanted = json_string_value(json_array_get(lines, i));
        er_line_hash(text, line, n);
        if (!wanted || strcmp(wanted, text) != 0) {
            code = er_text_format(out, err, ": line %zu", i + 1);
            if (!code) code = er_line_subject(out, line, n, err);
            break;
        }
        at += n + 1;
    }
    er_map_close(&map);
    return code;
}

static int note_damage(unpacking *u, const json_t *file, const char *name, const char *path, er_err *err)
{
    long long record;
    int end = 0;
    const json_t *lines = json_object_get(file, "lines");
    if (u->damage->length) return 0;
    ER_TRY(er_text_format(u->damage, err, "%s", name));
    if (sscanf(name, "ledger/%lld.h5%n", &record, &end) == 1 && end && !name[end])
        ER_TRY(er_text_format(u->damage, err, " (record %lld)", record));
    if (lines) ER_TRY(damaged_line(u->damage, lines, path, err));
    return er_text_add(u->damage, " is not what bundle.json says", err);
}

/* The next entry must be `name`. */
static int expect(unpacking *u, const char *name, int64_t *bytes, er_err *err)
{
    const char *next = NULL;
    ER_TRY(er_archive_next(u->reader, &next, bytes, err));
    if (next && strcmp(next, name) == 0) return 0;
    if (!next) return er_fail(err, ER_E_MISMATCH, "%s: %s is missing", u->path, name);
    return er_fail(err, ER_E_MISMATCH, "%s: %s stands where %s should", u->path, next, name);
}

static int make_folder(const char *path, er_err *err)
{
    char *folder = NULL;
    ER_TRY(er_path_folder(&folder, path, err));
    int code = er_make_folders(folder, err);
    er_free(folder);
    return code;
}

static int save_file(unpacking *u, const json_t *file, er_err *err)
{
    char *path = NULL;
    const char *name = json_string_value(json_object_get(file, "name"));
    int64_t bytes = 0;
    er_hash then, now;
    ER_TRY(expect(u, name, &bytes, err));
    if (bytes != json_integer_value(json_object_get(file, "bytes")))
        return er_fail(err, ER_E_MISMATCH, "%s: %s has %lld bytes, bundle.json says %lld", u->path, name,
                       (long long)bytes, (long long)json_integer_value(json_object_get(file, "bytes")));
    ER_TRY(er_hash_parse(&then, json_string_value(json_object_get(file, "hash"))));
    ER_TRY(er_path_join(&path, u->folder, name, err));
    int code = strchr(name, '/') ? make_folder(path, err) : 0;
    if (!code) code = er_archive_save(u->reader, path, &now, err);
    if (!code && !er_hash_equal(&then, &now)) code = note_damage(u, file, name, path, err);
    er_free(path);
    return code;
}

static int save_env(unpacking *u, er_err *err)
{
    char *path = NULL, *text = NULL, now_text[ER_HASH_TEXT];
    const char *more = NULL;
    int64_t bytes = 0;
    size_t n = 0;
    er_hash now;
    ER_TRY(expect(u, er_bundle_env, &bytes, err));
    ER_TRY(er_path_join(&path, u->folder, er_bundle_env, err));
    int code = er_archive_save(u->reader, path, &now, err);
    er_free(path);
    if (!code) code = expect(u, er_bundle_env_hash, &bytes, err);
    if (!code) code = er_archive_text(u->reader, &text, &n, 64, err);
    er_hash_text(now_text, &now);
    if (!code && !u->damage->length && (n < ER_HASH_TEXT - 1 || memcmp(text, now_text, ER_HASH_TEXT - 1) != 0))
        code = er_text_add(u->damage, "env.json is not what env.hash says", err);
    er_free(text);
    if (!code) code = er_archive_next(u->reader, &more, &bytes, err);
    if (!code && more) code = er_fail(err, ER_E_MISMATCH, "%s: %s stands behind the last file", u->path, more);
    return code;
}

static int unpack(unpacking *u, er_hash *content, int64_t *count, er_err *err)
{
    size_t i;
    json_t *file;
    ER_TRY(er_archive_open(&u->reader, u->path, err));
    ER_TRY(read_head(u, content, err));
    ER_TRY(er_make_folders(u->folder, err));
    json_t *files = json_object_get(u->head, "files");
    json_array_foreach(files, i, file) ER_TRY(save_file(u, file, err));
    *count = (int64_t)json_array_size(files);
    return save_env(u, err);
}

int er_bundle_unpack(const char *path, const char *folder, er_hash *content, int64_t *files, er_text *damage, er_err *err)
{
    unpacking u = {path, folder, NULL, NULL, damage};
    int code = unpack(&u, content, files, err);
    er_archive_close(u.reader);
    json_decref(u.head);
    return code;
}
