/* SPDX-License-Identifier: Apache-2.0 */
#include "model/tokenizer_parts.h"

#include <string.h>

enum { TEXT_MOST = 1 << 30 }; /* bytes of one call; positions are 32-bit */
#define REPLACEMENT "\xEF\xBF\xBD"

void er_ids_free(er_ids *ids)
{
    er_free(ids->at);
    *ids = (er_ids){0};
}

void er_tokenizer_close(er_tokenizer *t)
{
    if (!t) return;
    er_arena_free(t->arena);
    er_free(t->text);
    er_free(t->in_model);
    er_free(t->merges);
    er_free(t->added);
    er_pretokenizer_fini(&t->pieces);
    er_words_free(&t->words);
    er_free(t->compared);
    er_free(t->decoded);
    er_free(t->special);
    er_bpe_fini(&t->bpe);
    er_trie_free(&t->raw);
    er_trie_free(&t->normalized);
    er_free(t);
}

int64_t er_tokenizer_size(const er_tokenizer *t) { return t->size; }
int64_t er_tokenizer_bos(const er_tokenizer *t) { return t->bos; }
int64_t er_tokenizer_eos(const er_tokenizer *t) { return t->eos; }
int64_t er_tokenizer_unk(const er_tokenizer *t) { return t->unk; }
int64_t er_tokenizer_pad(const er_tokenizer *t) { return t->pad; }
er_hash er_tokenizer_hash(const er_tokenizer *t) { return t->hash; }

const char *er_tokenizer_text(const er_tokenizer *t, int64_t id)
{
    return id < 0 || id >= t->size ? NULL : t->text[id].at;
}
int64_t er_tokenizer_find(const er_tokenizer *t, const char *text)
{
    return er_words_find(&t->words, text, strlen(text));
}
int er_tokenizer_is_special(const er_tokenizer *t, int64_t id) { return id >= 0 && id < t->size && t->special[id]; }

/* --- encoding ----------------------------------------------------------------------------------------------------- */

typedef struct encoder {
    const er_tokenizer *t;
    er_ids *ids;
    er_pretokenize_work pieces;
    er_bpe_work bpe;
    er_text normal;
    const char *given; /* the user's text */
    const char *start; /* where it starts in what is cut now, which may be its normalized form; NULL: not there */
    int valid;         /* the whole text is UTF-8, and so is every part */
} encoder;

static int add_piece(void *context, const char *piece, size_t n, er_err *err)
{
    encoder *e = context;
    return er_bpe_encode(&e->t->bpe, e->ids, piece, n, &e->bpe, err);
}

/* Text without added tokens. A byte that is no UTF-8 is a piece of its own. */
static int add_plain(encoder *e, const char *text, size_t n, er_err *err)
{
    if (e->t->pieces.count == 0) return add_piece(e, text, n, err);
    int first = text == e->start;
    if (e->valid) return er_pretokenize(&e->t->pieces, text, n, first, &e->pieces, add_piece, e, err);
    for (size_t i = 0; i < n;) {
        size_t valid = er_utf8_valid(text + i, n - i);
        ER_TRY(er_pretokenize(&e->t->pieces, text + i, valid, first && i == 0, &e->pieces, add_piece, e, err));
        i += valid;
        if (i < n) ER_TRY(add_piece(e, text + i++, 1, err));
    }
    return 0;
}

static int add_normalized(void *context, int32_t added, const char *text, size_t n, er_err *err)
{
    encoder *e = context;
    return added >= 0 ? er_ids_add(e->ids, e->t->added[added].id, err) : add_plain(e, text, n, err);
}

static int add_raw(void *context, int32_t added, const char *text, size_t n, er_err *err)
{
    encoder *e = context;
    if (added >= 0) return er_ids_add(e->ids, e->t->added[added].id, err);
    if (e->t->normalizer.count) {
        e->normal.length = 0;
        ER_TRY(er_normalize(&e->t->normalizer, &e->normal, text, n, err));
        e->start = text == e->given ? e->normal.at : NULL;
        text = e->normal.at;
        n = e->normal.length;
    }
    return n ? er_added_split(e->t, &e->t->normalized, text, n, add_normalized, e, err) : 0;
}

static int add_ids(er_ids *ids, const int32_t *more, int count, er_err *err)
{
    for (int i = 0; i < count; i++) ER_TRY(er_ids_add(ids, more[i], err));
    return 0;
}

int er_encode(const er_tokenizer *t, er_ids *ids, const char *text, size_t n, int special, er_err *err)
{
    if (n >= TEXT_MOST) return er_fail(err, ER_E_INPUT, "a text of %zu bytes is too long to be tokenized at once", n);
    int64_t before = ids->count;
    encoder e = {.t = t, .ids = ids};
    e.given = e.start = text;
    e.valid = er_utf8_valid(text, n) == n;
    int code = special ? add_ids(ids, t->before, t->before_count, err) : 0;
    if (!code) code = er_added_split(t, &t->raw, text, n, add_raw, &e, err);
    if (!code && special) code = add_ids(ids, t->after, t->after_count, err);
    er_pretokenize_work_free(&e.pieces);
    er_bpe_work_free(&e.bpe);
    er_text_free(&e.normal);
    if (code) ids->count = before;
    return code;
}

