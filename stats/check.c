/* SPDX-License-Identifier: Apache-2.0 */
/* What people look at before they trust a statistic: its spectrum, and whether eigenpairs and projection fit it. All
 * products run over panels of rows, so that memory stays at a few rows beside the inputs. */
#include "stats/store.h"

#include "base/memory.h"
#include "base/tick.h"
#include "model/kernels.h"

#include <math.h>
#include <string.h>

enum { PANEL = 64 };

void er_spectrum_fill(er_spectrum *out, const er_eigen *e, int64_t tokens)
{
    static const double threshold[] = {0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1};
    enum { COUNT = sizeof threshold / sizeof *threshold };
    _Static_assert(COUNT <= sizeof out->threshold / sizeof *out->threshold, "room for the thresholds");
    er_spectrum s = {.tokens = tokens, .dimension = e->n, .least = e->values[0], .greatest = e->values[e->n - 1],
                     .threshold_count = COUNT};
    for (int64_t i = 0; i < e->n; i++) s.trace += e->values[i];
    for (int t = 0; t < COUNT; t++) {
        s.threshold[t] = threshold[t];
        while (s.below[t] < e->n && e->values[s.below[t]] < threshold[t]) s.below[t]++;
    }
    *out = s;
}

/* a, b, scratch: PANEL x n each */
typedef struct panels {
    int64_t n;
    double *a, *b, *scratch;
} panels;

static int panels_new(panels *p, int64_t n, er_err *err)
{
    *p = (panels){n, NULL, NULL, NULL};
    size_t size = (size_t)n * PANEL;
    int code = er_alloc(&p->a, size, err);
    if (!code) code = er_alloc(&p->b, size, err);
    if (!code) code = er_alloc(&p->scratch, size, err);
    return code;
}

static void panels_free(panels *p)
{
    er_free(p->a);
    er_free(p->b);
    er_free(p->scratch);
}

static int64_t rows_from(int64_t first, int64_t n) { return n - first < PANEL ? n - first : PANEL; }

static void at_least(double *most, double value)
{
    if (!(value <= *most)) *most = value; /* NaN wins and stays */
}

static double largest_element(const double *c, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n * n; i++) at_least(&most, fabs(c[i]));
    return most;
}

static double asymmetry(const double *c, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++) at_least(&most, fabs(c[i * n + j] - c[j * n + i]));
    return most;
}

/* max |sum_k v_k[i] l_k v_k[j] - c[i][j]| */
static double reconstruction(panels *p, const double *c, const er_eigen *e)
{
    int64_t n = p->n;
    double most = 0;
    for (int64_t first = 0; first < n; first += PANEL) {
        int64_t m = rows_from(first, n);
        for (int64_t r = 0; r < m; r++)
            for (int64_t k = 0; k < n; k++) p->a[r * n + k] = e->values[k] * e->vectors[k * n + first + r];
        er_product64(p->b, n, p->a, n, e->vectors, n, m, n, n, 0, 0);
        for (int64_t i = 0; i < m * n; i++) at_least(&most, fabs(p->b[i] - c[first * n + i]));
        er_tick();
    }
    return most;
}

/* max |V V^T - I| */
static double orthogonality(panels *p, const er_eigen *e)
{
    int64_t n = p->n;
    double most = 0;
    for (int64_t first = 0; first < n; first += PANEL) {
        int64_t m = rows_from(first, n);
        er_product64(p->b, n, e->vectors + first * n, n, e->vectors, n, m, n, n, 1, 0);
        for (int64_t r = 0; r < m; r++)
            for (int64_t j = 0; j < n; j++) at_least(&most, fabs(p->b[r * n + j] - (j == first + r)));
        er_tick();
    }
    return most;
}

/* max |P P - P|, by applying P twice to the unit vectors */
static double idempotence(panels *p, const er_projection *projection)
{
    int64_t n = p->n;
    double most = 0;
    for (int64_t first = 0; first < n; first += PANEL) {
        int64_t m = rows_from(first, n);
        memset(p->a, 0, (size_t)m * (size_t)n * sizeof *p->a);
        for (int64_t r = 0; r < m; r++) p->a[r * n + first + r] = 1;
        er_projection_apply(p->a, p->a, m, projection, p->scratch);
        er_projection_apply(p->b, p->a, m, projection, p->scratch);
        for (int64_t i = 0; i < m * n; i++) at_least(&most, fabs(p->b[i] - p->a[i]));
        er_tick();
    }
    return most;
}

static double norm_of(const double *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sqrt(sum);
}

/* Mean of |P k| / |k| over keys that are not zero; *count is how many. */
static double leak(panels *p, const er_projection *projection, const float *keys, int64_t rows, int64_t *count)
{
    int64_t n = p->n;
    double sum = 0;
    *count = 0;
    for (int64_t first = 0; first < rows; first += PANEL) {
        int64_t m = rows_from(first, rows);
        for (int64_t i = 0; i < m * n; i++) p->a[i] = (double)keys[first * n + i];
        er_projection_apply(p->b, p->a, m, projection, p->scratch);
        for (int64_t r = 0; r < m; r++) {
            double norm = norm_of(p->a + r * n, n);
            if (norm == 0) continue;
            sum += norm_of(p->b + r * n, n) / norm;
            ++*count;
        }
    }
    return *count ? sum / (double)*count : 0;
}

int er_stats_verify(er_stats_check *out, const double *c, const er_eigen *e, const er_keep *keep, const float *keys,
                    int64_t m, er_err *err)
{
    panels p;
    er_projection projection;
    er_stats_check check = {0};
    double scale = largest_element(c, e->n);
    if (!(scale > 0) || !isfinite(scale))
        return er_fail(err, ER_E_NUMERIC, "the second moment is %s", scale == 0 ? "zero" : "not finite");
    ER_TRY(er_projection_make(&projection, e, keep, err));
    int code = panels_new(&p, e->n, err);
    if (!code) {
        check.asymmetry = asymmetry(c, e->n) / scale;
        check.reconstruction = reconstruction(&p, c, e) / scale;
        check.orthogonality = orthogonality(&p, e);
        check.idempotence = idempotence(&p, &projection);
        check.rank = projection.rank;
        if (keys) check.leak = leak(&p, &projection, keys, m, &check.leak_keys);
        *out = check;
    }
    panels_free(&p);
    return code;
}
