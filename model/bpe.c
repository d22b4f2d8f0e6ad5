/* SPDX-License-Identifier: Apache-2.0 */
#include "model/bpe.h"

#include "base/memory.h"

#include <string.h>
#include <xxhash.h>

enum { SHORT = 48 }; /* symbols up to which a plain scan beats the heap */
#define SPACE "\xE2\x96\x81" /* U+2581, SentencePiece's space */
enum { SPACE_BYTES = 3 };
#define NO_RANK UINT32_MAX
#define NO_PAIR UINT64_MAX

/* --- strings ------------------------------------------------------------------------------------------------------ */

static uint64_t table_size(int64_t count)
{
    uint64_t size = 16;
    while (size < 2 * (uint64_t)count) size *= 2;
    return size;
}

static uint32_t text_hash(const char *text, size_t length) { return (uint32_t)XXH3_64bits(text, length); }

int er_words_make(er_words *out, const er_slice *keys, int64_t count, int64_t *duplicate, er_err *err)
{
    uint64_t size = table_size(count);
    out->slots = NULL;
    ER_TRY(er_alloc(&out->slots, size, err));
    out->keys = keys;
    out->mask = size - 1;
    if (duplicate) *duplicate = -1;
    for (uint64_t i = 0; i < size; i++) out->slots[i].index = -1;
    for (int64_t k = 0; k < count; k++) {
        if (!keys[k].at) continue;
        uint32_t hash = text_hash(keys[k].at, keys[k].length);
        uint64_t i = hash & out->mask;
        for (; out->slots[i].index >= 0; i = (i + 1) & out->mask) {
            const er_slice *other = &keys[out->slots[i].index];
            if (duplicate && out->slots[i].hash == hash && other->length == keys[k].length &&
                memcmp(other->at, keys[k].at, other->length) == 0)
                *duplicate = k;
        }
        out->slots[i].hash = hash;
        out->slots[i].index = (int32_t)k;
    }
    return 0;
}

int32_t er_words_find(const er_words *w, const char *text, size_t length)
{
    uint32_t hash = text_hash(text, length);
    for (uint64_t i = hash & w->mask; w->slots[i].index >= 0; i = (i + 1) & w->mask) {
        if (w->slots[i].hash != hash) continue;
        const er_slice *key = &w->keys[w->slots[i].index];
        if (key->length == length && memcmp(key->at, text, length) == 0) return w->slots[i].index;
    }
    return -1;
}

void er_words_free(er_words *w) { ER_FREE(w->slots); }

int er_ids_add(er_ids *ids, int32_t id, er_err *err)
{
    ER_TRY(er_grow(&ids->at, &ids->capacity, (size_t)ids->count + 1, err));
    ids->at[ids->count++] = id;
    return 0;
}

/* --- merges ------------------------------------------------------------------------------------------------------- */

static uint64_t pair_of(int32_t left, int32_t right) { return (uint64_t)(uint32_t)left << 32 | (uint32_t)right; }

static uint64_t pair_hash(uint64_t pair)
{
    uint64_t x = pair * 0x9E3779B97F4A7C15u;
    return x ^ x >> 32;
}

static const struct er_pair_slot *find_pair(const er_bpe *bpe, int32_t left, int32_t right)
{
    uint64_t pair = pair_of(left, right);
    for (uint64_t i = pair_hash(pair) & bpe->mask; bpe->pairs[i].pair != NO_PAIR; i = (i + 1) & bpe->mask)
        if (bpe->pairs[i].pair == pair) return &bpe->pairs[i];
    return NULL;
}

