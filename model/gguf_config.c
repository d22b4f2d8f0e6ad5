/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF metadata as a configuration. Fields come from the family's table; this file adds what GGUF leaves to the reader:
 * windows by layer, widths of scores, biases by their tensors, the rotation. A key of the architecture that neither is
 * read nor known to decide nothing must hold a value that switches it off. */
#include "model/gguf.h"
#include "model/quant.h"
#include "model/weights.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { KEY = 128, LLAMA3_POSITIONS = 8192 };
static const double default_base = 10000; /* where the file has no rope.freq_base, whatever the family */

/* What readers of GGUF know by heart about a family. */
typedef struct rule {
    const char *family;
    int64_t window;    /* where the file does not say; 0: none */
    int64_t period;    /* layers see the window but every period-th one; 1: all do; 0: the family has no windows */
    int64_t wide;      /* layers of the one model whose scores are divided by sqrt(d / heads), not sqrt(head_dim) */
    int64_t unrotated; /* every such layer has no positions; 0: none */
    int partial;       /* a head may be rotated in part */
} rule;

static const rule rules[] = {
    {"gemma2", 4096, 2, 46, 0, 0}, {"gemma3_text", 0, 6, 62, 0, 0}, {"phi3", 0, 1, 0, 0, 1},
    {"smollm3", 0, 0, 0, 4, 0},    {"phi", 0, 0, 0, 0, 1},          {"gpt_neox", 0, 0, 0, 0, 1},
};

/* Keys that are read here, and keys that decide nothing. */
static const char *const known[] = {
    "attention.sliding_window", "attention.sliding_window_pattern", "attention.value_length", "attention.key_length",
    "attention.key_length_swa", "attention.value_length_swa", "attention.head_count_kv", "rope.dimension_count",
    "rope.dimension_count_swa", "rope.freq_base_swa", "rope.scaling.type", "rope.scaling.factor", "rope.scale_linear",
    "use_parallel_residual", "vocab_size", "tensor_data_layout", "rope.scaling.original_context_length",
    "rope.scaling.finetuned", "attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon",
};

/* Keys whose value must be the one that does nothing. */
static const er_fixed_key neutral[] = {
    {"attention.causal", "true"}, {"rope.scaling.attn_factor", "1.0"}, {"logit_scale", "1.0"},
    {"residual_scale", "1.0"},    {"embedding_scale", "1.0"},          {NULL, NULL},
};

typedef struct reader {
    const er_gguf *g;
    const er_tensors *tensors;
    er_arena *arena;
    const er_family *family;
    const rule *rule; /* of zeros where the family has none */
    er_config *c;
} reader;

static const er_gguf_value *value_of(const reader *r, const char *key)
{
    char full[KEY];
    snprintf(full, sizeof full, "%s.%s", r->family->gguf, key);
    return er_gguf_find(r->g, full);
}

static int refuse(const reader *r, const er_gguf_value *v, const char *why, er_err *err)
{
    return er_fail(err, ER_E_UNSUPPORTED, "%s: %s %s", r->g->path, v->key, why);
}

/* An integer, or a list of one integer for each layer that are all the same. */
static int read_count(int64_t *out, const reader *r, const er_gguf_value *v, er_err *err)
{
    const int32_t *list = NULL;
    if (!v->array) return er_gguf_int(out, r->g, v, err);
    ER_TRY(er_gguf_ints(&list, r->g, v, r->arena, err));
    if (!v->count) return er_fail(err, ER_E_FORMAT, "%s: %s is empty", r->g->path, v->key);
    for (uint64_t i = 1; i < v->count; i++)
        if (list[i] != list[0]) return refuse(r, v, "differs between layers, which is not supported", err);
    *out = list[0];
    return 0;
}

/* What an absent key means: mostly what transformers takes, but these the writers leave out in other cases. */
static double absent_value(const er_field *f)
{
    if (f->offset == offsetof(er_config, kv_heads) || f->offset == offsetof(er_config, head_dim)) return 0;
    return f->offset == offsetof(er_config, rope_base) ? default_base : f->preset;
}

