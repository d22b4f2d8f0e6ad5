/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/memory.h"
#include "runner/subject.h"
#include "runner/verbs.h"

#include <stdio.h>
#include <string.h>

static const er_flag flags[] = {
    {"text", "TEXT", "a text; may be repeated"},
    {"file", "FILE", "a file that is one text; may be repeated"},
    {"tokens", "N", "cut each text after N tokens"},
    {"at", "N", "of a run: with its first N edits; default: all"},
    {0},
};

static int put_line(const er_ids *ids, const float *logprob, er_err *err)
{
    er_text line = ER_TEXT_INIT;
    int code = er_text_add(&line, "{\"ids\": [", err);
    for (int64_t i = 0; !code && i < ids->count; i++)
        code = er_text_format(&line, err, i ? ", %d" : "%d", ids->at[i]);
    if (!code) code = er_text_add(&line, "], \"logprobs\": [", err);
    for (int64_t i = 0; !code && i < ids->count; i++) {
        code = er_text_add(&line, i ? ", " : "", err);
        if (!code) code = er_text_float(&line, (double)logprob[i], err);
    }
    if (!code) code = er_text_add(&line, "]}\n", err);
    if (!code && fwrite(line.at, 1, line.length, stdout) != line.length)
        code = er_fail(err, ER_E_IO, "stdout: cannot be written");
    er_text_free(&line);
    return code;
}

static int score_text(const er_subject *s, const char *text, size_t n, int64_t most, er_err *err)
{
    const er_model *m = s->model;
    er_ids ids = {0};
    float *logprob = NULL;
    int code = er_encode(m->tokenizer, &ids, text, n, 1, err);
    if (!code && most && ids.count > most) ids.count = most;
    if (!code && ids.count > m->longest_text)
        code = er_fail(err, ER_E_INPUT, "a text has %lld tokens, the model takes %lld; --tokens cuts it",
                       (long long)ids.count, (long long)m->longest_text);
    if (!code) code = er_alloc(&logprob, (size_t)ids.count, err);
    if (!code && ids.count)
        code = er_score_ids(er_subject_view(s), logprob, ids.at, ids.count, s->setup.work, err);
    if (!code) code = put_line(&ids, logprob, err);
    er_ids_free(&ids);
    er_free(logprob);
    return code;
}

static int score_all(const er_subject *s, const er_args *args, int64_t most, er_err *err)
{
    for (int i = 0; i < args->flag_count; i++) {
        if (!strcmp(args->flag[i]->name, "text")) {
            ER_TRY(score_text(s, args->value[i], strlen(args->value[i]), most, err));
        } else if (!strcmp(args->flag[i]->name, "file")) {
            char *text = NULL;
            size_t n = 0;
            ER_TRY(er_file_read(&text, &n, args->value[i], err));
            int code = score_text(s, text, n, most, err);
            er_free(text);
            ER_TRY(code);
        }
    }
    return 0;
}

static int call(er_world *w, const er_args *args, int *exit_code, er_err *err)
{
    er_subject s;
    int64_t at, most;
    (void)exit_code;
    ER_TRY(er_args_number(&at, args, "at", -1, 0, err));
    ER_TRY(er_args_number(&most, args, "tokens", 0, 1, err));
    if (!er_args_get(args, "text") && !er_args_get(args, "file"))
        return er_fail(err, ER_E_USAGE, "score: --text or --file says what to score");
    ER_TRY(er_subject_open(&s, w, args->at[0], at, err));
    int code = score_all(&s, args, most, err);
    er_subject_close(&s);
    return code;
}

const er_verb er_verb_score = {"score", "MODEL|RUN", "log-probabilities of texts, token by token, as JSON lines", 1, 1,
                               0, 0, flags, call};
