/* SPDX-License-Identifier: Apache-2.0 */
/* 128-bit content hashes (XXH3). Printed as 32 hex digits, big-endian canonical form. */
#ifndef ER_BASE_HASH_H
#define ER_BASE_HASH_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

typedef struct er_hash {
    uint8_t byte[16];
} er_hash;

enum { ER_HASH_TEXT = 33 }; /* 32 digits and the end */

typedef struct er_hasher er_hasher;

int er_hasher_new(er_hasher **out, er_err *err);
void er_hasher_free(er_hasher *h);
void er_hasher_add(er_hasher *h, const void *bytes, size_t n);
void er_hasher_text(er_hasher *h, const char *text);         /* with its length, so that "a","bc" != "ab","c" */
void er_hasher_number(er_hasher *h, int64_t number);         /* little-endian on every machine */
void er_hasher_hash(er_hasher *h, const er_hash *other);
er_hash er_hasher_end(const er_hasher *h);                   /* may be called again after more input */

er_hash er_hash_bytes(const void *bytes, size_t n);
/* Hash of a file's bytes. */
int er_hash_file(er_hash *out, const char *path, er_err *err);
void er_hash_text(char text[ER_HASH_TEXT], const er_hash *hash);
int er_hash_parse(er_hash *out, const char *text); /* 0, or ER_E_FORMAT */
int er_hash_equal(const er_hash *a, const er_hash *b);

#endif
