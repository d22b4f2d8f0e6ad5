/* SPDX-License-Identifier: Apache-2.0 */
/* A GGUF file as a source: its metadata as configuration (gguf_config.c) and tokenizer. */
#include "model/gguf.h"
#include "model/weights.h"

#include <math.h>
#include <string.h>

/* Lists that run along the tokens are as long as they are. */
static int check_length(const er_tokenizer_parts *p, const er_gguf *g, const er_gguf_value *v, er_err *err)
{
    if (v->count == (uint64_t)p->token_count) return 0;
    return er_fail(err, ER_E_FORMAT, "%s: %lld tokens and %llu values in %s", g->path, (long long)p->token_count,
                   (unsigned long long)v->count, v->key);
}

static int read_scores(er_tokenizer_parts *p, const er_gguf *g, er_arena *arena, er_err *err)
{
    const er_gguf_value *v = NULL;
    ER_TRY(er_gguf_required(&v, g, "tokenizer.ggml.scores", err));
    ER_TRY(er_gguf_reals(&p->scores, g, v, arena, err));
    ER_TRY(check_length(p, g, v, err));
    for (int64_t i = 0; i < p->token_count; i++)
        if (!isfinite(p->scores[i]))
            return er_fail(err, ER_E_FORMAT, "%s: tokenizer.ggml.scores holds no number for token %lld", g->path,
                           (long long)i);
    return 0;
}

static int read_lists(er_tokenizer_parts *p, const er_gguf *g, er_arena *arena, er_err *err)
{
    const er_gguf_value *v = NULL;
    ER_TRY(er_gguf_required(&v, g, "tokenizer.ggml.tokens", err));
    ER_TRY(er_gguf_texts(&p->tokens, g, v, arena, err));
    p->token_count = (int64_t)v->count;
    if ((v = er_gguf_find(g, "tokenizer.ggml.token_type"))) {
        ER_TRY(er_gguf_ints(&p->types, g, v, arena, err));
        ER_TRY(check_length(p, g, v, err));
    }
    if (strcmp(p->model, "llama") == 0) return read_scores(p, g, arena, err);
    ER_TRY(er_gguf_required(&v, g, "tokenizer.ggml.merges", err));
    ER_TRY(er_gguf_texts(&p->merges, g, v, arena, err));
    p->merge_count = (int64_t)v->count;
    return 0;
}

static int read_flag(int *out, const er_gguf *g, const char *key, int absent, er_err *err)
{
    const er_gguf_value *v = er_gguf_find(g, key);
    *out = absent;
    return v ? er_gguf_bool(out, g, v, err) : 0;
}

static int read_id(int64_t *out, const er_gguf *g, const char *key, int64_t absent, er_err *err)
{
    const er_gguf_value *v = er_gguf_find(g, key);
    *out = absent;
    return v ? er_gguf_int(out, g, v, err) : 0;
}

int er_gguf_ids(er_gguf_special *out, const er_gguf *g, er_arena *arena, er_err *err)
{
    const er_gguf_value *v = er_gguf_find(g, "tokenizer.ggml.model");
    const char *model = "";
    if (v) ER_TRY(er_gguf_text(&model, g, v, arena, err));
    int pieces = strcmp(model, "llama") == 0;
    ER_TRY(read_id(&out->bos, g, "tokenizer.ggml.bos_token_id", pieces ? 1 : -1, err));
    ER_TRY(read_id(&out->eos, g, "tokenizer.ggml.eos_token_id", pieces ? 2 : -1, err));
    ER_TRY(read_id(&out->unk, g, "tokenizer.ggml.unknown_token_id", pieces ? 0 : -1, err));
    return read_id(&out->pad, g, "tokenizer.ggml.padding_token_id", -1, err);
}

