/* SPDX-License-Identifier: Apache-2.0 */
#include "model/tokenizer_components.h"

#include <string.h>

enum { DEPTH = 8 }; /* sequences in sequences */

static const char *type_of(const json_t *j)
{
    const char *type = json_string_value(json_object_get(j, "type"));
    return type ? type : "";
}

static int absent(const json_t *j) { return !j || json_is_null(j); }

static int unsupported(er_err *err, const char *what, const json_t *j)
{
    return er_fail(err, ER_E_UNSUPPORTED, "%s '%.40s'", what, type_of(j));
}

/* A component that is read member by member when it is a sequence (whose list has the given key). */
typedef int reader(er_tokenizer *t, const json_t *j, er_err *err);

static int each(er_tokenizer *t, const json_t *j, const char *what, const char *key, reader *one, int depth,
                er_err *err)
{
    if (absent(j)) return 0;
    if (strcmp(type_of(j), "Sequence") != 0) return one(t, j, err);
    const json_t *list = json_object_get(j, key);
    if (!json_is_array(list) || depth == DEPTH) return er_fail(err, ER_E_FORMAT, "%s Sequence without %s", what, key);
    size_t i;
    json_t *member;
    json_array_foreach(list, i, member) ER_TRY(each(t, member, what, key, one, depth + 1, err));
    return 0;
}

/* --- normalizer --------------------------------------------------------------------------------------------------- */

static int copy_member(er_tokenizer *t, er_slice *out, const json_t *j, const char *what, er_err *err)
{
    if (!json_is_string(j)) return er_fail(err, ER_E_FORMAT, "%s is missing or no string", what);
    return er_tokenizer_copy(t, out, json_string_value(j), json_string_length(j), err);
}

static int add_normal(er_tokenizer *t, er_normalizer *z, int kind, const json_t *j, er_err *err)
{
    if (z->count == ER_NORMAL_MAX) return er_fail(err, ER_E_UNSUPPORTED, "more than %d normalizers", ER_NORMAL_MAX);
    er_normal *to = &z->steps[z->count];
    to->kind = kind;
    if (kind == ER_PREPEND) ER_TRY(copy_member(t, &to->with, json_object_get(j, "prepend"), "Prepend.prepend", err));
    if (kind == ER_REPLACE) {
        const json_t *what = json_object_get(json_object_get(j, "pattern"), "String");
        if (!what) return er_fail(err, ER_E_UNSUPPORTED, "Replace of a Regex");
        ER_TRY(copy_member(t, &to->what, what, "Replace.pattern", err));
        ER_TRY(copy_member(t, &to->with, json_object_get(j, "content"), "Replace.content", err));
        if (to->what.length == 0) return er_fail(err, ER_E_UNSUPPORTED, "Replace of nothing");
    }
    z->count++;
    return 0;
}

static int read_normal(er_tokenizer *t, const json_t *j, er_err *err)
{
    const char *type = type_of(j);
    int kind = er_normal_find(type);
    if (strcmp(type, "Prepend") == 0) kind = ER_PREPEND;
    if (strcmp(type, "Replace") == 0) kind = ER_REPLACE;
    return kind < 0 ? unsupported(err, "normalizer", j) : add_normal(t, &t->normalizer, kind, j, err);
}

int er_component_normalizer(er_tokenizer *t, const json_t *j, er_err *err)
{
    return each(t, j, "normalizer", "normalizers", read_normal, 0, err);
}

/* --- pre-tokenizer ------------------------------------------------------------------------------------------------ */

static int read_split(er_step *step, const json_t *j, er_err *err)
{
    const json_t *pattern = json_object_get(j, "pattern");
    const json_t *string = json_object_get(pattern, "String"), *regex = json_object_get(pattern, "Regex");
    const char *behavior = json_string_value(json_object_get(j, "behavior"));
    const char *text = json_string_value(string ? string : regex);
    if (!text) return er_fail(err, ER_E_FORMAT, "pre-tokenizer Split without a pattern");
    step->literal = string != NULL;
    step->invert = json_is_true(json_object_get(j, "invert"));
    step->behavior = behavior ? er_behavior_find(behavior) : -1;
    if (step->behavior < 0)
        return er_fail(err, ER_E_UNSUPPORTED, "pre-tokenizer Split: behavior '%.40s'", behavior ? behavior : "");
    step->pattern = (char *)(uintptr_t)text; /* copied by er_pretokenizer_add */
    return 0;
}

