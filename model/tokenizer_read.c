/* SPDX-License-Identifier: Apache-2.0 */
/* Hugging Face's tokenizer.json. The components around the vocabulary are in tokenizer_components.c. */
#include "model/tokenizer_components.h"

#include "base/file.h"

#include <string.h>

/* --- model -------------------------------------------------------------------------------------------------------- */

static int refuse_affixes(const json_t *model, er_err *err)
{
    static const char *const fields[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        const char *text = json_string_value(json_object_get(model, fields[i]));
        if (text && *text) return er_fail(err, ER_E_UNSUPPORTED, "model.%s '%.40s'", fields[i], text);
    }
    if (json_number_value(json_object_get(model, "dropout")) > 0)
        return er_fail(err, ER_E_UNSUPPORTED, "model.dropout");
    return 0;
}

/* Every entry takes more than one byte of the file, so a file of n bytes may have no id above n: this bounds tables
 * before they are allocated. */
static int largest_id(int64_t *largest, const json_t *number, size_t n, const char *text, er_err *err)
{
    json_int_t id = json_is_integer(number) ? json_integer_value(number) : -1;
    if (id < 0 || (uint64_t)id >= n)
        return er_fail(err, ER_E_FORMAT, "token '%.60s': its id is no number from 0 to %zu", text, n);
    if (id > *largest) *largest = id;
    return 0;
}

static int count_ids(int64_t *size, json_t *vocab, const json_t *added, size_t n, er_err *err)
{
    const char *text;
    json_t *id, *token;
    size_t i;
    int64_t largest = -1;
    json_object_foreach(vocab, text, id) ER_TRY(largest_id(&largest, id, n, text, err));
    json_array_foreach(added, i, token) ER_TRY(largest_id(&largest, json_object_get(token, "id"), n, "added", err));
    *size = largest + 1;
    return 0;
}

static int read_merges(er_tokenizer *t, const json_t *merges, er_err *err)
{
    if (!json_is_array(merges)) return er_fail(err, ER_E_FORMAT, "model.merges is missing or no list");
    ER_TRY(er_alloc(&t->merges, json_array_size(merges), err));
    size_t i;
    json_t *entry;
    json_array_foreach(merges, i, entry) {
        const json_t *a = json_array_get(entry, 0), *b = json_array_get(entry, 1);
        if (json_is_string(entry)) {
            ER_TRY(er_tokenizer_merge_line(t, &t->merges[i], json_string_value(entry), err));
        } else if (json_is_string(a) && json_is_string(b) && json_array_size(entry) == 2) {
            er_slice left = {json_string_value(a), json_string_length(a)},
                    right = {json_string_value(b), json_string_length(b)};
            ER_TRY(er_tokenizer_merge(t, &t->merges[i], &left, &right, err));
        } else {
            return er_fail(err, ER_E_FORMAT, "merge %zu is no pair", i);
        }
    }
    t->merge_count = (int64_t)json_array_size(merges);
    return 0;
}

static int read_model(er_tokenizer *t, json_t *model, const float *scores, er_err *err)
{
    const char *text;
    json_t *id;
    ER_TRY(refuse_affixes(model, err));
    json_object_foreach(json_object_get(model, "vocab"), text, id)
        ER_TRY(er_tokenizer_put(t, json_integer_value(id), text, strlen(text), 1, err));
    ER_TRY(er_tokenizer_index(t, err));
    ER_TRY(scores ? er_tokenizer_score_merges(t, scores, err)
                  : read_merges(t, json_object_get(model, "merges"), err));
    t->byte_fallback = json_is_true(json_object_get(model, "byte_fallback"));
    t->fuse_unknown = json_is_true(json_object_get(model, "fuse_unk"));
    t->ignore_merges = json_is_true(json_object_get(model, "ignore_merges"));
    const char *unknown = json_string_value(json_object_get(model, "unk_token"));
    if (!unknown) return 0;
    t->unk = er_tokenizer_find(t, unknown);
    t->model_unknown = (int32_t)t->unk;
    return t->unk >= 0 ? 0 : er_fail(err, ER_E_FORMAT, "model.unk_token '%.60s' is not in the vocabulary", unknown);
}

/* --- added tokens ------------------------------------------------------------------------------------------------- */

static int read_added(er_tokenizer *t, const json_t *list, er_err *err)
{
    ER_TRY(er_alloc(&t->added, json_array_size(list), err));
    size_t i;
    json_t *token;
    json_array_foreach(list, i, token) {
        const char *text = json_string_value(json_object_get(token, "content"));
        int64_t id = json_integer_value(json_object_get(token, "id"));
        if (!text || !*text) return er_fail(err, ER_E_FORMAT, "added token %lld has no content", (long long)id);
        er_added *a = &t->added[t->added_count];
        a->id = (int32_t)id;
        a->special = json_is_true(json_object_get(token, "special"));
        a->normalized = json_is_true(json_object_get(token, "normalized"));
        a->left_strip = json_is_true(json_object_get(token, "lstrip"));
        a->right_strip = json_is_true(json_object_get(token, "rstrip"));
        a->single_word = json_is_true(json_object_get(token, "single_word"));
        int64_t known = er_tokenizer_find(t, text);
        if (known >= 0 && known != id)
            return er_fail(err, ER_E_FORMAT, "added token '%.60s' has id %lld, in the vocabulary %lld", text,
                           (long long)id, (long long)known);
        if (known < 0) ER_TRY(er_tokenizer_put(t, id, text, strlen(text), 0, err));
        a->text = t->text[id];
        t->added_count++;
    }
    return er_tokenizer_index(t, err);
}

