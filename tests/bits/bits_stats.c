/* SPDX-License-Identifier: Apache-2.0 */
/* Second moments of the tiny corpus and of drawn text, and what is applied from eigenpairs. */
#include "tests/bits/bits.h"

#include "base/memory.h"
#include "model/kernels.h"
#include "stats/corpus.h"
#include "stats/eigen.h"
#include "stats/moment.h"

#include <math.h>

static void measure(const bits_model *m, const er_corpus *c, const char *name)
{
    static const int64_t layers[] = {1, 2};
    enum { LAYERS = 2, BLOCKS = 2 };
    int64_t f = m->model->config.inner;
    er_moment moment[LAYERS];
    double *gram = bits_room(f * f, sizeof *gram);
    for (int i = 0; i < LAYERS; i++) MUST(er_moment_new(&moment[i], f, &err));
    for (int64_t b = 0; b < BLOCKS && b < er_corpus_blocks(c); b++)
        MUST(er_corpus_measure(c, b, &m->view, layers, LAYERS, moment, gram, m->work, &err));
    for (int i = 0; i < LAYERS; i++) {
        emit(moment[i].sum, (size_t)er_moment_elements(f) * sizeof *moment[i].sum, "%s.layer%lld.sum", name,
             (long long)layers[i]);
        MUST(er_moment_mean(gram, &moment[i], &err));
        emit(gram, (size_t)(f * f) * sizeof *gram, "%s.layer%lld.mean", name, (long long)layers[i]);
        er_moment_free(&moment[i]);
    }
}

static void corpus(const bits_model *m, const er_corpus_options *options, const char *name)
{
    er_corpus *c;
    er_ids ids[ER_BLOCK_DOCUMENTS];
    int64_t count;
    MUST(er_corpus_open(&c, options, m->model, &err));
    er_hash hash = er_corpus_hash(c);
    emit(hash.byte, sizeof hash.byte, "%s.identity", name);
    MUST(er_corpus_block(c, 0, ids, &count, m->work, &err));
    for (int64_t i = 0; i < count; i++) {
        emit(ids[i].at, (size_t)ids[i].count * sizeof *ids[i].at, "%s.document%lld", name, (long long)i);
        er_ids_free(&ids[i]);
    }
    measure(m, c, name);
    er_corpus_close(c);
}

/* Eigenpairs come from LAPACK, whose bits belong to one library on one machine: a run hashes and keeps them, and all
 * that follows is ours. So that this program needs neither LAPACK nor a stored file, its eigenpairs are made up: the
 * orthonormal basis of the DCT-II, row i = s_i cos(pi i (2 j + 1) / 2 n), and a spectrum that rises over five decades,
 * as real ones do. They are eigenpairs of no moment above, and the arithmetic applied from them does not know. */
void bits_eigen(er_eigen *out, int64_t n, double shift)
{
    er_eigen e = {n, bits_room(n, sizeof *e.values), bits_room(n * n, sizeof *e.vectors)};
    double turn = 0x1.921fb54442d18p+0 / (double)n, whole = sqrt(2.0 / (double)n), first = sqrt(1.0 / (double)n);
    for (int64_t i = 0; i < n; i++) {
        e.values[i] = er_math_exp(shift - 7.0 + 11.5 * (double)i / (double)n);
        for (int64_t j = 0; j < n; j++) {
            double step = (double)((2 * j + 1) * i % (4 * n)); /* quarter turns are n steps: one turn is enough */
            e.vectors[i * n + j] = (i ? whole : first) * er_math_cos(step * turn);
        }
    }
    *out = e;
}

static void applied(int64_t n)
{
    enum { M = 5 };
    er_eigen e;
    er_projection p;
    bits_eigen(&e, n, 0.0);
    emit_doubles(e.values, n, "eigen.values");
    emit_doubles(e.vectors, n * n, "eigen.vectors");
    double *x = bits_room(M * n, sizeof *x), *y = bits_room(M * n, sizeof *y), *scratch = bits_room(M * n, sizeof *x);
    for (int64_t i = 0; i < M * n; i++) x[i] = (double)bits_noise(40, i, 0);
    MUST(er_eigen_inverse(y, x, M, &e, scratch, &err));
    emit_doubles(y, M * n, "eigen.inverse");
    static const er_keep keep[] = {{ER_KEEP_THRESHOLD, 0.02}, {ER_KEEP_RANK, 120}, {ER_KEEP_ENERGY, 0.1}};
    for (int k = 0; k < 3; k++) {
        MUST(er_projection_make(&p, &e, &keep[k], &err));
        er_projection_apply(y, x, M, &p, scratch);
        emit(y, (size_t)(M * n) * sizeof *y, "eigen.projection%d", k);
        er_projection_down(scratch, x, M, &p);
        emit(scratch, (size_t)(M * p.rank) * sizeof *y, "eigen.down%d", k);
        er_projection_up(y, scratch, M, &p);
        emit(y, (size_t)(M * n) * sizeof *y, "eigen.up%d", k);
    }
}

void bits_stats(bits_model *m)
{
    er_corpus_options file = {.path = "tests/fixtures/tiny-corpus.txt", .documents = 12, .max_tokens = 40};
    er_corpus_options drawn = {.tokens = 8 * 16, .max_tokens = 16, .seed = 5};
    corpus(m, &file, "corpus");
    corpus(m, &drawn, "sample");
    applied(m->model->config.inner);
}
