/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/change.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/tick.h"
#include "editors/symmetric.h"
#include "runner/subject.h"

#include <math.h>

/* w - minus (NULL: nothing) as doubles, with the shorter side first: singular values do not mind. */
static void widen(double *m, const float *w, const float *minus, int64_t rows, int64_t cols)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            const int64_t from = r * cols + c, to = rows > cols ? c * rows + r : from;
            m[to] = (double)w[from] - (minus ? (double)minus[from] : 0);
        }
}

static int put_spectrum(er_text *out, const char *key, const float *w, const float *minus, int64_t rows, int64_t cols,
                        er_err *err)
{
    const int64_t d = rows < cols ? rows : cols, f = rows < cols ? cols : rows;
    double *m = NULL, *values = NULL, squares = 0;
    int code = er_alloc(&m, (size_t)(rows * cols), err);
    if (!code) code = er_alloc(&values, (size_t)d, err);
    if (!code) {
        widen(m, w, minus, rows, cols);
        code = er_left_singular(NULL, values, m, d, f, err);
    }
    for (int64_t i = 0; !code && i < d; i++) squares += values[i];
    if (!code)
        code = er_text_format(out, err, ",\"%s\":{\"norm\":%.9g,\"sigma\":%.9g,\"stable_rank\":%.9g}", key, sqrt(squares),
                              sqrt(values[0]), values[0] > 0 ? squares / values[0] : 0);
    er_free(values);
    er_free(m);
    return code;
}

static int put_matrix(er_text *out, const er_overlay *o, int64_t k, er_err *err)
{
    const er_matrix *m = &o->matrix[k];
    float *base = NULL;
    char name[160];
    er_matrix_name(name, sizeof name, &o->model->config, o->layers[k], (enum er_matrix_id)o->which[k]);
    ER_TRY(er_overlay_base(o, k, &base, err));
    int code = er_text_format(out, err, "{\"layer\":%lld,\"matrix\":\"%s\"", (long long)o->layers[k], name);
    if (!code) code = put_spectrum(out, "clean", base, NULL, m->rows, m->cols, err);
    if (!code) code = put_spectrum(out, "edited", m->data, NULL, m->rows, m->cols, err);
    if (!code) code = put_spectrum(out, "update", m->data, base, m->rows, m->cols, err);
    er_free(base);
    er_tick();
    return code ? code : er_text_add(out, "}\n", err);
}

int er_change_write(const char *folder, er_err *err)
{
    er_world alone = {.size = 1, .node_ranks = 1, .threads = 1, .comm = MPI_COMM_NULL, .node = MPI_COMM_NULL};
    er_subject s;
    er_text out = ER_TEXT_INIT;
    if (!er_is_run(folder)) return er_fail(err, ER_E_USAGE, "%s: is no folder of a run", folder);
    ER_TRY(er_subject_open(&s, &alone, folder, -1, err));
    int code = 0;
    for (int64_t k = 0; !code && k < s.overlay.count; k++) code = put_matrix(&out, &s.overlay, k, err);
    if (!code) code = er_save_text(folder, "spectra.jsonl", &out, err);
    er_text_free(&out);
    er_subject_close(&s);
    return code;
}
