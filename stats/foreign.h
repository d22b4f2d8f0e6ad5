/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics in the files of the Python tools: ROME's and EasyEdit's second moments (.npz) and AlphaEdit's projections
 * (null_space_project.pt). Readers bound every length before they allocate and execute nothing of a file. */
#ifndef ER_STATS_FOREIGN_H
#define ER_STATS_FOREIGN_H

#include "base/error.h"
#include "base/hash.h"
#include "stats/eigen.h"
#include "stats/moment.h"

#include <stddef.h>
#include <stdint.h>

/* --- second moments ----------------------------------------------------------------------------------------------- */

/* An archive of stored members: mom2.mom2 (n, n) floats, the sum of k k^T; mom2.count, how many keys; sample_size, how
 * many documents (samples, -1 where absent or below 0). Others are ignored. The sum is symmetrised and taken into fixed
 * point (each element rounded to 2^-64), tokens = count. ER_E_FORMAT: another file, another n than `dimension`,
 * elements that are not finite, a diagonal below 0, or more asymmetry than rounding leaves (1e-3 of the diagonal).
 * out: er_moment_free. */
int er_npz_moment_parse(er_moment *out, int64_t *samples, const uint8_t *bytes, size_t size, int64_t dimension,
                        const char *path, er_err *err);
/* The same of a file; *file is its hash. */
int er_npz_moment_read(er_moment *out, int64_t *samples, er_hash *file, const char *path, int64_t dimension, er_err *err);
/* The members that ROME's and EasyEdit's code load: fp32 sums. Complete or absent. */
int er_npz_moment_write(const char *path, const er_moment *m, int64_t samples, er_err *err);

/* --- projections -------------------------------------------------------------------------------------------------- */

/* (layers, n, n) of a tensor saved by torch.save, mapped. */
typedef struct er_projections {
    int64_t layers, n;
    const uint8_t *data; /* fp32, unaligned */
    void *inside;
} er_projections;
/* ER_E_FORMAT, ER_E_UNSUPPORTED: not one fp32 tensor of that shape. */
int er_projections_open(er_projections *out, er_hash *file, const char *path, er_err *err);
void er_projections_close(er_projections *p);
/* Of one layer: eigenpairs of I - P, whose values are set to 0 (kept by P) and 1, so that every rule that keeps values
 * below 1 and not below 0 keeps what P keeps. ER_E_FORMAT when P is no orthogonal projection (eigenvalues farther than
 * 1e-2 from 0 and 1, or not symmetric) or keeps nothing. */
int er_projections_eigen(er_eigen *out, const er_projections *p, int64_t layer, const char *path, er_err *err);

/* Writes null_space_project.pt: begin with the shape, then P of each layer in order, then end. Complete or absent; after a
 * failure, and instead of end, abandon. */
typedef struct er_projections_out er_projections_out;
int er_projections_begin(er_projections_out **out, const char *path, int64_t layers, int64_t n, er_err *err);
int er_projections_put(er_projections_out *out, const er_projection *p, er_err *err);
int er_projections_end(er_projections_out *out, er_err *err);
void er_projections_abandon(er_projections_out *out);

#endif
