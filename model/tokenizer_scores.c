/* SPDX-License-Identifier: Apache-2.0 */
/* SentencePiece vocabularies: their merges, and what stands around them.
 *
 * Such a vocabulary has scores and no list of merges. Two neighbours may be joined when what they spell is a token; the
 * token with the highest score is made first. Hugging Face's converters write that as merges: every cut of every token
 * into two tokens, by the score of the whole, then by ids, as the files of LLaMA-2 and Mistral have them. */
#include "model/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

#define SPACE "\xE2\x96\x81" /* U+2581, how the vocabulary spells a space */

typedef struct scored {
    float score; /* of the token that is made */
    er_merge merge;
} scored;

static int by_score(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->merge.made != y->merge.made) return x->merge.made < y->merge.made ? -1 : 1;
    if (x->merge.left != y->merge.left) return x->merge.left < y->merge.left ? -1 : 1;
    return (x->merge.right > y->merge.right) - (x->merge.right < y->merge.right);
}

typedef struct scored_list {
    scored *at;
    size_t count, capacity;
} scored_list;

static int add_cuts(const er_tokenizer *t, scored_list *list, int64_t id, float score, er_err *err)
{
    const er_slice *text = &t->text[id];
    for (size_t i = 0; i < text->length;) {
        i += er_utf8_next(text->at + i, text->length - i, NULL);
        if (i == text->length) break;
        int32_t left = er_words_find(&t->words, text->at, i);
        int32_t right = left < 0 ? -1 : er_words_find(&t->words, text->at + i, text->length - i);
        if (right < 0) continue;
        ER_TRY(er_grow(&list->at, &list->capacity, list->count + 1, err));
        list->at[list->count++] = (scored){score, {left, right, (int32_t)id}};
    }
    return 0;
}

static int take_merges(er_tokenizer *t, const scored_list *list, er_err *err)
{
    ER_TRY(er_alloc(&t->merges, list->count, err));
    for (size_t i = 0; i < list->count; i++) t->merges[i] = list->at[i].merge;
    t->merge_count = (int64_t)list->count;
    return 0;
}

int er_tokenizer_score_merges(er_tokenizer *t, const float *scores, er_err *err)
{
    scored_list list = {0};
    int code = 0;
    for (int64_t id = 0; id < t->size && !code; id++) {
        if (!t->text[id].at || !t->in_model[id]) continue;
        code = scores[id] == scores[id] ? add_cuts(t, &list, id, scores[id], err)
                                        : er_fail(err, ER_E_FORMAT, "token '%.60s' has no number for its score",
                                                  t->text[id].at);
    }
    if (!code && list.count) qsort(list.at, list.count, sizeof *list.at, by_score);
    if (!code) code = take_merges(t, &list, err);
    er_free(list.at);
    return code;
}

int er_tokenizer_sentencepiece(er_tokenizer *t, int add_space_prefix, er_err *err)
{
    er_slice space, mark;
    ER_TRY(er_tokenizer_copy(t, &space, " ", 1, err));
    ER_TRY(er_tokenizer_copy(t, &mark, SPACE, strlen(SPACE), err));
    er_normalizer *z = &t->normalizer;
    if (add_space_prefix) z->steps[z->count++] = (er_normal){.kind = ER_PREPEND, .with = mark};
    z->steps[z->count++] = (er_normal){.kind = ER_REPLACE, .what = space, .with = mark};
    er_decoder *d = &t->decoder;
    d->replace.steps[d->replace.count++] = (er_normal){.kind = ER_REPLACE, .what = mark, .with = space};
    d->byte_fallback = d->fused = 1;
    if (add_space_prefix) {
        memcpy(d->strip, " ", 2);
        d->strip_start = 1;
    }
    t->byte_fallback = t->fuse_unknown = 1;
    return 0;
}
