/* SPDX-License-Identifier: Apache-2.0 */
/* Every kind of model (tests/kinds.h): the engine against a naive fp64 twin, its gradients against differences of the
 * twin, and its bits against themselves. The families of the table and all combinations of the large choices. */
#include "tests/kinds.h"
#include "tests/twin.h"

#include <omp.h>

/* START: first active position where a text is taped; what is before it is constant. LAYER: where taps look. */
enum { T = 48, START = 13, LAYER = 1, D = K_HIDDEN };

/* All families, but where a test is slow a part of the combinations: a step that shares no factor with their number.
 * Wrong reads and writes, which sanitizers look for, show in such a part, too. */
enum { PART = 5 };
#ifdef __SANITIZE_ADDRESS__
enum { ALL = PART };
#else
enum { ALL = 1 };
#endif
static int64_t next_kind(int64_t i, int64_t step) { return i < KINDS ? i + 1 : i + step; }

/* Worst of a kind of error over all models, and where. */
typedef struct worst {
    double error;
    char where[200];
} worst;

static void note(worst *w, double error, const char *where)
{
    if (error <= w->error) return;
    w->error = error;
    snprintf(w->where, sizeof w->where, "%s", where);
}

static void finish(const worst *w, const char *what, double bound)
{
    printf("RESULT %s: worst %.2g (%s)\n", what, w->error, w->where);
    if (!(w->error <= bound)) fail_msg("%s: %g is over %g in %s", what, w->error, bound, w->where);
}

/* One model with a text and a loss: the sum of `factor` times logits over the positions from START on. */
typedef struct rig {
    random_model r;
    kind k;
    char name[160];
    const er_model *m;
    er_work *work;
    int32_t ids[T], other[T];
    float *factor; /* (T, V), 0 before START */
} rig;

static void rig_open(rig *g, int64_t i)
{
    er_err err = ER_ERR_INIT;
    g->k = kind_at(i, g->name);
    random_open(&g->r, &g->k, (uint32_t)i);
    g->m = &g->r.m;
    OK(er_work_new(&g->work, g->m, &err));
    for (uint64_t t = 0; t < T; t++) {
        g->ids[t] = (int32_t)er_random_below(K_VOCAB, 5, ER_STREAM_TEST, 0, t);
        g->other[t] = (int32_t)er_random_below(K_VOCAB, 5, ER_STREAM_TEST, 1, t);
    }
    g->factor = random_floats(&g->r, T * K_VOCAB, 0, 1);
    memset(g->factor, 0, (size_t)(START * K_VOCAB) * sizeof *g->factor);
}

static void rig_close(rig *g)
{
    er_work_free(g->work);
    random_close(&g->r);
}

static float *floats(const rig *g, int64_t count)
{
    er_err err = ER_ERR_INIT;
    float *at;
    OK(er_arena_take(g->r.arena, &at, (size_t)count, &err));
    return at;
}

/* --- against the twin --------------------------------------------------------------------------------------------- */

static void logits_equal_the_twins(void **state)
{
    (void)state;
    worst w = {0};
    for (int64_t i = 0; i < KINDS + COMBINATIONS; i = next_kind(i, ALL)) {
        rig g;
        er_err err = ER_ERR_INIT;
        er_cache *cache;
        const int64_t n = T;
        rig_open(&g, i);
        float *x = floats(&g, T * D), *logits = floats(&g, T * K_VOCAB);
        OK(er_cache_new(&cache, g.m, 1, &n, 0, K_LAYERS, &err));
        OK(er_embed_text(g.m, x, g.ids, T, &err));
        OK(er_forward(&g.r.view, cache, &(er_span){0, 0, T}, 1, x, 0, K_LAYERS, NULL, NULL, g.work, &err));
        OK(er_head(g.m, logits, x, T, g.work, &err));
        twin t = {.m = g.m};
        double *stream = twin_room(T * D), *want = twin_room(T * K_VOCAB), mean = 0, square = 0, error = 0;
        twin_embed(&t, stream, g.ids, T);
        twin_logits(&t, want, stream, T);
        for (int64_t j = 0; j < T * K_VOCAB; j++) {
            mean += want[j] / (T * K_VOCAB);
            square += want[j] * want[j] / (T * K_VOCAB);
            error = fmax(error, fabs(want[j] - (double)logits[j]));
            assert_true(isfinite(want[j]) && isfinite(logits[j]));
        }
        note(&w, error / sqrt(square - mean * mean), g.k.name);
        er_free(stream);
        er_free(want);
        er_cache_free(cache);
        rig_close(&g);
    }
    finish(&w, "logits beside the twin's, of their spread", 1e-4);
}

