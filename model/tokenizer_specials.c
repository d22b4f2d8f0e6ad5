/* SPDX-License-Identifier: Apache-2.0 */
#include "model/tokenizer_specials.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

static const char *const attributes[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                         "pad_token", "cls_token", "mask_token"};
enum { ATTRIBUTES = sizeof attributes / sizeof *attributes };
static const char more_attributes[] = "additional_special_tokens";

static int no_memory(er_err *err) { return er_fail(err, ER_E_MEMORY, "no memory for added tokens"); }

/* Which of the four an attribute is; -1: none of them. */
static int named_of(size_t attribute)
{
    static const int named[ATTRIBUTES] = {ER_SPECIAL_BOS, ER_SPECIAL_EOS, ER_SPECIAL_UNK, -1, ER_SPECIAL_PAD, -1, -1};
    return named[attribute];
}

/* --- one token ---------------------------------------------------------------------------------------------------- */

static const char *content_of(const json_t *token) { return json_string_value(json_object_get(token, "content")); }

static json_t *make_token(const char *content, int normalized, int special)
{
    return json_pack("{s:s, s:b, s:b, s:b, s:b, s:b}", "content", content, "single_word", 0, "lstrip", 0, "rstrip", 0,
                     "normalized", normalized, "special", special);
}

/* A token written out with its flags; one that names no normalized is normalized unless it is special. */
static int read_token(json_t **out, const json_t *value, int special, er_err *err)
{
    const char *content = content_of(value);
    if (!content) return er_fail(err, ER_E_FORMAT, "an added token without content");
    special = special || json_is_true(json_object_get(value, "special"));
    const json_t *normalized = json_object_get(value, "normalized");
    json_t *token = make_token(content, normalized ? json_is_true(normalized) : !special, special);
    static const char *const flags[] = {"single_word", "lstrip", "rstrip"};
    int bad = !token;
    for (size_t i = 0; i < 3 && !bad; i++)
        bad = json_object_set_new(token, flags[i], json_boolean(json_is_true(json_object_get(value, flags[i]))));
    if (bad) {
        json_decref(token);
        return no_memory(err);
    }
    *out = token;
    return 0;
}

static int append(json_t *list, json_t *token, er_err *err)
{
    return json_array_append_new(list, token) ? no_memory(err) : 0;
}

static const json_t *find_content(const json_t *list, const char *content)
{
    size_t i;
    json_t *token;
    json_array_foreach(list, i, token) {
        if (strcmp(content_of(token), content) == 0) return token;
    }
    return NULL;
}

/* --- those with ids of their own ---------------------------------------------------------------------------------- */

typedef struct numbered {
    long long id;
    json_t *token;
} numbered;

static int by_id(const void *a, const void *b)
{
    long long x = ((const numbered *)a)->id, y = ((const numbered *)b)->id;
    return (x > y) - (x < y);
}

/* Whether tokenizer_config.json or special_tokens_map.json (presets do not count) name a text as special. */
static int is_named(const er_special_files *f, const char *content)
{
    for (size_t i = 0; i <= ATTRIBUTES; i++) {
        const char *key = i < ATTRIBUTES ? attributes[i] : more_attributes;
        for (int map = 0; map < 2; map++) {
            const json_t *value = json_object_get(map ? f->map : f->config, key);
            /* what the map says replaces the other, except for the list, which grows */
            if (!map && i < ATTRIBUTES && json_object_get(f->map, key)) continue;
            for (size_t k = 0; k < (json_is_array(value) ? json_array_size(value) : 1); k++) {
                const json_t *one = json_is_array(value) ? json_array_get(value, k) : value;
                const char *text = json_is_object(one) ? content_of(one) : json_string_value(one);
                if (text && strcmp(text, content) == 0) return 1;
            }
        }
    }
    return 0;
}

static int read_number(long long *id, const char *text, er_err *err)
{
    char *end;
    *id = strtoll(text, &end, 10);
    return end != text && !*end && *id >= 0 ? 0 : er_fail(err, ER_E_FORMAT, "added token '%.40s' is no number", text);
}

static int fill_numbered(numbered *list, size_t *count, const er_special_files *f, er_err *err)
{
    const char *key;
    json_t *value;
    json_t *decoder = json_object_get(f->config, "added_tokens_decoder");
    if (decoder) {
        json_object_foreach(decoder, key, value) {
            ER_TRY(read_number(&list[*count].id, key, err));
            ER_TRY(read_token(&list[*count].token, value, 0, err));
            ++*count;
        }
        return 0;
    }
    json_object_foreach((json_t *)(uintptr_t)f->added, key, value) {
        int special = is_named(f, key);
        list[*count].id = json_integer_value(value);
        list[*count].token = make_token(key, !special, special);
        if (!list[*count].token) return no_memory(err);
        ++*count;
    }
    return 0;
}

