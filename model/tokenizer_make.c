/* SPDX-License-Identifier: Apache-2.0 */
/* A tokenizer from the parts that GGUF carries. */
#include "model/tokenizer_parts.h"

#include <string.h>

enum { TYPE_CONTROL = 3, TYPE_USER = 4, TYPE_UNUSED = 5 };

/* Contractions in any case; letters with one sign before; numbers; other signs with the line ends behind them; white
 * space, whose last one goes to the word that follows. The two families differ in how digits group. */
#define WORDS "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define REST "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const struct named {
    const char *name, *pattern; /* NULL: GPT-2's own */
    int digits, nfc, ignore_merges;
} named[] = {
    {"gpt-2", NULL, 0, 0, 0},
    {"smollm", NULL, 1, 0, 0},
    {"llama-bpe", WORDS "\\p{N}{1,3}" REST, 0, 0, 1},
    {"qwen2", WORDS "\\p{N}" REST, 0, 1, 0},
};

int er_tokenizer_named(er_tokenizer *t, const char *pre, er_err *err)
{
    const struct named *n = NULL;
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        if (pre && strcmp(pre, named[i].name) == 0) n = &named[i];
    if (!n)
        return er_fail(err, ER_E_UNSUPPORTED, "pre-tokenizer '%.60s' (known: gpt-2, smollm, llama-bpe, qwen2)",
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

static int add_tokens(er_tokenizer *t, const er_tokenizer_parts *p, er_err *err)
{
    ER_TRY(er_alloc(&t->added, (size_t)p->token_count, err));
    for (int64_t id = 0; id < p->token_count; id++) {
        int32_t type = p->types ? p->types[id] : 1;
        if (type == TYPE_UNUSED) continue; /* fills the embedding up; spells nothing */
        ER_TRY(er_tokenizer_put(t, id, p->tokens[id], strlen(p->tokens[id]), 1, err));
        if ((type == TYPE_CONTROL || type == TYPE_USER) && *p->tokens[id])
            t->added[t->added_count++] =
                (er_added){.text = t->text[id], .id = (int32_t)id, .special = type == TYPE_CONTROL};
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

static int64_t known(const er_tokenizer *t, int64_t id) { return er_tokenizer_text(t, id) ? id : -1; }

static int fill(er_tokenizer *t, const er_tokenizer_parts *p, er_err *err)
{
    ER_TRY(add_tokens(t, p, err));
    ER_TRY(add_merges(t, p, err));
    ER_TRY(er_tokenizer_named(t, p->pre, err));
    t->bos = known(t, p->bos);
    t->eos = known(t, p->eos);
    t->unk = known(t, p->unk);
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
    if (parts->model && strcmp(parts->model, "gpt2") != 0)
        return er_fail(err, ER_E_UNSUPPORTED, "a tokenizer of model '%.40s' (known: gpt2)", parts->model);
    if (parts->merge_count < 0) return er_fail(err, ER_E_FORMAT, "%lld merges", (long long)parts->merge_count);
    ER_TRY(er_tokenizer_new(&t, parts->token_count, err));
    int code = fill(t, parts, err);
    if (code)
        er_tokenizer_close(t);
    else
        *out = t;
    return code;
}
