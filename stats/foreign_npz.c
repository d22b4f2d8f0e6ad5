/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/memory.h"
#include "base/tick.h"
#include "model/zip.h"
#include "model/zip_write.h"
#include "stats/foreign.h"
#include "stats/npy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const double most_asymmetry = 1e-3; /* of the root of the two diagonal elements: sums in fp32 over GPUs */

/* --- reading ------------------------------------------------------------------------------------------------------ */

typedef struct archive {
    er_zip_entry *entries;
    size_t count;
    const char *path;
} archive;

/* A member by its name; *found = 0 where it is absent. */
static int member(er_npy *out, int *found, const archive *a, const char *name, er_err *err)
{
    char file[64], where[600];
    size_t n = (size_t)snprintf(file, sizeof file, "%s.npy", name);
    *found = 0;
    for (size_t i = 0; i < a->count; i++) {
        const er_zip_entry *e = &a->entries[i];
        if (e->length != n || memcmp(e->name, file, n) != 0) continue;
        snprintf(where, sizeof where, "%.500s: %s", a->path, file);
        *found = 1;
        return er_npy_read(out, e->data, e->size, where, err);
    }
    return 0;
}

static int need(er_npy *out, const archive *a, const char *name, er_err *err)
{
    int found = 0;
    ER_TRY(member(out, &found, a, name, err));
    if (found) return 0;
    return er_fail(err, ER_E_FORMAT, "%s: the archive holds no %s: no second moments of ROME's or EasyEdit's code", a->path,
                   name);
}

static int check_shape(const er_npy *sum, int64_t dimension, const char *path, er_err *err)
{
    if (sum->type != 'f' || (sum->width != 4 && sum->width != 8))
        return er_fail(err, ER_E_UNSUPPORTED, "%s: mom2.mom2 holds %c%d, expected f4 or f8", path, sum->type, sum->width);
    if (sum->dims != 2 || sum->shape[0] != sum->shape[1])
        return er_fail(err, ER_E_FORMAT, "%s: mom2.mom2 is no square matrix", path);
    if (sum->shape[0] != dimension)
        return er_fail(err, ER_E_FORMAT, "%s: moments of %lld dimensions, the matrix has %lld inputs: of another model",
                       path, (long long)sum->shape[0], (long long)dimension);
    return 0;
}

/* The mean of the two triangles into the upper one. */
static int symmetrise(double *gram, const er_npy *sum, const char *path, er_err *err)
{
    const int64_t n = sum->shape[0];
    for (int64_t i = 0; i < n; i++) {
        double d = er_npy_real(sum, i * n + i);
        if (!isfinite(d) || d < 0)
            return er_fail(err, ER_E_FORMAT, "%s: mom2.mom2: diagonal element %lld is %g", path, (long long)i, d);
        gram[i * n + i] = d;
    }
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = i + 1; j < n; j++) {
            double a = er_npy_real(sum, i * n + j), b = er_npy_real(sum, j * n + i);
            double most = most_asymmetry * sqrt(gram[i * n + i]) * sqrt(gram[j * n + j]);
            if (!(fabs(a - b) <= most))
                return er_fail(err, ER_E_FORMAT, "%s: mom2.mom2: elements (%lld, %lld) are %g and %g, expected a symmetric "
                               "matrix", path, (long long)i, (long long)j, a, b);
            gram[i * n + j] = 0.5 * (a + b);
        }
        er_tick();
    }
    return 0;
}

static int read_members(er_moment *out, int64_t *samples, const archive *a, int64_t dimension, er_err *err)
{
    er_npy sum, count, size;
    int64_t tokens = 0;
    int found = 0;
    double *gram = NULL;
    char where[600];
    snprintf(where, sizeof where, "%.500s: mom2.count", a->path);
    ER_TRY(need(&sum, a, "mom2.mom2", err));
    ER_TRY(check_shape(&sum, dimension, a->path, err));
    ER_TRY(need(&count, a, "mom2.count", err));
    ER_TRY(er_npy_integer(&tokens, &count, where, err));
    if (tokens < 1) return er_fail(err, ER_E_FORMAT, "%s is %lld, expected 1 or more", where, (long long)tokens);
    ER_TRY(member(&size, &found, a, "sample_size", err));
    *samples = -1;
    /* "None" as numpy boxes it, or less than none */
    if (found && (er_npy_integer(samples, &size, a->path, NULL) || *samples < 0)) *samples = -1;
    ER_TRY(er_alloc(&gram, (size_t)dimension * (size_t)dimension, err)); /* as many elements as are in the file */
    int code = symmetrise(gram, &sum, a->path, err);
    if (!code) code = er_moment_new(out, dimension, err);
    if (!code && (code = er_moment_add(out, gram, tokens, err))) {
        er_moment_free(out);
        er_prefix(err, "%s: ", a->path);
    }
    er_free(gram);
    return code;
}

