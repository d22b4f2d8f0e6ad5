/* SPDX-License-Identifier: Apache-2.0 */
#include "model/config.h"

#include "model/families.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Limits far beyond any model, small enough that no product of sizes overflows later. */
enum {
    MOST_LAYERS = ER_MOST_LAYERS,
    MOST_HIDDEN = 1 << 18,
    MOST_INNER = 1 << 20,
    MOST_HEADS = 1 << 12,
    MOST_HEAD_DIM = 1 << 12,
    MOST_VOCAB = 1 << 26,
    MOST_POSITIONS = 1 << 30,
};

static int same_value(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b)) return !(json_number_value(a) < json_number_value(b)) &&
                                                       !(json_number_value(a) > json_number_value(b));
    return json_equal(a, b);
}

int er_fixed_check(const er_fixed_key *fixed, const json_t *value, const char *path, const char *prefix, er_err *err)
{
    if (!value || json_is_null(value)) return 0;
    json_t *wanted = json_loads(fixed->value, JSON_DECODE_ANY, NULL);
    if (!wanted) return er_fail(err, ER_E_MEMORY, "no memory for a JSON value");
    int same = same_value(value, wanted);
    json_decref(wanted);
    if (same) return 0;
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    int code = er_fail(err, ER_E_UNSUPPORTED, "%s: %s%s: %.200s is not supported, only %s", path, prefix, fixed->key,
                       text ? text : "?", fixed->value);
    free(text);
    return code;
}

static int bad_field(const char *path, const char *key, const char *what, er_err *err)
{
    return er_fail(err, ER_E_FORMAT, "%s: %s %s", path, key, what);
}

int er_activation_read(int *out, const json_t *value, const char *key, const char *path, er_err *err)
{
    const char *name = json_string_value(value);
    *out = er_activation_find(name ? name : "");
    if (*out >= 0) return 0;
    return er_fail(err, ER_E_UNSUPPORTED, "%s: %s: \"%.100s\" is not supported, only silu, gelu, gelu_new, relu", path,
                   key, name ? name : "?");
}

static int read_field(er_config *c, const er_field *f, const json_t *value, const char *path, er_err *err)
{
    int absent = !value || json_is_null(value);
    if (absent && f->required) return bad_field(path, f->json, "is missing", err);
    switch (f->type) {
    case ER_FIELD_INT:
        if (!absent && !json_is_integer(value)) return bad_field(path, f->json, "is no integer", err);
        if (!absent && json_integer_value(value) < 1) return bad_field(path, f->json, "is not positive", err);
        *er_field_int(f, c) = absent ? (int64_t)f->preset : json_integer_value(value);
        return 0;
    case ER_FIELD_REAL:
        if (!absent && !json_is_number(value)) return bad_field(path, f->json, "is no number", err);
        *er_field_real(f, c) = (double)(float)(absent ? f->preset : json_number_value(value));
        return 0;
    case ER_FIELD_ACTIVATION:
        *er_field_bool(f, c) = (int)f->preset;
        return absent ? 0 : er_activation_read(er_field_bool(f, c), value, f->json, path, err);
    default:
        if (!absent && !json_is_boolean(value)) return bad_field(path, f->json, "is neither true nor false", err);
        *er_field_bool(f, c) = absent ? (int)f->preset : json_is_true(value);
        return 0;
    }
}

/* An id, the first of a list of ids, or null. */
static int read_id(int64_t *out, const json_t *root, const char *key, int64_t preset, const char *path, er_err *err)
{
    const json_t *value = json_object_get(root, key);
    if (json_is_array(value) && json_array_size(value)) value = json_array_get(value, 0);
    if (value && !json_is_null(value) && !json_is_integer(value)) return bad_field(path, key, "is no token id", err);
    *out = !value ? preset : json_is_null(value) ? -1 : json_integer_value(value);
    return 0;
}

static const json_t *field_value(const json_t *root, const er_field *f)
{
    const json_t *value = json_object_get(root, f->json);
    return value ? value : json_object_get(json_object_get(root, "rope_parameters"), f->json);
}

