/* SPDX-License-Identifier: Apache-2.0 */
/* Random Unicode strings, the same as in tests/golden/tokenizer_strings.py. Header only. */
#ifndef ER_TESTS_TOKENIZER_STRINGS_H
#define ER_TESTS_TOKENIZER_STRINGS_H

#include "base/text.h"
#include "model/bpe.h"

#include <string.h>

typedef struct draws {
    uint64_t state;
} draws;

typedef struct range {
    uint32_t first, count;
} range;

static const char *const atoms[] = {
    " ", " ", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "the", "The", " of", "ing", "Paris", "'s", "'S", "'\u017f",
    "'re", "'LL", "'d", "'", "\u2019s", "1", "42", "1984", "\u00bd", "\u2167", "\u0663", "!", "?!", "...", " -", "--",
    "(", ")]", "{}", "\u00e9", "e\u0301", "\u00c5", "A\u030a", "\u00df", "\u0416", "\u0448\u0435", "\u03b1\u03b2",
    "\u4f60\u597d", "\u3053\u3093", "\ud55c\uad6d", "\u1112\u1161\u11ab", "\u0627\u0644", "\u0915\u094d\u0937",
    "\u0e01\u0e33", "\U0001f600", "\U0001f469\u200d\U0001f680", "\u200b", "\u00a0", "\xC2\x85", "\u180e", "\u2028",
    "\u3000", "\ufeff", "\u00ad", "\u2581", "<s>", "</s>", "<|endoftext|>", "<|im_start|>", "<|begin_of_text|>",
    "<think>", "<0x0A>", "_", "a_b", "http://", "", "\x7f"};
enum { ATOMS = sizeof atoms / sizeof *atoms, NUL_ATOM = ATOMS - 2 };

static const range scripts[] = {
    {0x41, 26},     {0x61, 26},    {0xC0, 64},      {0x100, 128},    {0x180, 208},   {0x250, 96},   {0x370, 144},
    {0x400, 256},   {0x531, 86},   {0x5D0, 27},     {0x620, 43},     {0x660, 10},    {0x710, 60},   {0x780, 50},
    {0x904, 108},   {0x985, 120},  {0xA05, 120},    {0xA85, 120},    {0xB05, 120},   {0xB85, 120},  {0xC05, 120},
    {0xC85, 120},   {0xD05, 120},  {0xD85, 110},    {0xE01, 91},     {0xE81, 92},    {0xF00, 200},  {0x1000, 160},
    {0x10A0, 96},   {0x1100, 256}, {0x1200, 384},   {0x13A0, 86},    {0x1401, 640},  {0x16A0, 80},  {0x1780, 120},
    {0x1820, 88},   {0x1E00, 256}, {0x1F00, 256},   {0x2070, 48},    {0x2100, 144},  {0x2460, 160}, {0x2C00, 96},
    {0x2D00, 100},  {0x3041, 86},  {0x30A1, 90},    {0x3105, 43},    {0x3400, 6592}, {0x4E00, 20992},
    {0xA000, 1165}, {0xAC00, 11172}, {0xF900, 512}, {0xFB00, 80},    {0xFE70, 140},  {0xFF01, 190}, {0x10000, 250},
    {0x10330, 27},  {0x10400, 160}, {0x10900, 60},  {0x11000, 128},  {0x12000, 900}, {0x13000, 1000},
    {0x1D400, 1024}, {0x1F100, 200}, {0x20000, 42720}, {0x30, 10},   {0x966, 10}};
static const range marks[] = {{0x300, 112}, {0x300, 112}, {0x483, 7},   {0x591, 45},  {0x64B, 21},  {0x93A, 20},
                              {0xE31, 10},  {0xF71, 20},  {0x1AB0, 14}, {0x1DC0, 58}, {0x20D0, 33}, {0x302A, 6},
                              {0x3099, 2},  {0xFE20, 16}, {0x1161, 88}, {0x11A8, 27}, {0x200C, 2}};
static const range emoji[] = {{0x1F600, 80}, {0x1F300, 256}, {0x1F900, 256}, {0x2600, 256},
                              {0x1F1E6, 26}, {0x1F468, 2},   {0x23, 20}};
static const range glue[] = {{0x200D, 1}, {0x200D, 1}, {0xFE0F, 1}, {0x1F3FB, 5}, {0x20E3, 1}, {0xE0020, 96}};
static const range blanks[] = {{9, 5},       {10, 1},     {0x20, 1},   {0x20, 1},   {0x20, 1},   {0x85, 1},
                               {0xA0, 1},    {0x1680, 1}, {0x180E, 1}, {0x2000, 12}, {0x2028, 2}, {0x202F, 1},
                               {0x205F, 2},  {0x3000, 1}, {0xFEFF, 1}, {0x2581, 1}};
