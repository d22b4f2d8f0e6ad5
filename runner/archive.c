/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "runner/archive.h"

#include "base/file.h"
#include "base/memory.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 1 << 16 };

static int is_part(const char *at, size_t n)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    return n > 0 && n < 200 && *at != '.' && strspn(at, letters) >= n;
}

int er_archive_name(const char *name)
{
    const char *slash = strchr(name, '/');
    if (!slash) return is_part(name, strlen(name));
    return is_part(name, (size_t)(slash - name)) && is_part(slash + 1, strlen(slash + 1));
}

/* --- writing ----------------------------------------------------------------------------------------------------- */

struct er_archive_writer {
    struct archive *archive;
    er_save save;
};

static int fail(struct archive *a, const char *path, er_err *err)
{
    const char *text = archive_error_string(a);
    return er_fail(err, ER_E_IO, "%s: %s", path, text ? text : "cannot be written");
}

int er_archive_create(er_archive_writer **out, const char *path, er_err *err)
{
    er_archive_writer *w = NULL;
    ER_TRY(er_alloc(&w, 1, err));
    int code = er_save_open(&w->save, path, err);
    if (code) {
        er_free(w);
        return code;
    }
    w->archive = archive_write_new();
    if (!w->archive) code = er_fail(err, ER_E_MEMORY, "%s: libarchive has no memory", path);
    /* plain ustar where names and sizes fit, which is always but for files over 8 GB */
    if (!code && (archive_write_set_format_pax_restricted(w->archive) != ARCHIVE_OK ||
                  archive_write_set_bytes_in_last_block(w->archive, 1) != ARCHIVE_OK ||
                  archive_write_open_FILE(w->archive, w->save.stream) != ARCHIVE_OK))
        code = fail(w->archive, path, err);
    if (code) er_archive_abandon(w);
    else *out = w;
    return code;
}

static int put_head(er_archive_writer *w, const char *name, int64_t bytes, er_err *err)
{
    struct archive_entry *e = archive_entry_new();
    if (!e) return er_fail(err, ER_E_MEMORY, "%s: libarchive has no memory", name);
    archive_entry_set_pathname(e, name);
    archive_entry_set_filetype(e, AE_IFREG);
    archive_entry_set_perm(e, 0644);
    archive_entry_set_size(e, bytes);
    archive_entry_set_mtime(e, 0, 0);
    int bad = archive_write_header(w->archive, e) != ARCHIVE_OK;
    archive_entry_free(e);
    return bad ? fail(w->archive, w->save.path, err) : 0;
}

static int put_bytes(er_archive_writer *w, const void *bytes, size_t n, er_err *err)
{
    while (n) {
        la_ssize_t put = archive_write_data(w->archive, bytes, n);
        if (put <= 0) return fail(w->archive, w->save.path, err);
        bytes = (const char *)bytes + put;
        n -= (size_t)put;
    }
    return 0;
}

int er_archive_put(er_archive_writer *w, const char *name, const void *bytes, size_t n, er_err *err)
{
    ER_TRY(put_head(w, name, (int64_t)n, err));
    return put_bytes(w, bytes, n, err);
}

int er_archive_put_file(er_archive_writer *w, const char *name, const char *path, int64_t bytes, er_err *err)
{
    char piece[PIECE];
    int64_t left = bytes;
    FILE *f = fopen(path, "rb");
    if (!f) return er_fail(err, ER_E_IO, "%s: %s", path, strerror(errno));
    int code = put_head(w, name, bytes, err);
    while (!code && left > 0) {
        size_t n = fread(piece, 1, left < PIECE ? (size_t)left : PIECE, f);
        if (!n) break;
        left -= (int64_t)n;
        code = put_bytes(w, piece, n, err);
    }
    if (!code && (left || fgetc(f) != EOF)) code = er_fail(err, ER_E_IO, "%s: changed while it was read", path);
    fclose(f);
    return code;
}

int er_archive_end(er_archive_writer *w, er_err *err)
{
    int code = archive_write_close(w->archive) != ARCHIVE_OK ? fail(w->archive, w->save.path, err) : 0;
    archive_write_free(w->archive);
    if (code) er_save_abandon(&w->save);
    else code = er_save_commit(&w->save, err);
    er_free(w);
    return code;
}