static int add_numbered(json_t *tokens, const er_special_files *f, er_err *err)
{
    const json_t *decoder = json_object_get(f->config, "added_tokens_decoder");
    size_t most = json_object_size(decoder) + json_object_size(f->added), count = 0;
    numbered *list = NULL;
    ER_TRY(er_alloc(&list, most, err));
    int code = fill_numbered(list, &count, f, err);
    if (!code && count) qsort(list, count, sizeof *list, by_id);
    for (size_t i = 0; i < count; i++) {
        if (!code)
            code = append(tokens, list[i].token, err);
        else
            json_decref(list[i].token);
    }
    er_free(list);
    return code;
}

/* --- the special ones --------------------------------------------------------------------------------------------- */

/* The value of an attribute and whether the map gave it; presets as a text. NULL: none. */
static const json_t *attribute(const er_special_files *f, const char *key, int *from_map)
{
    const json_t *value = json_object_get(f->config, key), *other = json_object_get(f->map, key);
    *from_map = other && !json_object_get(f->config, "added_tokens_decoder");
    return *from_map ? other : value;
}

/* A special token as it will be added; *text: it is a mere text, which is not added where the text is there already. */
static int special_token(json_t **out, int *text, const json_t *value, int from_map, int is_four, const json_t *decoder,
                         const er_special_rules *rules, er_err *err)
{
    const char *content = json_is_object(value) ? content_of(value) : json_string_value(value);
    if (!content) return er_fail(err, ER_E_FORMAT, "a special token that is no text");
    const char *key;
    json_t *other;
    *text = 0;
    json_object_foreach((json_t *)(uintptr_t)decoder, key, other) {
        if (content_of(other) && strcmp(content_of(other), content) == 0) return read_token(out, other, 0, err);
    }
    if (json_is_object(value)) return read_token(out, value, from_map, err);
    *text = !is_four;
    *out = make_token(content, is_four && rules->normalized, 1);
    return *out ? 0 : no_memory(err);
}

typedef struct gathering {
    json_t *tokens;   /* all, in order */
    json_t *specials; /* the special ones, each text once */
    json_t *texts;    /* those of specials that are mere texts */
} gathering;

static int add_special(gathering *g, json_t *token, int text, er_err *err)
{
    if (find_content(g->specials, content_of(token))) {
        json_decref(token);
        return 0;
    }
    if (text && json_array_append(g->texts, token)) {
        json_decref(token);
        return no_memory(err);
    }
    return append(g->specials, token, err);
}

static int add_attribute(gathering *g, size_t i, const er_special_files *f, const er_special_rules *rules,
                         const char **named, er_err *err)
{
    int from_map, text, which = named_of(i);
    const json_t *value = attribute(f, attributes[i], &from_map), *decoder = NULL;
    const char *preset = which >= 0 ? rules->preset[which] : NULL;
    json_t *token = NULL;
    if (value && json_is_null(value)) return 0;
    if (!value && !preset) return 0;
    if (value) {
        decoder = json_object_get(f->config, "added_tokens_decoder");
        ER_TRY(special_token(&token, &text, value, from_map, which >= 0, decoder, rules, err));
    } else {
        text = 0;
        if (!(token = make_token(preset, rules->normalized, 1))) return no_memory(err);
    }
    json_incref(token);
    int code = add_special(g, token, text, err);
    /* the text that stays: that of the token itself or of the one before with the same text */
    if (!code && which >= 0) named[which] = content_of(find_content(g->specials, content_of(token)));
    json_decref(token);
    return code;
}

static int add_list(gathering *g, const json_t *list, int from_map, const er_special_rules *rules, er_err *err)
{
    size_t i;
    json_t *value;
    json_array_foreach((json_t *)(uintptr_t)list, i, value) {
        json_t *token = NULL;
        int text;
        ER_TRY(special_token(&token, &text, value, from_map, 0, NULL, rules, err));
        ER_TRY(add_special(g, token, text, err));
    }
    return 0;
}

static int add_specials(gathering *g, const er_special_files *f, const er_special_rules *rules, const char **named,
                        er_err *err)
{
    for (size_t i = 0; i < ATTRIBUTES; i++) ER_TRY(add_attribute(g, i, f, rules, named, err));
    ER_TRY(add_list(g, json_object_get(f->config, more_attributes), 0, rules, err));
    if (json_object_get(f->config, "added_tokens_decoder")) return 0;
    return add_list(g, json_object_get(f->map, more_attributes), 1, rules, err);
}

