/* SPDX-License-Identifier: Apache-2.0 */
/* The rotation: what config.json says of it, and the frequencies that follow. */
#include "model/families.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>

/* A positive real of an object. */
static int read_real(double *out, const json_t *rope, const char *where, const char *key, const char *path, er_err *err)
{
    const json_t *value = json_object_get(rope, key);
    if (!json_is_number(value) || !(json_number_value(value) > 0))
        return er_fail(err, ER_E_FORMAT, "%s: %s.%s is no positive number", path, where, key);
    *out = (double)(float)json_number_value(value);
    return 0;
}

/* The factor by which frequencies are divided: they only become smaller, so that angles stay within the tables' range. */
static int read_factor(er_config *c, const json_t *rope, const char *where, const char *path, er_err *err)
{
    ER_TRY(read_real(&c->rope_factor, rope, where, "factor", path, err));
    if (c->rope_factor >= 1) return 0;
    return er_fail(err, ER_E_FORMAT, "%s: %s.factor is %g, expected 1 or more", path, where, c->rope_factor);
}

static int read_llama3(er_config *c, const json_t *rope, const char *where, const char *path, er_err *err)
{
    double original = 0;
    ER_TRY(read_factor(c, rope, where, path, err));
    ER_TRY(read_real(&c->rope_low, rope, where, "low_freq_factor", path, err));
    ER_TRY(read_real(&c->rope_high, rope, where, "high_freq_factor", path, err));
    ER_TRY(read_real(&original, rope, where, "original_max_position_embeddings", path, err));
    if (!(c->rope_low < c->rope_high))
        return er_fail(err, ER_E_FORMAT, "%s: %s.low_freq_factor %g is not below high_freq_factor %g", path, where,
                       c->rope_low, c->rope_high);
    if (original > 1e9) return er_fail(err, ER_E_FORMAT, "%s: %s: %g positions", path, where, original);
    c->rope_original = (int64_t)original;
    c->rope_scaling = ER_ROPE_LLAMA3;
    return 0;
}

/* One object with rope_type (older: type), rope_theta and the parameters of the type. */
static int read_object(er_config *c, const json_t *rope, const char *where, const char *path, er_err *err)
{
    const json_t *type = json_object_get(rope, "rope_type");
    if (!type) type = json_object_get(rope, "type");
    const char *name = type ? json_string_value(type) : json_object_get(rope, "factor") ? "?" : "default";
    if (!name) return er_fail(err, ER_E_FORMAT, "%s: %s.rope_type is no text", path, where);
    if (json_object_get(rope, "rope_theta")) ER_TRY(read_real(&c->rope_base, rope, where, "rope_theta", path, err));
    if (strcmp(name, "default") == 0) return 0;
    if (strcmp(name, "llama3") == 0) return read_llama3(c, rope, where, path, err);
    if (strcmp(name, "linear") == 0) {
        c->rope_scaling = ER_ROPE_LINEAR;
        return read_factor(c, rope, where, path, err);
    }
    return er_fail(err, ER_E_UNSUPPORTED, "%s: %s.rope_type: \"%.100s\" is not supported, only default, linear, llama3",
                   path, where, name);
}

/* Newest files of models with windows keep one object for each kind of layer. */
static int read_pair(er_config *c, const json_t *rope, const json_t *full, const char *where, const char *path,
                     er_err *err)
{
    char name[96];
    const json_t *local = json_object_get(rope, "sliding_attention");
    snprintf(name, sizeof name, "%s.full_attention", where);
    ER_TRY(read_object(c, full, name, path, err));
    if (!json_is_object(local)) return 0;
    er_config other = {.rope_base = c->rope_base};
    snprintf(name, sizeof name, "%s.sliding_attention", where);
    ER_TRY(read_object(&other, local, name, path, err));
    if (other.rope_scaling != ER_ROPE_PLAIN)
        return er_fail(err, ER_E_UNSUPPORTED, "%s: %s.rope_type is not supported, only default", path, name);
    c->rope_local_base = other.rope_base;
    return 0;
}

