/* SPDX-License-Identifier: Apache-2.0 */
/* The faces of parity against each other, fault by fault (docs/parity.md has the table of B1 to B18, and where those
 * stand that are not here; what faces preset is in test_explain): ids by hand or by Hugging Face's tokenizers, figures
 * by the formula written out. */
#include "tests/unit/editors_rig.h"

#include "base/random.h"

static er_tokenizer *pieces; /* in SentencePiece's way: tests/golden/make_pieces.py */

static int open_all(void **state)
{
    er_err err = ER_ERR_INIT;
    if (setup(state)) return -1;
    OK(er_tokenizer_open(&pieces, "tests/fixtures/pieces/tokenizer.json", &err));
    return 0;
}

static int close_all(void **state)
{
    er_tokenizer_close(pieces);
    return teardown(state);
}

/* --- targets behind prompts: B7, B8, B9, B15 ---------------------------------------------------------------------- */
enum { MOST = 8 };
static const char *plain_text[] = {"{}"};
static const er_templates plain = {1, plain_text, {{0}}};

typedef struct placed {
    const char *target;
    enum er_parity parity;
    enum er_target_rule rule;
    int64_t count;          /* T */
    int32_t ids[MOST];      /* the target's */
    int64_t length, answer; /* of the row */
} placed;

static void place(const er_tokenizer *t, const char *subject, const placed *want, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const placed *w = &want[i];
        er_err err = ER_ERR_INIT;
        er_prompt p;
        const er_request r = {.case_id = 1, .subject = subject, .prompt = "{} is in", .target_new = w->target};
        OK(er_prompt_make(&p, t, &r, &plain, w->parity, w->rule, arena, &err));
        if (p.target_count != w->count || memcmp(p.target, w->ids, (size_t)w->count * sizeof *w->ids) ||
            p.rows[0].count != w->length || p.rows[0].answer != w->answer)
            fail_msg("line %d, '%s': %d ids from %d, row of %d, answer at %d", (int)i, w->target, (int)p.target_count,
                     p.target[0], (int)p.rows[0].count, (int)p.rows[0].answer);
    }
}

/* "Rome is in" is <s> Rome is in: position 3 is to predict the first id. Encoded alone, a target has the word mark
 * 259 as an id of its own, which decoding drops: theirs begins at position 2, before the prompt's last token. With
 * two words the row holds them as they should be, and the mark's position moves all the same. PMET without a space
 * glues "New" to the prompt: 292 is New, 301 the mark with New. Spec 3.4, B7. */
static void word_marks_become_targets(void **state)
{
    (void)state;
    const placed want[] = {
        {"Paris", ER_PARITY_NONE, ER_RULE_FAMILY, 1, {298}, 4, 3},
        {"Paris", ER_PARITY_EASYEDIT, ER_RULE_FAMILY, 2, {259, 298}, 4, 2},
        {"Paris", ER_PARITY_AUTHORS, ER_RULE_FAMILY, 2, {259, 298}, 4, 2},
        {"Paris", ER_PARITY_EASYEDIT, ER_RULE_ROME, 2, {259, 298}, 4, 2},
        {"New York", ER_PARITY_NONE, ER_RULE_FAMILY, 2, {301, 300}, 5, 3},
        {"New York", ER_PARITY_EASYEDIT, ER_RULE_FAMILY, 3, {259, 301, 300}, 5, 2},
        {"New York", ER_PARITY_NONE, ER_RULE_BARE, 2, {301, 300}, 5, 3},
        {"New York", ER_PARITY_AUTHORS, ER_RULE_BARE, 3, {259, 301, 300}, 5, 2},
        {"New York", ER_PARITY_EASYEDIT, ER_RULE_PMET, 3, {259, 301, 300}, 5, 2},
        {"New York", ER_PARITY_EASYEDIT, ER_RULE_BARE, 2, {301, 300}, 5, 3}};
    place(pieces, "Rome", want, sizeof want / sizeof *want);
    er_err err = ER_ERR_INIT;
    er_prompt p;
    const er_request r = {.case_id = 1, .subject = "Rome", .prompt = "{} is in", .target_new = "New York"};
    OK(er_prompt_make(&p, pieces, &r, &plain, ER_PARITY_EASYEDIT, ER_RULE_BARE, arena, &err));
    assert_int_equal(p.rows[0].ids[4], 292);
    OK(er_prompt_make(&p, pieces, &r, &plain, ER_PARITY_EASYEDIT, ER_RULE_PMET, arena, &err));
    assert_int_equal(p.rows[0].ids[4], 301);
}

