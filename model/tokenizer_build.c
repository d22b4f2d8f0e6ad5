/* SPDX-License-Identifier: Apache-2.0 */
/* From what a file says to what encoding and decoding look up. */
#include "model/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

int er_tokenizer_new(er_tokenizer **out, int64_t size, er_err *err)
{
    if (size < 1 || size > INT32_MAX) return er_fail(err, ER_E_FORMAT, "a vocabulary of %lld tokens", (long long)size);
    er_tokenizer *t = NULL;
    ER_TRY(er_alloc(&t, 1, err));
    t->size = size;
    t->bos = t->eos = t->unk = t->pad = t->model_unknown = -1;
    int code = er_arena_new(&t->arena, 0, err);
    if (!code) code = er_alloc(&t->text, (size_t)size, err);
    if (!code) code = er_alloc(&t->in_model, (size_t)size, err);
    if (code)
        er_tokenizer_close(t);
    else
        *out = t;
    return code;
}

/* An arena hands out aligned pieces, too wasteful for short strings: they share pieces of 64 KiB. */
static int copy_text(er_tokenizer *t, er_slice *out, const char *text, size_t length, er_err *err)
{
    enum { SHARE = 1 << 16 };
    if (t->share.length < length + 1) {
        size_t take = length + 1 > SHARE ? length + 1 : SHARE;
        char *piece = NULL;
        ER_TRY(er_arena_take(t->arena, &piece, take, err));
        t->share = (er_slice){piece, take};
    }
    char *to = (char *)(uintptr_t)t->share.at;
    if (length) memcpy(to, text, length);
    to[length] = 0;
    t->share.at += length + 1;
    t->share.length -= length + 1;
    *out = (er_slice){to, length};
    return 0;
}

int er_tokenizer_copy(er_tokenizer *t, er_slice *out, const char *text, size_t length, er_err *err)
{
    if (er_utf8_valid(text, length) != length) return er_fail(err, ER_E_FORMAT, "a string that is no UTF-8");
    return copy_text(t, out, text, length, err);
}

int er_tokenizer_put(er_tokenizer *t, int64_t id, const char *text, size_t length, int in_model, er_err *err)
{
    if (id < 0 || id >= t->size) return er_fail(err, ER_E_FORMAT, "token '%.60s' has id %lld", text, (long long)id);
    if (t->text[id].at) return er_fail(err, ER_E_FORMAT, "'%.60s' and '%.60s' share id %lld", t->text[id].at, text,
                                       (long long)id);
    t->in_model[id] = (uint8_t)in_model;
    return er_tokenizer_copy(t, &t->text[id], text, length, err);
}

int er_tokenizer_index(er_tokenizer *t, er_err *err)
{
    int64_t twice;
    er_words_free(&t->words);
    ER_TRY(er_words_make(&t->words, t->text, t->size, &twice, err));
    return twice < 0 ? 0 : er_fail(err, ER_E_FORMAT, "token '%.60s' stands in the vocabulary twice", t->text[twice].at);
}

static int shown(const er_slice *s) { return s->length < 60 ? (int)s->length : 60; }

int er_tokenizer_merge(const er_tokenizer *t, er_merge *out, const er_slice *left, const er_slice *right, er_err *err)
{
    char few[256], *both = few;
    size_t n = left->length + right->length;
    if (n > sizeof few) ER_TRY(er_alloc(&both, n, err));
    memcpy(both, left->at, left->length);
    memcpy(both + left->length, right->at, right->length);
    er_merge m = {er_words_find(&t->words, left->at, left->length), er_words_find(&t->words, right->at, right->length),
                  er_words_find(&t->words, both, n)};
    if (both != few) er_free(both);
    if (m.left < 0 || m.right < 0 || m.made < 0)
        return er_fail(err, ER_E_FORMAT, "merge '%.*s' '%.*s': a part or the whole is not in the vocabulary",
                       shown(left), left->at, shown(right), right->at);
    *out = m;
    return 0;
}

int er_tokenizer_merge_line(const er_tokenizer *t, er_merge *out, const char *line, er_err *err)
{
    const char *space = strchr(line, ' ');
    if (!space || strchr(space + 1, ' ')) return er_fail(err, ER_E_FORMAT, "merge '%.120s' is not two tokens", line);
    er_slice left = {line, (size_t)(space - line)}, right = {space + 1, strlen(space + 1)};
    return er_tokenizer_merge(t, out, &left, &right, err);
}