static int parse_root(er_config *out, const json_t *root, const char *path, er_err *err)
{
    const char *type = json_string_value(json_object_get(root, "model_type"));
    if (!type) return bad_field(path, "model_type", "is missing", err);
    const er_family *family = er_family_find(type);
    if (!family)
        return er_fail(err, ER_E_UNSUPPORTED, "%s: model_type '%s' is not supported, only %s", path, type,
                       er_family_names());
    er_config c = er_family_start(family);
    for (const er_fixed_key *f = family->fixed_json; f->key; f++)
        ER_TRY(er_fixed_check(f, json_object_get(root, f->key), path, "", err));
    for (size_t i = 0; i < family->field_count; i++)
        if (family->fields[i].json)
            ER_TRY(read_field(&c, &family->fields[i], field_value(root, &family->fields[i]), path, err));
    ER_TRY(read_id(&c.bos, root, "bos_token_id", family->preset_bos, path, err));
    ER_TRY(read_id(&c.eos, root, "eos_token_id", family->preset_eos, path, err));
    ER_TRY(er_rope_read(&c, root, path, err));
    if (family->read_json) ER_TRY(family->read_json(&c, root, path, err));
    er_config_derive(&c);
    ER_TRY(er_config_check(&c, path, err));
    *out = c;
    return 0;
}

int er_config_parse(er_config *out, const char *text, size_t size, const char *path, er_err *err)
{
    json_error_t where;
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    if (!root) return er_fail(err, ER_E_FORMAT, "%s:%d:%d: %s", path, where.line, where.column, where.text);
    int code = json_is_object(root) ? parse_root(out, root, path, err)
                                    : er_fail(err, ER_E_FORMAT, "%s: is no JSON object", path);
    json_decref(root);
    return code;
}

void er_config_derive(er_config *c)
{
    if (!c->kv_heads) c->kv_heads = c->heads;
    if (!c->head_dim && c->heads) c->head_dim = c->hidden / c->heads;
    if (!c->rope_dim && c->positions != ER_POSITION_LEARNED) c->rope_dim = c->head_dim;
    if (!c->inner && c->hidden <= MOST_HIDDEN) c->inner = 4 * c->hidden;
    if (!c->embedding_width) c->embedding_width = c->hidden;
}

static int check_positions(const er_config *c, const char *path, er_err *err)
{
    if (c->positions == ER_POSITION_LEARNED) return 0;
    if (c->rope_dim < 2 || c->rope_dim % 2 || c->rope_dim > c->head_dim)
        return er_fail(err, ER_E_FORMAT, "%s: %lld rotated dimensions in heads of %lld", path, (long long)c->rope_dim,
                       (long long)c->head_dim);
    if (!(isfinite(c->rope_base) && c->rope_base >= 1))
        return er_fail(err, ER_E_FORMAT, "%s: base of the rotation is %g", path, c->rope_base);
    int local = !(c->rope_local_base >= 0 && c->rope_local_base <= 0);
    if (local && !(isfinite(c->rope_local_base) && c->rope_local_base >= 1))
        return er_fail(err, ER_E_FORMAT, "%s: base of the rotation in windowed layers is %g", path, c->rope_local_base);
    return 0;
}

static int check_scores(const er_config *c, const char *path, er_err *err)
{
    const double positive[] = {c->score_width, c->score_cap, c->logit_cap};
    for (size_t i = 0; i < ER_COUNT(positive); i++)
        if (!(isfinite(positive[i]) && positive[i] >= 0))
            return er_fail(err, ER_E_FORMAT, "%s: scale or cap of scores is %g", path, positive[i]);
    return 0;
}