static int read_field(const reader *r, const er_field *f, er_err *err)
{
    const er_gguf_value *v = f->gguf ? value_of(r, f->gguf) : NULL;
    double real = f->gguf ? absent_value(f) : f->preset;
    int64_t n = (int64_t)real;
    int flag = (int)real;
    if (!v && f->gguf && f->required)
        return er_fail(err, ER_E_FORMAT, "%s: %s.%s is missing", r->g->path, r->family->gguf, f->gguf);
    switch (f->type) {
    case ER_FIELD_INT:
        if (v) ER_TRY(read_count(&n, r, v, err));
        if (v && n < 1) return er_fail(err, ER_E_FORMAT, "%s: %s is not positive", r->g->path, v->key);
        *er_field_int(f, r->c) = n;
        return 0;
    case ER_FIELD_REAL:
        if (v) ER_TRY(er_gguf_real(&real, r->g, v, err));
        *er_field_real(f, r->c) = (double)(float)real;
        return 0;
    default:
        if (v) ER_TRY(er_gguf_bool(&flag, r->g, v, err));
        *er_field_bool(f, r->c) = flag;
        return 0;
    }
}

/* --- what is not computed is refused ------------------------------------------------------------------------------ */

/* A value as JSON, for the comparison with fixed values; an array differs from all of them. */
static int as_json(json_t **out, const reader *r, const er_gguf_value *v, er_err *err)
{
    const char *text = "an array";
    int64_t n = 0;
    double real = 0;
    int flag = 0;
    if (v->array) {
        *out = json_string(text);
    } else if (v->type == ER_GGUF_STRING) {
        ER_TRY(er_gguf_text(&text, r->g, v, r->arena, err));
        *out = json_string(text);
    } else if (v->type == ER_GGUF_BOOL) {
        ER_TRY(er_gguf_bool(&flag, r->g, v, err));
        *out = json_boolean(flag);
    } else if (v->type == ER_GGUF_F32 || v->type == ER_GGUF_F64) {
        ER_TRY(er_gguf_real(&real, r->g, v, err));
        *out = json_real(real);
    } else {
        ER_TRY(er_gguf_int(&n, r->g, v, err));
        *out = json_integer(n);
    }
    return *out ? 0 : er_fail(err, ER_E_FORMAT, "%s: %s is no text or number", r->g->path, v->key);
}

static const er_fixed_key *fixed_value(const er_fixed_key *list, const char *key)
{
    while (list && list->key && strcmp(list->key, key) != 0) list++;
    return list && list->key ? list : NULL;
}

static int is_known(const er_family *family, const char *key)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i], key) == 0) return 1;
    for (size_t i = 0; i < family->field_count; i++)
        if (family->fields[i].gguf && strcmp(family->fields[i].gguf, key) == 0) return 1;
    return 0;
}

/* 0, false, "", "none" */
static int is_off(const json_t *value)
{
    const char *text = json_string_value(value);
    if (json_is_number(value)) return !(json_number_value(value) < 0) && !(json_number_value(value) > 0);
    return json_is_false(value) || (text && (!*text || strcmp(text, "none") == 0));
}

static int check_key(const reader *r, const er_gguf_value *v, const char *prefix, er_err *err)
{
    const char *key = v->key + strlen(prefix);
    const er_fixed_key *fixed = fixed_value(r->family->fixed_gguf, key);
    json_t *value = NULL;
    if (!fixed) fixed = fixed_value(neutral, key);
    if (!fixed && is_known(r->family, key)) return 0;
    ER_TRY(as_json(&value, r, v, err));
    int off = is_off(value) && !json_is_boolean(value), code = 0;
    if (fixed && !off) code = er_fixed_check(fixed, value, r->g->path, prefix, err);
    else if (!fixed && !is_off(value)) code = refuse(r, v, "is not supported", err);
    json_decref(value);
    return code;
}

static int check_keys(const reader *r, er_err *err)
{
    char prefix[KEY];
    snprintf(prefix, sizeof prefix, "%s.", r->family->gguf);
    for (size_t i = 0; i < r->g->value_count; i++)
        if (strncmp(r->g->values[i].key, prefix, strlen(prefix)) == 0)
            ER_TRY(check_key(r, &r->g->values[i], prefix, err));
    const er_gguf_value *parts = er_gguf_find(r->g, "split.count");
    int64_t n = 1;
    if (parts) ER_TRY(er_gguf_int(&n, r->g, parts, err));
    return n > 1 ? refuse(r, parts, "is above 1: parts of a split file are not read, only whole files", err) : 0;
}