int er_template_add(int32_t *list, int *count, int64_t id, er_err *err)
{
    if (*count == ER_TEMPLATE_MAX)
        return er_fail(err, ER_E_UNSUPPORTED, "a template of more than %d tokens", ER_TEMPLATE_MAX);
    list[(*count)++] = (int32_t)id;
    return 0;
}

/* --- what pieces are compared with, and what ids decode to -------------------------------------------------------- */

/* The bytes that a token of GPT-2's alphabet stands for; no text when a character is not of that alphabet. */
static int bytes_of(er_tokenizer *t, er_slice *out, const er_slice *text, er_text *buffer, er_err *err)
{
    buffer->length = 0;
    *out = (er_slice){0};
    for (size_t i = 0; i < text->length;) {
        uint32_t point;
        i += er_utf8_next(text->at + i, text->length - i, &point);
        int byte = er_point_to_byte(point);
        if (byte < 0) return 0;
        ER_TRY(er_text_bytes(buffer, &(char){(char)byte}, 1, err));
    }
    return copy_text(t, out, buffer->at, buffer->length, err);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

int er_is_byte_token(const er_decoder *d, const er_slice *text)
{
    const char *p = text->at;
    return d->byte_fallback && text->length == 6 && strncmp(p, "<0x", 3) == 0 && p[5] == '>' && hex_digit(p[3]) >= 0 &&
           hex_digit(p[4]) >= 0;
}

static int decode_text(er_tokenizer *t, er_slice *out, const er_slice *text, er_text *buffer, er_err *err)
{
    const char *p = text->at;
    buffer->length = 0;
    if (er_is_byte_token(&t->decoder, text)) {
        char byte = (char)(hex_digit(p[3]) << 4 | hex_digit(p[4]));
        return copy_text(t, out, &byte, 1, err);
    }
    er_normalizer all = t->decoder.replace;
    if (t->decoder.meta.what.at) all.steps[all.count++] = t->decoder.meta;
    ER_TRY(er_normalize(&all, buffer, p, text->length, err));
    return copy_text(t, out, buffer->at, buffer->length, err);
}

static int fill_tables(er_tokenizer *t, int bytes, er_err *err)
{
    er_text buffer = ER_TEXT_INIT;
    int code = 0;
    for (int64_t id = 0; id < t->size && !code; id++) {
        if (!t->text[id].at) continue;
        er_slice made = {0};
        code =
            bytes ? bytes_of(t, &made, &t->text[id], &buffer, err) : decode_text(t, &made, &t->text[id], &buffer, err);
        t->decoded[id] = made.at ? made : t->text[id];
        if (t->in_model[id]) t->compared[id] = bytes ? made : t->text[id];
    }
    er_text_free(&buffer);
    return code;
}

static int index_added(er_tokenizer *t, er_err *err)
{
    er_text buffer = ER_TEXT_INIT;
    int code = 0;
    for (int pass = 0; pass < 2; pass++) { /* special ones first: of equal texts the first counts */
        for (int64_t i = 0; i < t->added_count && !code; i++) {
            const er_added *a = &t->added[i];
            if (a->special == pass) continue;
            er_slice text = a->text;
            if (a->normalized) {
                buffer.length = 0;
                code = er_normalize(&t->normalizer, &buffer, a->text.at, a->text.length, err);
                text = (er_slice){buffer.at, buffer.length};
            }
            if (!code) code = er_trie_add(a->normalized ? &t->normalized : &t->raw, &text, (int32_t)i, err);
            if (a->special) t->special[a->id] = 1;
        }
    }
    er_text_free(&buffer);
    return code;
}

/* Without a normalizer, tokens that all are searched in the same of the two rounds may as well be searched in the
 * first: the flag then decides nothing, and GGUF does not carry it. */
static void settle_rounds(er_tokenizer *t)
{
    int64_t normalized = 0;
    for (int64_t i = 0; i < t->added_count; i++) normalized += t->added[i].normalized;
    if (t->normalizer.count == 0 && normalized == t->added_count)
        for (int64_t i = 0; i < t->added_count; i++) t->added[i].normalized = 0;
}

/* --- the hash ----------------------------------------------------------------------------------------------------- */

static void hash_span(er_hasher *h, const er_slice *s)
{
    er_hasher_number(h, s->at ? (int64_t)s->length : -1);
    if (s->at) er_hasher_add(h, s->at, s->length);
}

static void hash_pieces(er_hasher *h, const er_pretokenizer *p)
{
    er_hasher_number(h, p->count);
    for (int i = 0; i < p->count; i++) {
        const er_step *s = &p->steps[i];
        int64_t fields[] = {s->kind, s->behavior, s->invert, s->literal, s->prefix_space, s->plain};
        for (size_t k = 0; k < sizeof fields / sizeof *fields; k++) er_hasher_number(h, fields[k]);
        er_hasher_text(h, s->pattern ? s->pattern : "");
    }
}

static int hash_all(er_tokenizer *t, er_err *err)
{
    er_hasher *h = NULL;
    ER_TRY(er_hasher_new(&h, err));
    er_hasher_text(h, "errata tokenizer 1");
    int64_t flags[] = {t->size, t->merge_count, t->added_count, t->model_unknown, t->byte_fallback, t->fuse_unknown,
                       t->ignore_merges, t->normalizer.count, t->before_count, t->after_count};
    for (size_t k = 0; k < sizeof flags / sizeof *flags; k++) er_hasher_number(h, flags[k]);
    for (int64_t i = 0; i < t->size; i++) hash_span(h, &t->text[i]);
    for (int64_t i = 0; i < t->merge_count; i++) {
        er_hasher_number(h, t->merges[i].left);
        er_hasher_number(h, t->merges[i].right);
    }
    for (int64_t i = 0; i < t->added_count; i++) {
        const er_added *a = &t->added[i];
        int64_t fields[] = {a->id, a->special, a->normalized, a->left_strip, a->right_strip, a->single_word};
        for (size_t k = 0; k < sizeof fields / sizeof *fields; k++) er_hasher_number(h, fields[k]);
    }
    for (int i = 0; i < t->normalizer.count; i++) {
        er_hasher_number(h, t->normalizer.steps[i].kind);
        hash_span(h, &t->normalizer.steps[i].what);
        hash_span(h, &t->normalizer.steps[i].with);
    }
    hash_pieces(h, &t->pieces);
    for (int i = 0; i < t->before_count; i++) er_hasher_number(h, t->before[i]);
    for (int i = 0; i < t->after_count; i++) er_hasher_number(h, t->after[i]);
    t->hash = er_hasher_end(h);
    er_hasher_free(h);
    return 0;
}

static int by_id(const void *a, const void *b)
{
    int32_t x = ((const er_added *)a)->id, y = ((const er_added *)b)->id;
    return (x > y) - (x < y);
}

int er_tokenizer_finish(er_tokenizer *t, er_err *err)
{
    int bytes = er_pretokenizer_is_bytes(&t->pieces);
    if (t->added_count) qsort(t->added, (size_t)t->added_count, sizeof *t->added, by_id);
    settle_rounds(t);
    ER_TRY(er_alloc(&t->compared, (size_t)t->size, err));
    ER_TRY(er_alloc(&t->decoded, (size_t)t->size, err));
    ER_TRY(er_alloc(&t->special, (size_t)t->size, err));
    ER_TRY(fill_tables(t, bytes, err));
    ER_TRY(index_added(t, err));
    t->bpe.text = t->compared;
    t->bpe.size = t->size;
    t->bpe.byte_level = bytes;
    t->bpe.byte_fallback = t->byte_fallback;
    t->bpe.fuse_unknown = t->fuse_unknown;
    t->bpe.ignore_merges = t->ignore_merges;
    t->bpe.unknown = t->model_unknown;
    ER_TRY(er_bpe_init(&t->bpe, t->merges, t->merge_count, err));
    if (bytes && t->byte_fallback)
        for (int b = 0; b < 256; b++)
            if (t->bpe.byte_id[b] < 0)
                return er_fail(err, ER_E_UNSUPPORTED, "byte_fallback with ByteLevel and without byte 0x%02X",
                               (unsigned)b);
    return hash_all(t, err);
}
