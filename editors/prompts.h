/* SPDX-License-Identifier: Apache-2.0 */
/* From a request to token rows: context templates, target ids, the subject's last token (spec section 3). */
#ifndef ER_EDITORS_PROMPTS_H
#define ER_EDITORS_PROMPTS_H

#include "base/error.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/request.h"
#include "model/generate.h"
#include "model/model.h"

#include <stdint.h>

/* Context templates, each with one "{}" where the filled prompt goes; text[0] is always "{}". */
typedef struct er_templates {
    int64_t count;
    const char **text;
    er_hash hash;
} er_templates;

/* From a JSON file {"rome": [...], "memit": [...]} (lists without the plain "{}"; list says which one is taken). */
int er_templates_read(er_templates *out, const char *path, const char *list, er_arena *arena, er_err *err);
/* Sampled from the unedited model as spec section 3.1 says, with our counter-based draws: `lengths` pairs (tokens,
 * texts) over the five start words. braces: what replaces "{" and "}" ("" for ROME, " " for MEMIT). */
int er_templates_generate(er_templates *out, const er_view *view, const int64_t (*lengths)[2], int64_t length_count,
                          const char *braces, uint64_t seed, er_arena *arena, er_work *work, er_err *err);
/* {"<list>": [...]} without the plain one: the file of a run, readable by er_templates_read. */
int er_templates_json(struct er_text *out, const er_templates *t, const char *list, er_err *err);

enum er_parity { ER_PARITY_NONE, ER_PARITY_EASYEDIT, ER_PARITY_AUTHORS };

/* How a method's published program puts a target behind a prompt, where it differs from the others: read under parity
 * alone (spec sections 2 and 3.4).
 *     FAMILY  a space unless the target begins with one; a leading bos or unk id is dropped    MEMIT and its kin
 *     ROME    nothing is dropped; easyedit: a space unless the target is one space (bug B8)
 *     PMET    as FAMILY, and nothing is dropped
 *     BARE    as PMET; easyedit: no space, as its PMET has it for models without gpt in their name (bug B7) */
enum er_target_rule { ER_RULE_FAMILY, ER_RULE_ROME, ER_RULE_PMET, ER_RULE_BARE };

/* A text whose tokens matter up to `count`. */
typedef struct er_text_row {
    int32_t *ids;
    int64_t count;
    int64_t subject; /* index of the subject's last token */
    int64_t answer;  /* index of the position that predicts target[0] (rows with a target), else -1 */
} er_text_row;

/* Everything an editor needs of one request. */
typedef struct er_prompt {
    int64_t templates;
    er_text_row *rows; /* (templates): template filled with the prompt, then target[0 .. T-2] */
    er_text_row *keys; /* (templates): the same text without target, cut after the subject's last token */
    er_text_row kl;    /* "<subject> is a", cut after the subject's last token: nothing later is read */
    int32_t *target;   /* (T) */
    int64_t target_count;
    int split_inside;  /* the prompt's ids are no prefix of prompt + target: split by character offset */
} er_prompt;

/* Target ids: encode(prompt + " " + target) after encode(prompt), an existing leading space not doubled (DESIGN
 * section 8); any parity: spec section 3.4's rule (target encoded alone with its space, rows re-tokenised from decoded
 * text), with the exceptions of `rule`. ER_E_INPUT, naming the case, when the target has no ids or the subject none. */
int er_prompt_make(er_prompt *out, const er_tokenizer *t, const er_request *request, const er_templates *templates,
                   enum er_parity parity, enum er_target_rule rule, er_arena *arena, er_err *err);

/* A scored prompt: ids of the prompt followed by the answer's; answer_start is the index of the first answer id. Used
 * by evaluation for every group (the same target rule as above). */
typedef struct er_scored_row {
    int32_t *ids;
    int64_t count, answer_start;
} er_scored_row;
int er_scored_row_make(er_scored_row *out, const er_tokenizer *t, const char *prompt, const char *answer,
                       er_arena *arena, er_err *err);

#endif