static int make_pairs(er_bpe *bpe, const er_merge *merges, int64_t count, er_err *err)
{
    uint64_t size = table_size(count);
    ER_TRY(er_alloc(&bpe->pairs, size, err));
    bpe->mask = size - 1;
    for (uint64_t i = 0; i < size; i++) bpe->pairs[i].pair = NO_PAIR;
    for (int64_t k = 0; k < count; k++) {
        uint64_t pair = pair_of(merges[k].left, merges[k].right);
        uint64_t i = pair_hash(pair) & bpe->mask;
        while (bpe->pairs[i].pair != NO_PAIR && bpe->pairs[i].pair != pair) i = (i + 1) & bpe->mask;
        bpe->pairs[i] = (struct er_pair_slot){pair, (uint32_t)k, merges[k].made};
    }
    return 0;
}

static void find_byte_ids(er_bpe *bpe)
{
    for (int b = 0; b < 256; b++) {
        char name[8] = {(char)b, 0};
        size_t length = 1;
        if (!bpe->byte_level) {
            static const char digits[] = "0123456789ABCDEF";
            length = 6;
            memcpy(name, "<0x00>", 7);
            name[3] = digits[b >> 4];
            name[4] = digits[b & 15];
        }
        bpe->byte_id[b] = er_words_find(&bpe->words, name, length);
    }
}

/* First place from `from` on where U+2581 stands behind something else, or n. */
static size_t next_cut(const char *text, size_t n, size_t from)
{
    for (size_t i = from; i + SPACE_BYTES <= n; i++) {
        const char *hit = memchr(text + i, SPACE[0], n - i);
        if (!hit) break;
        i = (size_t)(hit - text);
        if (i == 0 || i + SPACE_BYTES > n || memcmp(hit, SPACE, SPACE_BYTES) != 0) continue;
        if (i < SPACE_BYTES || memcmp(hit - SPACE_BYTES, SPACE, SPACE_BYTES) != 0) return i;
    }
    return n;
}

/* Pieces of such tokenizers are whole texts; cutting them into words where nothing can be lost makes them short. (Where
 * unknown characters vanish, what stood around them becomes neighbours, and a cut could part those.) */
static int may_cut(const er_bpe *bpe, const er_merge *merges, int64_t count)
{
    if (bpe->byte_level || bpe->ignore_merges || bpe->unknown < 0) return 0;
    if (er_words_find(&bpe->words, SPACE, SPACE_BYTES) < 0) return 0;
    for (int64_t k = 0; k < count; k++) {
        const er_slice *made = &bpe->text[merges[k].made];
        if (next_cut(made->at, made->length, 0) < made->length) return 0;
    }
    return 1;
}

/* Whether merging a token's own text gives the token: then a piece found in the table needs no merging at all. */
static int find_whole(er_bpe *bpe, er_err *err)
{
    ER_TRY(er_alloc(&bpe->whole, (size_t)bpe->size, err));
    er_bpe_work work = {0};
    er_ids ids = {0};
    int code = 0;
    for (int64_t id = 0; id < bpe->size && !code; id++) {
        if (!bpe->text[id].at) continue;
        ids.count = 0;
        if (!bpe->ignore_merges) code = er_bpe_encode(bpe, &ids, bpe->text[id].at, bpe->text[id].length, &work, err);
        bpe->whole[id] = bpe->ignore_merges || (ids.count == 1 && ids.at[0] == id);
    }
    er_ids_free(&ids);
    er_bpe_work_free(&work);
    return code;
}

int er_bpe_init(er_bpe *bpe, const er_merge *merges, int64_t count, er_err *err)
{
    if (count >= (int64_t)NO_RANK || bpe->size > INT32_MAX)
        return er_fail(err, ER_E_FORMAT, "too many tokens or merges: %lld, %lld", (long long)bpe->size,
                       (long long)count);
    ER_TRY(er_words_make(&bpe->words, bpe->text, bpe->size, NULL, err));
    ER_TRY(make_pairs(bpe, merges, count, err));
    find_byte_ids(bpe);
    bpe->cut = may_cut(bpe, merges, count);
    return find_whole(bpe, err);
}

