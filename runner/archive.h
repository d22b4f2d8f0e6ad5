/* SPDX-License-Identifier: Apache-2.0 */
/* Archives of regular files (tar, uncompressed) through libarchive. What is written depends on names and contents only:
 * no times, owners or modes. What is read is held to be hostile: one plain file after another, under names that cannot
 * leave the folder they are unpacked to. Rank 0 only. */
#ifndef ER_RUNNER_ARCHIVE_H
#define ER_RUNNER_ARCHIVE_H

#include "base/error.h"
#include "base/hash.h"

#include <stddef.h>
#include <stdint.h>

/* Nonzero for "name" and "folder/name" of letters, digits, '.', '-' and '_', neither part beginning with '.'. */
int er_archive_name(const char *name);

typedef struct er_archive_writer er_archive_writer;
/* PATH is complete after er_archive_end, or untouched. er_archive_end and er_archive_abandon end the life of w. */
int er_archive_create(er_archive_writer **out, const char *path, er_err *err);
int er_archive_put(er_archive_writer *w, const char *name, const void *bytes, size_t n, er_err *err);
/* ER_E_IO when the file has not `bytes` bytes any more. */
int er_archive_put_file(er_archive_writer *w, const char *name, const char *path, int64_t bytes, er_err *err);
int er_archive_end(er_archive_writer *w, er_err *err);
void er_archive_abandon(er_archive_writer *w);

typedef struct er_archive_reader er_archive_reader;
int er_archive_open(er_archive_reader **out, const char *path, er_err *err);
void er_archive_close(er_archive_reader *r);
/* The next file: *name (until the next call), *bytes; *name NULL at the end. ER_E_FORMAT for what is no archive, ER_E_INPUT
 * for an entry that is refused: no plain file, a name that er_archive_name refuses, more bytes than the archive has. */
int er_archive_next(er_archive_reader *r, const char **name, int64_t *bytes, er_err *err);
/* The content of the present file, with a 0 behind it (to be er_freed); at most `most` bytes. */
int er_archive_text(er_archive_reader *r, char **out, size_t *n, int64_t most, er_err *err);
/* The content of the present file into a new file at path, and its hash. */
int er_archive_save(er_archive_reader *r, const char *path, er_hash *hash, er_err *err);

#endif
