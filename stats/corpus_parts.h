/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of corpus.h; internal to stats/. */
#ifndef ER_STATS_CORPUS_PARTS_H
#define ER_STATS_CORPUS_PARTS_H

#include "stats/corpus.h"

#include <stddef.h>
#include <stdint.h>

struct er_corpus {
    const er_model *model;
    int sampled;
    int64_t documents, tokens, max_tokens, pass_tokens;
    uint64_t seed;
    er_hash hash;
    /* file: document i is ids.at[start[i] .. start[i + 1] - 1] */
    er_ids ids;
    int64_t *start;
    size_t start_capacity;
    /* sample: what each document begins with */
    er_ids prompt;
};

/* Calls `each` for every non-empty document of a file, stripped, until `most` (0: all) were given. */
typedef int er_document_fn(void *context, const char *text, size_t n, er_err *err);
int er_documents_read(const char *path, int64_t most, er_document_fn *each, void *context, er_err *err);

#endif
