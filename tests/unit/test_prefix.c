/* SPDX-License-Identifier: Apache-2.0 */
/* Which leading ids texts share, held against every way to cut and to group them; and shared texts against texts alone,
 * bit for bit, forward and backward, on two models of every family. */
#include "tests/families.h"

#include "base/random.h"
#include "model/prefix.h"

enum { TEXTS = 7, LONGEST = 6, DRAWS = 400 };

/* --- the choice ------------------------------------------------------------------------------------------------ */
typedef struct drawn {
    int32_t ids[TEXTS][LONGEST];
    const int32_t *at[TEXTS];
    int64_t count[TEXTS], most[TEXTS];
} drawn;

static int64_t below(uint32_t draw, uint64_t *next, int64_t n)
{
    return (int64_t)(er_random_uniform(11, ER_STREAM_TEST, draw, (*next)++) * (double)n);
}

/* Two ids only, so that much is shared. */
static void draw_texts(drawn *t, uint32_t draw)
{
    uint64_t next = 0;
    for (int i = 0; i < TEXTS; i++) {
        t->count[i] = 1 + below(draw, &next, LONGEST);
        t->most[i] = below(draw, &next, t->count[i] + 1);
        for (int j = 0; j < LONGEST; j++) t->ids[i][j] = (int32_t)below(draw, &next, 2);
        t->at[i] = t->ids[i];
    }
}

static int64_t common(const drawn *t, unsigned set)
{
    int64_t n = LONGEST;
    int first = -1;
    for (int i = 0; i < TEXTS; i++) {
        if (!(set >> i & 1)) continue;
        if (first < 0) first = i;
        int64_t k = 0;
        while (k < t->most[i] && k < n && t->ids[i][k] == t->ids[first][k]) k++;
        n = k;
    }
    return n;
}

/* Most positions that any partition of the texts into groups saves: each group of the first text left, and the rest. */
static int64_t most_saved(const drawn *t, unsigned left, int64_t *known)
{
    if (!left) return 0;
    if (known[left] >= 0) return known[left];
    const unsigned first = left & (0U - left), others = left & ~first;
    int64_t most = 0;
    for (unsigned with = others;; with = (with - 1) & others) {
        const unsigned group = first | with;
        int64_t saved = (__builtin_popcount(group) - 1) * common(t, group) + most_saved(t, left & ~group, known);
        if (saved > most) most = saved;
        if (!with) break;
    }
    return known[left] = most;
}

static void check_rows(const drawn *t, const er_prefixes *p)
{
    for (int64_t i = 0; i < TEXTS; i++) {
        assert_int_equal(p->end[i], t->count[i]);
        assert_true(p->length[i] >= 0 && p->length[i] <= t->most[i]);
        assert_int_equal(p->base[i] < 0, p->length[i] == 0);
        if (p->base[i] < 0) continue;
        assert_in_range(p->base[i], TEXTS, TEXTS + p->bases - 1);
        assert_int_equal(p->end[p->base[i]], p->length[i]);
        assert_memory_equal(p->ids[p->base[i]], t->ids[i], (size_t)p->length[i] * sizeof(int32_t));
    }
    for (int64_t b = TEXTS; b < TEXTS + p->bases; b++) {
        int users = 0;
        for (int64_t i = 0; i < TEXTS; i++) users += p->base[i] == b;
        assert_true(users > 1 && p->length[b] == 0 && p->end[b] > 0);
    }
}

static int before(const drawn *t, int a, int b)
{
    int64_t k = 0;
    while (k < t->most[a] && k < t->most[b] && t->ids[a][k] == t->ids[b][k]) k++;
    if (k < t->most[a] && k < t->most[b]) return t->ids[a][k] < t->ids[b][k];
    return t->most[a] < t->most[b];
}

