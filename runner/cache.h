/* SPDX-License-Identifier: Apache-2.0 */
/* Results that other runs can use as they are, under content keys: scores of the unedited model, targets that were
 * optimised on it, templates that it wrote. A folder of immutable packs, each complete or absent, written by any number
 * of processes; an entry found twice has the same bytes both times. Losing the folder costs time and nothing else.
 *
 * A pack has the form of a journal (runner/journal.h) and is named by its content. Rank 0 alone opens a cache. */
#ifndef ER_RUNNER_CACHE_H
#define ER_RUNNER_CACHE_H

#include "base/error.h"
#include "base/hash.h"

#include <stddef.h>
#include <stdint.h>

typedef struct er_cache er_cache;

/* Makes the folder and indexes its packs. */
int er_cache_open(er_cache **out, const char *folder, er_err *err);
void er_cache_close(er_cache *c); /* what was not published is dropped */
/* Packs that others have written since. */
int er_cache_refresh(er_cache *c, er_err *err);

/* The bytes of (kind, key), borrowed until the cache is closed; NULL when there are none. kind: er_journal_kind. */
const char *er_cache_find(const er_cache *c, int kind, const er_hash *key, size_t *n);
/* Keeps a copy until er_cache_publish; an entry that is there already is left as it is. */
int er_cache_add(er_cache *c, int kind, const er_hash *key, const void *bytes, size_t n, er_err *err);
/* Writes what was added as one pack. all == 0: only when much has gathered. */
int er_cache_publish(er_cache *c, int all, er_err *err);

#endif
