/* SPDX-License-Identifier: Apache-2.0 */
/* PyTorch checkpoints written by the test itself: opcodes, and the two containers. Nothing here is shared with the
 * reader. */
#ifndef ER_TESTS_PICKLE_WRITE_H
#define ER_TESTS_PICKLE_WRITE_H

#include "base/text.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline void put(er_text *t, const void *bytes, size_t n)
{
    if (er_text_bytes(t, bytes, n, NULL)) abort();
}

#define PUT(t, literal) put((t), (literal), sizeof(literal) - 1)

static inline void put_number(er_text *t, uint64_t x, size_t n) { put(t, &x, n); }

/* --- opcodes ------------------------------------------------------------------------------------------------------ */

static inline void op_text(er_text *t, const char *s)
{
    PUT(t, "X");
    put_number(t, strlen(s), 4);
    put(t, s, strlen(s));
}

static inline void op_integer(er_text *t, int64_t x)
{
    PUT(t, "\x8a\x08"); /* LONG1 */
    put(t, &x, 8);
}

static inline void op_integers(er_text *t, const int64_t *x, int n)
{
    PUT(t, "(");
    for (int i = 0; i < n; i++) op_integer(t, x[i]);
    PUT(t, "t");
}

/* A tensor in a storage of `count` elements; strides NULL: contiguous; more: opcodes of further arguments. */
typedef struct written {
    const char *storage, *key; /* "torch\nFloatStorage\n" */
    int64_t count, offset;
    int dims;
    int64_t shape[5];
    const int64_t *strides;
    const char *more;
} written;

static inline void op_tensor(er_text *t, const written *w)
{
    int64_t strides[5];
    uint64_t next = 1; /* may wrap: shapes here may be impossible */
    for (int i = w->dims - 1; i >= 0; i--) {
        strides[i] = (int64_t)next;
        next *= (uint64_t)w->shape[i];
    }
    PUT(t, "ctorch._utils\n_rebuild_tensor_v2\n((");
    op_text(t, "storage");
    PUT(t, "c");
    put(t, w->storage, strlen(w->storage));
    op_text(t, w->key);
    op_text(t, "cpu");
    op_integer(t, w->count);
    PUT(t, "tQ");
    op_integer(t, w->offset);
    op_integers(t, w->shape, w->dims);
    op_integers(t, w->strides ? w->strides : strides, w->dims);
    PUT(t, "\x89" "ccollections\nOrderedDict\n)R");
    if (w->more) put(t, w->more, strlen(w->more));
    PUT(t, "tR");
}

static inline void op_begin(er_text *t) { PUT(t, "\x80\x02}("); }
static inline void op_end(er_text *t) { PUT(t, "u."); }

/* --- zip ---------------------------------------------------------------------------------------------------------- */

/* An archive under construction. wide: sizes, offsets and the end go to zip64 records. gap: bytes of nothing that lie
 * behind byte gap_at of the file on disk, for files that are larger than what they hold. */
typedef struct archive {
    er_text file, directory;
    uint64_t count;
    int wide;
    uint64_t gap_at, gap;
} archive;

/* For torch, should somebody open such a file there; 0 where it would take long. */
static inline uint32_t checksum(const void *bytes, size_t n)
{
    uint32_t c = 0xffffffff;
    if (n > 1 << 20) return 0;
    for (const uint8_t *p = bytes; n; p++, n--) {
        c ^= *p;
        for (int k = 0; k < 8; k++) c = c >> 1 ^ (c & 1 ? 0xedb88320 : 0);
    }
    return ~c;
}

static inline uint64_t archive_place(const archive *a) { return a->file.length + a->gap; }

static inline void put_name(er_text *t, const char *name, size_t extra)
{
    put_number(t, strlen(name), 2);
    put_number(t, extra, 2);
}

/* n bytes, then `gap` bytes of the gap. */
static inline void archive_add(archive *a, const char *name, const void *bytes, size_t n, uint64_t gap)
{
    uint64_t at = archive_place(a), size = n + gap;
    er_text *d = &a->directory;
    PUT(&a->file, "PK\3\4\x2d\0\0\0\0\0\0\0\0\0");
    put_number(&a->file, gap ? 0 : checksum(bytes, n), 4);
    put_number(&a->file, a->wide ? 0xffffffff : size, 4);
    put_number(&a->file, a->wide ? 0xffffffff : size, 4);
    put_name(&a->file, name, a->wide ? 20 : 0);
    put(&a->file, name, strlen(name));
    if (a->wide) {
        PUT(&a->file, "\1\0\x10\0");
        put_number(&a->file, size, 8);
        put_number(&a->file, size, 8);
    }
    put(&a->file, bytes, n);
    if (gap) {
        a->gap_at = a->file.length;
        a->gap = gap;
    }
    PUT(d, "PK\1\2\x2d\0\x2d\0\0\0\0\0\0\0\0\0");
    put_number(d, gap ? 0 : checksum(bytes, n), 4);
    put_number(d, a->wide ? 0xffffffff : size, 4);
    put_number(d, a->wide ? 0xffffffff : size, 4);
    put_name(d, name, a->wide ? 5 + 28 : 0);
    PUT(d, "\0\0\0\0\0\0\0\0\0\0");
    put_number(d, a->wide ? 0xffffffff : at, 4);
    put(d, name, strlen(name));
    if (a->wide) {
        PUT(d, "FB\1\0x\1\0\x18\0"); /* somebody else's field first */
        put_number(d, size, 8);
        put_number(d, size, 8);
        put_number(d, at, 8);
    }
    a->count++;
}

static inline void archive_end(archive *a)
{
    uint64_t at = archive_place(a), size = a->directory.length;
    put(&a->file, a->directory.at, a->directory.length);
    if (a->wide) {
        uint64_t end = archive_place(a);
        PUT(&a->file, "PK\6\6\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0");
        put_number(&a->file, a->count, 8);
        put_number(&a->file, a->count, 8);
        put_number(&a->file, size, 8);
        put_number(&a->file, at, 8);
        PUT(&a->file, "PK\6\7\0\0\0\0");
        put_number(&a->file, end, 8);
        put_number(&a->file, 1, 4);
    }
    PUT(&a->file, "PK\5\6\0\0\0\0");
    put_number(&a->file, a->wide ? 0xffff : a->count, 2);
    put_number(&a->file, a->wide ? 0xffff : a->count, 2);
    put_number(&a->file, a->wide ? 0xffffffff : size, 4);
    put_number(&a->file, a->wide ? 0xffffffff : at, 4);
    put_number(&a->file, 0, 2);
}

static inline void archive_free(archive *a)
{
    er_text_free(&a->file);
    er_text_free(&a->directory);
}

/* --- the older format --------------------------------------------------------------------------------------------- */

static inline void legacy_begin(er_text *t)
{
    PUT(t, "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}");
    op_text(t, "little_endian");
    PUT(t, "\x88s.");
}

#endif
