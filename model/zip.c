/* SPDX-License-Identifier: Apache-2.0 */
#include "model/zip.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

/* Sizes of the fixed parts of the records, their signatures, and what a field says whose value is in a zip64 record. */
enum { LOCAL = 30, CENTRAL = 46, END = 22, END64 = 56, LOCATOR = 20, COMMENT_MOST = 0xffff, EXTRA64 = 1 };
enum { FLAG_ENCRYPTED = 0x2041, FLAG_DESCRIPTOR = 8, SHOWN_MOST = 128 };
static const uint32_t local_mark = 0x04034b50, central_mark = 0x02014b50, end_mark = 0x06054b50,
                      end64_mark = 0x06064b50, locator_mark = 0x07064b50, elsewhere = 0xffffffff;

typedef struct archive {
    const uint8_t *bytes;
    size_t size;
    const char *path;
    size_t directory, directory_size; /* within size */
    uint64_t count;
} archive;

static uint16_t get16(const uint8_t *p)
{
    uint16_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

static uint32_t get32(const uint8_t *p)
{
    uint32_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

static uint64_t get64(const uint8_t *p)
{
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

int er_zip_begins(const uint8_t *bytes, size_t size) { return size >= LOCAL && get32(bytes) == local_mark; }

/* An archive ends with a record and a comment whose length the record knows. */
static int find_end(size_t *out, const archive *a, er_err *err)
{
    for (size_t comment = 0; comment <= COMMENT_MOST && comment + END <= a->size; comment++) {
        size_t at = a->size - END - comment;
        if (get32(a->bytes + at) != end_mark || get16(a->bytes + at + 20) != comment) continue;
        *out = at;
        return 0;
    }
    return er_fail(err, ER_E_FORMAT, "%s: the zip archive has no end: is the file cut off?", a->path);
}

/* The wider record, when a locator stands before the end; *end becomes its place. */
static int find_end64(int *found, size_t *end, const archive *a, er_err *err)
{
    *found = *end >= LOCATOR && get32(a->bytes + *end - LOCATOR) == locator_mark;
    if (!*found) return 0;
    size_t most = *end - LOCATOR;
    uint64_t at = get64(a->bytes + most + 8);
    if (most < END64 || at > most - END64 || get32(a->bytes + at) != end64_mark)
        return er_fail(err, ER_E_FORMAT, "%s: the zip archive has no zip64 end at byte %llu", a->path,
                       (unsigned long long)at);
    *end = (size_t)at;
    return 0;
}

static int find_directory(archive *a, er_err *err)
{
    size_t end = 0;
    int wide = 0;
    ER_TRY(find_end(&end, a, err));
    ER_TRY(find_end64(&wide, &end, a, err));
    const uint8_t *e = a->bytes + end;
    uint64_t size = wide ? get64(e + 40) : get32(e + 12), at = wide ? get64(e + 48) : get32(e + 16);
    a->count = wide ? get64(e + 32) : get16(e + 10);
    uint32_t disks = wide ? get32(e + 16) | get32(e + 20) : (uint32_t)get16(e + 4) | get16(e + 6);
    if (disks) return er_fail(err, ER_E_UNSUPPORTED, "%s: the zip archive has several parts", a->path);
    if (at > end || size > end - at || a->count > size / CENTRAL)
        return er_fail(err, ER_E_FORMAT, "%s: a zip directory of %llu entries and %llu bytes at byte %llu of %zu",
                       a->path, (unsigned long long)a->count, (unsigned long long)size, (unsigned long long)at,
                       a->size);
    a->directory = (size_t)at;
    a->directory_size = (size_t)size;
    return 0;
}

/* A name as it can be shown: it comes from a file that nobody vouches for. */
static const char *shown(char text[SHOWN_MOST], const char *name, size_t length)
{
    size_t n = length < SHOWN_MOST ? length : SHOWN_MOST - 1;
    for (size_t i = 0; i < n; i++) text[i] = name[i] >= ' ' && name[i] <= '~' ? name[i] : '?';
    text[n] = 0;
    return text;
}

static int bad_entry(const archive *a, const er_zip_entry *e, int code, const char *what, er_err *err)
{
    char text[SHOWN_MOST];
    return er_fail(err, code, "%s: zip entry '%s' %s", a->path, shown(text, e->name, e->length), what);
}

/* Replaces those of size, stored size and offset that stand in the zip64 field of a directory entry: each is there
 * only if its narrow field says so, in this order. */
static int widen(uint64_t value[3], const uint8_t *extra, size_t length)
{
    while (length >= 4) {
        size_t n = get16(extra + 2);
        uint16_t kind = get16(extra);
        extra += 4;
        length -= 4;
        if (n > length) return -1;
        if (kind == EXTRA64) {
            for (int i = 0; i < 3; i++) {
                if (value[i] != elsewhere) continue;
                if (n < 8) return -1;
                value[i] = get64(extra);
                extra += 8;
                n -= 8;
            }
            return 0;
        }
        extra += n;
        length -= n;
    }
    return value[0] == elsewhere || value[1] == elsewhere || value[2] == elsewhere ? -1 : 0;
}

/* The header before the data repeats what the directory says, except for sizes that were not known when it was
 * written. */
static int check_local(er_zip_entry *e, const archive *a, uint64_t offset, er_err *err)
{
    if (a->directory < LOCAL || offset > a->directory - LOCAL || get32(a->bytes + offset) != local_mark)
        return bad_entry(a, e, ER_E_FORMAT, "has no header where the directory says", err);
    const uint8_t *h = a->bytes + offset;
    size_t left = a->directory - (size_t)offset - LOCAL, name = get16(h + 26), extra = get16(h + 28);
    if (name != e->length || name > left || memcmp(h + LOCAL, e->name, name) != 0)
        return bad_entry(a, e, ER_E_FORMAT, "has another name in its header", err);
    if (get16(h + 8) != 0) return bad_entry(a, e, ER_E_UNSUPPORTED, "is compressed", err);
    if (get16(h + 6) & FLAG_ENCRYPTED) return bad_entry(a, e, ER_E_UNSUPPORTED, "is encrypted", err);
    uint32_t stored = get32(h + 18), size = get32(h + 22);
    int open = (get16(h + 6) & FLAG_DESCRIPTOR) && !stored && !size;
    if (!open && ((size != elsewhere && size != e->size) || (stored != elsewhere && stored != e->size)))
        return bad_entry(a, e, ER_E_FORMAT, "has another size in its header", err);
    if (extra > left - name || e->size > left - name - extra)
        return bad_entry(a, e, ER_E_FORMAT, "reaches into the directory", err);
    e->data = h + LOCAL + name + extra;
    return 0;
}

/* One entry at *at of the directory; *at moves behind it. */
static int read_entry(er_zip_entry *e, const archive *a, size_t *at, er_err *err)
{
    size_t left = a->directory_size - *at;
    const uint8_t *h = a->bytes + a->directory + *at;
    if (left < CENTRAL || get32(h) != central_mark)
        return er_fail(err, ER_E_FORMAT, "%s: no entry at byte %zu of the zip directory", a->path, *at);
    size_t name = get16(h + 28), extra = get16(h + 30), comment = get16(h + 32);
    if (name + extra + comment > left - CENTRAL)
        return er_fail(err, ER_E_FORMAT, "%s: the zip directory ends inside an entry", a->path);
    e->name = (const char *)h + CENTRAL;
    e->length = name;
    uint64_t value[3] = {get32(h + 24), get32(h + 20), get32(h + 42)};
    if (get16(h + 10) != 0) return bad_entry(a, e, ER_E_UNSUPPORTED, "is compressed", err);
    if (get16(h + 8) & FLAG_ENCRYPTED) return bad_entry(a, e, ER_E_UNSUPPORTED, "is encrypted", err);
    if (widen(value, h + CENTRAL + name, extra))
        return bad_entry(a, e, ER_E_FORMAT, "has a broken zip64 field", err);
    if (value[0] != value[1]) return bad_entry(a, e, ER_E_FORMAT, "has two sizes", err);
    if (value[0] > a->size) return bad_entry(a, e, ER_E_FORMAT, "is larger than the file", err);
    e->size = (size_t)value[0];
    *at += CENTRAL + name + extra + comment;
    return check_local(e, a, value[2], err);
}

static int by_name(const void *a, const void *b)
{
    const er_zip_entry *x = a, *y = b;
    int order = memcmp(x->name, y->name, x->length < y->length ? x->length : y->length);
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

int er_zip_read(er_zip_entry **out, size_t *count, const uint8_t *bytes, size_t size, const char *path, er_err *err)
{
    archive a = {.bytes = bytes, .size = size, .path = path};
    er_zip_entry *entries = NULL;
    size_t at = 0, n;
    ER_TRY(find_directory(&a, err));
    n = (size_t)a.count;
    ER_TRY(er_alloc(&entries, n, err));
    int code = 0;
    for (size_t i = 0; i < n && !code; i++) code = read_entry(&entries[i], &a, &at, err);
    if (!code && n) qsort(entries, n, sizeof *entries, by_name);
    for (size_t i = 1; i < n && !code; i++)
        if (by_name(&entries[i - 1], &entries[i]) == 0)
            code = bad_entry(&a, &entries[i], ER_E_FORMAT, "appears twice", err);
    if (code) {
        er_free(entries);
        return code;
    }
    *out = entries;
    *count = n;
    return 0;
}
