/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.json as Hugging Face's library reads it. */
#include "model/tokenizer_parts.h"

#include <string.h>

static const char *truth(int value) { return value ? "true" : "false"; }

static int put_string(er_text *out, const char *before, const char *text, const char *after, er_err *err)
{
    ER_TRY(er_text_add(out, before, err));
    ER_TRY(er_text_json(out, text, err));
    return er_text_add(out, after, err);
}

static int put_added(const er_tokenizer *t, er_text *out, er_err *err)
{
    ER_TRY(er_text_add(out, "  \"added_tokens\": [", err));
    for (int64_t i = 0; i < t->added_count; i++) {
        const er_added *a = &t->added[i];
        ER_TRY(er_text_format(out, err, "%s\n    {\"id\": %d, ", i ? "," : "", (int)a->id));
        ER_TRY(put_string(out, "\"content\": ", a->text.at, "", err));
        ER_TRY(er_text_format(
            out, err, ", \"single_word\": %s, \"lstrip\": %s, \"rstrip\": %s, \"normalized\": %s, \"special\": %s}",
            truth(a->single_word), truth(a->left_strip), truth(a->right_strip), truth(a->normalized),
            truth(a->special)));
    }
    return er_text_add(out, t->added_count ? "\n  ],\n" : "],\n", err);
}

/* Prepend and Replace of normalizers and decoders, and the Unicode forms. */
static int put_normal(const er_normal *z, er_text *out, er_err *err)
{
    ER_TRY(er_text_format(out, err, "{\"type\": \"%s\"", er_normal_name(z->kind)));
    if (z->kind == ER_PREPEND) ER_TRY(put_string(out, ", \"prepend\": ", z->with.at, "", err));
    if (z->kind == ER_REPLACE) {
        ER_TRY(put_string(out, ", \"pattern\": {\"String\": ", z->what.at, "}", err));
        ER_TRY(put_string(out, ", \"content\": ", z->with.at, "", err));
    }
    return er_text_add(out, "}", err);
}

static int put_normalizer(const er_tokenizer *t, er_text *out, er_err *err)
{
    const er_normalizer *z = &t->normalizer;
    if (z->count == 0) return er_text_add(out, "  \"normalizer\": null,\n", err);
    ER_TRY(er_text_add(
        out, z->count == 1 ? "  \"normalizer\": " : "  \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [",
        err));
    for (int i = 0; i < z->count; i++) {
        if (i) ER_TRY(er_text_add(out, ", ", err));
        ER_TRY(put_normal(&z->steps[i], out, err));
    }
    return er_text_add(out, z->count == 1 ? ",\n" : "]},\n", err);
}

static int put_meta(const char *mark, int prefix, const char *after, er_text *out, er_err *err)
{
    static const char *const schemes[] = {
        [ER_PREFIX_NEVER] = "never", [ER_PREFIX_ALWAYS] = "always", [ER_PREFIX_FIRST] = "first"};
    ER_TRY(put_string(out, "{\"type\": \"Metaspace\", \"replacement\": ", mark, "", err));
    return er_text_format(out, err, ", \"prepend_scheme\": \"%s\"%s", schemes[prefix], after);
}

static int put_step(const er_step *s, er_text *out, er_err *err)
{
    if (s->kind == ER_STEP_META)
        return put_meta(s->pattern, s->prefix_space, s->plain ? ", \"split\": false}" : ", \"split\": true}", out, err);

    if (s->kind == ER_STEP_DIGITS)
        return er_text_format(out, err, "{\"type\": \"Digits\", \"individual_digits\": %s}",
                              truth(s->behavior == ER_ISOLATED));
    if (s->kind == ER_STEP_BYTES)
        return er_text_format(
            out, err, "{\"type\": \"ByteLevel\", \"add_prefix_space\": %s, \"trim_offsets\": true, \"use_regex\": %s}",
            truth(s->prefix_space), truth(!s->plain));
    ER_TRY(er_text_format(out, err, "{\"type\": \"Split\", \"pattern\": {\"%s\": ", s->literal ? "String" : "Regex"));
    ER_TRY(er_text_json(out, s->pattern, err));
    return er_text_format(out, err, "}, \"behavior\": \"%s\", \"invert\": %s}", er_behavior_name(s->behavior),
                          truth(s->invert));
}