int er_rope_read(er_config *c, const json_t *root, const char *path, er_err *err)
{
    static const char *const keys[] = {"rope_parameters", "rope_scaling"};
    for (size_t i = 0; i < ER_COUNT(keys); i++) {
        const json_t *rope = json_object_get(root, keys[i]);
        if (!rope || json_is_null(rope)) continue;
        if (!json_is_object(rope)) return er_fail(err, ER_E_FORMAT, "%s: %s is no object", path, keys[i]);
        if (!c->rope_dim && c->positions == ER_POSITION_LEARNED)
            return er_fail(err, ER_E_UNSUPPORTED, "%s: %s in a model with learned positions", path, keys[i]);
        const json_t *full = json_object_get(rope, "full_attention");
        ER_TRY(json_is_object(full) ? read_pair(c, rope, full, keys[i], path, err)
                                    : read_object(c, rope, keys[i], path, err));
    }
    return 0;
}

int er_rope_write(json_t *root, const er_config *c)
{
    json_t *rope = NULL;
    if (c->rope_scaling == ER_ROPE_LINEAR)
        rope = json_pack("{s:s, s:o}", "rope_type", "linear", "factor", er_json_real(c->rope_factor));
    else if (c->rope_scaling == ER_ROPE_LLAMA3)
        rope = json_pack("{s:s, s:o, s:o, s:o, s:I}", "rope_type", "llama3", "factor", er_json_real(c->rope_factor),
                         "low_freq_factor", er_json_real(c->rope_low), "high_freq_factor", er_json_real(c->rope_high),
                         "original_max_position_embeddings", (json_int_t)c->rope_original);
    else
        rope = json_null();
    /* no memory for a part gives NULL, which the setter refuses */
    return json_object_set_new(root, "rope_scaling", rope);
}

/* Long waves are divided by the factor, short ones kept, those between blended (transformers' llama3 rule, in its
 * fp32 operations and their order). */
static float llama3(const er_config *c, float frequency)
{
    float original = (float)c->rope_original, low = (float)c->rope_low, high = (float)c->rope_high;
    float factor = (float)c->rope_factor, wave = 6.283185307179586f / frequency;
    if (wave > original / low) return frequency / factor;
    if (wave < original / high) return frequency;
    float smooth = (original / wave - low) / (high - low);
    return (1.0f - smooth) * frequency / factor + smooth * frequency;
}

float er_rope_frequency(const er_config *c, int64_t i, int local)
{
    double base = local ? c->rope_local_base : c->rope_base;
    float exponent = (float)(2 * i) / (float)c->rope_dim;
    float frequency = 1.0f / (float)er_math_pow(base, (double)exponent);
    if (local || c->rope_scaling == ER_ROPE_PLAIN) return frequency;
    if (c->rope_scaling == ER_ROPE_LINEAR) return frequency / (float)c->rope_factor;
    return llama3(c, frequency);
}

static int64_t head_width(const er_config *c) { return c->head_dim || !c->heads ? c->head_dim : c->hidden / c->heads; }

int er_partial_rotation_read(er_config *c, const json_t *root, const char *key, double preset, const char *path,
                             er_err *err)
{
    const json_t *value = json_object_get(root, key);
    if (!value) value = json_object_get(json_object_get(root, "rope_parameters"), "partial_rotary_factor");
    double share = json_is_number(value) ? json_number_value(value) : preset;
    if ((value && !json_is_null(value) && !json_is_number(value)) || !(share > 0 && share <= 1))
        return er_fail(err, ER_E_FORMAT, "%s: %s is no number in (0, 1]", path, key);
    c->rope_dim = (int64_t)((double)head_width(c) * share);
    if (c->rope_dim > 0) return 0;
    return er_fail(err, ER_E_FORMAT, "%s: %s %g rotates nothing of heads of %lld", path, key, share,
                   (long long)head_width(c));
}

int er_partial_rotation_write(json_t *root, const char *key, const er_config *c)
{
    enum { DIGITS = 9 };
    double width = (double)head_width(c), share = ((double)c->rope_dim + 0.5) / width;
    for (int digits = DIGITS; digits >= 1; digits--) { /* the shortest decimal that the reader turns to rope_dim */
        char text[32];
        snprintf(text, sizeof text, "%.*g", digits, (double)c->rope_dim / width);
        double shorter = strtod(text, NULL);
        if (shorter <= 1 && (int64_t)(width * shorter) == c->rope_dim) share = shorter;
    }
    return json_object_set_new(root, key, json_real(share));
}