/* The same among cuts of the texts, in order of the ids that they may share, into neighbours. */
static int64_t most_cut(const drawn *t)
{
    int order[TEXTS];
    int64_t most = 0;
    for (int i = 0; i < TEXTS; i++) {
        int j = i;
        for (; j > 0 && before(t, i, order[j - 1]); j--) order[j] = order[j - 1];
        order[j] = i;
    }
    for (unsigned cuts = 0; cuts < 1U << (TEXTS - 1); cuts++) {
        int64_t saved = 0;
        unsigned group = 0;
        for (int i = 0; i < TEXTS; i++) {
            group |= 1U << order[i];
            if (i < TEXTS - 1 && !(cuts >> i & 1)) continue;
            saved += (__builtin_popcount(group) - 1) * common(t, group);
            group = 0;
        }
        if (saved > most) most = saved;
    }
    return most;
}

/* The best of all cuts; and what groups that are no neighbours could save beyond that is little even here. */
static void no_cut_saves_more(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    int64_t all_saved = 0, all_most = 0;
    for (uint32_t n = 0; n < DRAWS; n++) {
        drawn t;
        er_prefixes p;
        er_arena *arena;
        int64_t tokens = 0, known[1 << TEXTS];
        draw_texts(&t, n);
        memset(known, -1, sizeof known);
        for (int i = 0; i < TEXTS; i++) tokens += t.count[i];
        OK(er_arena_new(&arena, 0, &err));
        OK(er_prefixes_find(&p, t.at, t.count, t.most, TEXTS, arena, &err));
        check_rows(&t, &p);
        const int64_t saved = tokens - er_prefixes_tokens(&p);
        assert_int_equal(saved, most_cut(&t));
        all_saved += saved;
        all_most += most_saved(&t, (1U << TEXTS) - 1, known);
        er_arena_free(arena);
    }
    print_message("%d draws of %d texts: %.1f positions saved each, %.1f could be\n", DRAWS, TEXTS,
                  (double)all_saved / DRAWS, (double)all_most / DRAWS);
    assert_true(all_saved > 0 && all_saved <= all_most && (double)all_saved > 0.9 * (double)all_most);
}

static void nothing_to_share(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    const int32_t one[] = {1, 2, 3}, two[] = {2, 2, 3};
    const int32_t *different[] = {one, two}, *equal[] = {one, one};
    const int64_t count[] = {3, 3}, most[] = {3, 3}, none[] = {3, 0};
    er_prefixes p;
    er_arena *arena;
    OK(er_arena_new(&arena, 0, &err));
    OK(er_prefixes_find(&p, different, count, most, 2, arena, &err));
    assert_int_equal(p.bases, 0);
    OK(er_prefixes_find(&p, equal, count, NULL, 2, arena, &err));
    assert_int_equal(p.bases, 0);
    OK(er_prefixes_find(&p, equal, count, none, 2, arena, &err));
    assert_int_equal(p.bases, 0);
    OK(er_prefixes_find(&p, equal, count, most, 1, arena, &err));
    assert_int_equal(p.bases, 0);
    OK(er_prefixes_find(&p, equal, count, most, 0, arena, &err));
    assert_int_equal(er_prefixes_tokens(&p), 0);
    OK(er_prefixes_find(&p, equal, count, most, 2, arena, &err)); /* texts that are one: nothing of them is left */
    assert_int_equal(p.bases, 1);
    assert_int_equal(er_prefixes_tokens(&p), 3);
    er_arena_free(arena);
}

static void failed_allocations_are_errors(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    drawn t;
    draw_texts(&t, 0);
    int failures = 0;
    for (int64_t n = 1;; n++) {
        er_prefixes p;
        er_arena *arena;
        const int64_t live = er_memory_live();
        OK(er_arena_new(&arena, 0, &err));
        er_memory_fail_at(n);
        int code = er_prefixes_find(&p, t.at, t.count, t.most, TEXTS, arena, &err);
        er_memory_fail_at(0);
        er_arena_free(arena);
        assert_int_equal(er_memory_live(), live);
        if (!code) break;
        assert_int_equal(code, ER_E_MEMORY);
        failures++;
    }
    assert_true(failures >= 5);
}