/* --- gradients ---------------------------------------------------------------------------------------------------- */

/* What taps do in the passes below, at LAYER: `added` (T, d) is added to what DOWN gives, whose gradient goes to
 * down_grad (T, d); `gradient` becomes that of matrix `which`. NULL members are skipped. */
typedef struct watch {
    int64_t start; /* first active position */
    enum er_matrix_id which;
    const er_matrix *matrix;
    double *gradient, *down_grad;
    const double *added;
} watch;

static int add_output(void *context, int64_t layer, enum er_matrix_id which, const float *in, float *out,
                      int64_t tokens, er_err *err)
{
    const watch *w = context;
    (void)in, (void)err;
    assert_int_equal(which, ER_MATRIX_DOWN);
    for (int64_t i = 0; w->added && layer == LAYER && i < tokens * D; i++) out[i] += (float)w->added[w->start * D + i];
    return 0;
}

static int see_gradients(void *context, int64_t layer, enum er_matrix_id which, const float *in, const float *out_grad,
                         int64_t tokens, er_err *err)
{
    watch *w = context;
    (void)err;
    if (layer != LAYER) return 0;
    for (int64_t i = 0; w->down_grad && which == ER_MATRIX_DOWN && i < tokens * D; i++)
        w->down_grad[w->start * D + i] = (double)out_grad[i];
    if (!w->gradient || which != w->which) return 0;
    const int64_t r = w->matrix->rows, c = w->matrix->cols;
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < r * c; i++)
            w->gradient[i] += (double)out_grad[t * r + i / c] * (double)in[t * c + i % c];
    return 0;
}

/* dloss/dstream before the first block, (T, d); positions before `start` are cached, and constant. */
static void take_gradient(const rig *g, float *x_grad, int64_t start, watch *w)
{
    er_err err = ER_ERR_INIT;
    er_cache *cache;
    er_tape *tape;
    const int64_t n = T;
    const er_span first = {0, 0, start}, second = {0, start, T - start};
    const er_tap forward = {.context = w, .forward = add_output, .matrices = 1u << ER_MATRIX_DOWN};
    const er_tap back = {.context = w, .backward = see_gradients};
    float *x = floats(g, T * D), *at = x + start * D, *grad = x_grad + start * D;
    OK(er_cache_new(&cache, g->m, 1, &n, 0, K_LAYERS, &err));
    OK(er_tape_new(&tape, g->m, &err));
    OK(er_embed_text(g->m, x, g->ids, T, &err));
    OK(er_forward(&g->r.view, cache, &first, 1, x, 0, K_LAYERS, NULL, NULL, g->work, &err));
    OK(er_forward(&g->r.view, cache, &second, 1, at, 0, K_LAYERS, tape, w ? &forward : NULL, g->work, &err));
    memset(x_grad, 0, (size_t)(start * D) * sizeof *x_grad);
    OK(er_head_back(g->m, grad, g->factor + start * K_VOCAB, at, T - start, g->work, &err));
    OK(er_backward(&g->r.view, cache, &second, 1, grad, 0, K_LAYERS, tape, w ? &back : NULL, g->work, &err));
    er_tape_free(tape);
    er_cache_free(cache);
}

/* The twin's loss with its stream moved along `way` (NULL: not). */
static double twin_loss(const rig *g, const twin *t, const double *way, double length)
{
    double *stream = twin_room(T * D), *logits = twin_room(T * K_VOCAB), loss = 0;
    twin_embed(t, stream, g->ids, T);
    for (int64_t i = 0; way && i < T * D; i++) stream[i] += length * way[i];
    twin_logits(t, logits, stream, T);
    for (int64_t i = 0; i < T * K_VOCAB; i++) loss += (double)g->factor[i] * logits[i];
    er_free(stream);
    er_free(logits);
    return loss;
}

