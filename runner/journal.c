/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "runner/journal.h"

#include "base/file.h"
#include "base/memory.h"
#include "runner/bits.h"
#include "runner/keymap.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { MAGIC = 0x6a6c7265, FILE_HEAD = 16 };

typedef struct record_head {
    uint32_t magic, kind;
    er_hash key;
    uint64_t length;
    uint64_t sum;
} record_head;

enum { SUMMED = offsetof(record_head, sum) };

struct er_journal {
    int fd;
    char *path;
    int64_t end; /* of the last whole record */
    int64_t records;
    er_keymap index; /* (kind, key) -> offset of the record */
};

static int fail(const er_journal *j, er_err *err) { return er_fail(err, ER_E_IO, "%s: %s", j->path, strerror(errno)); }

static void file_head(char head[FILE_HEAD])
{
    memset(head, 0, FILE_HEAD);
    memcpy(head, "errata journal", 14);
    head[15] = (char)ER_BITS_VERSION;
}

static uint64_t sum_of(const record_head *head, const void *payload, size_t n)
{
    XXH3_state_t *state = XXH3_createState();
    if (!state) return 0;
    XXH3_64bits_reset(state);
    XXH3_64bits_update(state, head, SUMMED);
    if (n) XXH3_64bits_update(state, payload, n);
    uint64_t sum = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return sum ? sum : 1; /* never the 0 of a hole in the file */
}

int er_journal_put_head(er_text *out, er_err *err)
{
    char head[FILE_HEAD];
    file_head(head);
    return er_text_bytes(out, head, FILE_HEAD, err);
}

int er_journal_put(er_text *out, enum er_journal_kind kind, const er_hash *key, const void *bytes, size_t n,
                   er_err *err)
{
    record_head head = {MAGIC, (uint32_t)kind, *key, n, 0};
    head.sum = sum_of(&head, bytes, n);
    ER_TRY(er_text_bytes(out, &head, sizeof head, err));
    return er_text_bytes(out, bytes, n, err);
}

int er_journal_next(er_journal_record *out, const er_map *map, size_t *at)
{
    char known[FILE_HEAD];
    record_head head;
    file_head(known);
    if (map->size < FILE_HEAD || memcmp(map->data, known, FILE_HEAD) != 0) return 0;
    if (!*at) *at = FILE_HEAD;
    if (map->size - *at < sizeof head) return 0;
    memcpy(&head, map->data + *at, sizeof head);
    const uint8_t *payload = map->data + *at + sizeof head;
    if (head.magic != MAGIC || head.length > map->size - *at - sizeof head) return 0;
    if (sum_of(&head, payload, (size_t)head.length) != head.sum) return 0;
    *out = (er_journal_record){head.kind, head.key, payload, (size_t)head.length};
    *at += sizeof head + (size_t)head.length;
    return 1;
}

/* Indexes all whole records of the map; j->end is behind the last of them. */
static int scan(er_journal *j, const er_map *map, er_err *err)
{
    er_journal_record record;
    size_t at = 0, start = FILE_HEAD;
    while (er_journal_next(&record, map, &at)) {
        ER_TRY(er_keymap_put(&j->index, record.kind, &record.key, (int64_t)start, err));
        j->records++;
        start = at;
    }
    j->end = (int64_t)start;
    return 0;
}

static int start_file(er_journal *j, er_err *err)
{
    char head[FILE_HEAD];
    file_head(head);
    if (ftruncate(j->fd, 0) || pwrite(j->fd, head, FILE_HEAD, 0) != FILE_HEAD || fdatasync(j->fd)) return fail(j, err);
    j->end = FILE_HEAD;
    return 0;
}

static int read_file(er_journal *j, int64_t *cut, er_err *err)
{
    char head[FILE_HEAD];
    er_map map;
    file_head(head);
    ER_TRY(er_map_open(&map, j->path, err));
    int code = 0, known = map.size >= FILE_HEAD && memcmp(map.data, head, FILE_HEAD) == 0;
    int64_t size = (int64_t)map.size;
    if (known) code = scan(j, &map, err);
    er_map_close(&map);
    if (code) return code;
    if (!known) ER_TRY(start_file(j, err));
    *cut = known ? size - j->end : size;
    if (known && *cut && (ftruncate(j->fd, j->end) || fdatasync(j->fd))) return fail(j, err);
    return 0;
}