void er_bpe_fini(er_bpe *bpe)
{
    er_words_free(&bpe->words);
    ER_FREE(bpe->pairs);
    ER_FREE(bpe->whole);
}

/* --- merging a short piece: scan for the lowest rank, the leftmost of equals -------------------------------------- */

static size_t merge_short(const er_bpe *bpe, int32_t *ids, size_t n)
{
    const struct er_pair_slot *next[SHORT];
    for (size_t i = 0; i + 1 < n; i++) next[i] = find_pair(bpe, ids[i], ids[i + 1]);
    for (;;) {
        size_t best = 0;
        uint32_t rank = NO_RANK;
        for (size_t i = 0; i + 1 < n; i++) {
            if (next[i] && next[i]->rank < rank) {
                rank = next[i]->rank;
                best = i;
            }
        }
        if (rank == NO_RANK) return n;
        ids[best] = next[best]->made;
        n--;
        memmove(ids + best + 1, ids + best + 2, (n - best - 1) * sizeof *ids);
        if (best + 1 < n) {
            memmove(next + best + 1, next + best + 2, (n - best - 1) * sizeof *next);
            next[best] = find_pair(bpe, ids[best], ids[best + 1]);
        }
        if (best > 0) next[best - 1] = find_pair(bpe, ids[best - 1], ids[best]);
    }
}

/* --- merging a long piece: a heap of candidates over a linked list of symbols ------------------------------------- */

struct er_bpe_node {
    int32_t id; /* -1: merged into the symbol before */
    int32_t before, after;
};

struct er_bpe_candidate {
    uint32_t rank;
    int32_t at;          /* left symbol */
    int32_t left, right; /* ids when this was found: others now mean that it is stale */
    int32_t made;
};

static int comes_before(const struct er_bpe_candidate *a, const struct er_bpe_candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static int heap_push(er_bpe_work *w, struct er_bpe_candidate c, er_err *err)
{
    ER_TRY(er_grow(&w->heap, &w->heap_capacity, w->heap_count + 1, err));
    size_t i = w->heap_count++;
    while (i > 0 && comes_before(&c, &w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = c;
    return 0;
}

static struct er_bpe_candidate heap_pop(er_bpe_work *w)
{
    struct er_bpe_candidate top = w->heap[0], last = w->heap[--w->heap_count];
    size_t i = 0, n = w->heap_count;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && comes_before(&w->heap[child + 1], &w->heap[child])) child++;
        if (!comes_before(&w->heap[child], &last)) break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = last;
    return top;
}

static int consider(const er_bpe *bpe, er_bpe_work *w, int32_t at, er_err *err)
{
    if (at < 0 || w->nodes[at].after < 0) return 0;
    int32_t left = w->nodes[at].id, right = w->nodes[w->nodes[at].after].id;
    const struct er_pair_slot *pair = find_pair(bpe, left, right);
    return pair ? heap_push(w, (struct er_bpe_candidate){pair->rank, at, left, right, pair->made}, err) : 0;
}

static int merge_long(const er_bpe *bpe, int32_t *ids, size_t *count, er_bpe_work *w, er_err *err)
{
    int32_t n = (int32_t)*count;
    ER_TRY(er_grow(&w->nodes, &w->nodes_capacity, *count, err));
    w->heap_count = 0;
    for (int32_t i = 0; i < n; i++) w->nodes[i] = (struct er_bpe_node){ids[i], i - 1, i + 1 < n ? i + 1 : -1};
    for (int32_t i = 0; i + 1 < n; i++) ER_TRY(consider(bpe, w, i, err));
    while (w->heap_count > 0) {
        struct er_bpe_candidate c = heap_pop(w);
        struct er_bpe_node *left = &w->nodes[c.at];
        if (left->id != c.left || left->after < 0 || w->nodes[left->after].id != c.right) continue;
        struct er_bpe_node *right = &w->nodes[left->after];
        left->id = c.made;
        left->after = right->after;
        right->id = -1;
        if (left->after >= 0) w->nodes[left->after].before = c.at;
        ER_TRY(consider(bpe, w, left->before, err));
        ER_TRY(consider(bpe, w, c.at, err));
    }
    size_t kept = 0;
    for (int32_t i = 0; i >= 0; i = w->nodes[i].after) ids[kept++] = w->nodes[i].id;
    *count = kept;
    return 0;
}

/* --- symbols ------------------------------------------------------------------------------------------------------ */

static size_t byte_symbols(const er_bpe *bpe, int32_t *ids, const char *piece, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t id = bpe->byte_id[(uint8_t)piece[i]];
        if (id >= 0)
            ids[count++] = id;
        else if (bpe->unknown >= 0 &&
                 !(bpe->fuse_unknown && i > 0 && bpe->byte_id[(uint8_t)piece[i - 1]] < 0))
            ids[count++] = bpe->unknown;
    }
    return count;
}

static int all_bytes_known(const er_bpe *bpe, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bpe->byte_id[(uint8_t)p[i]] < 0) return 0;
    return 1;
}