/* A random direction that is 0 before element `from`. */
static double *direction(int64_t item, int64_t count, int64_t from)
{
    double *way = twin_room(count);
    for (int64_t j = from; j < count; j++)
        way[j] = er_random_uniform(8, ER_STREAM_TEST, (uint32_t)item, (uint64_t)j) - 0.5;
    return way;
}

/* |slope by the gradient - `found` by differences| in units of such slopes, |gradient| |way| / sqrt(count). */
static double slope_error(const double *gradient, const double *way, int64_t count, int64_t from, double found)
{
    double slope = 0, g = 0, length = 0;
    for (int64_t i = from; i < count; i++) {
        slope += gradient[i] * way[i];
        g += gradient[i] * gradient[i];
        length += way[i] * way[i];
    }
    assert_true(g > 0);
    return fabs(slope - found) / sqrt(g * length / (double)(count - from));
}

static const double STEP = 1e-6;

static void stream_gradients_equal_differences(void **state)
{
    (void)state;
    worst w = {0};
    for (int64_t i = 0; i < KINDS + COMBINATIONS; i = next_kind(i, ALL)) {
        rig g;
        rig_open(&g, i);
        twin t = {.m = g.m};
        float *x_grad = floats(&g, T * D);
        double *way = direction(i, T * D, START * D), *got = twin_room(T * D);
        take_gradient(&g, x_grad, START, NULL);
        for (int64_t j = 0; j < T * D; j++) got[j] = (double)x_grad[j];
        double found = (twin_loss(&g, &t, way, STEP) - twin_loss(&g, &t, way, -STEP)) / (2 * STEP);
        note(&w, slope_error(got, way, T * D, START * D, found), g.k.name);
        er_free(got);
        er_free(way);
        rig_close(&g);
    }
    finish(&w, "gradients of the stream beside differences", 1e-4);
}

/* A tap's addition to what DOWN gives is in the pass, and the gradient that a tap sees there is the loss's. */
static void added_outputs_have_gradients(void **state)
{
    (void)state;
    worst w = {0};
    for (int64_t i = 0; i < KINDS + COMBINATIONS; i = next_kind(i, PART)) {
        rig g;
        rig_open(&g, i);
        double *added = direction(1000 + i, T * D, START * D), *way = direction(2000 + i, T * D, START * D), loss[2];
        double *moved = twin_room(T * D);
        watch seen = {.start = START, .down_grad = twin_room(T * D), .added = added};
        take_gradient(&g, floats(&g, T * D), START, &seen);
        for (int s = 0; s < 2; s++) {
            twin t = {.m = g.m, .added = moved, .added_layer = LAYER};
            for (int64_t j = 0; j < T * D; j++) moved[j] = (double)(float)added[j] + (s ? -STEP : STEP) * way[j];
            loss[s] = twin_loss(&g, &t, NULL, 0);
        }
        note(&w, slope_error(seen.down_grad, way, T * D, START * D, (loss[0] - loss[1]) / (2 * STEP)), g.k.name);
        er_free(added);
        er_free(way);
        er_free(moved);
        er_free(seen.down_grad);
        rig_close(&g);
    }
    finish(&w, "gradients of what a tap adds beside differences", 1e-4);
}

static double matrix_error(const rig *g, enum er_matrix_id which, int64_t i)
{
    const er_matrix *m = &g->m->layers[LAYER].matrix[which];
    const int64_t n = m->rows * m->cols;
    watch w = {.which = which, .matrix = m, .gradient = twin_room(n)};
    double *way = direction(100 * i + which, n, 0);
    twin more = {.m = g->m, .moved = m->data, .way = way, .length = STEP}, less = more;
    less.length = -STEP;
    take_gradient(g, floats(g, T * D), 0, &w);
    double found = (twin_loss(g, &more, NULL, 0) - twin_loss(g, &less, NULL, 0)) / (2 * STEP);
    double error = slope_error(w.gradient, way, n, 0, found);
    er_free(way);
    er_free(w.gradient);
    return error;
}

static void matrix_gradients_equal_differences(void **state)
{
    (void)state;
    worst w = {0};
    for (int64_t i = 0; i < KINDS + COMBINATIONS; i = next_kind(i, PART)) {
        rig g;
        rig_open(&g, i);
        for (int m = 0; m < ER_MATRIX_COUNT; m++)
            if (g.m->layers[LAYER].matrix[m].data && (i < KINDS || i % ER_MATRIX_COUNT == m))
                note(&w, matrix_error(&g, (enum er_matrix_id)m, i), g.k.name);
        rig_close(&g);
    }
    finish(&w, "gradients of matrices beside differences", 1e-4);
}

