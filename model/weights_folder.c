/* SPDX-License-Identifier: Apache-2.0 */
/* A Hugging Face folder: config.json, the tokenizer, and the weights in the first that is there of model.safetensors,
 * model.safetensors.index.json with its files, pytorch_model.bin, pytorch_model.bin.index.json with its files. */
#include "base/text.h"
#include "model/pickle.h"
#include "model/safetensors.h"
#include "model/weights.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static int read_config(er_source *s, const char *folder, er_err *err)
{
    char *path = NULL, *text = NULL;
    size_t size = 0;
    ER_TRY(er_path_join(&path, folder, "config.json", err));
    int code = er_file_read(&text, &size, path, err);
    if (!code) code = er_config_parse(&s->config, text, size, path, err);
    er_free(text);
    er_free(path);
    return code;
}

typedef int parser(er_tensors *list, er_arena *arena, const uint8_t *bytes, size_t size, const char *path,
                   er_err *err);

static int read_file(er_source *s, const char *path, parser *parse, er_err *err)
{
    const uint8_t *bytes = NULL;
    size_t size = 0;
    const char *kept = er_arena_strdup(s->arena, path, err);
    if (!kept) return ER_E_MEMORY;
    ER_TRY(er_source_map(s, kept, &bytes, &size, err));
    return parse(&s->tensors, s->arena, bytes, size, kept, err);
}

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* Each file of the map once. Names are those of plain files: an index must not lead out of its folder. */
static int read_shards(er_source *s, const json_t *map, const char *folder, const char *index, parser *parse,
                       er_err *err)
{
    size_t count = 0;
    const char **files = NULL, *key;
    json_t *value;
    ER_TRY(er_alloc(&files, json_object_size(map), err));
    int code = 0;
    json_object_foreach((json_t *)(uintptr_t)map, key, value) {
        const char *file = json_string_value(value);
        if (!code && (!file || !*file || strchr(file, '/')))
            code = er_fail(err, ER_E_FORMAT, "%s: weight_map: '%s' stands in no file of this folder", index, key);
        files[count++] = file;
    }
    if (!code && count) qsort(files, count, sizeof *files, by_text);
    for (size_t i = 0; i < count && !code; i++) {
        char *path = NULL;
        if (i && strcmp(files[i], files[i - 1]) == 0) continue;
        code = er_path_join(&path, folder, files[i], err);
        if (!code) code = read_file(s, path, parse, err);
        er_free(path);
    }
    er_free(files);
    return code;
}

/* Every tensor of the map must stand in the file that the map names. */
static int check_shards(const er_source *s, const json_t *map, const char *index, er_err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)map, key, value) {
        const er_tensor *t = er_tensors_find(&s->tensors, key);
        const char *name = t ? strrchr(t->path, '/') : NULL;
        name = name ? name + 1 : t ? t->path : "";
        if (!t || strcmp(name, json_string_value(value)) != 0)
            return er_fail(err, ER_E_FORMAT, "%s: weight_map: '%s' is not in %s", index, key, json_string_value(value));
    }
    return 0;
}

static int read_index(er_source *s, const char *folder, const char *path, parser *parse, er_err *err)
{
    char *text = NULL;
    size_t size = 0;
    json_error_t where;
    ER_TRY(er_file_read(&text, &size, path, err));
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    er_free(text);
    if (!root) return er_fail(err, ER_E_FORMAT, "%s:%d:%d: %s", path, where.line, where.column, where.text);
    const json_t *map = json_object_get(root, "weight_map");
    int code = json_is_object(map) ? 0 : er_fail(err, ER_E_FORMAT, "%s: weight_map is missing", path);
    if (!code) code = read_shards(s, map, folder, path, parse, err);
    if (!code) code = er_tensors_sort(&s->tensors, err);
    if (!code) code = check_shards(s, map, path, err);
    json_decref(root);
    return code;
}

/* The weights named `single`, or the files of its index; *found stays 0 when the folder has neither. */
static int read_named(er_source *s, int *found, const char *folder, const char *single, parser *parse, er_err *err)
{
    char *path = NULL, *index = NULL;
    int code = er_path_join(&path, folder, single, err);
    er_text name = ER_TEXT_INIT;
    if (!code) code = er_text_format(&name, err, "%s.index.json", single);
    if (!code) code = er_path_join(&index, folder, name.at, err);
    if (!code && er_file_exists(path)) {
        *found = 1;
        code = read_file(s, path, parse, err);
        if (!code) code = er_tensors_sort(&s->tensors, err);
    } else if (!code && er_file_exists(index)) {
        *found = 1;
        code = read_index(s, folder, index, parse, err);
    }
    er_text_free(&name);
    er_free(path);
    er_free(index);
    return code;
}

static int read_weights(er_source *s, const char *folder, er_err *err)
{
    int found = 0;
    ER_TRY(read_named(s, &found, folder, "model.safetensors", er_safetensors_parse, err));
    if (!found) ER_TRY(read_named(s, &found, folder, "pytorch_model.bin", er_pickle_parse, err));
    if (found) return 0;
    return er_fail(err, ER_E_IO, "%s: holds neither model.safetensors nor pytorch_model.bin, nor an index of either",
                   folder);
}

int er_source_folder(er_source *out, const char *path, er_err *err)
{
    out->gguf = 0;
    ER_TRY(read_config(out, path, err));
    ER_TRY(read_weights(out, path, err));
    return er_tokenizer_open_folder(&out->tokenizer, path, err);
}
