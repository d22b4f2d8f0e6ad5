/* SPDX-License-Identifier: Apache-2.0 */
#include "model/weights.h"
#include "runner/plan.h"

#include <string.h>

static int open_gguf(er_tokenizer **out, const char *path, er_err *err)
{
    er_source s = {0};
    int code = er_source_open(&s, path, err); /* maps the file and reads its header */
    if (!code) {
        *out = s.tokenizer;
        s.tokenizer = NULL;
    }
    er_source_close(&s);
    return code;
}

int er_plan_tokenizer(er_tokenizer **out, const char *path, er_err *err)
{
    const size_t n = strlen(path);
    char *file = NULL;
    if (n > 5 && !strcmp(path + n - 5, ".gguf")) return open_gguf(out, path, err);
    ER_TRY(er_path_join(&file, path, "tokenizer.json", err));
    int code = er_tokenizer_open(out, file, err);
    er_free(file);
    return code;
}
