/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration without its weights. */
#include "base/file.h"
#include "base/memory.h"
#include "model/gguf.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static int open_json(er_config *out, const char *path, er_err *err)
{
    char *text = NULL;
    size_t size = 0;
    ER_TRY(er_file_read(&text, &size, path, err));
    int code = er_config_parse(out, text, size, path, err);
    er_free(text);
    return code;
}

static int open_gguf(er_config *out, const char *path, er_err *err)
{
    er_arena *arena = NULL;
    er_tensors tensors = {0};
    er_gguf header;
    er_map map;
    ER_TRY(er_map_open(&map, path, err));
    int code = er_arena_new(&arena, 0, err);
    if (!code) code = er_gguf_parse(&header, &tensors, arena, map.data, map.size, path, err);
    if (!code) code = er_tensors_sort(&tensors, err);
    if (!code) code = er_gguf_config(out, &header, &tensors, arena, err);
    er_tensors_free(&tensors);
    er_arena_free(arena);
    er_map_close(&map);
    return code;
}

int er_config_open(er_config *out, const char *path, er_err *err)
{
    struct stat info;
    char *file = NULL;
    size_t length = strlen(path);
    if (stat(path, &info)) return er_fail(err, ER_E_IO, "%s: %s", path, strerror(errno));
    if (!S_ISDIR(info.st_mode))
        return length > 5 && strcmp(path + length - 5, ".gguf") == 0 ? open_gguf(out, path, err)
                                                                     : open_json(out, path, err);
    ER_TRY(er_path_join(&file, path, "config.json", err));
    int code = open_json(out, file, err);
    er_free(file);
    return code;
}