static int contains(const json_t *list, const json_t *token)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_array_get(list, i) == token) return 1;
    return 0;
}

static int contains_equal(const json_t *list, const json_t *token)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_equal(json_array_get(list, i), token)) return 1;
    return 0;
}

/* What is special by either way is special; then the special ones that are not there yet, mere texts by their text. */
static int join(gathering *g, er_err *err)
{
    size_t i, numbered_count = json_array_size(g->tokens);
    json_t *token;
    json_array_foreach(g->specials, i, token) {
        int there = contains(g->texts, token) ? find_content(g->tokens, content_of(token)) != NULL
                                              : contains_equal(g->tokens, token);
        if (!there && json_array_append(g->tokens, token)) return no_memory(err);
    }
    json_array_foreach(g->tokens, i, token) {
        int special = i >= numbered_count || find_content(g->specials, content_of(token));
        if (special && json_object_set_new(token, "special", json_true())) return no_memory(err);
    }
    return 0;
}

int er_specials_gather(json_t **tokens, const char *named[ER_SPECIAL_NAMED], const er_special_files *files,
                       const er_special_rules *rules, er_err *err)
{
    gathering g = {json_array(), json_array(), json_array()};
    for (int i = 0; i < ER_SPECIAL_NAMED; i++) named[i] = NULL;
    int code = g.tokens && g.specials && g.texts ? 0 : no_memory(err);
    if (!code) code = add_numbered(g.tokens, files, err);
    if (!code) code = add_specials(&g, files, rules, named, err);
    if (!code) code = join(&g, err);
    /* named texts must outlive the list of special tokens */
    for (int i = 0; i < ER_SPECIAL_NAMED && !code; i++)
        if (named[i]) named[i] = content_of(find_content(g.tokens, named[i]));
    json_decref(g.specials);
    json_decref(g.texts);
    if (code)
        json_decref(g.tokens);
    else
        *tokens = g.tokens;
    return code;
}

/* --- numbers ------------------------------------------------------------------------------------------------------ */

typedef struct numbering {
    const json_t *vocab;
    json_t *out;
    json_t *places; /* text -> place in out */
    json_int_t largest;
} numbering;

static json_int_t next_id(const numbering *n)
{
    json_int_t size = (json_int_t)json_object_size(n->vocab);
    return n->largest >= size ? n->largest + 1 : size;
}

static int is_set(const json_t *token, const char *flag) { return json_is_true(json_object_get(token, flag)); }

/* The library strips as the later of two equal texts says, leaves out of decoded text what either calls special, and
 * searches before normalizing where either asks for it; but of two special ones only the first is asked. */
static int merge_flags(json_t *copy, const json_t *before, er_err *err)
{
    int both = is_set(before, "special") && is_set(copy, "special");
    int normalized = is_set(before, "normalized") && (both || is_set(copy, "normalized"));
    int special = is_set(before, "special") || is_set(copy, "special");
    int bad = json_object_set_new(copy, "normalized", json_boolean(normalized)) ||
              json_object_set_new(copy, "special", json_boolean(special)) ||
              json_object_set(copy, "id", json_object_get(before, "id"));
    return bad ? no_memory(err) : 0;
}

static int number_one(numbering *n, const json_t *token, er_err *err)
{
    const char *content = content_of(token);
    if (!*content) return 0;
    const json_t *place = json_object_get(n->places, content), *known = json_object_get(n->vocab, content);
    json_t *copy = json_deep_copy(token);
    if (!copy) return no_memory(err);
    if (place) {
        size_t at = (size_t)json_integer_value(place);
        int code = merge_flags(copy, json_array_get(n->out, at), err);
        return json_array_set_new(n->out, at, copy) && !code ? no_memory(err) : code;
    }
    json_int_t id = json_is_integer(known) ? json_integer_value(known) : next_id(n);
    if (id > n->largest) n->largest = id;
    int bad = json_object_set_new(copy, "id", json_integer(id)) ||
              json_object_set_new(n->places, content, json_integer((json_int_t)json_array_size(n->out)));
    return json_array_append_new(n->out, copy) || bad ? no_memory(err) : 0;
}

int er_specials_number(json_t **out, const json_t *vocab, const json_t *first, const json_t *more, er_err *err)
{
    numbering n = {vocab, json_array(), json_object(), -1};
    int code = n.out && n.places ? 0 : no_memory(err);
    for (size_t i = 0; i < json_array_size(first) && !code; i++) code = number_one(&n, json_array_get(first, i), err);
    for (size_t i = 0; i < json_array_size(more) && !code; i++) code = number_one(&n, json_array_get(more, i), err);
    json_decref(n.places);
    if (code)
        json_decref(n.out);
    else
        *out = n.out;
    return code;
}
