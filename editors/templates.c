/* SPDX-License-Identifier: Apache-2.0 */
/* Context templates: from a file, or sampled from the unedited model (spec 3.1). */
#include "base/file.h"
#include "base/random.h"
#include "base/text.h"
#include "editors/prompts.h"
#include "editors/texts.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

static const char *const start_words[] = {"The", "Therefore", "Because", "I", "You"};
enum { WORDS = 5, CHOICES = 5, MOST_TEMPLATES = 100000 };

static int finish(er_templates *t, er_err *err)
{
    er_hasher *h;
    ER_TRY(er_hasher_new(&h, err));
    er_hasher_number(h, t->count);
    for (int64_t i = 0; i < t->count; i++) er_hasher_text(h, t->text[i]);
    t->hash = er_hasher_end(h);
    er_hasher_free(h);
    return 0;
}

static int start(er_templates *t, int64_t others, er_arena *arena, er_err *err)
{
    t->count = 1 + others;
    ER_TRY(er_arena_take(arena, &t->text, (size_t)t->count, err));
    t->text[0] = "{}";
    return 0;
}

static int take_list(er_templates *out, const json_t *array, const char *path, const char *list, er_arena *arena,
                     er_err *err)
{
    er_templates t;
    size_t i;
    json_t *item;
    if (json_array_size(array) > MOST_TEMPLATES)
        return er_fail(err, ER_E_INPUT, "%s: \"%s\" holds %zu templates", path, list, json_array_size(array));
    ER_TRY(start(&t, (int64_t)json_array_size(array), arena, err));
    json_array_foreach(array, i, item) {
        const char *text = json_string_value(item);
        if (!text || er_text_holes(text) != 1)
            return er_fail(err, ER_E_INPUT, "%s: \"%s\"[%zu] must be a text that holds \"{}\" exactly once", path, list,
                           i);
        t.text[i + 1] = er_arena_strdup(arena, text, err);
        if (!t.text[i + 1]) return ER_E_MEMORY;
    }
    ER_TRY(finish(&t, err));
    *out = t;
    return 0;
}

int er_templates_read(er_templates *out, const char *path, const char *list, er_arena *arena, er_err *err)
{
    char *bytes;
    size_t size;
    json_error_t where;
    ER_TRY(er_file_read(&bytes, &size, path, err));
    json_t *root = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &where);
    er_free(bytes);
    if (!root) return er_fail(err, ER_E_FORMAT, "%s:%d:%d: %s", path, where.line, where.column, where.text);
    const json_t *array = json_object_get(root, list);
    int code = json_is_array(array)
                   ? take_list(out, array, path, list, arena, err)
                   : er_fail(err, ER_E_INPUT, "%s: no list \"%s\" of context templates", path, list);
    json_decref(root);
    return code;
}

/* One group: `texts` rows of `tokens` ids over the start words; they become text[at ..]. */
static int sample_rows(er_templates *t, int64_t at, er_ids *ids, const er_view *view, int64_t tokens, int64_t texts,
                       const char *braces, uint64_t seed, er_arena *arena, er_work *work, er_err *err)
{
    const er_tokenizer *tokenizer = view->model->tokenizer;
    er_draw draw = {CHOICES, seed, ER_STREAM_TEMPLATE, (uint32_t)(at - 1)};
    for (int64_t i = 0; i < texts; i++) {
        const char *word = start_words[i / (texts / WORDS)];
        ER_TRY(er_encode(tokenizer, &ids[i], word, strlen(word), 1, err));
    }
    ER_TRY(er_generate(view, ids, texts, tokens, 0, &draw, work, err));
    for (int64_t i = 0; i < texts; i++) {
        er_text raw = ER_TEXT_INIT, text = ER_TEXT_INIT;
        int code = er_decode(tokenizer, &raw, ids[i].at, ids[i].count, 1, err);
        if (!code) code = er_text_template(&text, raw.at ? raw.at : "", raw.length, braces, err);
        if (!code && !(t->text[at + i] = er_arena_strdup(arena, text.at, err))) code = ER_E_MEMORY;
        er_text_free(&raw);
        er_text_free(&text);
        ER_TRY(code);
    }
    return 0;
}

static int sample_group(er_templates *t, int64_t at, const er_view *view, int64_t tokens, int64_t texts,
                        const char *braces, uint64_t seed, er_arena *arena, er_work *work, er_err *err)
{
    er_ids *ids;
    ER_TRY(er_alloc(&ids, (size_t)texts, err));
    int code = sample_rows(t, at, ids, view, tokens, texts, braces, seed, arena, work, err);
    for (int64_t i = 0; i < texts; i++) er_ids_free(&ids[i]);
    er_free(ids);
    return code;
}

int er_templates_generate(er_templates *out, const er_view *view, const int64_t (*lengths)[2], int64_t length_count,
                          const char *braces, uint64_t seed, er_arena *arena, er_work *work, er_err *err)
{
    er_templates t;
    int64_t others = 0, at = 1;
    for (int64_t g = 0; g < length_count; g++) {
        int64_t tokens = lengths[g][0], texts = lengths[g][1];
        if (tokens < 2 || tokens > view->model->longest_text || texts < WORDS || texts % WORDS ||
            texts > MOST_TEMPLATES)
            return er_fail(err, ER_E_INPUT, "templates of %" PRId64 " tokens, %" PRId64 " texts: tokens must be 2 to "
                           "the model's length, texts a multiple of the %d start words", tokens, texts, WORDS);
        others += texts;
    }
    ER_TRY(start(&t, others, arena, err));
    for (int64_t g = 0; g < length_count; g++) {
        ER_TRY(sample_group(&t, at, view, lengths[g][0], lengths[g][1], braces, seed, arena, work, err));
        at += lengths[g][1];
    }
    ER_TRY(finish(&t, err));
    *out = t;
    return 0;
}

int er_templates_json(er_text *out, const er_templates *t, const char *list, er_err *err)
{
    ER_TRY(er_text_add(out, "{\n \"", err));
    ER_TRY(er_text_add(out, list, err));
    ER_TRY(er_text_add(out, "\": [", err));
    for (int64_t i = 1; i < t->count; i++) {
        ER_TRY(er_text_add(out, i > 1 ? ",\n  " : "\n  ", err));
        ER_TRY(er_text_json(out, t->text[i], err));
    }
    return er_text_add(out, "\n ]\n}\n", err);
}