/* --- bits ------------------------------------------------------------------------------------------------------ */

/* Beginnings of three lengths, one of 9 positions (the tiny models' windows see 5 to 9), one text that begins like no
 * other and one that is a beginning; `from`: where a step would start, at least what is shared. */
enum { ROWS = 7, LENGTH = 16 };
static const struct { int64_t same, count, most, from; int like; } rows[ROWS] = {
    {16, 13, 9, 9, 0}, {11, 14, 11, 12, 0}, {9, 10, 9, 9, 0}, {0, 12, 8, 10, 3},
    {3, 8, 7, 7, 3},   {0, 5, 5, 4, 5},     {9, 9, 9, 8, 0},
};

typedef struct shared_rig {
    rig *r;
    int32_t ids[ROWS][LENGTH];
    er_arena *arena;
    er_prefixes alone, shared;
} shared_rig;

static void shared_open(shared_rig *s, rig *r)
{
    er_err err = ER_ERR_INIT;
    const int32_t *at[ROWS];
    int64_t count[ROWS], most[ROWS];
    *s = (shared_rig){.r = r};
    for (int i = 0; i < ROWS; i++) {
        for (int j = 0; j < LENGTH; j++)
            s->ids[i][j] = j < rows[i].same && rows[i].like != i
                               ? s->ids[rows[i].like][j]
                               : (int32_t)(er_random_uniform(12, ER_STREAM_TEST, (uint32_t)i, (uint64_t)j) *
                                           (double)r->model->config.vocab);
        at[i] = s->ids[i];
        count[i] = rows[i].count;
        most[i] = rows[i].most < rows[i].from ? rows[i].most : rows[i].from;
    }
    OK(er_arena_new(&s->arena, 0, &err));
    OK(er_prefixes_find(&s->alone, at, count, NULL, ROWS, s->arena, &err));
    OK(er_prefixes_find(&s->shared, at, count, most, ROWS, s->arena, &err));
    assert_int_equal(s->alone.bases, 0);
    assert_true(s->shared.bases >= 2 && er_prefixes_tokens(&s->shared) + 20 < er_prefixes_tokens(&s->alone));
}

/* All blocks over whole rows; then blocks 1.. again from `from` on, taped, and back. streams, steps and gradients
 * (ROWS, LENGTH, d): what belongs to a text's own positions from `from` on, at their place. */
static void run_rows(const shared_rig *s, const er_prefixes *p, float *streams, float *steps, float *gradients)
{
    er_err err = ER_ERR_INIT;
    const er_model *m = s->r->model;
    const int64_t d = m->config.hidden, all = er_prefixes_tokens(p);
    float *x = floats((size_t)(all * d)), *part = floats((size_t)(ROWS * LENGTH * d));
    er_span spans[2 * ROWS];
    er_cache *cache;
    er_tape *tape;
    OK(er_tape_new(&tape, m, &err));
    OK(er_prefixes_cache(&cache, p, m, 0, m->config.layers, &err));
    OK(er_prefixes_embed(p, m, x, &err));
    er_prefixes_spans(p, spans);
    assert_int_equal(er_spans_tokens(spans, p->texts + p->bases), all);
    OK(er_forward(&s->r->view, cache, spans, p->texts + p->bases, x, 0, m->config.layers, NULL, NULL, s->r->work,
                  &err));
    for (int64_t i = 0, t = 0, n = 0; i < ROWS; t += spans[i++].count) {
        const int64_t from = rows[i].from, count = rows[i].count - from;
        memcpy(streams + (i * LENGTH + from) * d, x + (t + from - p->length[i]) * d, (size_t)(count * d) * sizeof *x);
        for (int64_t k = 0; k < count * d; k++)
            part[n * d + k] = (float)er_random_uniform(13, ER_STREAM_TEST, (uint32_t)i, (uint64_t)k);
        n += count;
    }
    for (int64_t i = 0; i < ROWS; i++) spans[i] = (er_span){i, rows[i].from, rows[i].count - rows[i].from};
    OK(er_forward(&s->r->view, cache, spans, ROWS, part, 1, m->config.layers, tape, NULL, s->r->work, &err));
    for (int back = 0; back < 2; back++) {
        for (int64_t i = 0, t = 0; i < ROWS; t += spans[i++].count)
            memcpy((back ? gradients : steps) + (i * LENGTH + rows[i].from) * d, part + t * d,
                   (size_t)(spans[i].count * d) * sizeof *part);
        if (!back)
            OK(er_backward(&s->r->view, cache, spans, ROWS, part, 1, m->config.layers, tape, NULL, s->r->work, &err));
    }
    er_free(x);
    er_free(part);
    er_tape_free(tape);
    er_cache_free(cache);
}

