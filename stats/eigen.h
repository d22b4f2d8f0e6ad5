/* SPDX-License-Identifier: Apache-2.0 */
/* Eigenpairs of a second moment, and what is applied from them: the inverse moment and AlphaEdit's projection
 * (spec sections 5, 7, 12). The only LAPACK result in errata: serial OpenBLAS, one thread, stored with a hash; all
 * applications run through our kernels in fp64. */
#ifndef ER_STATS_EIGEN_H
#define ER_STATS_EIGEN_H

#include "base/error.h"

#include <stdint.h>

typedef struct er_eigen {
    int64_t n;
    double *values;  /* (n) ascending */
    double *vectors; /* (n, n): row i is the unit eigenvector of values[i], sign fixed: first element of largest
                        magnitude is positive */
} er_eigen;

/* dsyevd on a copy of c (n, n) symmetric. ER_E_NUMERIC when LAPACK does not converge or a value is not finite. */
int er_eigen_solve(er_eigen *out, const double *c, int64_t n, er_err *err);
void er_eigen_free(er_eigen *e);

/* Which directions are kept: exactly one of the three. */
enum er_keep_by { ER_KEEP_THRESHOLD, ER_KEEP_RANK, ER_KEEP_ENERGY };
typedef struct er_keep {
    enum er_keep_by by;
    double value; /* threshold: eigenvalue < value (strict, absolute); rank: the `value` smallest; energy: the largest
                     set of smallest eigenvalues whose sum is at most `value` of the trace */
} er_keep;

/* P = U0 U0^T, U0 the kept eigenvectors; applied from whichever of U0 and its complement is smaller. Borrows e. */
typedef struct er_projection {
    const er_eigen *eigen;
    int64_t rank; /* kept directions: eigenvectors 0 .. rank-1 */
} er_projection;
/* rank 0 is ER_E_INPUT (says how many eigenvalues lie below a few thresholds); rank n is allowed (P = I). */
int er_projection_make(er_projection *out, const er_eigen *e, const er_keep *keep, er_err *err);
/* y (m, n) = x P, rows of fp64; x and y may be the same. scratch: m x n doubles at least. */
void er_projection_apply(double *y, const double *x, int64_t m, const er_projection *p, double *scratch);
/* coordinates y (m, rank) = x U0 and back x (m, n) = y U0^T. */
void er_projection_down(double *y, const double *x, int64_t m, const er_projection *p);
void er_projection_up(double *x, const double *y, int64_t m, const er_projection *p);

/* y (m, n) = x C^-1 from the eigenpairs. Eigenvalues at or below n * 2^-52 * largest are ER_E_NUMERIC: the moment is
 * singular (too few tokens). scratch: m x n doubles. */
int er_eigen_inverse(double *y, const double *x, int64_t m, const er_eigen *e, double *scratch, er_err *err);

#endif