/* Sizes that GGUF can set apart and the engine cannot. */
static int check_sizes(const reader *r, er_err *err)
{
    const er_config *c = r->c;
    const struct {
        const char *key;
        int64_t wanted;
    } sizes[] = {
        {"attention.key_length", c->head_dim},         {"attention.value_length", c->head_dim},
        {"attention.key_length_swa", c->head_dim},     {"attention.value_length_swa", c->head_dim},
        {"rope.dimension_count", r->rule->partial ? c->rope_dim : c->head_dim},
        {"rope.dimension_count_swa", c->rope_dim},     {"attention.head_count_kv", c->kv_heads},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const er_gguf_value *v = value_of(r, sizes[i].key);
        int64_t n = 0;
        if (!v) continue;
        ER_TRY(read_count(&n, r, v, err));
        if (n != sizes[i].wanted)
            return er_fail(err, ER_E_UNSUPPORTED, "%s: %s %lld is not supported, only %lld with heads of %lld",
                           r->g->path, v->key, (long long)n, (long long)sizes[i].wanted, (long long)c->head_dim);
    }
    return 0;
}

/* --- layers ------------------------------------------------------------------------------------------------------- */

/* sliding_window_pattern: a period, or one boolean for each layer. */
static int read_pattern(const reader *r, int64_t period, er_err *err)
{
    const er_gguf_value *v = value_of(r, "attention.sliding_window_pattern");
    er_config *c = r->c;
    int listed = v && v->array;
    if (v && !listed) ER_TRY(er_gguf_int(&period, r->g, v, err));
    if (period < 0 || (listed && (v->type != ER_GGUF_BOOL || v->count != (uint64_t)c->layers)))
        return er_fail(err, ER_E_FORMAT, "%s: %s is neither a period nor a list of %lld booleans", r->g->path, v->key,
                       (long long)c->layers);
    for (int64_t l = 0; l < c->layers; l++)
        if (listed ? v->data[l] != 0 : period < 2 || (l + 1) % period != 0) er_layer_put(&c->windowed, l);
    return 0;
}

static int read_windows(const reader *r, er_err *err)
{
    const er_gguf_value *v = value_of(r, "attention.sliding_window"), *base = value_of(r, "rope.freq_base_swa");
    er_config *c = r->c;
    int64_t window = r->rule->window;
    double local = c->rope_local_base;
    if (v) ER_TRY(er_gguf_int(&window, r->g, v, err));
    if (window < 0) return er_fail(err, ER_E_FORMAT, "%s: %s is negative", r->g->path, v->key);
    if (window && !r->rule->period) return refuse(r, v, "is not supported in this architecture", err);
    c->window = window;
    if (window) ER_TRY(read_pattern(r, r->rule->period, err));
    int any = 0;
    for (int64_t l = 0; l < c->layers; l++) any |= er_layer_in(&c->windowed, l);
    if (!any) c->window = 0;
    if (base) ER_TRY(er_gguf_real(&local, r->g, base, err));
    if (!base || !c->window) return 0;
    int same = (float)local <= (float)c->rope_base && (float)local >= (float)c->rope_base;
    if (!(c->rope_local_base > 0) && !same) return refuse(r, base, "is not supported in this architecture", err);
    if (c->rope_local_base > 0) c->rope_local_base = (double)(float)local;
    return 0;
}

static int has_tensor(const reader *r, const er_slot_row *row, int64_t layer)
{
    char name[ER_TENSOR_NAME];
    er_slot slot = {.row = row, .layer = layer};
    if (!row->gguf) return 0;
    er_slot_name(name, r->c, &slot, 1);
    return er_tensors_find(r->tensors, name) != NULL;
}

/* Biases that are a matter of config.json are there when one of the first layer's tensors is; a key that stands for two
 * of them means both. */
