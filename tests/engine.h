/* SPDX-License-Identifier: Apache-2.0 */
/* A loss and its gradients by the engine, for tests that hold them against somebody else's. Header only. */
#ifndef ER_TESTS_ENGINE_H
#define ER_TESTS_ENGINE_H

#include "tests/support.h"

#include "model/forward.h"
#include "model/kernels.h"

/* Mean nll of the last `last` ids, taken back through all blocks; `tap` sees the gradients on their way; first_grad
 * (T, d), if wanted, gets the one of what block 0 reads. */
static inline float test_loss_and_gradients(const er_view *view, er_work *work, const er_ids *ids, int64_t last,
                                            const er_tap *tap, float *first_grad)
{
    er_err err = ER_ERR_INIT;
    const er_model *m = view->model;
    const er_config *c = &m->config;
    const int64_t n = ids->count, d = c->hidden, first = n - 1 - last;
    er_cache *cache;
    er_tape *tape;
    float *x, *g, *logits, loss = 0;
    OK(er_cache_new(&cache, m, 1, &n, 0, c->layers, &err));
    OK(er_tape_new(&tape, m, &err));
    OK(er_alloc(&x, (size_t)(n * d), &err));
    OK(er_alloc(&g, (size_t)(n * d), &err));
    OK(er_alloc(&logits, (size_t)(last * c->vocab), &err));
    er_span all = {0, 0, n};
    OK(er_embed_text(m, x, ids->at, n, &err));
    OK(er_forward(view, cache, &all, 1, x, 0, c->layers, tape, NULL, work, &err));
    OK(er_head(m, logits, x + first * d, last, work, &err));
    for (int64_t i = 0; i < last; i++) {
        float *row = logits + i * c->vocab, lse = er_log_sum_exp(row, c->vocab, NULL);
        int32_t id = ids->at[first + i + 1];
        loss += (lse - row[id]) / (float)last;
        er_exp_shifted(row, row, lse, c->vocab);
        row[id] -= 1;
        for (int64_t v = 0; v < c->vocab; v++) row[v] /= (float)last;
    }
    OK(er_head_back(m, g + first * d, logits, x + first * d, last, work, &err));
    OK(er_backward(view, cache, &all, 1, g, 0, c->layers, tape, tap, work, &err));
    if (first_grad) memcpy(first_grad, g, (size_t)(n * d) * sizeof *g);
    er_free(x);
    er_free(g);
    er_free(logits);
    er_tape_free(tape);
    er_cache_free(cache);
    return loss;
}

static inline float test_loss_and_gradient(const er_view *view, er_work *work, const er_ids *ids, int64_t last,
                                           const er_tap *tap)
{
    return test_loss_and_gradients(view, work, ids, last, tap, NULL);
}

#endif
