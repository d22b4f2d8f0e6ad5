/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/machine.h"

#include "base/log.h"
#include "base/memory.h"
#include "base/options.h"
#include "model/kernels.h"

#include <omp.h>
#include <stdio.h>
#include <string.h>

enum { ROWS = 96, MOST_FLOATS = 1 << 22, MOST_DOUBLES = 1 << 18 };

er_machine er_machine_assumed(void)
{
    return (er_machine){.products = 125e9, .products64 = 62e9, .core64 = 62e9, .read = 12e9, .bandwidth = 1.25e9,
                        .latency = 20e-6, .takers = 1, .shards = 1};
}

/* --- measuring --------------------------------------------------------------------------------------------------- */

/* A part of the rows where the matrix is large. */
static int64_t rows_of(const er_config *c, int64_t most)
{
    const int64_t fit = most / c->inner;
    return c->hidden < fit ? c->hidden : fit > 0 ? fit : 1;
}

static int measure_products(double *flops, const er_config *c, double seconds, er_err *err)
{
    const int64_t f = c->inner, d = rows_of(c, MOST_FLOATS);
    float *w = NULL, *x = NULL, *y = NULL;
    int code = er_alloc(&w, (size_t)(d * f), err);
    if (!code) code = er_alloc(&x, (size_t)(ROWS * f), err);
    if (!code) code = er_alloc(&y, (size_t)(ROWS * d), err);
    if (!code) {
        const er_matrix m = {ER_F32, d, f, w};
        double start = er_seconds(), now = start, done = 0;
        er_product(y, d, x, f, ROWS, &m); /* threads and pages are there now */
        for (start = er_seconds(); now - start < seconds; now = er_seconds()) {
            er_product(y, d, x, f, ROWS, &m);
            done += 2.0 * (double)d * (double)f * ROWS;
        }
        *flops = done / (now - start);
    }
    er_free(w);
    er_free(x);
    er_free(y);
    return code;
}

static int measure_products64(double *flops, const er_config *c, double seconds, er_err *err)
{
    const int64_t f = c->inner, d = rows_of(c, MOST_DOUBLES);
    double *w = NULL, *x = NULL, *y = NULL;
    int code = er_alloc(&w, (size_t)(d * f), err);
    if (!code) code = er_alloc(&x, (size_t)(ROWS * f), err);
    if (!code) code = er_alloc(&y, (size_t)(ROWS * d), err);
    if (!code) {
        double start = er_seconds(), now = start, done = 0;
        er_product64(y, d, x, f, w, f, ROWS, d, f, 1, 0);
        for (start = er_seconds(); now - start < seconds; now = er_seconds()) {
            er_product64(y, d, x, f, w, f, ROWS, d, f, 1, 0);
            done += 2.0 * (double)d * (double)f * ROWS;
        }
        *flops = done / (now - start);
    }
    er_free(w);
    er_free(x);
    er_free(y);
    return code;
}

/* One row through a matrix: each weight is read for one product. */
static int measure_reading(double *bytes, const er_config *c, double seconds, er_err *err)
{
    const int64_t f = c->inner, d = 4 * rows_of(c, MOST_FLOATS);
    float *w = NULL, *x = NULL, *y = NULL;
    int code = er_alloc(&w, (size_t)(d * f), err);
    if (!code) code = er_alloc(&x, (size_t)f, err);
    if (!code) code = er_alloc(&y, (size_t)d, err);
    if (!code) {
        const er_matrix m = {ER_F32, d, f, w};
        double start = er_seconds(), now = start, done = 0;
        memset(w, 1, (size_t)(d * f) * sizeof *w); /* pages of its own */
        for (start = er_seconds(); now - start < seconds; now = er_seconds()) {
            er_product(y, d, x, f, 1, &m);
            done += 4.0 * (double)d * (double)f;
        }
        *bytes = done / (now - start);
    }
    er_free(w);
    er_free(x);
    er_free(y);
    return code;
}

int er_machine_measure(er_machine *m, const er_config *c, double seconds, er_err *err)
{
    ER_TRY(measure_products(&m->products, c, seconds, err));
    ER_TRY(measure_products64(&m->products64, c, seconds, err));
    m->core64 = m->products64 / omp_get_max_threads();
    return measure_reading(&m->read, c, seconds, err);
}

/* --- given ------------------------------------------------------------------------------------------------------- */

typedef struct rate_name {
    const char *name;
    double *to, unit;
    int given;
} rate_name;

static int read_one(rate_name *rates, size_t count, const char *name, const char *value, er_err *err)
{
    for (size_t i = 0; i < count; i++) {
        double number;
        if (strcmp(rates[i].name, name) != 0) continue;
        if (er_parse_double(&number, value) || !(number > 0))
            return er_fail(err, ER_E_USAGE, "--rates %s=%s: expected a number above 0", name, value);
        *rates[i].to = number * rates[i].unit;
        rates[i].given = 1;
        return 0;
    }
    return er_fail(err, ER_E_USAGE, "--rates: '%s' is none of products, fp64, core64, read, network and latency", name);
}

int er_machine_read(er_machine *m, const char *text, er_err *err)
{
    rate_name rates[] = {{"products", &m->products, 1e9, 0}, {"fp64", &m->products64, 1e9, 0},
                         {"core64", &m->core64, 1e9, 0},     {"read", &m->read, 1e9, 0},
                         {"network", &m->bandwidth, 1e9, 0}, {"latency", &m->latency, 1e-6, 0}};
    char one[64];
    for (const char *at = text; *at;) {
        const size_t n = strcspn(at, ",");
        if (n >= sizeof one) return er_fail(err, ER_E_USAGE, "--rates: '%s' is too long", at);
        snprintf(one, sizeof one, "%.*s", (int)n, at);
        char *equals = strchr(one, '=');
        if (!equals) return er_fail(err, ER_E_USAGE, "--rates: '%s', expected NAME=NUMBER", one);
        *equals = 0;
        ER_TRY(read_one(rates, sizeof rates / sizeof *rates, one, equals + 1, err));
        at += n + (at[n] == ',');
    }
    if (rates[0].given && !rates[1].given) m->products64 = m->products / 2;
    if (rates[0].given && !rates[2].given) m->core64 = m->products64;
    return 0;
}
