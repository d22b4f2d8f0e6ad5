/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that travel between ranks and into the journal: written with er_blob_put_* into an er_text, read back with a
 * reader that checks every length against what is left. Native byte order: both ends are ranks of one job, and the
 * journal does not outlive a run. */
#ifndef ER_RUNNER_BLOB_H
#define ER_RUNNER_BLOB_H

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"

#include <stddef.h>
#include <stdint.h>

int er_blob_put(er_text *out, const void *bytes, size_t n, er_err *err);
int er_blob_put_number(er_text *out, int64_t number, er_err *err);
int er_blob_put_float(er_text *out, float value, er_err *err);
int er_blob_put_floats(er_text *out, const float *values, int64_t count, er_err *err);
int er_blob_put_text(er_text *out, const char *text, er_err *err);

/* `failed` stays set once anything was missing, so that a whole structure is read first and checked once. */
typedef struct er_reader {
    const char *at;
    size_t left;
    int failed;
} er_reader;

void er_blob_get(er_reader *r, void *bytes, size_t n); /* zeros when it fails */
int64_t er_blob_get_number(er_reader *r);
float er_blob_get_float(er_reader *r);
/* A count of items of `size` bytes each that must still fit: -1 and failed otherwise. */
int64_t er_blob_get_count(er_reader *r, size_t size);
void er_blob_get_text(er_reader *r, char *text, size_t size); /* cut to size - 1 bytes */
/* 0 when everything was there and nothing is left, else ER_E_FORMAT naming `what`. */
int er_blob_end(const er_reader *r, const char *what, er_err *err);

#endif
