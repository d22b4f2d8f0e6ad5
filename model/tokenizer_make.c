/* SPDX-License-Identifier: Apache-2.0 */
/* A tokenizer from the parts that GGUF carries. */
#include "model/tokenizer_parts.h"

#include <string.h>

enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER, TYPE_UNUSED, TYPE_BYTE };

/* Contractions in any case; letters with one sign before; numbers; other signs with the line ends behind them; white
 * space, whose last one goes to the word that follows. The two families differ in how digits group. */
#define WORDS "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define REST "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const struct named {
    const char *name, *pattern; /* NULL: GPT-2's own */
    int digits, nfc, ignore_merges;
} named[] = {
    {"gpt-2", NULL, 0, 0, 0},
    {"phi-2", NULL, 0, 0, 0},
    {"olmo", NULL, 0, 1, 0}, /* GPT-NeoX's */
    {"smollm", NULL, 1, 0, 0},
    {"starcoder", NULL, 1, 0, 0},
    {"llama-bpe", WORDS "\\p{N}{1,3}" REST, 0, 0, 1},
    {"llama3", WORDS "\\p{N}{1,3}" REST, 0, 0, 1},
    {"dbrx", WORDS "\\p{N}{1,3}" REST, 0, 0, 0}, /* cl100k's: OLMo-2, Phi-4 */
    {"qwen2", WORDS "\\p{N}" REST, 0, 1, 0},
};

int er_tokenizer_named(er_tokenizer *t, const char *pre, er_err *err)
{
    const struct named *n = NULL;
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        if (pre && strcmp(pre, named[i].name) == 0) n = &named[i];
    if (!n)
        return er_fail(err, ER_E_UNSUPPORTED,
                       "pre-tokenizer '%.60s' (known: gpt-2, phi-2, olmo, smollm, starcoder, llama-bpe, llama3, dbrx, "
                       "qwen2)",
                       pre ? pre : "");
    if (n->nfc) t->normalizer.steps[t->normalizer.count++].kind = ER_NFC;
    t->ignore_merges = n->ignore_merges;
    er_step digits = {.kind = ER_STEP_DIGITS, .behavior = ER_ISOLATED};
    er_step split = {.kind = ER_STEP_SPLIT, .behavior = ER_ISOLATED, .pattern = (char *)(uintptr_t)n->pattern};
    er_step bytes = {.kind = ER_STEP_BYTES, .plain = n->pattern != NULL};
    if (n->digits) ER_TRY(er_pretokenizer_add(&t->pieces, &digits, err));
    if (n->pattern) ER_TRY(er_pretokenizer_add(&t->pieces, &split, err));
    return er_pretokenizer_add(&t->pieces, &bytes, err);
}

static void mark_added(er_tokenizer *t, int64_t id, int special)
{
    if (t->text[id].length)
        t->added[t->added_count++] = (er_added){.text = t->text[id], .id = (int32_t)id, .special = (uint8_t)special};
}

static int32_t type_of(const er_tokenizer_parts *p, int64_t id) { return p->types ? p->types[id] : 1; }

static int add_tokens(er_tokenizer *t, const er_tokenizer_parts *p, er_err *err)
{
    for (int64_t id = 0; id < p->token_count; id++) {
        int32_t type = type_of(p, id);
        if (type == TYPE_UNUSED) continue; /* fills the embedding up; spells nothing */
        ER_TRY(er_tokenizer_put(t, id, p->tokens[id], strlen(p->tokens[id]), 1, err));
        if (type == TYPE_CONTROL || type == TYPE_USER) mark_added(t, id, type == TYPE_CONTROL);
    }
    return er_tokenizer_index(t, err);
}

static int add_merges(er_tokenizer *t, const er_tokenizer_parts *p, er_err *err)
{
    ER_TRY(er_alloc(&t->merges, (size_t)p->merge_count, err));
    for (int64_t i = 0; i < p->merge_count; i++) ER_TRY(er_tokenizer_merge_line(t, &t->merges[i], p->merges[i], err));
    t->merge_count = p->merge_count;
    return 0;
}

/* --- SentencePiece ------------------------------------------------------------------------------------------------ */

/* Runs of spaces among the user's tokens (Gemma has them): llama.cpp's converter writes spaces where the vocabulary had
 * U+2581. A space within another text is taken for one. */