int er_npz_moment_parse(er_moment *out, int64_t *samples, const uint8_t *bytes, size_t size, int64_t dimension,
                        const char *path, er_err *err)
{
    archive a = {NULL, 0, path};
    if (!er_zip_begins(bytes, size)) return er_fail(err, ER_E_FORMAT, "%s: no .npz archive", path);
    ER_TRY(er_zip_read(&a.entries, &a.count, bytes, size, path, err));
    int code = read_members(out, samples, &a, dimension, err);
    er_free(a.entries);
    return code;
}

int er_npz_moment_read(er_moment *out, int64_t *samples, er_hash *file, const char *path, int64_t dimension, er_err *err)
{
    er_map map;
    ER_TRY(er_hash_file(file, path, err));
    ER_TRY(er_map_open(&map, path, err));
    int code = er_npz_moment_parse(out, samples, map.data, map.size, dimension, path, err);
    er_map_close(&map);
    return code;
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

static int put_header(er_zip_out *z, const char *name, const char *descr, int dims, const int64_t *shape, uint64_t bytes,
                      er_err *err)
{
    uint8_t header[ER_NPY_HEADER];
    er_npy_header(header, descr, dims, shape);
    ER_TRY(er_zip_begin(z, name, ER_NPY_HEADER + bytes, 1, err));
    return er_zip_put(z, header, sizeof header, err);
}

static int put_number(er_zip_out *z, const char *name, int64_t number, er_err *err)
{
    ER_TRY(put_header(z, name, "<i8", 0, NULL, sizeof number, err));
    ER_TRY(er_zip_put(z, &number, sizeof number, err));
    return er_zip_end(z, err);
}

static int put_text(er_zip_out *z, const char *name, const char *text, er_err *err)
{
    char descr[16];
    const size_t n = strlen(text);
    snprintf(descr, sizeof descr, "<U%zu", n);
    ER_TRY(put_header(z, name, descr, 0, NULL, n * 4, err));
    for (size_t i = 0; i < n; i++) {
        uint32_t c = (uint8_t)text[i];
        ER_TRY(er_zip_put(z, &c, sizeof c, err));
    }
    return er_zip_end(z, err);
}

static int put_sum(er_zip_out *z, const er_moment *m, er_err *err)
{
    const int64_t n = m->n, shape[2] = {n, n};
    float *row = NULL;
    ER_TRY(put_header(z, "mom2.mom2.npy", "<f4", 2, shape, (uint64_t)n * (uint64_t)n * sizeof *row, err));
    ER_TRY(er_alloc(&row, (size_t)n, err));
    int code = 0;
    for (int64_t i = 0; i < n && !code; i++) {
        for (int64_t j = 0; j < n; j++) row[j] = (float)er_moment_sum_at(m, i < j ? i : j, i < j ? j : i);
        code = er_zip_put(z, row, (size_t)n * sizeof *row, err);
        er_tick();
    }
    er_free(row);
    return code ? code : er_zip_end(z, err);
}

int er_npz_moment_write(const char *path, const er_moment *m, int64_t samples, er_err *err)
{
    er_zip_out z;
    ER_TRY(er_zip_create(&z, path, err));
    /* the class that EasyEdit's loader names there; it reads, but does not run, this */
    int code = put_text(&z, "mom2.constructor.npy", "util.runningstats.SecondMoment()", err);
    if (!code) code = put_number(&z, "mom2.count.npy", m->tokens, err);
    if (!code) code = put_sum(&z, m, err);
    if (!code) code = put_number(&z, "sample_size.npy", samples, err);
    if (!code) return er_zip_finish(&z, err);
    er_zip_abandon(&z);
    return code;
}