static const range edges[] = {{0, 32},      {0x7F, 34},   {0xAD, 1},      {0xD7FF, 1},   {0xE000, 1},
                              {0xF8FF, 1},  {0xFDD0, 32}, {0xFFFD, 3},    {0x1FFFE, 2},  {0xE0000, 128},
                              {0xF0000, 1}, {0x10FFFE, 2}, {0x2581, 1},   {0x100, 68},   {0x120, 1}};
static const char *const joins[] = {" ", " ", " ", "\n", ", ", ".", "'", "-", "", "\u200c"};
static const char *const words[] = {
    "The", " mother", " tongue", " of", " Danielle", " Darrieux", " is", " French", ",", ".", " \"", "\"", " in",
    " Paris", " 1984", " 3.14", " (", ")", "'s", " isn't", "\n", "\n\n", "  ", " New York", " S\u00e3o Paulo",
    " \u041c\u043e\u0441\u043a\u0432\u0430", " \u6771\u4eac", " <s>", "</s>", " \u2014"};
#define COUNT(list) ((uint32_t)(sizeof(list) / sizeof *(list)))

static inline uint32_t below(draws *d, uint32_t n)
{
    d->state = d->state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((d->state >> 33) % n);
}

static inline void put(er_text *out, const char *text, size_t n)
{
    ER_ALWAYS(er_text_bytes(out, text, n, NULL) == 0);
}

static inline void put_point(er_text *out, uint32_t point)
{
    char bytes[4];
    if (point >= 0xD800 && point < 0xE000) point = 0xFFFD;
    put(out, bytes, er_utf8_put(bytes, point));
}

static inline void put_from(er_text *out, draws *d, const range *list, uint32_t count)
{
    const range *r = &list[below(d, count)];
    put_point(out, r->first + below(d, r->count));
}

static inline void put_ascii(er_text *out, draws *d) { put_point(out, 0x20 + below(d, 95)); }

static inline void put_old_part(er_text *out, draws *d)
{
    uint32_t kind = below(d, 8);
    if (kind < 6) {
        uint32_t which = below(d, ATOMS);
        put(out, atoms[which], which == NUL_ATOM ? 1 : strlen(atoms[which]));
    } else if (kind == 6) {
        put_point(out, below(d, 0x110000));
    } else {
        put_ascii(out, d);
    }
}

/* The mixture of few atoms. */
static inline void random_text(er_text *out, draws *d)
{
    out->length = 0;
    put(out, "", 0);
    for (uint32_t parts = below(d, 24); parts > 0; parts--) put_old_part(out, d);
}

static inline void put_script(er_text *out, draws *d, uint32_t *script)
{
    if (below(d, 6) == 0) {
        *script = below(d, COUNT(scripts));
        const char *join = joins[below(d, COUNT(joins))];
        put(out, join, strlen(join));
    } else {
        put_point(out, scripts[*script].first + below(d, scripts[*script].count));
    }
}

static inline void put_word(er_text *out, draws *d)
{
    const char *word = words[below(d, COUNT(words))];
    put(out, word, strlen(word));
}

static inline void put_part(er_text *out, draws *d, uint32_t kind, uint32_t *script)
{
    switch (kind) {
    case 0: put_old_part(out, d); break;
    case 1: put_point(out, below(d, 0x110000)); break;
    case 2: put_script(out, d, script); break;
    case 3: below(d, 4) == 0 ? put_ascii(out, d) : put_from(out, d, blanks, COUNT(blanks)); break;
    case 4: below(d, 3) == 0 ? put_from(out, d, scripts, COUNT(scripts)) : put_from(out, d, marks, COUNT(marks)); break;
    case 5: below(d, 2) == 0 ? put_from(out, d, emoji, COUNT(emoji)) : put_from(out, d, glue, COUNT(glue)); break;
    case 6: below(d, 2) == 0 ? put_ascii(out, d) : put_from(out, d, edges, COUNT(edges)); break;
    default: put_word(out, d);
    }
}

/* One of eight kinds: atoms, all planes, scripts, white space, marks, emoji, edges of Unicode, words. */
static inline void random_string(er_text *out, draws *d)
{
    out->length = 0;
    put(out, "", 0);
    uint32_t kind = below(d, 8), parts = below(d, 24), script = below(d, COUNT(scripts));
    for (; parts > 0; parts--) put_part(out, d, kind, &script);
}

#endif
