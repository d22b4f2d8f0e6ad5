/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"

#include "base/memory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

struct er_hasher {
    XXH3_state_t *state;
};

int er_hasher_new(er_hasher **out, er_err *err)
{
    er_hasher *h = NULL;
    ER_TRY(er_alloc(&h, 1, err));
    h->state = XXH3_createState();
    if (!h->state || XXH3_128bits_reset(h->state) != XXH_OK) {
        er_hasher_free(h);
        return er_fail(err, ER_E_MEMORY, "no memory for a hash state");
    }
    *out = h;
    return 0;
}

void er_hasher_free(er_hasher *h)
{
    if (!h) return;
    XXH3_freeState(h->state);
    er_free(h);
}

void er_hasher_add(er_hasher *h, const void *bytes, size_t n)
{
    if (n) ER_ALWAYS(XXH3_128bits_update(h->state, bytes, n) == XXH_OK);
}

void er_hasher_number(er_hasher *h, int64_t number)
{
    uint8_t b[8];
    for (int i = 0; i < 8; i++) b[i] = (uint8_t)((uint64_t)number >> (8 * i));
    er_hasher_add(h, b, sizeof b);
}

void er_hasher_text(er_hasher *h, const char *text)
{
    size_t n = strlen(text);
    er_hasher_number(h, (int64_t)n);
    er_hasher_add(h, text, n);
}

void er_hasher_hash(er_hasher *h, const er_hash *other) { er_hasher_add(h, other->byte, sizeof other->byte); }

static er_hash canonical(XXH128_hash_t value)
{
    XXH128_canonical_t c;
    er_hash out;
    XXH128_canonicalFromHash(&c, value);
    memcpy(out.byte, c.digest, sizeof out.byte);
    return out;
}

er_hash er_hasher_end(const er_hasher *h) { return canonical(XXH3_128bits_digest(h->state)); }

er_hash er_hash_bytes(const void *bytes, size_t n) { return canonical(XXH3_128bits(bytes, n)); }

int er_hash_file(er_hash *out, const char *path, er_err *err)
{
    enum { CHUNK = 1 << 20 };
    er_hasher *h = NULL;
    char *buffer = NULL;
    FILE *f = fopen(path, "rb");
    if (!f) return er_fail(err, ER_E_IO, "%s: %s", path, strerror(errno));
    int code = er_hasher_new(&h, err);
    if (!code) code = er_alloc(&buffer, CHUNK, err);
    for (size_t n; !code && (n = fread(buffer, 1, CHUNK, f)) > 0;) er_hasher_add(h, buffer, n);
    if (!code && ferror(f)) code = er_fail(err, ER_E_IO, "%s: cannot be read", path);
    if (!code) *out = er_hasher_end(h);
    fclose(f);
    er_free(buffer);
    er_hasher_free(h);
    return code;
}

void er_hash_text(char text[ER_HASH_TEXT], const er_hash *hash)
{
    static const char digit[] = "0123456789abcdef";
    for (int i = 0; i < 16; i++) {
        text[2 * i] = digit[hash->byte[i] >> 4];
        text[2 * i + 1] = digit[hash->byte[i] & 15];
    }
    text[32] = 0;
}

static int digit_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int er_hash_parse(er_hash *out, const char *text)
{
    er_hash h;
    if (strlen(text) != 32) return ER_E_FORMAT;
    for (int i = 0; i < 16; i++) {
        int high = digit_value(text[2 * i]), low = digit_value(text[2 * i + 1]);
        if (high < 0 || low < 0) return ER_E_FORMAT;
        h.byte[i] = (uint8_t)(high * 16 + low);
    }
    *out = h;
    return 0;
}

int er_hash_equal(const er_hash *a, const er_hash *b) { return memcmp(a->byte, b->byte, sizeof a->byte) == 0; }
