/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8 and GPT-2's byte alphabet. */
#include "model/bpe.h"

#include <string.h>
#include <utf8proc.h>

size_t er_utf8_next(const char *p, size_t n, uint32_t *point)
{
    uint8_t first = (uint8_t)*p;
    if (first < 0x80) {
        if (point) *point = first;
        return 1;
    }
    utf8proc_int32_t value;
    utf8proc_ssize_t length = utf8proc_iterate((const utf8proc_uint8_t *)p, n < 4 ? (utf8proc_ssize_t)n : 4, &value);
    if (length < 1) return 0;
    if (point) *point = (uint32_t)value;
    return (size_t)length;
}

size_t er_utf8_valid(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint64_t eight;
        while (i + sizeof eight <= n && (memcpy(&eight, p + i, sizeof eight), !(eight & 0x8080808080808080u)))
            i += sizeof eight;
        if (i == n) break;
        size_t step = er_utf8_next(p + i, n - i, NULL);
        if (!step) break;
        i += step;
    }
    return i;
}

size_t er_utf8_broken(const char *p, size_t n)
{
    uint8_t first = (uint8_t)*p;
    size_t more = first < 0xC2 || first > 0xF4 ? 0 : first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
    uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    uint8_t high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    size_t i = 1;
    for (; i <= more && i < n && (uint8_t)p[i] >= low && (uint8_t)p[i] <= high; i++) {
        low = 0x80;
        high = 0xBF;
    }
    return i;
}

size_t er_utf8_put(char out[4], uint32_t point)
{
    return (size_t)utf8proc_encode_char((utf8proc_int32_t)point, (utf8proc_uint8_t *)out);
}

/* Printable Latin-1 bytes show as themselves, the other 68 as U+0100 and on, in order. */
static int shows_itself(unsigned byte)
{
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

uint32_t er_byte_to_point(uint8_t byte)
{
    if (shows_itself(byte)) return byte;
    if (byte <= 0x20) return 0x100u + byte;               /* 33 of them */
    if (byte <= 0xA0) return 0x100u + 33u + byte - 0x7Fu; /* 34 */
    return 0x100u + 33u + 34u;                            /* 0xAD */
}

int er_point_to_byte(uint32_t point)
{
    if (point < 0x100) return shows_itself(point) ? (int)point : -1;
    if (point <= 0x120) return (int)(point - 0x100);
    if (point <= 0x142) return (int)(point - 0x121 + 0x7F);
    return point == 0x143 ? 0xAD : -1;
}