static int read_ids(er_tokenizer_parts *p, const er_gguf *g, er_arena *arena, er_err *err)
{
    er_gguf_special special;
    ER_TRY(er_gguf_ids(&special, g, arena, err));
    p->bos = special.bos;
    p->eos = special.eos;
    p->unk = special.unk;
    p->pad = special.pad;
    const int64_t ids[] = {p->bos, p->eos, p->unk, p->pad};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        if (ids[i] < -1 || ids[i] >= p->token_count)
            return er_fail(err, ER_E_FORMAT, "%s: special token %lld of %lld tokens", g->path, (long long)ids[i],
                           (long long)p->token_count);
    return 0;
}

/* What changes a text before or after it is cut, and is not done. */
static int check_text(const er_gguf *g, er_err *err)
{
    static const char *const flags[] = {"tokenizer.ggml.remove_extra_whitespaces", "tokenizer.ggml.add_sep_token",
                                        "tokenizer.ggml.normalizer.lowercase"};
    const er_gguf_value *map = er_gguf_find(g, "tokenizer.ggml.precompiled_charsmap");
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        int set = 0;
        ER_TRY(read_flag(&set, g, flags[i], 0, err));
        if (set) return er_fail(err, ER_E_UNSUPPORTED, "%s: %s is not supported", g->path, flags[i]);
    }
    if (map && map->count) return er_fail(err, ER_E_UNSUPPORTED, "%s: %s is not supported", g->path, map->key);
    return 0;
}

int er_gguf_tokenizer(er_tokenizer_parts *out, const er_gguf *g, er_arena *arena, er_err *err)
{
    er_tokenizer_parts p = {.pre = "gpt-2"};
    const er_gguf_value *v = NULL;
    ER_TRY(er_gguf_required(&v, g, "tokenizer.ggml.model", err));
    ER_TRY(er_gguf_text(&p.model, g, v, arena, err));
    int pieces = strcmp(p.model, "llama") == 0;
    if (!pieces && strcmp(p.model, "gpt2") != 0)
        return er_fail(err, ER_E_UNSUPPORTED, "%s: tokenizer.ggml.model '%.100s' is not supported, only gpt2, llama",
                       g->path, p.model);
    if ((v = er_gguf_find(g, "tokenizer.ggml.pre"))) ER_TRY(er_gguf_text(&p.pre, g, v, arena, err));
    ER_TRY(check_text(g, err));
    ER_TRY(read_lists(&p, g, arena, err));
    ER_TRY(read_ids(&p, g, arena, err));
    /* files of Llama 3 from before the key existed mean yes, as those of SentencePiece do */
    ER_TRY(read_flag(&p.add_bos, g, "tokenizer.ggml.add_bos_token", pieces || strcmp(p.pre, "llama-bpe") == 0, err));
    ER_TRY(read_flag(&p.add_eos, g, "tokenizer.ggml.add_eos_token", 0, err));
    ER_TRY(read_flag(&p.add_space_prefix, g, "tokenizer.ggml.add_space_prefix", 1, err));
    *out = p;
    return 0;
}

int er_source_gguf(er_source *out, const char *path, er_err *err)
{
    const uint8_t *bytes = NULL;
    size_t size = 0;
    er_gguf g;
    er_tokenizer_parts parts;
    const char *kept = er_arena_strdup(out->arena, path, err);
    if (!kept) return ER_E_MEMORY;
    out->gguf = 1;
    ER_TRY(er_source_map(out, kept, &bytes, &size, err));
    ER_TRY(er_gguf_parse(&g, &out->tensors, out->arena, bytes, size, kept, err));
    ER_TRY(er_tensors_sort(&out->tensors, err));
    ER_TRY(er_gguf_config(&out->config, &g, &out->tensors, out->arena, err));
    ER_TRY(er_gguf_tokenizer(&parts, &g, out->arena, err));
    int code = er_tokenizer_make(&out->tokenizer, &parts, err);
    if (code) er_prefix(err, "%s: ", path);
    return code;
}
