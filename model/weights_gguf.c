/* SPDX-License-Identifier: Apache-2.0 */
/* A GGUF file as a source: its metadata as configuration and tokenizer. */
#include "model/gguf.h"
#include "model/weights.h"

#include <stdio.h>
#include <string.h>

enum { KEY = 128 };

static int required(const er_gguf_value **out, const er_gguf *g, const char *key, er_err *err)
{
    *out = er_gguf_find(g, key);
    return *out ? 0 : er_fail(err, ER_E_FORMAT, "%s: %s is missing", g->path, key);
}

static const er_gguf_value *family_value(const er_gguf *g, const er_family *family, const char *key)
{
    char full[KEY];
    snprintf(full, sizeof full, "%s.%s", family->name, key);
    return er_gguf_find(g, full);
}

static int read_field(er_config *c, const er_field *f, const er_gguf *g, const er_gguf_value *v,
                      const er_family *family, er_err *err)
{
    int64_t n = (int64_t)f->preset;
    double real = f->preset;
    if (!v && f->required) return er_fail(err, ER_E_FORMAT, "%s: %s.%s is missing", g->path, family->name, f->gguf);
    if (f->type == ER_FIELD_REAL) {
        if (v) ER_TRY(er_gguf_real(&real, g, v, err));
        *er_field_real(f, c) = (double)(float)real;
        return 0;
    }
    ER_ALWAYS(f->type == ER_FIELD_INT);
    if (v) ER_TRY(er_gguf_int(&n, g, v, err));
    if (v && n < 1) return er_fail(err, ER_E_FORMAT, "%s: %s is not positive", g->path, v->key);
    *er_field_int(f, c) = n;
    return 0;
}

/* A value of the metadata as JSON, for the comparison with fixed values; an array differs from all of them. */
static int as_json(json_t **out, const er_gguf *g, const er_gguf_value *v, er_arena *arena, er_err *err)
{
    const char *text = "an array";
    int64_t n = 0;
    double real = 0;
    int flag = 0;
    if (v->array) {
        *out = json_string(text);
    } else if (v->type == ER_GGUF_STRING) {
        ER_TRY(er_gguf_text(&text, g, v, arena, err));
        *out = json_string(text);
    } else if (v->type == ER_GGUF_BOOL) {
        ER_TRY(er_gguf_bool(&flag, g, v, err));
        *out = json_boolean(flag);
    } else if (v->type == ER_GGUF_F32 || v->type == ER_GGUF_F64) {
        ER_TRY(er_gguf_real(&real, g, v, err));
        *out = json_real(real);
    } else {
        ER_TRY(er_gguf_int(&n, g, v, err));
        *out = json_integer(n);
    }
    return *out ? 0 : er_fail(err, ER_E_FORMAT, "%s: %s is no text or number", g->path, v->key);
}

static int check_fixed(const er_gguf *g, const er_family *family, er_arena *arena, er_err *err)
{
    char prefix[KEY];
    snprintf(prefix, sizeof prefix, "%s.", family->name);
    for (const er_fixed *f = family->fixed_gguf; f->key; f++) {
        const er_gguf_value *v = family_value(g, family, f->key);
        json_t *value = NULL;
        if (!v) continue;
        ER_TRY(as_json(&value, g, v, arena, err));
        int code = er_fixed_check(f, value, g->path, prefix, err);
        json_decref(value);
        ER_TRY(code);
    }
    return 0;
}

static int find_family(const er_family **out, const er_gguf *g, er_arena *arena, er_err *err)
{
    const char *name = NULL;
    const er_gguf_value *v = NULL;
    ER_TRY(required(&v, g, "general.architecture", err));
    ER_TRY(er_gguf_text(&name, g, v, arena, err));
    *out = er_family_find(name);
    if (*out) return 0;
    return er_fail(err, ER_E_UNSUPPORTED, "%s: general.architecture '%s' is not supported, only %s", g->path, name,
                   er_family_names());
}

/* An optional id; -1 when absent. */
static int read_id(int64_t *out, const er_gguf *g, const char *key, er_err *err)
{
    const er_gguf_value *v = er_gguf_find(g, key);
    *out = -1;
    return v ? er_gguf_int(out, g, v, err) : 0;
}