/* The streams at positions from `from` on, when nothing else is wanted. */
static void run_wanted(const shared_rig *s, const er_prefixes *p, float *streams)
{
    er_err err = ER_ERR_INIT;
    const er_model *m = s->r->model;
    const int64_t d = m->config.hidden;
    float *x = floats((size_t)(er_prefixes_tokens(p) * d));
    int64_t wanted[2 * ROWS], t = 0;
    er_span spans[2 * ROWS];
    er_cache *cache;
    for (int64_t r = 0; r < p->texts + p->bases; r++) wanted[r] = r < ROWS ? rows[r].from : p->end[r];
    OK(er_prefixes_cache(&cache, p, m, 0, m->config.layers, &err));
    OK(er_prefixes_embed(p, m, x, &err));
    er_prefixes_spans(p, spans);
    OK(er_forward_wanted(&s->r->view, cache, spans, p->texts + p->bases, wanted, x, 0, m->config.layers, NULL,
                         s->r->work, &err));
    for (int64_t i = 0; i < ROWS; t += spans[i++].count) {
        assert_int_equal(spans[i].start, rows[i].from);
        assert_int_equal(spans[i].start + spans[i].count, rows[i].count);
        memcpy(streams + (i * LENGTH + rows[i].from) * d, x + t * d, (size_t)(spans[i].count * d) * sizeof *x);
    }
    for (int64_t b = ROWS; b < p->texts + p->bases; b++) assert_int_equal(spans[b].count, 0);
    er_free(x);
    er_cache_free(cache);
}

static void shared_equals_alone(rig *r)
{
    shared_rig s;
    const size_t n = (size_t)(ROWS * LENGTH * r->model->config.hidden);
    float *alone[3], *shared[3];
    shared_open(&s, r);
    for (int k = 0; k < 3; k++) {
        alone[k] = floats(n);
        shared[k] = floats(n);
    }
    run_rows(&s, &s.alone, alone[0], alone[1], alone[2]);
    run_rows(&s, &s.shared, shared[0], shared[1], shared[2]);
    for (int k = 0; k < 2; k++) {
        float *wanted = floats(n);
        run_wanted(&s, k ? &s.shared : &s.alone, wanted);
        assert_memory_equal(wanted, alone[0], n * sizeof *wanted);
        er_free(wanted);
    }
    for (int k = 0; k < 3; k++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) sum += (double)(alone[k][i] * alone[k][i]);
        assert_true(sum > 0);
        assert_memory_equal(shared[k], alone[k], n * sizeof *alone[k]);
        er_free(alone[k]);
        er_free(shared[k]);
    }
    er_arena_free(s.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_cut_saves_more),
        cmocka_unit_test(nothing_to_share),
        cmocka_unit_test(failed_allocations_are_errors),
    };
    void (*const checks[])(rig *) = {shared_equals_alone};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed + run_checks(checks, sizeof checks / sizeof *checks, NULL, NULL);
}
