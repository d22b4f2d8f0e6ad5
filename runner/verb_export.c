/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "runner/subject.h"
#include "runner/verbs.h"

#include <string.h>

static const er_flag flags[] = {
    {"to", "FOLDER", "new or empty folder that is written"},
    {"at", "N", "of a run: with its first N edits; default: all"},
    {"dtype", "fp32|bf16|fp16", "how weights are stored; default: fp32"},
    {0},
};

static int parse_dtype(int *out, const char *name, er_err *err)
{
    static const struct {
        const char *name;
        int dtype;
    } known[] = {{"fp32", ER_F32}, {"bf16", ER_BF16}, {"fp16", ER_F16}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(name, known[i].name) != 0) continue;
        *out = known[i].dtype;
        return 0;
    }
    return er_fail(err, ER_E_USAGE, "--dtype: '%s', expected fp32, bf16 or fp16", name);
}

static int call(er_world *w, const er_args *args, int *exit_code, er_err *err)
{
    const char *to = er_args_get(args, "to"), *name = er_args_get(args, "dtype");
    er_subject s;
    int64_t at;
    int dtype = ER_F32;
    (void)exit_code;
    if (!to) return er_fail(err, ER_E_USAGE, "export: --to FOLDER is missing");
    if (name) ER_TRY(parse_dtype(&dtype, name, err));
    ER_TRY(er_args_number(&at, args, "at", -1, 0, err));
    ER_TRY(er_subject_open(&s, w, args->at[0], at, err));
    int code = er_export(er_subject_view(&s), to, dtype, err);
    if (!code) er_log(ER_LOG_INFO, "%s: %lld edits, written to %s", args->at[0], (long long)s.edits, to);
    er_subject_close(&s);
    return code;
}

const er_verb er_verb_export = {"export", "MODEL|RUN", "write a Hugging Face folder (safetensors)", 1, 1, 0, 0, flags,
                                call};