static void read_biases(const reader *r)
{
    const er_family *f = r->family;
    er_config *c = r->c;
    int seen[ER_MATRIX_COUNT] = {0};
    for (size_t i = 0; i < f->row_count; i++)
        if (f->rows[i].kind == ER_SLOT_BIAS && has_tensor(r, &f->rows[i], 0)) seen[f->rows[i].which] = 1;
    const struct {
        size_t offset;
        int seen;
    } biases[] = {
        {offsetof(er_config, attention_bias), seen[ER_MATRIX_Q] | seen[ER_MATRIX_K] | seen[ER_MATRIX_V]},
        {offsetof(er_config, output_bias), seen[ER_MATRIX_O]},
        {offsetof(er_config, mlp_bias), seen[ER_MATRIX_GATE] | seen[ER_MATRIX_UP] | seen[ER_MATRIX_DOWN]},
    };
    for (size_t i = 0; i < f->field_count; i++)
        for (size_t b = 0; b < sizeof biases / sizeof *biases; b++)
            if (f->fields[i].offset == biases[b].offset) *er_field_bool(&f->fields[i], c) = biases[b].seen;
    for (size_t i = 1; i < f->field_count; i++) {
        const er_field *x = &f->fields[i - 1], *y = &f->fields[i];
        if (x->type != ER_FIELD_BOOL || y->type != ER_FIELD_BOOL || !x->json || !y->json) continue;
        if (strcmp(x->json, y->json) == 0) *er_field_bool(x, c) = *er_field_bool(y, c) |= *er_field_bool(x, c);
    }
}

/* The vocabulary, an own head and biases show in the tensors alone. */
static int read_tensors(const reader *r, er_err *err)
{
    er_config *c = r->c;
    for (size_t i = 0; i < r->family->row_count; i++) {
        const er_slot_row *row = &r->family->rows[i];
        const er_tensor *t = row->kind == ER_SLOT_EMBEDDING ? er_tensors_find(r->tensors, row->gguf) : NULL;
        if (row->kind == ER_SLOT_EMBEDDING && !t)
            return er_fail(err, ER_E_FORMAT, "%s: tensor '%s' is missing", r->g->path, row->gguf);
        if (t) c->vocab = t->shape[0];
        if (row->kind == ER_SLOT_HEAD) c->tied = !has_tensor(r, row, -1);
    }
    read_biases(r);
    return 0;
}

static int read_layers(const reader *r, er_err *err)
{
    const er_gguf_value *parallel = value_of(r, "use_parallel_residual");
    er_config *c = r->c;
    int flag = 0;
    if (c->layers > ER_MOST_LAYERS) return 0; /* er_config_check says so */
    ER_TRY(read_windows(r, err));
    for (int64_t l = 0; r->rule->unrotated && l < c->layers; l++)
        if ((l + 1) % r->rule->unrotated == 0) er_layer_put(&c->unrotated, l);
    if (parallel) ER_TRY(er_gguf_bool(&flag, r->g, parallel, err));
    if (parallel && strcmp(c->family, "gpt_neox") == 0) c->block = flag ? ER_BLOCK_PARALLEL : ER_BLOCK_PRE;
    else if (flag) return refuse(r, parallel, "is not supported in this architecture", err);
    if (r->rule->wide)
        c->score_width = (double)(c->layers == r->rule->wide && c->heads ? c->hidden / c->heads : c->head_dim);
    return 0;
}

/* --- rotation ----------------------------------------------------------------------------------------------------- */

/* rope.scaling.type "linear" (also where only a factor is given) divides all frequencies by the factor. */
static int read_scaling(const reader *r, er_err *err)
{
    const er_gguf_value *type = value_of(r, "rope.scaling.type"), *factor = value_of(r, "rope.scaling.factor");
    const char *name = "linear";
    double by = 1;
    if (!factor) factor = value_of(r, "rope.scale_linear");
    if (type) ER_TRY(er_gguf_text(&name, r->g, type, r->arena, err));
    if (strcmp(name, "none") == 0) return 0;
    if (strcmp(name, "linear") != 0)
        return er_fail(err, ER_E_UNSUPPORTED, "%s: %s: \"%.100s\" is not supported, only \"none\" and \"linear\"",
                       r->g->path, type->key, name);
    if (factor) ER_TRY(er_gguf_real(&by, r->g, factor, err));
    if (!(by >= 0 && isfinite(by)))
        return er_fail(err, ER_E_FORMAT, "%s: %s is %g", r->g->path, factor->key, by);
    by = (double)(float)by;
    if (!(by > 0) || (by >= 1 && by <= 1)) return 0; /* 0 means none, too */
    if (!r->c->rope_dim) return refuse(r, factor, "in a model with learned positions is not supported", err);
    r->c->rope_scaling = ER_ROPE_LINEAR;
    r->c->rope_factor = by;
    return 0;
}