/* --- the file ----------------------------------------------------------------------------------------------------- */

static int fill(er_tokenizer *t, json_t *root, const float *scores, er_err *err)
{
    ER_TRY(read_model(t, json_object_get(root, "model"), scores, err));
    ER_TRY(read_added(t, json_object_get(root, "added_tokens"), err));
    ER_TRY(er_component_normalizer(t, json_object_get(root, "normalizer"), err));
    ER_TRY(er_component_pieces(t, json_object_get(root, "pre_tokenizer"), err));
    ER_TRY(er_component_template(t, json_object_get(root, "post_processor"), err));
    ER_TRY(er_component_decoder(t, json_object_get(root, "decoder"), err));
    if (t->before_count) t->bos = t->before[0];
    return er_tokenizer_finish(t, err);
}

int er_tokenizer_from_root(er_tokenizer **out, json_t *root, const float *scores, size_t n, er_err *err)
{
    json_t *model = json_object_get(root, "model"), *vocab = json_object_get(model, "vocab");
    const char *type = json_string_value(json_object_get(model, "type"));
    if (!json_is_object(model)) return er_fail(err, ER_E_FORMAT, "no object \"model\": this is no tokenizer.json");
    /* files written before the type was recorded have none */
    if (type && strcmp(type, "BPE") != 0) return er_fail(err, ER_E_UNSUPPORTED, "model '%.40s'", type);
    if (!json_is_object(vocab)) return er_fail(err, ER_E_FORMAT, "model.vocab is missing or no object");
    int64_t size;
    er_tokenizer *t = NULL;
    ER_TRY(count_ids(&size, vocab, json_object_get(root, "added_tokens"), n, err));
    ER_TRY(er_tokenizer_new(&t, size, err));
    int code = fill(t, root, scores, err);
    if (code)
        er_tokenizer_close(t);
    else
        *out = t;
    return code;
}

static int load(json_t **root, const char *text, size_t n, size_t flags, er_err *err)
{
    json_error_t where;
    *root = json_loadb(text, n, JSON_REJECT_DUPLICATES | flags, &where);
    return *root ? 0 : er_fail(err, ER_E_FORMAT, "line %d column %d: %s", where.line, where.column, where.text);
}

int er_tokenizer_parse(er_tokenizer **out, const char *json, size_t n, const char *name, er_err *err)
{
    json_t *root = NULL;
    int code = load(&root, json, n, 0, err);
    if (!code) code = er_tokenizer_from_root(out, root, NULL, n, err);
    json_decref(root);
    if (code) er_prefix(err, "%s: ", name);
    return code;
}

/* --- tokenizer_config.json: which tokens begin and end a text ----------------------------------------------------- */

static int64_t named_token(const er_tokenizer *t, const json_t *root, const char *key, int64_t otherwise)
{
    const json_t *value = json_object_get(root, key);
    if (json_is_object(value)) value = json_object_get(value, "content");
    int64_t id = json_is_string(value) ? er_tokenizer_find(t, json_string_value(value)) : -1;
    return id >= 0 ? id : otherwise;
}

static int read_config(er_tokenizer *t, const char *path, er_err *err)
{
    char *text = NULL;
    size_t n;
    json_t *root = NULL;
    ER_TRY(er_file_read(&text, &n, path, err));
    /* model_max_length is often 10^30, beyond any integer */
    int code = load(&root, text, n, JSON_DECODE_INT_AS_REAL, err);
    er_free(text);
    if (code) {
        er_prefix(err, "%s: ", path);
        return code;
    }
    t->bos = named_token(t, root, "bos_token", t->bos);
    t->eos = named_token(t, root, "eos_token", t->eos);
    t->unk = named_token(t, root, "unk_token", t->unk);
    t->pad = named_token(t, root, "pad_token", t->pad);
    json_decref(root);
    return 0;
}

static int open_file(er_tokenizer **t, const char *path, er_err *err)
{
    er_map map;
    ER_TRY(er_map_open(&map, path, err));
    int code = er_tokenizer_parse(t, map.data ? (const char *)map.data : "", map.size, path, err);
    er_map_close(&map);
    return code;
}

int er_tokenizer_open(er_tokenizer **out, const char *path, er_err *err)
{
    er_tokenizer *t = NULL;
    char *folder = NULL, *config = NULL;
    int code = open_file(&t, path, err);
    if (!code) code = er_path_folder(&folder, path, err);
    if (!code) code = er_path_join(&config, folder, "tokenizer_config.json", err);
    if (!code && er_file_exists(config)) code = read_config(t, config, err);
    er_free(folder);
    er_free(config);
    if (code)
        er_tokenizer_close(t);
    else
        *out = t;
    return code;
}