int er_journal_open(er_journal **out, const char *path, int64_t *cut, er_err *err)
{
    er_journal *j = NULL;
    int64_t dropped = 0;
    ER_TRY(er_alloc(&j, 1, err));
    j->fd = -1;
    int code = er_strdup(&j->path, path, err);
    if (!code) {
        j->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        code = j->fd < 0 ? fail(j, err) : read_file(j, &dropped, err);
    }
    if (code) {
        er_journal_close(j);
        return code;
    }
    if (cut) *cut = dropped;
    *out = j;
    return 0;
}

void er_journal_close(er_journal *j)
{
    if (!j) return;
    if (j->fd >= 0) close(j->fd);
    er_keymap_free(&j->index);
    er_free(j->path);
    er_free(j);
}

int er_journal_remove(er_journal *j, er_err *err)
{
    er_fault_point("before removing a journal");
    int code = unlink(j->path) ? fail(j, err) : 0;
    er_fault_point("after removing a journal");
    er_journal_close(j);
    return code;
}

int64_t er_journal_records(const er_journal *j) { return j->records; }

static int write_all(int fd, const void *bytes, size_t n, int64_t at)
{
    const char *p = bytes;
    while (n) {
        ssize_t done = pwrite(fd, p, n, at);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return -1;
        p += done;
        at += done;
        n -= (size_t)done;
    }
    return 0;
}

int er_journal_add(er_journal *j, enum er_journal_kind kind, const er_hash *key, const void *bytes, size_t n,
                   er_err *err)
{
    record_head head = {MAGIC, (uint32_t)kind, *key, n, 0};
    head.sum = sum_of(&head, bytes, n);
    er_fault_point("before journal record");
    int failed = write_all(j->fd, &head, sizeof head, j->end);
    er_fault_point("inside journal record");
    if (!failed) failed = write_all(j->fd, bytes, n, j->end + (int64_t)sizeof head);
    if (failed) {
        int code = fail(j, err);
        /* the tail is ignored by the next scan in any case; cutting it frees what a full disk lacks */
        if (ftruncate(j->fd, j->end)) er_prefix(err, "the unfinished record cannot be cut off: ");
        return code;
    }
    er_fault_point("after journal record");
    ER_TRY(er_keymap_put(&j->index, (uint32_t)kind, key, j->end, err));
    j->end += (int64_t)(sizeof head + n);
    j->records++;
    return 0;
}

int er_journal_sync(er_journal *j, er_err *err) { return fdatasync(j->fd) ? fail(j, err) : 0; }

int er_journal_has(const er_journal *j, enum er_journal_kind kind, const er_hash *key)
{
    return er_keymap_find(&j->index, (uint32_t)kind, key) >= 0;
}

int er_journal_read(er_journal *j, enum er_journal_kind kind, const er_hash *key, er_text *out, int *found,
                    er_err *err)
{
    int64_t at = er_keymap_find(&j->index, (uint32_t)kind, key);
    record_head head;
    *found = 0;
    out->length = 0;
    if (at < 0) return 0;
    if (pread(j->fd, &head, sizeof head, at) != (ssize_t)sizeof head) return fail(j, err);
    /* checked when it was scanned or written; bounded again because the file may have been changed under us */
    if (head.magic != MAGIC || (int64_t)head.length > j->end - at - (int64_t)sizeof head)
        return er_fail(err, ER_E_FORMAT, "%s: the record at %lld has changed", j->path, (long long)at);
    size_t n = (size_t)head.length;
    ER_TRY(er_grow(&out->at, &out->capacity, n + 1, err));
    if (n && pread(j->fd, out->at, n, at + (int64_t)sizeof head) != (ssize_t)n) return fail(j, err);
    if (sum_of(&head, out->at, n) != head.sum)
        return er_fail(err, ER_E_FORMAT, "%s: the record at %lld has changed", j->path, (long long)at);
    out->at[n] = 0;
    out->length = n;
    *found = 1;
    return 0;
}
