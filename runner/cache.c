/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "runner/cache.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "runner/journal.h"
#include "runner/keymap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { MUCH = 4 << 20 }; /* bytes */

typedef struct pack {
    char *name;
    er_map map;
} pack;

typedef struct entry {
    const char *at; /* in a pack, or a copy of our own */
    size_t n;
    int own;
} entry;

struct er_cache {
    char *folder;
    int lock;
    pack *packs;
    size_t pack_count, pack_room;
    entry *entries;
    size_t entry_count, entry_room;
    er_keymap index;
    er_text fresh; /* the next pack */
};

/* --- reading ----------------------------------------------------------------------------------------------------- */

static int put_entry(er_cache *c, uint32_t kind, const er_hash *key, entry e, er_err *err)
{
    ER_TRY(er_grow(&c->entries, &c->entry_room, c->entry_count + 1, err));
    ER_TRY(er_keymap_put(&c->index, kind, key, (int64_t)c->entry_count, err));
    c->entries[c->entry_count++] = e;
    return 0;
}

static int index_pack(er_cache *c, const pack *p, er_err *err)
{
    er_journal_record record;
    size_t at = 0;
    while (er_journal_next(&record, &p->map, &at))
        if (er_keymap_find(&c->index, record.kind, &record.key) < 0)
            ER_TRY(put_entry(c, record.kind, &record.key, (entry){(const char *)record.bytes, record.n, 0}, err));
    return 0;
}

static int add_pack(er_cache *c, const char *name, er_err *err)
{
    char *path = NULL;
    for (size_t i = 0; i < c->pack_count; i++)
        if (!strcmp(c->packs[i].name, name)) return 0;
    ER_TRY(er_grow(&c->packs, &c->pack_room, c->pack_count + 1, err));
    pack *p = &c->packs[c->pack_count];
    ER_TRY(er_strdup(&p->name, name, err));
    int code = er_path_join(&path, c->folder, name, err);
    if (!code) code = er_map_open(&p->map, path, err);
    er_free(path);
    if (code) {
        ER_FREE(p->name);
        return code;
    }
    c->pack_count++;
    return index_pack(c, p, err);
}

int er_cache_refresh(er_cache *c, er_err *err)
{
    DIR *d = opendir(c->folder);
    if (!d) return er_fail(err, ER_E_IO, "%s: %s", c->folder, strerror(errno));
    int code = 0;
    for (struct dirent *e; !code && (e = readdir(d));) {
        size_t n = strlen(e->d_name);
        if (n > 5 && !strcmp(e->d_name + n - 5, ".pack")) code = add_pack(c, e->d_name, err);
    }
    closedir(d);
    return code;
}

/* Users hold the lock together; who gets it alone may remove what killed writers left. */
static int lock_folder(er_cache *c, er_err *err)
{
    char *path = NULL;
    ER_TRY(er_path_join(&path, c->folder, ".cache.lock", err));
    c->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    int code = c->lock < 0 ? er_fail(err, ER_E_IO, "%s: %s", path, strerror(errno)) : 0;
    er_free(path);
    if (!code && !flock(c->lock, LOCK_EX | LOCK_NB)) code = er_save_sweep(c->folder, err);
    if (!code) flock(c->lock, LOCK_SH);
    return code;
}

int er_cache_open(er_cache **out, const char *folder, er_err *err)
{
    er_cache *c = NULL;
    ER_TRY(er_alloc(&c, 1, err));
    c->lock = -1;
    int code = er_strdup(&c->folder, folder, err);
    if (!code) code = er_make_folders(folder, err);
    if (!code) code = lock_folder(c, err);
    if (!code) code = er_cache_refresh(c, err);
    if (code) {
        er_cache_close(c);
        return code;
    }
    *out = c;
    return 0;
}

void er_cache_close(er_cache *c)
{
    if (!c) return;
    for (size_t i = 0; i < c->entry_count; i++)
        if (c->entries[i].own) free((void *)(uintptr_t)c->entries[i].at);
    for (size_t i = 0; i < c->pack_count; i++) {
        er_map_close(&c->packs[i].map);
        er_free(c->packs[i].name);
    }
    if (c->lock >= 0) close(c->lock);
    er_keymap_free(&c->index);
    er_text_free(&c->fresh);
    er_free(c->entries);
    er_free(c->packs);
    er_free(c->folder);
    er_free(c);
}

const char *er_cache_find(const er_cache *c, int kind, const er_hash *key, size_t *n)
{
    int64_t i = er_keymap_find(&c->index, (uint32_t)kind, key);
    if (i < 0) return NULL;
    *n = c->entries[i].n;
    return c->entries[i].at;
}

/* --- writing ----------------------------------------------------------------------------------------------------- */

int er_cache_add(er_cache *c, int kind, const er_hash *key, const void *bytes, size_t n, er_err *err)
{
    if (er_keymap_find(&c->index, (uint32_t)kind, key) >= 0) return 0;
    char *copy = malloc(n ? n : 1);
    if (!copy) return er_fail(err, ER_E_MEMORY, "no memory for %zu bytes of the cache", n);
    if (n) memcpy(copy, bytes, n);
    int code = put_entry(c, (uint32_t)kind, key, (entry){copy, n, 1}, err);
    if (code) {
        free(copy);
        return code;
    }
    if (!c->fresh.length) ER_TRY(er_journal_put_head(&c->fresh, err));
    return er_journal_put(&c->fresh, (enum er_journal_kind)kind, key, bytes, n, err);
}

int er_cache_publish(er_cache *c, int all, er_err *err)
{
    char name[64], hash[ER_HASH_TEXT], *path = NULL;
    if (!c->fresh.length || (!all && c->fresh.length < MUCH)) return 0;
    er_hash content = er_hash_bytes(c->fresh.at, c->fresh.length);
    er_hash_text(hash, &content);
    snprintf(name, sizeof name, "%.16s.pack", hash);
    ER_TRY(er_path_join(&path, c->folder, name, err));
    int code = er_save_bytes(path, c->fresh.at, c->fresh.length, err);
    er_free(path);
    if (!code) c->fresh.length = 0;
    return code;
}