static int put_pieces(const er_tokenizer *t, er_text *out, er_err *err)
{
    const er_pretokenizer *p = &t->pieces;
    if (p->count == 0) return er_text_add(out, "  \"pre_tokenizer\": null,\n", err);
    ER_TRY(er_text_add(out, "  \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [", err));
    for (int i = 0; i < p->count; i++) {
        if (i) ER_TRY(er_text_add(out, ", ", err));
        ER_TRY(put_step(&p->steps[i], out, err));
    }
    return er_text_add(out, "]},\n", err);
}

static int put_template_tokens(const er_tokenizer *t, er_text *out, const int32_t *ids, int count, int segment,
                               int *parts, er_err *err)
{
    for (int i = 0; i < count; i++) {
        ER_TRY(put_string(out, (*parts)++ ? ", {\"SpecialToken\": {\"id\": " : "{\"SpecialToken\": {\"id\": ",
                          t->text[ids[i]].at, "", err));
        ER_TRY(er_text_format(out, err, ", \"type_id\": %d}}", segment));
    }
    return 0;
}

static int put_segment(const er_tokenizer *t, er_text *out, int segment, int *parts, er_err *err)
{
    ER_TRY(put_template_tokens(t, out, t->before, t->before_count, segment, parts, err));
    ER_TRY(er_text_format(out, err, "%s{\"Sequence\": {\"id\": \"%c\", \"type_id\": %d}}", (*parts)++ ? ", " : "",
                          'A' + segment, segment));
    return put_template_tokens(t, out, t->after, t->after_count, segment, parts, err);
}

/* A token that stands in the template more than once is listed once. */
static int put_template_list(const er_tokenizer *t, er_text *out, er_err *err)
{
    int32_t ids[2 * ER_TEMPLATE_MAX];
    int count = 0;
    for (int i = 0; i < t->before_count; i++) ids[count++] = t->before[i];
    for (int i = 0; i < t->after_count; i++) ids[count++] = t->after[i];
    for (int i = 0, listed = 0; i < count; i++) {
        int earlier = 0;
        while (ids[earlier] != ids[i]) earlier++;
        if (earlier < i) continue;
        const char *text = t->text[ids[i]].at;
        ER_TRY(put_string(out, listed++ ? ", " : "", text, ": {\"id\": ", err));
        ER_TRY(put_string(out, "", text, "", err));
        ER_TRY(er_text_format(out, err, ", \"ids\": [%d]", (int)ids[i]));
        ER_TRY(put_string(out, ", \"tokens\": [", text, "]}", err));
    }
    return 0;
}

static int put_template(const er_tokenizer *t, er_text *out, er_err *err)
{
    if (t->before_count + t->after_count == 0) return er_text_add(out, "  \"post_processor\": null,\n", err);
    int parts = 0;
    ER_TRY(er_text_add(out, "  \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [", err));
    ER_TRY(put_segment(t, out, 0, &parts, err));
    parts = 0;
    ER_TRY(er_text_add(out, "], \"pair\": [", err));
    ER_TRY(put_segment(t, out, 0, &parts, err));
    ER_TRY(put_segment(t, out, 1, &parts, err));
    ER_TRY(er_text_add(out, "], \"special_tokens\": {", err));
    ER_TRY(put_template_list(t, out, err));
    return er_text_add(out, "}},\n", err);
}