/* --- bits --------------------------------------------------------------------------------------------------------- */

enum { SHARED_LENGTH = 8 };

/* Three rows: the first positions of the text, another text, and the rest of the text behind the first row. */
static er_cache *three_rows(const rig *g)
{
    er_err err = ER_ERR_INIT;
    er_cache *cache;
    const int64_t capacity[3] = {SHARED_LENGTH, T, T - SHARED_LENGTH};
    OK(er_cache_new(&cache, g->m, 3, capacity, 0, K_LAYERS, &err));
    er_cache_share(cache, 2, cache, 0, SHARED_LENGTH);
    return cache;
}

/* Embeds and runs spans of rows of three_rows or of a cache with the text alone; x has their tokens. */
static void run(const rig *g, er_cache *cache, const er_span *spans, int64_t count, float *x, er_tape *tape)
{
    er_err err = ER_ERR_INIT;
    int32_t ids[2 * T];
    int64_t n = 0;
    for (int64_t s = 0; s < count; s++) {
        const int32_t *text = spans[s].row == 1 ? g->other : g->ids;
        memcpy(ids + n, text + spans[s].start, (size_t)spans[s].count * sizeof *ids);
        n += spans[s].count;
    }
    OK(er_embed(g->m, x, ids, spans, count, &err));
    OK(er_forward(&g->r.view, cache, spans, count, x, 0, K_LAYERS, tape, NULL, g->work, &err));
}

static void same(const rig *g, const float *got, const float *want, int64_t tokens, const char *how)
{
    if (memcmp(got, want, (size_t)(tokens * D) * sizeof *got)) fail_msg("%s: other bits %s", g->k.name, how);
}

static void grouping_changes_no_bit(void **state)
{
    (void)state;
    for (int64_t i = 0; i < KINDS + COMBINATIONS; i = next_kind(i, ALL)) {
        rig g;
        er_err err = ER_ERR_INIT;
        er_cache *cache;
        er_tape *tape;
        const int64_t n = T;
        rig_open(&g, i);
        float *plain = floats(&g, T * D), *x = floats(&g, 2 * T * D);
        OK(er_tape_new(&tape, g.m, &err));
        OK(er_cache_new(&cache, g.m, 1, &n, 0, K_LAYERS, &err));
        run(&g, cache, &(er_span){0, 0, T}, 1, plain, NULL);
        er_cache_free(cache);
        OK(er_cache_new(&cache, g.m, 1, &n, 0, K_LAYERS, &err));
        for (int64_t t = 0; t < T; t++) run(&g, cache, &(er_span){0, t, 1}, 1, x + t * D, NULL);
        same(&g, x, plain, T, "token by token");
        er_cache_free(cache);
        cache = three_rows(&g);
        omp_set_num_threads(2);
        run(&g, cache, (const er_span[]){{1, 0, T}, {0, 0, SHARED_LENGTH}}, 2, x, NULL);
        same(&g, x + T * D, plain, SHARED_LENGTH, "beside another text");
        const er_span pieces[2] = {{2, SHARED_LENGTH, 3}, {2, SHARED_LENGTH + 3, T - SHARED_LENGTH - 3}};
        for (int piece = 0; piece < 2; piece++) {
            run(&g, cache, &pieces[piece], 1, x, tape);
            same(&g, x, plain + pieces[piece].start * D, pieces[piece].count, "behind a shared prefix, taped");
        }
        omp_set_num_threads(1);
        er_cache_free(cache);
        er_tape_free(tape);
        rig_close(&g);
    }
}

