/* SPDX-License-Identifier: Apache-2.0 */
/* The resolved copy of a job, and its help. */
#include "jobs/job.h"

#include "jobs/job_read.h"

#include <string.h>

/* Rows that count for nothing in this job: the losing members of its choices, and what is settled elsewhere. */
static int is_silent(const er_job *job, const char *key)
{
    const struct {
        const char *key;
        int silent;
    } rules[] = {
        {"editor.hparams", 1},
        {"data.tune", 1}, /* part of data.skip */
        {"edit.batch", job->edit.mode == ER_JOB_BATCH},
        {"data.order", job->data.order == ER_JOB_ORDER_SHUFFLE},
        {"data.order.shuffle", job->data.order != ER_JOB_ORDER_SHUFFLE},
        {"stats.corpus.path", job->stats.corpus != ER_JOB_CORPUS_FILE},
        {"stats.corpus.documents", job->stats.corpus != ER_JOB_CORPUS_FILE},
        {"stats.corpus.max_tokens", job->stats.corpus != ER_JOB_CORPUS_FILE},
        {"stats.sample.tokens", job->stats.corpus != ER_JOB_CORPUS_SAMPLE},
        {"stats.sample.seed", job->stats.corpus != ER_JOB_CORPUS_SAMPLE},
        {"templates.file", job->templates.source != ER_JOB_TEMPLATES_FILE},
        {"templates.generate.seed", job->templates.source != ER_JOB_TEMPLATES_GENERATE},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (strcmp(rules[i].key, key) == 0) return rules[i].silent;
    return 0;
}

/* A copy of the table with the rows that are to be written. */
static int written_rows(er_option_table *table, const er_job *job, int own, int execution, er_arena *arena, er_err *err)
{
    er_option *rows = NULL;
    uint8_t *set = NULL;
    size_t n = 0;
    ER_TRY(er_arena_take(arena, &rows, table->count, err));
    ER_TRY(er_arena_take(arena, &set, table->count, err));
    for (size_t i = 0; i < table->count; i++) {
        const er_option *row = &table->rows[i];
        if ((own && is_silent(job, row->key)) || (!execution && (row->flags & ER_OPT_EXECUTION))) continue;
        rows[n] = *row;
        set[n++] = table->set[i];
    }
    table->rows = rows;
    table->set = set;
    table->count = n;
    return 0;
}

int er_job_dump(er_text *out, const er_job *job, int execution, er_err *err)
{
    er_arena *arena = NULL;
    er_option_table tables[ER_JOB_TABLES];
    int code = er_arena_new(&arena, 1 << 16, err);
    for (size_t t = 0; t < job->table_count && !code; t++) {
        tables[t] = job->tables[t];
        code = written_rows(&tables[t], job, t == 0, execution, arena, err);
    }
    if (!code) code = er_options_dump(out, tables, job->table_count, err);
    er_arena_free(arena);
    return code;
}

int er_job_print(er_text *out, const er_job *job, const char *key, int *is_path, er_err *err)
{
    size_t t = 0, i = 0;
    if (!er_job_find(job, er_job_settled(key), &t, &i)) return er_fail(err, ER_E_INPUT, "unknown key '%s'", key);
    const er_option *row = &job->tables[t].rows[i];
    if (is_path) *is_path = row->type == ER_OPT_PATH;
    return er_option_print(out, row, job->tables[t].target, err);
}

int er_job_help(er_text *out, const er_option_table *editor, int markdown, er_err *err)
{
    er_option_table tables[ER_JOB_TABLES] = {{NULL, er_job_rows, er_job_row_count, NULL, NULL}};
    if (editor) tables[1] = *editor;
    return er_options_help(out, tables, editor ? 2 : 1, markdown, err);
}
