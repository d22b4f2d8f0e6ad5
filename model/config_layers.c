/* SPDX-License-Identifier: Apache-2.0 */
/* What config.json says about single layers: which see a window only. */
#include "model/families.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int er_json_count(int64_t *out, const json_t *root, const char *key, int64_t preset, const char *path, er_err *err)
{
    const json_t *value = json_object_get(root, key);
    *out = preset;
    if (!value || json_is_null(value)) return 0;
    if (!json_is_integer(value) || json_integer_value(value) < 1)
        return er_fail(err, ER_E_FORMAT, "%s: %s is no positive integer", path, key);
    *out = json_integer_value(value);
    return 0;
}

int er_json_flag(int *out, const json_t *root, const char *key, int preset, const char *path, er_err *err)
{
    const json_t *value = json_object_get(root, key);
    *out = preset;
    if (!value || json_is_null(value)) return 0;
    if (!json_is_boolean(value)) return er_fail(err, ER_E_FORMAT, "%s: %s is neither true nor false", path, key);
    *out = json_is_true(value);
    return 0;
}

json_t *er_json_real(double value)
{
    enum { DIGITS = 9 }; /* they tell every fp32 value from its neighbours */
    char text[32] = "";
    for (int digits = 1; digits <= DIGITS; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (memcmp(&(float){strtof(text, NULL)}, &(float){(float)value}, sizeof(float)) == 0) break;
    }
    return json_real(strtod(text, NULL));
}

int er_window_every(int64_t layer, int64_t argument)
{
    (void)layer, (void)argument;
    return 1;
}

int er_window_from(int64_t layer, int64_t argument) { return layer >= argument; }

int er_window_but_every(int64_t layer, int64_t argument) { return (layer + 1) % argument != 0; }

static int read_types(er_config *c, const json_t *types, const char *path, er_err *err)
{
    if (!json_is_array(types) || (int64_t)json_array_size(types) != c->layers)
        return er_fail(err, ER_E_FORMAT, "%s: layer_types is no list of %lld entries, one per layer", path,
                       (long long)c->layers);
    for (int64_t l = 0; l < c->layers; l++) {
        const char *type = json_string_value(json_array_get(types, (size_t)l));
        if (type && strcmp(type, "sliding_attention") == 0) er_layer_put(&c->windowed, l);
        else if (!type || strcmp(type, "full_attention") != 0)
            return er_fail(err, ER_E_UNSUPPORTED,
                           "%s: layer_types: \"%.100s\" is not supported, only full_attention, sliding_attention", path,
                           type ? type : "?");
    }
    return 0;
}

int er_windows_read(er_config *c, const json_t *root, int64_t preset, er_window_rule rule, int64_t argument,
                    const char *path, er_err *err)
{
    const json_t *window = json_object_get(root, "sliding_window"), *types = json_object_get(root, "layer_types");
    int used = 1;
    c->window = 0;
    memset(&c->windowed, 0, sizeof c->windowed);
    if (c->layers > ER_MOST_LAYERS) return 0; /* er_config_check says so */
    ER_TRY(er_json_flag(&used, root, "use_sliding_window", 1, path, err));
    if (window ? json_is_null(window) : !preset) used = 0;
    if (!used) return 0;
    ER_TRY(er_json_count(&c->window, root, "sliding_window", preset, path, err));
    if (types && !json_is_null(types)) {
        ER_TRY(read_types(c, types, path, err));
    } else {
        for (int64_t l = 0; l < c->layers; l++)
            if (rule(l, argument)) er_layer_put(&c->windowed, l);
    }
    int any = 0;
    for (int64_t l = 0; l < c->layers; l++) any |= er_layer_in(&c->windowed, l);
    if (!any) c->window = 0;
    return 0;
}

int er_windows_write(json_t *root, const er_config *c)
{
    json_t *types = json_array();
    int failed = json_object_set_new(root, "sliding_window", c->window ? json_integer(c->window) : json_null());
    for (int64_t l = 0; l < c->layers; l++)
        failed |= json_array_append_new(types, json_string(er_layer_in(&c->windowed, l) ? "sliding_attention"
                                                                                         : "full_attention"));
    return failed | json_object_set_new(root, "layer_types", types);
}

int64_t er_config_window(const er_config *c, int64_t layer)
{
    return c->window && er_layer_in(&c->windowed, layer) ? c->window : INT64_MAX;
}