/* rope_freqs.weight holds what each frequency is divided by. Files have it for LLaMA 3.1's rule, whose parameters are
 * found again: the factor is the largest of the numbers, the others are the same in all published models. */
static int read_factors(const reader *r, er_err *err)
{
    static const double near = 1e-5; /* relative */
    er_tensor *t = er_tensors_find(r->tensors, "rope_freqs.weight");
    const er_gguf_value *original = value_of(r, "rope.scaling.original_context_length");
    er_config plain = *r->c, *c = r->c;
    float *factors = NULL, largest = 1;
    if (!t) return 0;
    int64_t n = t->elements;
    if (t->dims != 1 || n != c->rope_dim / 2 || c->rope_scaling != ER_ROPE_PLAIN)
        return er_fail(err, ER_E_UNSUPPORTED, "%s: tensor 'rope_freqs.weight' of %lld factors does not belong to a "
                       "rotation of %lld dimensions", t->path, (long long)n, (long long)c->rope_dim);
    ER_TRY(er_arena_take(r->arena, &factors, (size_t)n, err));
    er_widen(factors, t->data, t->dtype, 0, n);
    for (int64_t i = 0; i < n; i++)
        if (factors[i] > largest) largest = factors[i];
    c->rope_original = LLAMA3_POSITIONS;
    if (original) ER_TRY(er_gguf_int(&c->rope_original, r->g, original, err));
    if (c->rope_original < 1)
        return er_fail(err, ER_E_FORMAT, "%s: %s is not positive", r->g->path, original->key);
    c->rope_scaling = ER_ROPE_LLAMA3;
    c->rope_factor = (double)largest;
    c->rope_low = 1;
    c->rope_high = 4;
    for (int64_t i = 0; i < n; i++) {
        double wanted = (double)er_rope_frequency(&plain, i, 0) / (double)er_rope_frequency(c, i, 0);
        if (!(fabs((double)factors[i] / wanted - 1) <= near))
            return er_fail(err, ER_E_UNSUPPORTED, "%s: tensor 'rope_freqs.weight' divides frequency %lld by %g, not by "
                           "%g as LLaMA 3.1's rule with factor %g does", t->path, (long long)i, (double)factors[i],
                           wanted, (double)largest);
    }
    if (largest <= 1) *c = plain;
    t->used = 1;
    return 0;
}

/* ------------------------------------------------------------------------------------------------------------------ */

static int find_family(reader *r, er_err *err)
{
    static const rule nothing;
    const char *name = NULL;
    const er_gguf_value *v = NULL;
    ER_TRY(er_gguf_required(&v, r->g, "general.architecture", err));
    ER_TRY(er_gguf_text(&name, r->g, v, r->arena, err));
    r->family = er_family_find_gguf(name);
    if (!r->family)
        return er_fail(err, ER_E_UNSUPPORTED, "%s: general.architecture '%.100s' is not supported, only %s", r->g->path,
                       name, er_family_names_gguf());
    r->rule = &nothing;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (strcmp(rules[i].family, r->family->name) == 0) r->rule = &rules[i];
    return 0;
}

int er_gguf_config(er_config *out, const er_gguf *g, const er_tensors *tensors, er_arena *arena, er_err *err)
{
    er_config c;
    reader r = {g, tensors, arena, NULL, NULL, &c};
    er_gguf_special ids;
    ER_TRY(find_family(&r, err));
    c = er_family_start(r.family);
    for (size_t i = 0; i < r.family->field_count; i++) ER_TRY(read_field(&r, &r.family->fields[i], err));
    ER_TRY(check_keys(&r, err));
    ER_TRY(read_tensors(&r, err));
    ER_TRY(er_gguf_ids(&ids, g, arena, err));
    c.bos = ids.bos;
    c.eos = ids.eos;
    er_config_derive(&c);
    ER_TRY(read_layers(&r, err));
    ER_TRY(read_scaling(&r, err));
    ER_TRY(er_config_check(&c, g->path, err));
    ER_TRY(check_sizes(&r, err));
    ER_TRY(read_factors(&r, err));
    ER_TRY(er_config_check(&c, g->path, err));
    *out = c;
    return 0;
}
