/* SPDX-License-Identifier: Apache-2.0 */
/* Added tokens: cut out of the text before the rest is tokenized. */
#include "model/tokenizer_parts.h"

#include <string.h>
#include <utf8proc.h>

static int32_t child_of(const er_trie *trie, int32_t node, uint8_t byte)
{
    int32_t c = trie->nodes[node].child;
    while (c && trie->nodes[c].byte != byte) c = trie->nodes[c].sibling;
    return c;
}

int er_trie_add(er_trie *trie, const er_slice *text, int32_t added, er_err *err)
{
    if (text->length == 0 || text->length > INT32_MAX / 2) return 0;
    ER_TRY(er_grow(&trie->nodes, &trie->capacity, (size_t)trie->count + text->length + 1, err));
    if (trie->count == 0) trie->nodes[trie->count++] = (struct er_trie_node){0, 0, -1, 0};
    trie->starts[(uint8_t)text->at[0]] = 1;
    int32_t node = 0;
    for (size_t i = 0; i < text->length; i++) {
        uint8_t byte = (uint8_t)text->at[i];
        int32_t next = child_of(trie, node, byte);
        if (!next) {
            next = trie->count++;
            trie->nodes[next] = (struct er_trie_node){0, trie->nodes[node].child, -1, byte};
            trie->nodes[node].child = next;
        }
        node = next;
    }
    if (trie->nodes[node].added < 0) trie->nodes[node].added = added; /* of equal texts the first counts */
    return 0;
}

int32_t er_trie_find(const er_trie *trie, const char *text, size_t n, size_t *length)
{
    int32_t found = -1, node = 0;
    for (size_t i = 0; i < n; i++) {
        node = child_of(trie, node, (uint8_t)text[i]);
        if (!node) break;
        if (trie->nodes[node].added >= 0) {
            found = trie->nodes[node].added;
            *length = i + 1;
        }
    }
    return found;
}

void er_trie_free(er_trie *trie)
{
    ER_FREE(trie->nodes);
    trie->count = 0;
}

/* --- neighbours --------------------------------------------------------------------------------------------------- */

/* Unicode White_Space */
static int is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
           c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/* \w: alphabetic, marks, decimal digits, connectors, joiners */
static int is_word(uint32_t c)
{
    if (c == 0x200C || c == 0x200D) return 1;
    if ((c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
        (c >= 0x1F170 && c <= 0x1F189))
        return 1; /* letters in circles and squares: alphabetic symbols */
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return 1;
    default: return 0;
    }
}

/* The character that ends at p + at: its length, 0 at the start or where the bytes are no UTF-8. */
static size_t character_before(const char *p, size_t at, uint32_t *point)
{
    for (size_t n = 1; n <= 4 && n <= at; n++) {
        if (((uint8_t)p[at - n] & 0xC0) == 0x80) continue;
        return er_utf8_next(p + at - n, n, point) == n ? n : 0;
    }
    return 0;
}

static int stands_alone(const char *text, size_t n, size_t start, size_t end)
{
    uint32_t point;
    if (character_before(text, start, &point) && is_word(point)) return 0;
    return !(end < n && er_utf8_next(text + end, n - end, &point) && is_word(point));
}

int er_added_split(const er_tokenizer *t, const er_trie *trie, const char *text, size_t n, er_added_emit *emit,
                   void *context, er_err *err)
{
    size_t done = 0;
    for (size_t i = 0, length; trie->count && i < n;) {
        int32_t found = trie->starts[(uint8_t)text[i]] ? er_trie_find(trie, text + i, n - i, &length) : -1;
        if (found < 0) {
            i++;
            continue;
        }
        size_t start = i, end = i + length, step;
        uint32_t point;
        i = end; /* the search goes on behind the token, whatever it swallows around it */
        const er_added *a = &t->added[found];
        if (a->single_word && !stands_alone(text, n, start, end)) continue;
        if (a->left_strip)
            while (start > done && (step = character_before(text, start, &point)) && is_space(point)) start -= step;
        if (a->right_strip)
            while (end < n && (step = er_utf8_next(text + end, n - end, &point)) && is_space(point)) end += step;
        if (start > done) ER_TRY(emit(context, -1, text + done, start - done, err));
        ER_TRY(emit(context, found, text + start, end - start, err));
        done = end;
    }
    return done < n ? emit(context, -1, text + done, n - done, err) : 0;
}