/* A target that comes with a space, where the mark makes two of it: 305 is the mark twice. B8; the tiny byte-level
 * tokenizer's in test_prompts (leading_spaces). */
static void a_second_space_is_romes(void **state)
{
    (void)state;
    const placed want[] = {
        {" English", ER_PARITY_NONE, ER_RULE_ROME, 1, {299}, 4, 3},
        {" English", ER_PARITY_EASYEDIT, ER_RULE_ROME, 2, {305, 299}, 5, 3},
        {" English", ER_PARITY_EASYEDIT, ER_RULE_FAMILY, 2, {259, 299}, 4, 2},
        {" English", ER_PARITY_AUTHORS, ER_RULE_ROME, 2, {259, 299}, 4, 2}};
    place(pieces, "Rome", want, sizeof want / sizeof *want);
}

/* PMET looks for gpt in the model's name; the family's name stands for it here. */
static void pmets_space_follows_the_family(void **state)
{
    (void)state;
    static const struct { const char *family, *method; enum er_target_rule rule; } want[] = {
        {"llama", "pmet", ER_RULE_BARE},  {"gpt2", "pmet", ER_RULE_PMET},    {"gptj", "pmet", ER_RULE_PMET},
        {"gpt_neox", "pmet", ER_RULE_PMET}, {"llama", "memit", ER_RULE_FAMILY}, {"gpt2", "memit", ER_RULE_FAMILY},
        {"llama", "rome", ER_RULE_ROME},  {"gptj", "r-rome", ER_RULE_ROME},  {"llama", "alphaedit", ER_RULE_FAMILY}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        er_err err = ER_ERR_INIT;
        const er_editor *e;
        er_config config = {.layers = 1};
        snprintf(config.family, sizeof config.family, "%s", want[i].family);
        OK(er_editor_find(&e, want[i].method, &err));
        assert_int_equal(er_editor_rule(e, &config), want[i].rule);
    }
}

/* Where EasyEdit raises: braces in subject and target are text, and a prompt may hold the subject beside its {}. B9;
 * flat records with the subject twice are refused by name (test_dataset). */
static void braces_are_text(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    er_prompt p;
    er_ids ids = {0};
    const er_request r = {.case_id = 1, .subject = "Z{}ra", .prompt = "{} is Z{", .target_new = "{x}"};
    OK(er_encode(model->tokenizer, &ids, "Z{}ra is Z{ {x}", 15, 1, &err));
    for (int parity = ER_PARITY_NONE; parity <= ER_PARITY_AUTHORS; parity++) {
        OK(er_prompt_make(&p, model->tokenizer, &r, &plain, (enum er_parity)parity, ER_RULE_FAMILY, arena, &err));
        assert_int_equal(p.rows[0].count + 1, ids.count);
        assert_memory_equal(p.rows[0].ids, ids.at, (size_t)p.rows[0].count * sizeof *ids.at);
        assert_int_equal(p.target[p.target_count - 1], ids.at[ids.count - 1]);
    }
    er_ids_free(&ids);
}

/* --- PMET's rows: B1 ---------------------------------------------------------------------------------------------- */

/* Padded on the left and read from the row's start, a row of p ids beside a longest of S is read S - p too early: of
 * every request here the plain row's subject would lie in the padding, half of its key. Here a row has the same key,
 * value and target in any company. */
static void pmet_reads_each_row_at_its_subject(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    rig r;
    er_target all[FACTS], alone;
    float keys[FACTS * 512], own[512];
    open_rig(&r, "pmet", "[0, 1]");
    set(&r, "editor.v_num_grad_steps", "4");
    const int64_t size = key_floats(&r);
    assert_true(size <= 512);
    OK(r.editor->target(&r.edit, &r.view, r.prompt, FACTS, all, work, &err));
    OK(r.editor->keys(&r.edit, &r.view, 0, r.prompt, FACTS, keys, work, &err));
    for (int i = 0; i < FACTS; i++) {
        int64_t longest = 0;
        for (int64_t c = 0; c < r.prompt[i].templates; c++)
            longest = r.prompt[i].rows[c].count > longest ? r.prompt[i].rows[c].count : longest;
        assert_true(r.prompt[i].rows[0].subject < longest - r.prompt[i].rows[0].count);
        OK(r.editor->target(&r.edit, &r.view, &r.prompt[i], 1, &alone, work, &err));
        OK(r.editor->keys(&r.edit, &r.view, 0, &r.prompt[i], 1, own, work, &err));
        assert_int_equal(alone.steps, all[i].steps);
        assert_memory_equal(alone.value, all[i].value, (size_t)d * sizeof *alone.value);
        assert_memory_equal(own, keys + i * size, (size_t)size * sizeof *own);
        er_target_free(&alone);
        er_target_free(&all[i]);
    }
    close_rig(&r);
}