/* Metaspace, of pre-tokenizers and decoders: its mark (one character) and its er_prefix. */
static int read_meta(const json_t *j, const char **mark, int *prefix, er_err *err)
{
    static const char *const schemes[] = {
        [ER_PREFIX_NEVER] = "never", [ER_PREFIX_ALWAYS] = "always", [ER_PREFIX_FIRST] = "first"};
    const json_t *scheme = json_object_get(j, "prepend_scheme");
    *mark = json_string_value(json_object_get(j, "replacement"));
    *prefix = -1;
    for (int i = 0; i < 3; i++)
        if (json_is_string(scheme) && strcmp(json_string_value(scheme), schemes[i]) == 0) *prefix = i;
    /* files written before the scheme was recorded */
    if (!scheme) *prefix = json_is_false(json_object_get(j, "add_prefix_space")) ? ER_PREFIX_NEVER : ER_PREFIX_ALWAYS;
    if (!*mark || !**mark || er_utf8_next(*mark, strlen(*mark), NULL) != strlen(*mark))
        return er_fail(err, ER_E_FORMAT, "Metaspace: replacement is not one character");
    return *prefix >= 0 ? 0 : er_fail(err, ER_E_FORMAT, "Metaspace: prepend_scheme is not always, first or never");
}

static int read_piece(er_tokenizer *t, const json_t *j, er_err *err)
{
    const char *type = type_of(j);
    er_step step = {0};
    if (strcmp(type, "Digits") == 0) {
        step.kind = ER_STEP_DIGITS;
        step.behavior = json_is_true(json_object_get(j, "individual_digits")) ? ER_ISOLATED : ER_CONTIGUOUS;
    } else if (strcmp(type, "ByteLevel") == 0) {
        step.kind = ER_STEP_BYTES;
        step.plain = json_is_false(json_object_get(j, "use_regex"));
        step.prefix_space = json_is_true(json_object_get(j, "add_prefix_space"));
    } else if (strcmp(type, "Split") == 0) {
        step.kind = ER_STEP_SPLIT;
        ER_TRY(read_split(&step, j, err));
    } else if (strcmp(type, "Metaspace") == 0) {
        const char *mark;
        step.kind = ER_STEP_META;
        step.plain = json_is_false(json_object_get(j, "split"));
        ER_TRY(read_meta(j, &mark, &step.prefix_space, err));
        step.pattern = (char *)(uintptr_t)mark; /* copied by er_pretokenizer_add */
    } else {
        return unsupported(err, "pre-tokenizer", j);
    }
    return er_pretokenizer_add(&t->pieces, &step, err);
}

int er_component_pieces(er_tokenizer *t, const json_t *j, er_err *err)
{
    return each(t, j, "pre-tokenizer", "pretokenizers", read_piece, 0, err);
}

/* --- template ----------------------------------------------------------------------------------------------------- */

static int add_template_ids(const er_tokenizer *t, int32_t *list, int *count, const json_t *ids, er_err *err)
{
    size_t i;
    json_t *id;
    if (json_array_size(ids) == 0) return er_fail(err, ER_E_FORMAT, "TemplateProcessing: a special token without ids");
    json_array_foreach(ids, i, id) {
        if (!json_is_integer(id) || !er_tokenizer_text(t, json_integer_value(id)))
            return er_fail(err, ER_E_FORMAT, "TemplateProcessing: an id without a token");
        ER_TRY(er_template_add(list, count, json_integer_value(id), err));
    }
    return 0;
}