/* The unknown id of a run is written when the next known character comes, after byte tokens in between: so does the
 * reference, and it shows only in vocabularies that have some byte tokens and not others. */
static size_t character_symbols(const er_bpe *bpe, int32_t *ids, const char *piece, size_t n)
{
    size_t count = 0;
    int pending = 0;
    for (size_t i = 0, step; i < n; i += step) {
        step = er_utf8_next(piece + i, n - i, NULL);
        int32_t id = step ? er_words_find(&bpe->words, piece + i, step) : -1;
        if (!step) step = 1;
        if (id >= 0) {
            if (pending) ids[count++] = bpe->unknown;
            pending = 0;
            ids[count++] = id;
        } else if (bpe->byte_fallback && all_bytes_known(bpe, piece + i, step)) {
            for (size_t b = 0; b < step; b++) ids[count++] = bpe->byte_id[(uint8_t)piece[i + b]];
        } else if (bpe->unknown >= 0) {
            if (pending && !bpe->fuse_unknown) ids[count++] = bpe->unknown;
            pending = 1;
        }
    }
    if (pending) ids[count++] = bpe->unknown;
    return count;
}

static int encode_piece(const er_bpe *bpe, er_ids *ids, const char *piece, size_t n, er_bpe_work *work, er_err *err)
{
    int32_t id = er_words_find(&bpe->words, piece, n);
    if (id >= 0 && bpe->whole[id]) return er_ids_add(ids, id, err);
    int32_t few[SHORT], *symbols = few;
    if (n > SHORT) {
        ER_TRY(er_grow(&work->ids, &work->ids_capacity, n, err));
        symbols = work->ids;
    }
    size_t count = bpe->byte_level ? byte_symbols(bpe, symbols, piece, n) : character_symbols(bpe, symbols, piece, n);
    if (count == 0) return 0;
    if (count <= SHORT)
        count = merge_short(bpe, symbols, count);
    else
        ER_TRY(merge_long(bpe, symbols, &count, work, err));
    ER_TRY(er_grow(&ids->at, &ids->capacity, (size_t)ids->count + count, err));
    memcpy(ids->at + ids->count, symbols, count * sizeof *symbols);
    ids->count += (int64_t)count;
    return 0;
}

int er_bpe_encode(const er_bpe *bpe, er_ids *ids, const char *piece, size_t n, er_bpe_work *work, er_err *err)
{
    for (size_t start = 0, end; start < n; start = end) {
        end = bpe->cut ? next_cut(piece, n, start + 1) : n;
        ER_TRY(encode_piece(bpe, ids, piece + start, end - start, work, err));
    }
    return 0;
}

void er_bpe_work_free(er_bpe_work *work)
{
    er_free(work->ids);
    er_free(work->nodes);
    er_free(work->heap);
    *work = (er_bpe_work){0};
}