static int put_user(er_tokenizer *t, int64_t id, const char *token, er_err *err)
{
    static const char mark[] = "\xE2\x96\x81";
    er_text run = ER_TEXT_INIT;
    size_t n = strlen(token);
    int code = 0, spaces = n > 0 && strspn(token, " ") == n;
    for (size_t i = 0; i < n && spaces && !code; i++) code = er_text_add(&run, mark, err);
    int respelt = spaces && !code && er_words_find(&t->words, run.at, run.length) < 0;
    if (!code) code = er_tokenizer_put(t, id, respelt ? run.at : token, respelt ? run.length : n, 1, err);
    er_text_free(&run);
    return code;
}

static int add_pieces(er_tokenizer *t, const er_tokenizer_parts *p, float *scores, er_err *err)
{
    for (int64_t id = 0; id < p->token_count; id++) {
        int32_t type = type_of(p, id);
        if (type == TYPE_UNUSED || type == TYPE_USER) continue;
        if (type == TYPE_NORMAL || type == TYPE_BYTE) scores[id] = p->scores[id]; /* the others' own scores are 0 */
        ER_TRY(er_tokenizer_put(t, id, p->tokens[id], strlen(p->tokens[id]), 1, err));
        if (type == TYPE_UNKNOWN && t->model_unknown < 0) t->model_unknown = (int32_t)id;
    }
    ER_TRY(er_tokenizer_index(t, err));
    for (int64_t id = 0; id < p->token_count; id++) {
        if (type_of(p, id) == TYPE_USER) ER_TRY(put_user(t, id, p->tokens[id], err));
    }
    ER_TRY(er_tokenizer_index(t, err));
    return er_tokenizer_score_merges(t, scores, err);
}

static int fill_pieces(er_tokenizer *t, const er_tokenizer_parts *p, er_err *err)
{
    float *scores = NULL;
    if (!p->scores) return er_fail(err, ER_E_FORMAT, "a SentencePiece vocabulary without scores");
    ER_TRY(er_alloc(&scores, (size_t)p->token_count, err));
    int code = add_pieces(t, p, scores, err);
    er_free(scores);
    if (code) return code;
    if (er_tokenizer_text(t, p->unk)) t->model_unknown = (int32_t)p->unk;
    for (int64_t id = 0; id < p->token_count; id++) {
        int32_t type = type_of(p, id);
        if (type == TYPE_CONTROL || type == TYPE_USER || id == t->model_unknown)
            mark_added(t, id, type != TYPE_USER);
    }
    return er_tokenizer_sentencepiece(t, p->add_space_prefix, err);
}

/* --- both --------------------------------------------------------------------------------------------------------- */

static int is_sentencepiece(const er_tokenizer_parts *p) { return p->model && strcmp(p->model, "llama") == 0; }

static int64_t known(const er_tokenizer *t, int64_t id) { return er_tokenizer_text(t, id) ? id : -1; }

static int fill(er_tokenizer *t, const er_tokenizer_parts *p, er_err *err)
{
    ER_TRY(er_alloc(&t->added, (size_t)p->token_count, err));
    if (is_sentencepiece(p)) {
        ER_TRY(fill_pieces(t, p, err));
    } else {
        ER_TRY(add_tokens(t, p, err));
        ER_TRY(add_merges(t, p, err));
        ER_TRY(er_tokenizer_named(t, p->pre, err));
    }
    t->bos = known(t, p->bos);
    t->eos = known(t, p->eos);
    t->unk = t->model_unknown >= 0 ? t->model_unknown : known(t, p->unk);
    t->pad = known(t, p->pad);
    if (p->add_bos && t->bos < 0) return er_fail(err, ER_E_FORMAT, "add_bos without a token for it");
    if (p->add_eos && t->eos < 0) return er_fail(err, ER_E_FORMAT, "add_eos without a token for it");
    if (p->add_bos) ER_TRY(er_template_add(t->before, &t->before_count, t->bos, err));
    if (p->add_eos) ER_TRY(er_template_add(t->after, &t->after_count, t->eos, err));
    return er_tokenizer_finish(t, err);
}

int er_tokenizer_make(er_tokenizer **out, const er_tokenizer_parts *parts, er_err *err)
{
    er_tokenizer *t = NULL;
    if (parts->model && strcmp(parts->model, "gpt2") != 0 && !is_sentencepiece(parts))
        return er_fail(err, ER_E_UNSUPPORTED, "a tokenizer of model '%.40s' (known: gpt2, llama)", parts->model);
    if (parts->merge_count < 0) return er_fail(err, ER_E_FORMAT, "%lld merges", (long long)parts->merge_count);
    ER_TRY(er_tokenizer_new(&t, parts->token_count, err));
    int code = fill(t, parts, err);
    if (code)
        er_tokenizer_close(t);
    else
        *out = t;
    return code;
}