/* --- decoding ----------------------------------------------------------------------------------------------------- */

static void strip(const er_decoder *d, er_text *text, size_t from)
{
    size_t n = strlen(d->strip), start = from;
    if (!n || !text->at) return;
    for (int64_t i = 0; i < d->strip_end && text->length >= from + n; i++) {
        if (memcmp(text->at + text->length - n, d->strip, n) != 0) break;
        text->length -= n;
    }
    for (int64_t i = 0; i < d->strip_start && text->length >= start + n; i++) {
        if (memcmp(text->at + start, d->strip, n) != 0) break;
        start += n;
    }
    memmove(text->at + from, text->at + start, text->length - start);
    text->length -= start - from;
    text->at[text->length] = 0;
}

/* How a decoded text grows: bytes are held back while they are those of fallback tokens. */
typedef struct joiner {
    const er_tokenizer *t;
    er_text *text;
    er_text held;
    size_t from;
    int lossy, any;
} joiner;

/* Byte tokens that are no UTF-8 together become one U+FFFD each. */
static int let_go(joiner *j, er_err *err)
{
    size_t n = j->held.length;
    j->held.length = 0;
    if (n == 0 || er_utf8_valid(j->held.at, n) == n) return er_text_bytes(j->text, j->held.at, n, err);
    for (size_t i = 0; i < n; i++) ER_TRY(er_text_add(j->text, REPLACEMENT, err));
    return 0;
}

static int join_token(joiner *j, int32_t id, er_err *err)
{
    const er_tokenizer *t = j->t;
    const er_slice *part = &t->decoded[id];
    int first = !j->any;
    j->any = 1;
    if (j->lossy && er_is_byte_token(&t->decoder, &t->text[id]))
        return er_text_bytes(&j->held, part->at, part->length, err);
    ER_TRY(let_go(j, err));
    if (!first || !t->decoder.first_bare) return er_text_bytes(j->text, part->at, part->length, err);
    er_normalizer bare = t->decoder.replace;
    bare.steps[bare.count] = t->decoder.meta;
    bare.steps[bare.count++].with = (er_slice){"", 0};
    return er_normalize(&bare, j->text, t->text[id].at, t->text[id].length, err);
}

static int join(joiner *j, const int32_t *ids, int64_t count, int skip_special, er_err *err)
{
    const er_tokenizer *t = j->t;
    for (int64_t i = 0; i < count; i++) {
        if (ids[i] < 0) return er_fail(err, ER_E_INPUT, "token id %d", (int)ids[i]);
        if (ids[i] >= t->size || !t->decoded[ids[i]].at || (skip_special && t->special[ids[i]])) continue;
        ER_TRY(join_token(j, ids[i], err));
    }
    return let_go(j, err);
}

static int decode(const er_tokenizer *t, er_text *text, const int32_t *ids, int64_t count, int skip_special,
                  int lossy, er_err *err)
{
    size_t before = text->length;
    int bytes = er_pretokenizer_is_bytes(&t->pieces);
    joiner j = {.t = t, .text = text, .lossy = lossy && !bytes};
    int code = join(&j, ids, count, skip_special, err);
    er_text_free(&j.held);
    if (code) {
        text->length = before;
        if (text->at) text->at[before] = 0;
    } else if (!bytes) {
        strip(&t->decoder, text, before);
    }
    return code;
}

int er_decode(const er_tokenizer *t, er_text *text, const int32_t *ids, int64_t count, int skip_special, er_err *err)
{
    return decode(t, text, ids, count, skip_special, 0, err);
}

/* Bytes to text: each longest start of a character that never ends becomes one U+FFFD. */
static int add_lossy(er_text *text, const char *bytes, size_t n, er_err *err)
{
    for (size_t i = 0; i < n;) {
        size_t valid = er_utf8_valid(bytes + i, n - i);
        ER_TRY(er_text_bytes(text, bytes + i, valid, err));
        i += valid;
        if (i == n) break;
        ER_TRY(er_text_add(text, REPLACEMENT, err));
        i += er_utf8_broken(bytes + i, n - i);
    }
    return 0;
}

int er_decode_text(const er_tokenizer *t, er_text *text, const int32_t *ids, int64_t count, int skip_special,
                   er_err *err)
{
    if (!er_pretokenizer_is_bytes(&t->pieces)) return decode(t, text, ids, count, skip_special, 1, err);
    er_text bytes = ER_TEXT_INIT;
    int code = decode(t, &bytes, ids, count, skip_special, 0, err);
    if (!code) code = add_lossy(text, bytes.at, bytes.length, err);
    er_text_free(&bytes);
    return code;
}