int er_gguf_config(er_config *out, const er_gguf *g, const er_tensors *tensors, er_arena *arena, er_err *err)
{
    const er_family *family = NULL;
    ER_TRY(find_family(&family, g, arena, err));
    er_config c = {.bos = -1, .eos = -1};
    snprintf(c.family, sizeof c.family, "%s", family->name);
    ER_TRY(check_fixed(g, family, arena, err));
    for (size_t i = 0; i < family->field_count; i++) {
        const er_field *f = &family->fields[i];
        if (f->gguf) ER_TRY(read_field(&c, f, g, family_value(g, family, f->gguf), family, err));
    }
    for (size_t i = 0; i < family->row_count; i++) {
        const er_tensor *t = er_tensors_find(tensors, family->rows[i].gguf);
        if (family->rows[i].kind == ER_SLOT_EMBEDDING && !t)
            return er_fail(err, ER_E_FORMAT, "%s: tensor '%s' is missing", g->path, family->rows[i].gguf);
        if (family->rows[i].kind == ER_SLOT_EMBEDDING) c.vocab = t->shape[0];
        if (family->rows[i].kind == ER_SLOT_HEAD) c.tied = !t;
    }
    ER_TRY(read_id(&c.bos, g, "tokenizer.ggml.bos_token_id", err));
    ER_TRY(read_id(&c.eos, g, "tokenizer.ggml.eos_token_id", err));
    er_config_derive(&c);
    ER_TRY(er_config_check(&c, g->path, err));
    if (c.rope_dim != c.head_dim)
        return er_fail(err, ER_E_UNSUPPORTED, "%s: %s.rope.dimension_count %lld in heads of %lld is not supported",
                       g->path, family->name, (long long)c.rope_dim, (long long)c.head_dim);
    *out = c;
    return 0;
}

static int read_lists(er_tokenizer_parts *p, const er_gguf *g, er_arena *arena, er_err *err)
{
    const er_gguf_value *v = NULL;
    ER_TRY(required(&v, g, "tokenizer.ggml.tokens", err));
    ER_TRY(er_gguf_texts(&p->tokens, g, v, arena, err));
    p->token_count = (int64_t)v->count;
    if ((v = er_gguf_find(g, "tokenizer.ggml.token_type"))) {
        ER_TRY(er_gguf_ints(&p->types, g, v, arena, err));
        if (v->count != (uint64_t)p->token_count)
            return er_fail(err, ER_E_FORMAT, "%s: %lld tokens and %llu token types", g->path, (long long)p->token_count,
                           (unsigned long long)v->count);
    }
    ER_TRY(required(&v, g, "tokenizer.ggml.merges", err));
    ER_TRY(er_gguf_texts(&p->merges, g, v, arena, err));
    p->merge_count = (int64_t)v->count;
    return 0;
}

int er_gguf_tokenizer(er_tokenizer_parts *out, const er_gguf *g, er_arena *arena, er_err *err)
{
    er_tokenizer_parts p = {.pre = "gpt-2"};
    const er_gguf_value *v = NULL;
    const char *model = NULL;
    ER_TRY(required(&v, g, "tokenizer.ggml.model", err));
    ER_TRY(er_gguf_text(&model, g, v, arena, err));
    if (strcmp(model, "gpt2") != 0)
        return er_fail(err, ER_E_UNSUPPORTED, "%s: tokenizer.ggml.model '%s' is not supported, only gpt2", g->path,
                       model);
    if ((v = er_gguf_find(g, "tokenizer.ggml.pre"))) ER_TRY(er_gguf_text(&p.pre, g, v, arena, err));
    ER_TRY(read_lists(&p, g, arena, err));
    ER_TRY(read_id(&p.bos, g, "tokenizer.ggml.bos_token_id", err));
    ER_TRY(read_id(&p.eos, g, "tokenizer.ggml.eos_token_id", err));
    ER_TRY(read_id(&p.unk, g, "tokenizer.ggml.unknown_token_id", err));
    ER_TRY(read_id(&p.pad, g, "tokenizer.ggml.padding_token_id", err));
    const int64_t ids[] = {p.bos, p.eos, p.unk, p.pad};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        if (ids[i] < -1 || ids[i] >= p.token_count)
            return er_fail(err, ER_E_FORMAT, "%s: special token %lld of %lld tokens", g->path, (long long)ids[i],
                           (long long)p.token_count);
    /* files of Llama 3 from before the key existed mean yes */
    p.add_bos = strcmp(p.pre, "llama-bpe") == 0;
    if ((v = er_gguf_find(g, "tokenizer.ggml.add_bos_token"))) ER_TRY(er_gguf_bool(&p.add_bos, g, v, err));
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
