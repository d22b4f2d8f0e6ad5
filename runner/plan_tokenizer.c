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
    if (n > 5 && !strcmp(path + n - 5, ".gguf")) return open_gguf(out, path, err);
    return er_tokenizer_open_folder(out, path, err);
}