void er_archive_abandon(er_archive_writer *w)
{
    if (w->archive) {
        archive_write_fail(w->archive);
        archive_write_free(w->archive);
    }
    er_save_abandon(&w->save);
    er_free(w);
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

struct er_archive_reader {
    struct archive *archive;
    char *path;
    int64_t size, bytes; /* of the archive; of the present file */
    char name[512];
};

static int broken(er_archive_reader *r, er_err *err)
{
    const char *text = archive_error_string(r->archive);
    return er_fail(err, ER_E_FORMAT, "%s: is no whole archive: %s", r->path, text ? text : "cannot be read");
}

int er_archive_open(er_archive_reader **out, const char *path, er_err *err)
{
    er_archive_reader *r = NULL;
    struct stat info;
    if (stat(path, &info)) return er_fail(err, ER_E_IO, "%s: %s", path, strerror(errno));
    ER_TRY(er_alloc(&r, 1, err));
    r->size = (int64_t)info.st_size;
    int code = er_strdup(&r->path, path, err);
    if (!code && !(r->archive = archive_read_new())) code = er_fail(err, ER_E_MEMORY, "%s: libarchive has no memory", path);
    if (!code && (archive_read_support_format_tar(r->archive) != ARCHIVE_OK ||
                  archive_read_open_filename(r->archive, path, PIECE) != ARCHIVE_OK))
        code = broken(r, err);
    if (code) er_archive_close(r);
    else *out = r;
    return code;
}

void er_archive_close(er_archive_reader *r)
{
    if (!r) return;
    if (r->archive) archive_read_free(r->archive);
    er_free(r->path);
    er_free(r);
}

int er_archive_next(er_archive_reader *r, const char **name, int64_t *bytes, er_err *err)
{
    struct archive_entry *e = NULL;
    *name = NULL;
    int state = archive_read_next_header(r->archive, &e);
    if (state == ARCHIVE_EOF) return 0;
    if (state != ARCHIVE_OK) return broken(r, err);
    const char *given = archive_entry_pathname(e);
    if (!given || !er_archive_name(given))
        return er_fail(err, ER_E_INPUT, "%s: refused: an entry is named \"%.200s\"", r->path, given ? given : "");
    if (archive_entry_filetype(e) != AE_IFREG || archive_entry_hardlink(e) || archive_entry_symlink(e) ||
        archive_entry_sparse_count(e) || !archive_entry_size_is_set(e))
        return er_fail(err, ER_E_INPUT, "%s: refused: %s is no plain file", r->path, given);
    r->bytes = archive_entry_size(e);
    if (r->bytes < 0 || r->bytes > r->size)
        return er_fail(err, ER_E_INPUT, "%s: refused: %s claims %lld bytes", r->path, given, (long long)r->bytes);
    snprintf(r->name, sizeof r->name, "%s", given);
    *name = r->name;
    *bytes = r->bytes;
    return 0;
}

/* Exactly n bytes of the present file. */
static int take(er_archive_reader *r, void *bytes, size_t n, er_err *err)
{
    while (n) {
        la_ssize_t got = archive_read_data(r->archive, bytes, n);
        if (got <= 0) return broken(r, err);
        bytes = (char *)bytes + got;
        n -= (size_t)got;
    }
    return 0;
}

int er_archive_text(er_archive_reader *r, char **out, size_t *n, int64_t most, er_err *err)
{
    char *text = NULL;
    if (r->bytes > most)
        return er_fail(err, ER_E_INPUT, "%s: refused: %s has %lld bytes", r->path, r->name, (long long)r->bytes);
    ER_TRY(er_alloc(&text, (size_t)r->bytes + 1, err));
    int code = take(r, text, (size_t)r->bytes, err);
    if (code) {
        er_free(text);
        return code;
    }
    text[r->bytes] = 0;
    *out = text;
    *n = (size_t)r->bytes;
    return 0;
}

int er_archive_save(er_archive_reader *r, const char *path, er_hash *hash, er_err *err)
{
    char piece[PIECE];
    er_hasher *h = NULL;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0) return er_fail(err, ER_E_IO, "%s: %s", path, strerror(errno));
    FILE *f = fdopen(fd, "wb");
    int code = f ? er_hasher_new(&h, err) : er_fail(err, ER_E_IO, "%s: %s", path, strerror(errno));
    for (int64_t left = r->bytes; !code && left > 0;) {
        size_t n = left < PIECE ? (size_t)left : PIECE;
        code = take(r, piece, n, err);
        if (code) break;
        er_hasher_add(h, piece, n);
        left -= (int64_t)n;
        if (fwrite(piece, 1, n, f) != n) code = er_fail(err, ER_E_IO, "%s: %s", path, strerror(errno));
    }
    if (f && fclose(f) && !code) code = er_fail(err, ER_E_IO, "%s: %s", path, strerror(errno));
    if (!f) close(fd);
    if (!code) *hash = er_hasher_end(h);
    er_hasher_free(h);
    return code;
}