/* --- EMMET's ridge (spec 14) -------------------------------------------------------------------------------------- */

/* One fact moves its own output by s / (s + ridge) of the way, s = k M^-1 k by C's eigenpairs: all of it with the
 * authors, who add the ridge to batches alone. */
static void emmets_ridge_for_one_fact(void **state)
{
    (void)state;
    rig r;
    float value[128], keys[512];
    open_rig(&r, "emmet", "1");
    set(&r, "editor.mom2_update_weight", "500");
    find_values(&r, 0, 1, value);
    for (int parity = ER_PARITY_NONE; parity <= ER_PARITY_AUTHORS; parity++) {
        r.edit.parity = (enum er_parity)parity;
        er_update u = find_update(&r, 0, 0, 1, value, keys);
        double s = 0, moved = 0;
        for (int64_t i = 0; i < f; i++) {
            double along = 0;
            for (int64_t j = 0; j < f; j++) along += eigen[1].vectors[i * f + j] * (double)keys[j];
            s += along * along / (500 * eigen[1].values[i]);
            moved += (double)u.v[i] * (double)keys[i];
        }
        print_message("parity %d: k M^-1 k = %.4f, the output moves by %.6f of the way\n", parity, s, moved);
        assert_true(s > 0.01 && s < 10);
        assert_true(fabs(moved - (parity == ER_PARITY_AUTHORS ? 1.0 : s / (s + 0.1))) < 1e-5);
        er_update_free(&u);
    }
    float values[2 * 128], two[2 * 512];
    er_update batch[2];
    find_values(&r, 0, 2, values);
    for (int authors = 0; authors < 2; authors++) {
        r.edit.parity = authors ? ER_PARITY_AUTHORS : ER_PARITY_NONE;
        batch[authors] = find_update(&r, 0, 0, 2, values, two);
    }
    assert_memory_equal(batch[0].v, batch[1].v, (size_t)(2 * f) * sizeof *batch[0].v);
    er_update_free(&batch[0]);
    er_update_free(&batch[1]);
    close_rig(&r);
}

/* --- the inverse of C: B11 ---------------------------------------------------------------------------------------- */
enum { N = 48 };

/* y = c^-1 k by Gauss-Jordan in floats with row pivots: what an fp32 inverse has to work with. */
static void invert_in_floats(float *y, const double *c, const double *k)
{
    static float a[N][2 * N];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < 2 * N; j++) a[i][j] = j < N ? (float)c[i * N + j] : j - N == i ? 1.0f : 0.0f;
    for (int p = 0; p < N; p++) {
        int pivot = p;
        for (int i = p; i < N; i++) pivot = fabsf(a[i][p]) > fabsf(a[pivot][p]) ? i : pivot;
        for (int j = 0; j < 2 * N; j++) {
            float t = a[p][j];
            a[p][j] = a[pivot][j];
            a[pivot][j] = t;
        }
        for (int i = 0; i < N; i++) {
            float by = i == p ? 0.0f : a[i][p] / a[p][p];
            for (int j = 0; j < 2 * N; j++) a[i][j] -= by * a[p][j];
        }
    }
    for (int i = 0; i < N; i++) {
        y[i] = 0;
        for (int j = 0; j < N; j++) y[i] += a[i][N + j] / a[i][i] * (float)k[j];
    }
}

