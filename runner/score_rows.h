/* SPDX-License-Identifier: Apache-2.0 */
/* Which ids a prompt with its answer is scored on: what differs between the protocols (docs/scores.md). */
#ifndef ER_RUNNER_SCORE_ROWS_H
#define ER_RUNNER_SCORE_ROWS_H

#include "editors/prompts.h"
#include "jobs/job.h"
#include "runner/states.h"

/* How a job scores. Zero: counterfact, corrected. */
typedef struct er_scorer {
    int protocol; /* er_job_protocol */
    int parity;   /* er_job_parity */
    int64_t greedy; /* ids of greedy continuation (runner/generated.h); 0: none */
    int64_t texts;  /* cases, from the first, whose generated texts are judged */
    uint64_t seed;  /* of the texts' draws */
    er_states *states; /* of texts that were scored before (runner/states.h); NULL: none are kept */
} er_scorer;

/* "counterfact", "zsre", "easyedit", with ", parity NAME" where parity changes what is scored. Static. */
const char *er_scorer_name(const er_scorer *scorer);

/* The rows of one answer: one with all of its ids, or one for each of them. */
typedef struct er_score_rows {
    int64_t count;
    er_scored_row *rows;
    int64_t tokens; /* of the answer: ids predicted in all rows together */
} er_score_rows;

/* counterfact, easyedit: one row, er_scored_row_make's. With parity easyedit its own rule (test_prediction_acc): the
 * answer gets a space in front even when it has one, and begins behind as many ids as the prompt has alone.
 *
 * zsre (the authors' eval_utils_zsre.py): the answer with its space is encoded alone; token i has a row of its own, the
 * prompt with the text of the tokens before it, encoded anew, which must predict token i. A first token whose text lost
 * its space in decoding (SentencePiece) gets it back. With parity authors it does not, and what must be predicted is
 * the first id of the token's own text, encoded anew.
 *
 * In the arena. ER_E_INPUT when prompt or answer has no ids. */
int er_score_rows_make(er_score_rows *out, const er_scorer *scorer, const er_tokenizer *t, const char *prompt,
                       const char *answer, er_arena *arena, er_err *err);

#endif