static void grouping_changes_no_bit_of_gradients(void **state)
{
    (void)state;
    for (int64_t i = 0; i < KINDS + COMBINATIONS; i = next_kind(i, ALL)) {
        rig g;
        er_err err = ER_ERR_INIT;
        er_tape *tape;
        enum { REST = T - START };
        const er_span both[2] = {{1, START, REST}, {2, START, REST}};
        rig_open(&g, i);
        float *plain = floats(&g, T * D), *x = floats(&g, 2 * T * D), *grad = floats(&g, 2 * REST * D);
        take_gradient(&g, plain, START, NULL);
        OK(er_tape_new(&tape, g.m, &err));
        er_cache *cache = three_rows(&g);
        omp_set_num_threads(2);
        run(&g, cache, (const er_span[]){{0, 0, SHARED_LENGTH}, {1, 0, START}}, 2, x, NULL);
        run(&g, cache, &(er_span){2, SHARED_LENGTH, START - SHARED_LENGTH}, 1, x, NULL);
        run(&g, cache, both, 2, x, tape);
        for (int k = 0; k < 2; k++)
            OK(er_head_back(g.m, grad + k * REST * D, g.factor + START * K_VOCAB, x + k * REST * D, REST, g.work,
                            &err));
        OK(er_backward(&g.r.view, cache, both, 2, grad, 0, K_LAYERS, tape, NULL, g.work, &err));
        same(&g, grad + REST * D, plain + START * D, REST, "of gradients beside another text, behind a prefix");
        omp_set_num_threads(1);
        er_cache_free(cache);
        er_tape_free(tape);
        rig_close(&g);
    }
}

/* --- what is refused ---------------------------------------------------------------------------------------------- */

static void bad_texts_are_refused(void **state)
{
    (void)state;
    for (int64_t i = 0; i < KINDS; i++) {
        rig g;
        er_err err = ER_ERR_INIT;
        rig_open(&g, i);
        float *x = floats(&g, T * D);
        int32_t ids[T] = {0};
        const er_span late = {0, K_LONGEST - T + 1, T};
        OK(er_embed_text(g.m, x, ids, T, &err));
        assert_int_equal(er_embed(g.m, x, ids, &late, 1, &err), ER_E_INPUT);
        ids[T - 1] = K_VOCAB;
        assert_int_equal(er_embed_text(g.m, x, ids, T, &err), ER_E_INPUT);
        ids[T - 1] = -1;
        assert_int_equal(er_embed_text(g.m, x, ids, T, &err), ER_E_INPUT);
        rig_close(&g);
    }
}

/* A block of LLaMA is taped as it needs: two streams, queries, what is attended, gate and up, probabilities. */
static void the_tape_holds_what_is_needed(void **state)
{
    (void)state;
    rig g;
    er_err err = ER_ERR_INIT;
    er_tape *tape;
    er_cache *cache;
    const int64_t n = T;
    int64_t bytes[2];
    for (int64_t i = 0; i < 2; i++) { /* LLaMA, and with windows of 7 positions in all layers */
        rig_open(&g, i);
        OK(er_tape_new(&tape, g.m, &err));
        OK(er_cache_new(&cache, g.m, 1, &n, 0, K_LAYERS, &err));
        run(&g, cache, &(er_span){0, 0, T}, 1, floats(&g, T * D), tape);
        bytes[i] = er_tape_bytes(tape);
        er_cache_free(cache);
        er_tape_free(tape);
        rig_close(&g);
    }
    const int64_t each = T * (2 * D + 2 * K_HEADS * K_HEAD_DIM + 2 * K_INNER);
    const int64_t all = K_HEADS * T * (T + 1) / 2, windowed = K_HEADS * (7 * T - 7 * 6 / 2);
    const int64_t rounding = 16 * 8 * K_LAYERS; /* arrays start on lines of their own */
    assert_in_range(bytes[0] / 4, K_LAYERS * (each + all), K_LAYERS * (each + all) + rounding);
    assert_in_range(bytes[1] / 4, K_LAYERS * (each + windowed), K_LAYERS * (each + windowed) + rounding);
}

int main(void)
{
    if (er_kernels_start(NULL)) return 1;
    omp_set_num_threads(1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_equal_the_twins),
        cmocka_unit_test(stream_gradients_equal_differences),
        cmocka_unit_test(added_outputs_have_gradients),
        cmocka_unit_test(matrix_gradients_equal_differences),
        cmocka_unit_test(grouping_changes_no_bit),
        cmocka_unit_test(grouping_changes_no_bit_of_gradients),
        cmocka_unit_test(bad_texts_are_refused),
        cmocka_unit_test(the_tape_holds_what_is_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
