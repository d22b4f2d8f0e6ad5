/* SPDX-License-Identifier: Apache-2.0 */
/* The one call into LAPACK; alone in its file, so that programs that only apply stored eigenpairs do not link it. */
#include "stats/eigen.h"

#include "base/memory.h"
#include "base/tick.h"

#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

/* Fortran's dsyevd: (jobz, uplo, n, a, lda, w, work, lwork, iwork, liwork, info) and the lengths of both texts */
void dsyevd_(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w, double *work,
             const int *lwork, int *iwork, const int *liwork, int *info, size_t jobz_length, size_t uplo_length);
void openblas_set_num_threads(int threads);

/* dsyevd takes 2.5e-10 n^3 seconds on one core of 2020; somebody's may be 20 times as slow. */
static const double slowest = 5e-9;

static int check_finite(const double *x, int64_t count, const char *what, er_err *err)
{
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(x[i])) return er_fail(err, ER_E_NUMERIC, "eigenpairs: %s is not finite", what);
    return 0;
}

/* Workspace by the documented formulas: the query answers in floating point and may be one too small. */
static int solve_in_place(double *values, double *a, int64_t n, er_err *err)
{
    int64_t need = 1 + 6 * n + 2 * n * n, need_int = 3 + 5 * n;
    if (n > INT_MAX / 8 || need > INT_MAX)
        return er_fail(err, ER_E_UNSUPPORTED, "eigenpairs of %lld dimensions need a LAPACK with 64-bit integers",
                       (long long)n);
    int order = (int)n, lwork = (int)need, liwork = (int)need_int, info = 0;
    double *work = NULL;
    int *iwork = NULL;
    int code = er_alloc(&work, (size_t)need, err);
    if (!code) code = er_alloc(&iwork, (size_t)need_int, err);
    if (!code) {
        openblas_set_num_threads(1); /* the serial library ignores it; another flavour must not change bits */
        er_tick_quiet(slowest * (double)n * (double)n * (double)n);
        dsyevd_("V", "L", &order, a, &order, values, work, &lwork, iwork, &liwork, &info, 1, 1);
        er_tick();
        if (info < 0) code = er_fail(err, ER_E_INTERNAL, "eigenpairs: dsyevd refuses its argument %d", -info);
        if (info > 0) code = er_fail(err, ER_E_NUMERIC, "eigenpairs: dsyevd did not converge (info %d)", info);
    }
    er_free(work);
    er_free(iwork);
    return code;
}

/* LAPACK leaves the sign of a vector open, and it may differ between versions. */
static void fix_sign(double *vector, int64_t n)
{
    int64_t largest = 0;
    for (int64_t i = 1; i < n; i++)
        if (fabs(vector[i]) > fabs(vector[largest])) largest = i;
    if (vector[largest] >= 0) return;
    for (int64_t i = 0; i < n; i++) vector[i] = -vector[i];
}

int er_eigen_solve(er_eigen *out, const double *c, int64_t n, er_err *err)
{
    if (n <= 0) return er_fail(err, ER_E_INPUT, "eigenpairs of %lld dimensions", (long long)n);
    er_eigen e = {n, NULL, NULL};
    ER_TRY(check_finite(c, n * n, "an element of the matrix", err));
    int code = er_alloc(&e.values, (size_t)n, err);
    if (!code) code = er_alloc(&e.vectors, (size_t)n * (size_t)n, err);
    if (!code) {
        memcpy(e.vectors, c, (size_t)n * (size_t)n * sizeof *c); /* symmetric: rows and columns are the same */
        code = solve_in_place(e.values, e.vectors, n, err);
    }
    if (!code) code = check_finite(e.values, n, "an eigenvalue", err);
    if (!code) code = check_finite(e.vectors, n * n, "an eigenvector", err);
    if (code) {
        er_eigen_free(&e);
        return code;
    }
    for (int64_t i = 0; i < n; i++) fix_sign(e.vectors + i * n, n);
    *out = e;
    return 0;
}
