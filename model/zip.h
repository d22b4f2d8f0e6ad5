/* SPDX-License-Identifier: Apache-2.0 */
/* Internal to model/: the table of contents of a zip archive whose entries are stored, not compressed, so that they can
 * be used in place: what torch.save writes. Archives and entries beyond 4 GiB (zip64) are read; checksums are not
 * verified, because that would mean to read every byte of a file that is mapped to be read where needed. */
#ifndef ER_MODEL_ZIP_H
#define ER_MODEL_ZIP_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

typedef struct er_zip_entry {
    const char *name; /* in the archive: no 0 behind it, any bytes */
    size_t length;
    const uint8_t *data; /* unaligned */
    size_t size;
} er_zip_entry;

/* Whether the bytes begin as an archive with at least one entry does. */
int er_zip_begins(const uint8_t *bytes, size_t size);

/* All entries of an archive of `size` bytes, sorted by name (er_free *out); names and data are borrowed from bytes.
 * Every entry lies between the archive's begin and its directory. A directory or entry that does not fit, or a name
 * that appears twice, is ER_E_FORMAT; a compressed or encrypted entry, or an archive in several parts, is
 * ER_E_UNSUPPORTED. */
int er_zip_read(er_zip_entry **out, size_t *count, const uint8_t *bytes, size_t size, const char *path, er_err *err);

#endif
