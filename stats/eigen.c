/* SPDX-License-Identifier: Apache-2.0 */
/* What is applied from eigenpairs, by our own products (m rows at a time, each row's bits its own). */
#include "stats/eigen.h"

#include "base/memory.h"
#include "model/kernels.h"

#include <float.h>
#include <math.h>
#include <string.h>

void er_eigen_free(er_eigen *e)
{
    er_free(e->values);
    er_free(e->vectors);
    *e = (er_eigen){0, NULL, NULL};
}

static int64_t count_below(const er_eigen *e, double threshold)
{
    int64_t count = 0;
    while (count < e->n && e->values[count] < threshold) count++;
    return count;
}

/* Rounding leaves tiny negative eigenvalues; they hold no energy. */
static double energy_of(double eigenvalue) { return eigenvalue > 0 ? eigenvalue : 0; }

static int64_t count_energy(const er_eigen *e, double share)
{
    double trace = 0, sum = 0;
    int64_t count = 0;
    for (int64_t i = 0; i < e->n; i++) trace += energy_of(e->values[i]);
    while (count < e->n) {
        sum += energy_of(e->values[count]);
        if (sum > share * trace) break;
        count++;
    }
    return count;
}

static int fail_empty(const er_eigen *e, const er_keep *keep, er_err *err)
{
    static const char *const rule[] = {"nullspace_threshold", "nullspace_rank", "nullspace_energy"};
    return er_fail(err, ER_E_INPUT,
                   "%s %g keeps no direction: eigenvalues run from %.3g to %.3g, median %.3g; of %lld, %lld lie below "
                   "0.001, %lld below 0.01, %lld below 0.02, %lld below 0.1, %lld below 1",
                   rule[keep->by], keep->value, e->values[0], e->values[e->n - 1], e->values[e->n / 2],
                   (long long)e->n, (long long)count_below(e, 0.001), (long long)count_below(e, 0.01),
                   (long long)count_below(e, 0.02), (long long)count_below(e, 0.1), (long long)count_below(e, 1));
}

int er_projection_make(er_projection *out, const er_eigen *e, const er_keep *keep, er_err *err)
{
    int64_t rank = 0;
    double value = keep->value;
    switch (keep->by) {
    case ER_KEEP_THRESHOLD:
        if (!isfinite(value)) return er_fail(err, ER_E_INPUT, "nullspace_threshold must be a finite number");
        rank = count_below(e, value);
        break;
    case ER_KEEP_RANK:
        if (!(value >= 0 && value <= (double)e->n) || value != floor(value))
            return er_fail(err, ER_E_INPUT, "nullspace_rank %g is no whole number from 1 to %lld", value,
                           (long long)e->n);
        rank = (int64_t)value;
        break;
    case ER_KEEP_ENERGY:
        if (!(value >= 0 && value <= 1))
            return er_fail(err, ER_E_INPUT, "nullspace_energy %g is no share of the trace between 0 and 1", value);
        rank = count_energy(e, value);
        break;
    default:
        return er_fail(err, ER_E_INTERNAL, "unknown rule %d for a projection", (int)keep->by);
    }
    if (rank == 0) return fail_empty(e, keep, err);
    *out = (er_projection){e, rank};
    return 0;
}

static void copy_rows(double *y, const double *x, int64_t m, int64_t n)
{
    if (y != x) memcpy(y, x, (size_t)m * (size_t)n * sizeof *y);
}

/* P = U0 U0^T = I - U1 U1^T. Both forms go through coordinates; the second subtracts by starting its chains from x. */
void er_projection_apply(double *y, const double *x, int64_t m, const er_projection *p, double *scratch)
{
    int64_t n = p->eigen->n, away = n - p->rank;
    const double *v = p->eigen->vectors;
    if (p->rank <= away) {
        er_product64(scratch, p->rank, x, n, v, n, m, p->rank, n, 1, 0);
        er_product64(y, n, scratch, p->rank, v, n, m, n, p->rank, 0, 0);
        return;
    }
    copy_rows(y, x, m, n);
    if (away == 0) return;
    const double *v1 = v + p->rank * n;
    er_product64(scratch, away, y, n, v1, n, m, away, n, 1, 0);
    for (int64_t i = 0; i < m * away; i++) scratch[i] = -scratch[i];
    er_product64(y, n, scratch, away, v1, n, m, n, away, 0, 1);
}

void er_projection_down(double *y, const double *x, int64_t m, const er_projection *p)
{
    int64_t n = p->eigen->n;
    er_product64(y, p->rank, x, n, p->eigen->vectors, n, m, p->rank, n, 1, 0);
}

void er_projection_up(double *x, const double *y, int64_t m, const er_projection *p)
{
    int64_t n = p->eigen->n;
    er_product64(x, n, y, p->rank, p->eigen->vectors, n, m, n, p->rank, 0, 0);
}

int er_eigen_inverse(double *y, const double *x, int64_t m, const er_eigen *e, double *scratch, er_err *err)
{
    int64_t n = e->n;
    double least = (double)n * DBL_EPSILON * e->values[n - 1]; /* DBL_EPSILON is 2^-52 */
    if (!(e->values[0] > least))
        return er_fail(err, ER_E_NUMERIC,
                       "the second moment is singular: its eigenvalues run from %.3g to %.3g over %lld dimensions; "
                       "measure it on more tokens",
                       e->values[0], e->values[n - 1], (long long)n);
    er_product64(scratch, n, x, n, e->vectors, n, m, n, n, 1, 0);
    for (int64_t r = 0; r < m; r++)
        for (int64_t i = 0; i < n; i++) scratch[r * n + i] /= e->values[i];
    er_product64(y, n, scratch, n, e->vectors, n, m, n, n, 0, 0);
    return 0;
}