int er_config_check(const er_config *c, const char *path, er_err *err)
{
    const struct {
        const char *name;
        int64_t value, most;
    } sizes[] = {
        {"number of layers", c->layers, MOST_LAYERS},
        {"hidden size", c->hidden, MOST_HIDDEN},
        {"width of the MLP", c->inner, MOST_INNER},
        {"number of heads", c->heads, MOST_HEADS},
        {"number of key-value heads", c->kv_heads, MOST_HEADS},
        {"width of a head", c->head_dim, MOST_HEAD_DIM},
        {"width of the embedding", c->embedding_width, MOST_HIDDEN},
        {"vocabulary", c->vocab, MOST_VOCAB},
        {"number of positions", c->max_positions, MOST_POSITIONS},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].value < 1 || sizes[i].value > sizes[i].most)
            return er_fail(err, ER_E_FORMAT, "%s: %s is %lld, expected 1 .. %lld", path, sizes[i].name,
                           (long long)sizes[i].value, (long long)sizes[i].most);
    if (!er_family_find(c->family))
        return er_fail(err, ER_E_UNSUPPORTED, "%s: model family '%s' is not known", path, c->family);
    if (c->heads % c->kv_heads)
        return er_fail(err, ER_E_FORMAT, "%s: %lld heads cannot share %lld key-value heads", path, (long long)c->heads,
                       (long long)c->kv_heads);
    ER_TRY(check_positions(c, path, err));
    if (!(c->norm_eps > 0 && c->norm_eps < 1))
        return er_fail(err, ER_E_FORMAT, "%s: epsilon of the norms is %g", path, c->norm_eps);
    ER_TRY(check_scores(c, path, err));
    if (c->bos < -1 || c->bos >= c->vocab || c->eos < -1 || c->eos >= c->vocab)
        return er_fail(err, ER_E_FORMAT, "%s: token ids bos %lld, eos %lld are outside the vocabulary of %lld", path,
                       (long long)c->bos, (long long)c->eos, (long long)c->vocab);
    return 0;
}

int er_config_norms_output(const er_config *c)
{
    const er_family *family = er_family_find(c->family);
    for (size_t i = 0; i < family->row_count; i++) {
        const er_slot_row *row = &family->rows[i];
        if (row->kind == ER_SLOT_GAIN && row->which == ER_NORM_MLP_OUT && (!row->when || row->when(c))) return 1;
    }
    return 0;
}

static int64_t count_parameters(const er_config *c, int64_t layer)
{
    int64_t sum = 0;
    for (int64_t i = 0, n = er_slot_count(c); i < n; i++) {
        er_slot slot = er_slot_at(c, i);
        if (layer < 0 || slot.layer == layer) sum += slot.rows * slot.cols;
    }
    return sum;
}

int64_t er_config_block_parameters(const er_config *c) { return count_parameters(c, 0); }

int64_t er_config_parameters(const er_config *c) { return count_parameters(c, -1); }

static void hash_named(er_hasher *h, const char *name, double value, double preset)
{
    if (memcmp(&value, &preset, sizeof value) == 0) return;
    er_hasher_text(h, name);
    er_hasher_add(h, &value, sizeof value);
}

static void hash_layers(er_hasher *h, const char *name, const er_layer_set *set, int64_t layers)
{
    for (int64_t l = 0; l < layers; l++)
        if (er_layer_in(set, l)) hash_named(h, name, (double)l, -1);
}

#define HASH(member) hash_named(h, #member, (double)c->member, (double)preset->member)
static void hash_rest(er_hasher *h, const er_config *c, const er_config *preset)
{
    HASH(norm), HASH(block), HASH(positions), HASH(qk_norm), HASH(activation), HASH(gated), HASH(gain_plus_one);
    HASH(attention_bias), HASH(output_bias), HASH(mlp_bias), HASH(head_bias), HASH(scaled_embedding), HASH(post_norms);
    HASH(no_final_norm), HASH(position_offset), HASH(score_width), HASH(score_cap), HASH(logit_cap), HASH(window);
    HASH(rope_scaling), HASH(rope_factor), HASH(rope_low), HASH(rope_high), HASH(rope_original), HASH(rope_local_base);
    if (c->embedding_width != c->hidden) HASH(embedding_width);
    hash_layers(h, "windowed", &c->windowed, c->layers);
    hash_layers(h, "unrotated", &c->unrotated, c->layers);
}
#undef HASH

/* A model that differs from its family's preset in nothing has the hash that it had when presets were not written
 * down: what a family fixes goes without saying. */
void er_config_hash(er_hasher *h, const er_config *c)
{
    const int64_t numbers[] = {c->layers, c->hidden,   c->inner, c->heads,         c->kv_heads, c->head_dim,
                               c->rope_dim, c->vocab, c->max_positions, c->tied, c->bos, c->eos};
    const float reals[] = {(float)c->rope_base, (float)c->norm_eps};
    er_hasher_text(h, c->family);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) er_hasher_number(h, numbers[i]);
    er_hasher_add(h, reals, sizeof reals);
    hash_rest(h, c, &er_family_find(c->family)->preset);
}
