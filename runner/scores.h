/* SPDX-License-Identifier: Apache-2.0 */
/* Scores that are known, by content: (case, state of the weights) -> bytes of an er_case_score. Two moments with the
 * same weights share one entry; what an earlier run of the same job scored is found again. Rank 0 only. */
#ifndef ER_RUNNER_SCORES_H
#define ER_RUNNER_SCORES_H

#include "base/text.h"
#include "runner/keymap.h"

#include <stddef.h>
#include <stdint.h>

/* Zero-initialise; free with er_scores_free. */
typedef struct er_scores {
    er_keymap map;
    er_text *at;
    size_t capacity;
    int64_t count;
} er_scores;

int er_scores_put(er_scores *s, const er_hash *key, const char *bytes, size_t n, er_err *err); /* keeps the first */
const er_text *er_scores_find(const er_scores *s, const er_hash *key);                         /* NULL: unknown */
void er_scores_free(er_scores *s);

#endif