static double distance(const double *a, const double *b)
{
    double off = 0, norm = 0;
    for (int i = 0; i < N; i++) {
        off += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return sqrt(off / norm);
}

/* C = H diag(e) H with a reflection H, so that C^-1 k is known; eigenvalues over eight orders, as real moments have. */
static void the_inverse_keeps_its_digits(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    static double c[N * N];
    double h[N][N], e[N], k[N], exact[N], ours[N], scratch[N], theirs[N], length = 0;
    float floats[N];
    er_eigen pairs;
    for (int i = 0; i < N; i++) {
        scratch[i] = er_random_uniform(7, ER_STREAM_TEST, 1, (uint64_t)i) - 0.5;
        k[i] = er_random_uniform(7, ER_STREAM_TEST, 2, (uint64_t)i) - 0.5;
        e[i] = pow(10, 8.0 * i / (N - 1) - 4);
        length += scratch[i] * scratch[i];
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) h[i][j] = (i == j) - 2 * scratch[i] * scratch[j] / length;
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++)
            for (int t = 0; t < N; t++) c[i * N + j] += h[i][t] * e[t] * h[j][t];
        exact[i] = 0;
    }
    for (int t = 0; t < N; t++) {
        double along = 0;
        for (int j = 0; j < N; j++) along += h[j][t] * k[j];
        for (int i = 0; i < N; i++) exact[i] += h[i][t] * along / e[t];
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < i; j++) c[i * N + j] = c[j * N + i];
    OK(er_eigen_solve(&pairs, c, N, &err));
    OK(er_eigen_inverse(ours, k, 1, &pairs, scratch, &err));
    invert_in_floats(floats, c, k);
    for (int i = 0; i < N; i++) theirs[i] = (double)floats[i];
    print_message("C^-1 k: ours off by %.2g, an fp32 inverse by %.2g\n", distance(ours, exact),
                  distance(theirs, exact));
    assert_true(distance(ours, exact) < 1e-6);
    assert_true(distance(theirs, exact) > 0.05);
    er_eigen_free(&pairs);
}

/* --- sampled texts: B14 ------------------------------------------------------------------------------------------- */

/* The rank of ids[count] among the logits behind ids[0 .. count-1]. */
static int rank_behind(const er_view *view, const int32_t *ids, int64_t count, int32_t id)
{
    er_err err = ER_ERR_INIT;
    float *x, *logits;
    int rank = 0;
    OK(er_alloc(&x, (size_t)(count * d), &err));
    OK(er_alloc(&logits, (size_t)model->config.vocab, &err));
    pass(view, ids, count, model->config.layers, x, NULL);
    OK(er_head(model, logits, x + (count - 1) * d, 1, work, &err));
    for (int64_t i = 0; i < model->config.vocab; i++) rank += logits[i] > logits[id];
    er_free(x);
    er_free(logits);
    return rank;
}

/* Every sampled id is among the five best behind the whole text before it; behind the first and the last id alone,
 * which is near what a token sees whose mask ends at position 0, some are not. */
static void sampled_texts_see_all_of_themselves(void **state)
{
    (void)state;
    enum { ROWS = 3, LENGTH = 12 };
    er_err err = ER_ERR_INIT;
    er_ids rows[ROWS] = {{0}, {0}, {0}};
    er_view view;
    int outside = 0;
    OK(er_view_open(&view, model, &err));
    for (int r = 0; r < ROWS; r++) OK(er_encode(model->tokenizer, &rows[r], "The", 3, 1, &err));
    const int64_t start = rows[0].count;
    const er_draw draw = {.top_k = 5, .seed = 3, .stream = ER_STREAM_TEST};
    OK(er_generate(&view, rows, ROWS, LENGTH, 0, &draw, work, &err));
    for (int r = 0; r < ROWS; r++) {
        for (int64_t i = start; i < rows[r].count; i++) {
            const int32_t cut[2] = {rows[r].at[0], rows[r].at[i - 1]};
            assert_true(rank_behind(&view, rows[r].at, i, rows[r].at[i]) < 5);
            outside += rank_behind(&view, cut, 2, rows[r].at[i]) >= 5;
        }
        er_ids_free(&rows[r]);
    }
    print_message("%d of %d sampled ids are not what two ids alone would bring\n", outside,
                  ROWS * (LENGTH - (int)start));
    assert_true(outside > 0);
    er_view_close(&view);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(word_marks_become_targets),          cmocka_unit_test(a_second_space_is_romes),
        cmocka_unit_test(pmets_space_follows_the_family),     cmocka_unit_test(braces_are_text),
        cmocka_unit_test(pmet_reads_each_row_at_its_subject), cmocka_unit_test(emmets_ridge_for_one_fact),
        cmocka_unit_test(the_inverse_keeps_its_digits),       cmocka_unit_test(sampled_texts_see_all_of_themselves),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