static int put_decoder(const er_tokenizer *t, er_text *out, er_err *err)
{
    const er_decoder *d = &t->decoder;
    if (er_pretokenizer_is_bytes(&t->pieces))
        return er_text_add(
            out,
            "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, "
            "\"use_regex\": true},\n",
            err);
    ER_TRY(er_text_add(out, "  \"decoder\": {\"type\": \"Sequence\", \"decoders\": [", err));
    for (int i = 0; i < d->replace.count; i++) {
        ER_TRY(put_normal(&d->replace.steps[i], out, err));
        ER_TRY(er_text_add(out, ", ", err));
    }
    if (d->meta.what.at)
        ER_TRY(put_meta(d->meta.what.at, d->first_bare ? ER_PREFIX_ALWAYS : ER_PREFIX_NEVER, ", \"split\": true}, ",
                        out, err));
    if (d->byte_fallback) ER_TRY(er_text_add(out, "{\"type\": \"ByteFallback\"}, ", err));
    ER_TRY(er_text_add(out, "{\"type\": \"Fuse\"}", err));
    if (d->strip[0]) {
        ER_TRY(put_string(out, ", {\"type\": \"Strip\", \"content\": ", d->strip, "", err));
        ER_TRY(er_text_format(out, err, ", \"start\": %lld, \"stop\": %lld}", (long long)d->strip_start,
                              (long long)d->strip_end));
    }
    return er_text_add(out, "]},\n", err);
}

static int put_vocabulary(const er_tokenizer *t, er_text *out, er_err *err)
{
    int listed = 0;
    ER_TRY(er_text_add(out, "    \"vocab\": {", err));
    for (int64_t id = 0; id < t->size; id++) {
        if (!t->text[id].at || !t->in_model[id]) continue;
        ER_TRY(put_string(out, listed++ ? ",\n      " : "\n      ", t->text[id].at, ": ", err));
        ER_TRY(er_text_format(out, err, "%lld", (long long)id));
    }
    return er_text_add(out, "\n    },\n", err);
}

/* Merges as "a b", which every version of the library reads, unless a token has a space in it. */
static int put_merges(const er_tokenizer *t, er_text *out, er_err *err)
{
    int spaces = 0;
    for (int64_t i = 0; i < t->merge_count && !spaces; i++)
        spaces = strchr(t->text[t->merges[i].made].at, ' ') != NULL;
    ER_TRY(er_text_add(out, "    \"merges\": [", err));
    er_text line = ER_TEXT_INIT;
    int code = 0;
    for (int64_t i = 0; i < t->merge_count && !code; i++) {
        const char *left = t->text[t->merges[i].left].at, *right = t->text[t->merges[i].right].at;
        const char *start = i ? ",\n      " : "\n      ";
        if (spaces) {
            code = er_text_format(out, err, "%s[", start);
            if (!code) code = put_string(out, "", left, ", ", err);
            if (!code) code = put_string(out, "", right, "]", err);
        } else {
            line.length = 0;
            code = er_text_format(&line, err, "%s %s", left, right);
            if (!code) code = put_string(out, start, line.at, "", err);
        }
    }
    er_text_free(&line);
    return code ? code : er_text_add(out, "\n    ]\n", err);
}

static int put_model(const er_tokenizer *t, er_text *out, er_err *err)
{
    ER_TRY(
        er_text_add(out, "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": ", err));
    ER_TRY(t->model_unknown >= 0 ? er_text_json(out, t->text[t->model_unknown].at, err)
                                 : er_text_add(out, "null", err));
    ER_TRY(er_text_format(out, err,
                          ",\n    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n"
                          "    \"fuse_unk\": %s,\n    \"byte_fallback\": %s,\n    \"ignore_merges\": %s,\n",
                          truth(t->fuse_unknown), truth(t->byte_fallback), truth(t->ignore_merges)));
    ER_TRY(put_vocabulary(t, out, err));
    ER_TRY(put_merges(t, out, err));
    return er_text_add(out, "  }\n}\n", err);
}

int er_tokenizer_json(const er_tokenizer *t, er_text *out, er_err *err)
{
    static const char start[] = "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n";
    ER_TRY(er_text_add(out, start, err));
    ER_TRY(put_added(t, out, err));
    ER_TRY(put_normalizer(t, out, err));
    ER_TRY(put_pieces(t, out, err));
    ER_TRY(put_template(t, out, err));
    ER_TRY(put_decoder(t, out, err));
    return put_model(t, out, err);
}