static int read_template(er_tokenizer *t, const json_t *j, er_err *err)
{
    if (strcmp(type_of(j), "ByteLevel") == 0) return 0; /* moves offsets, not ids */
    if (strcmp(type_of(j), "TemplateProcessing") != 0) return unsupported(err, "post-processor", j);
    if (t->before_count + t->after_count) return er_fail(err, ER_E_UNSUPPORTED, "more than one TemplateProcessing");
    int texts = 0;
    size_t i;
    json_t *part;
    json_array_foreach(json_object_get(j, "single"), i, part) {
        const char *sequence = json_string_value(json_object_get(json_object_get(part, "Sequence"), "id"));
        const char *token = json_string_value(json_object_get(json_object_get(part, "SpecialToken"), "id"));
        if (sequence && strcmp(sequence, "A") == 0) {
            texts++;
        } else if (token) {
            const json_t *ids = json_object_get(json_object_get(json_object_get(j, "special_tokens"), token), "ids");
            ER_TRY(texts ? add_template_ids(t, t->after, &t->after_count, ids, err)
                         : add_template_ids(t, t->before, &t->before_count, ids, err));
        } else {
            return er_fail(err, ER_E_UNSUPPORTED, "TemplateProcessing: part %zu of single", i);
        }
    }
    return texts == 1 ? 0 : er_fail(err, ER_E_UNSUPPORTED, "TemplateProcessing: a template with %d texts", texts);
}

int er_component_template(er_tokenizer *t, const json_t *j, er_err *err)
{
    return each(t, j, "post-processor", "processors", read_template, 0, err);
}

/* --- decoder ------------------------------------------------------------------------------------------------------ */

static int read_decoder_meta(er_tokenizer *t, const json_t *j, er_err *err)
{
    const char *mark;
    int prefix;
    er_decoder *d = &t->decoder;
    ER_TRY(read_meta(j, &mark, &prefix, err));
    if (d->meta.what.at) return er_fail(err, ER_E_UNSUPPORTED, "more than one decoder Metaspace");
    d->meta.kind = ER_REPLACE;
    ER_TRY(er_tokenizer_copy(t, &d->meta.what, mark, strlen(mark), err));
    ER_TRY(er_tokenizer_copy(t, &d->meta.with, " ", 1, err));
    d->first_bare = prefix != ER_PREFIX_NEVER;
    return 0;
}

/* The chain of SentencePiece-like tokenizers in its one order: Replace, Metaspace, ByteFallback, Fuse, Strip. */
static int read_decoder(er_tokenizer *t, const json_t *j, er_err *err)
{
    const char *type = type_of(j);
    er_decoder *d = &t->decoder;
    if (strcmp(type, "Replace") == 0 && !d->meta.what.at && !d->byte_fallback && !d->fused)
        return add_normal(t, &d->replace, ER_REPLACE, j, err);
    if (strcmp(type, "Metaspace") == 0 && !d->byte_fallback && !d->fused) return read_decoder_meta(t, j, err);
    if (strcmp(type, "ByteFallback") == 0 && !d->fused) {
        d->byte_fallback = 1;
        return 0;
    }
    if (strcmp(type, "Fuse") == 0) {
        d->fused = 1;
        return 0;
    }
    if (strcmp(type, "Strip") == 0 && d->fused && !d->strip[0]) {
        const json_t *content = json_object_get(j, "content");
        size_t n = json_string_length(content);
        d->strip_start = json_integer_value(json_object_get(j, "start"));
        d->strip_end = json_integer_value(json_object_get(j, "stop"));
        if (n == 0 || n > 4 || er_utf8_next(json_string_value(content), n, NULL) != n)
            return er_fail(err, ER_E_FORMAT, "decoder Strip: content is not one character");
        memcpy(d->strip, json_string_value(content), n);
        return 0;
    }
    return unsupported(err, "decoder (or its place in the sequence)", j);
}

int er_component_decoder(er_tokenizer *t, const json_t *j, er_err *err)
{
    const json_t *list = json_object_get(j, "decoders");
    if (strcmp(type_of(j), "Sequence") == 0 && json_array_size(list) == 1) j = json_array_get(list, 0);
    int bytes = strcmp(type_of(j), "ByteLevel") == 0;
    if (bytes != er_pretokenizer_is_bytes(&t->pieces))
        return er_fail(err, ER_E_UNSUPPORTED, "pre-tokenizer %s ByteLevel with decoder '%.40s'",
                       bytes ? "without" : "with", type_of(j));
    if (bytes) return 0;
    if (absent(j)) return er_fail(err, ER_E_UNSUPPORTED, "a tokenizer without decoder");
    return each(t, j, "decoder", "decoders", read_decoder, 0, err);
}
