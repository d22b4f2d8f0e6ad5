/* SPDX-License-Identifier: Apache-2.0 */
/* Sweep files: their points and errors, the random sample, names of points. Runs in the source folder. */
#include "base/file.h"
#include "runner/sweep.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[64];

typedef struct world {
    er_arena *arena;
    er_sweep sweep;
    er_err err;
} world;

static const char *place(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const char *text)
{
    assert_int_equal(er_save_bytes(place(name), text, strlen(text), NULL), 0);
}

static int set_up(void **state)
{
    world *w = calloc(1, sizeof *w);
    *state = w;
    return er_arena_new(&w->arena, 0, NULL);
}

static int tear_down(void **state)
{
    world *w = *state;
    er_arena_free(w->arena);
    free(w);
    return 0;
}

static int read_sets(world *w, const char *text, const char *const *sets, size_t count)
{
    char all[4096];
    snprintf(all, sizeof all, "base: job.yaml\n%s\n", text);
    write_file("sweep.yaml", all);
    memset(&w->err, 0, sizeof w->err);
    return er_sweep_read(&w->sweep, place("sweep.yaml"), sets, count, w->arena, &w->err);
}

static int read_text(world *w, const char *text) { return read_sets(w, text, NULL, 0); }

static void refused(world *w, const char *text, const char *message)
{
    char wanted[512];
    snprintf(wanted, sizeof wanted, "%s:%s", place("sweep.yaml"), message);
    int code = read_text(w, text);
    if (strcmp(w->err.text, wanted) != 0) print_message("got  %s\nnot  %s\n", w->err.text, wanted);
    assert_string_equal(w->err.text, wanted);
    assert_int_equal(code, ER_E_INPUT);
}

/* --- points ------------------------------------------------------------------------------------------------------ */

static void test_grid(void **state)
{
    world *w = *state;
    static const char *const wanted[][2] = {{"1", "[1, 2]"}, {"1", "[3]"}, {"10", "[1, 2]"}, {"10", "[3]"}};
    assert_int_equal(read_text(w, "grid: {editor.L2: [1, 10], editor.layers: [[1, 2], [3]]}"), 0);
    assert_int_equal(w->sweep.count, 4);
    assert_int_equal(w->sweep.key_count, 2);
    for (int p = 0; p < 4; p++) {
        assert_string_equal(er_sweep_value(&w->sweep.points[p], "editor.L2"), wanted[p][0]);
        assert_string_equal(er_sweep_value(&w->sweep.points[p], "editor.layers"), wanted[p][1]);
        assert_null(er_sweep_value(&w->sweep.points[p], "editor.v_lr"));
    }
    assert_string_equal(w->sweep.points[1].settings[1].text, "editor.layers=[3]");
    assert_int_equal(w->sweep.points[1].settings[1].value_line, 2);
    assert_int_equal(w->sweep.points[1].settings[1].value_column, 52);
    assert_string_equal(w->sweep.objective, "score");
    assert_string_equal(w->sweep.out + strlen(w->sweep.out) - 13, "/sweeps/sweep");
}

static void test_together(void **state)
{
    world *w = *state;
    static const char *const sets[] = {"data.count=3"};
    assert_int_equal(read_sets(w,
                               "list: [{a: 1, b: x}, {c: 2}]\ngrid: {a: [7]}\nset: {d: 5}\nout: there\nparallel: 3\n"
                               "objective: at_edit.score\nhalving: {rungs: [2, 5], keep: 1/4}",
                               sets, 1), 0);
    assert_int_equal(w->sweep.count, 3);
    assert_string_equal(er_sweep_value(&w->sweep.points[0], "a"), "7"); /* the grid first */
    assert_string_equal(er_sweep_value(&w->sweep.points[1], "b"), "x");
    assert_int_equal(w->sweep.key_count, 3);
    assert_int_equal(w->sweep.fixed_count, 2);
    assert_string_equal(w->sweep.fixed[1].text, "data.count=3");
    assert_int_equal(w->sweep.parallel, 3);
    assert_int_equal(w->sweep.rungs.at[1], 5);
    assert_true(w->sweep.keep > 0.2499 && w->sweep.keep < 0.2501);
    assert_string_equal(w->sweep.out + strlen(w->sweep.out) - 6, "/there");
}

static void test_set_of_swept_key(void **state)
{
    world *w = *state;
    static const char *const sets[] = {"a=3"};
    assert_int_equal(read_sets(w, "grid: {a: [7]}", sets, 1), ER_E_USAGE);
    assert_non_null(strstr(w->err.text, "--set a=3"));
}

static void test_errors(void **state)
{
    world *w = *state;
    refused(w, "gird: {a: [1]}", "2:1: unknown key 'gird', did you mean 'grid'?");
    refused(w, "grid: {a: [1]}\nparalel: 2", "3:1: unknown key 'paralel', did you mean 'parallel'?");
    refused(w, "grid: {a: [1, 2, 1]}", "2:18: a: '1' stands twice");
    refused(w, "grid: {a: [1], a: [2]}", "2:16: key 'a' stands twice, first in line 2");
    refused(w, "grid: {a: 1}", "2:11: a: a value, expected a list");
    refused(w, "grid: {a: []}", "2:11: a: empty");
    refused(w, "grid: {a: [{b: 1}]}", "2:12: a: a mapping, expected a value or a list of values");
    refused(w, "list: {a: 1}", "2:7: list: a mapping, expected a list");
    refused(w, "out: x", "1:1: no points, expected a mapping 'grid', a list 'list' or a mapping 'random'");
    refused(w, "grid: {a: [1]}\nparallel: 0", "3:11: parallel: '0', expected a whole number from 1 to 10000");
    refused(w, "grid: {a: [1]}\nhalving: {rungs: [5, 2]}",
            "3:18: halving.rungs: 2 behind 5, expected ascending numbers");
    refused(w, "grid: {a: [1]}\nhalving: {rungs: [5], keep: 3/2}",
            "3:29: halving.keep: '3/2', expected a share between 0 and 1 such as 1/3");
    refused(w, "grid: {a: [1]}\nhalving: {rung: [5]}", "3:11: unknown key 'halving.rung', did you mean 'halving.rungs'?");
    refused(w, "random: {count: 2}", "2:1: random.keys is missing: what is drawn");
    refused(w, "random: {keys: {a: [1]}}", "2:1: random.count is missing: how many points are drawn");
    refused(w, "random: {count: 2, keys: {a: {from: 2, to: 1}}}", "2:30: a: from 2 to 1, expected a range");
    refused(w, "random: {count: 2, keys: {a: {from: 0, to: 1, scale: log}}}",
            "2:30: a: from 0, expected more than 0 with scale log");
    refused(w, "random: {count: 3, keys: {a: [1, 2]}}",
            "2:1: random.count: 3, but the values give hardly more than 2 different points");
}

/* --- the sample -------------------------------------------------------------------------------------------------- */

static void test_random(void **state)
{
    world *w = *state;
    static const char text[] = "random: {count: %d, seed: %d, keys: {a: {from: 1e-3, to: 1, scale: log}, "
                               "b: {from: 2, to: 5, whole: true}, c: [x, y]}}";
    char now[256], first[8][3][48];
    int below = 0;
    snprintf(now, sizeof now, text, 8, 7);
    assert_int_equal(read_text(w, now), 0);
    for (int p = 0; p < 8; p++)
        for (int k = 0; k < 3; k++) snprintf(first[p][k], sizeof first[p][k], "%s", w->sweep.points[p].values[k]);
    snprintf(now, sizeof now, text, 200, 7);
    assert_int_equal(read_text(w, now), 0); /* a larger count keeps what there was */
    for (int p = 0; p < 8; p++)
        for (int k = 0; k < 3; k++) assert_string_equal(first[p][k], w->sweep.points[p].values[k]);
    for (int p = 0; p < 200; p++) {
        double a = 0;
        int64_t b = 0;
        assert_int_equal(er_parse_double(&a, w->sweep.points[p].values[0]), 0);
        assert_int_equal(er_parse_int(&b, w->sweep.points[p].values[1]), 0);
        assert_true(a >= 1e-3 && a <= 1 && b >= 2 && b <= 5);
        below += a < 0.0316; /* the middle of the logarithm */
    }
    assert_in_range(below, 70, 130);
    snprintf(now, sizeof now, text, 8, 8);
    assert_int_equal(read_text(w, now), 0);
    assert_string_not_equal(first[0][0], w->sweep.points[0].values[0]);
}

static void test_between(void **state)
{
    char text[48];
    (void)state;
    er_sweep_between(text, sizeof text, 1, 100, 1, 0, 0.5);
    assert_string_equal(text, "10");
    er_sweep_between(text, sizeof text, 0, 1, 0, 0, 0.25);
    assert_string_equal(text, "0.25");
    er_sweep_between(text, sizeof text, 2, 5, 0, 1, 0.999999);
    assert_string_equal(text, "5");
    er_sweep_between(text, sizeof text, 2, 5, 0, 1, 0);
    assert_string_equal(text, "2");
}

/* --- written back, and named ------------------------------------------------------------------------------------- */

static void test_dump(void **state)
{
    world *w = *state;
    er_text first = ER_TEXT_INIT, second = ER_TEXT_INIT;
    er_sweep again;
    assert_int_equal(read_text(w, "grid: {a: [1, it's, '[2, 3]'], b: [[4, 5]]}\nset: {c: x y}\nhalving: {rungs: [2]}"), 0);
    assert_int_equal(er_sweep_dump(&first, &w->sweep, NULL), 0);
    write_file("dumped.yaml", first.at);
    assert_int_equal(er_sweep_read(&again, place("dumped.yaml"), NULL, 0, w->arena, &w->err), 0);
    assert_int_equal(er_sweep_dump(&second, &again, NULL), 0);
    assert_string_equal(first.at, second.at);
    assert_int_equal(again.count, w->sweep.count);
    for (int64_t p = 0; p < again.count; p++)
        for (int64_t k = 0; k < 2; k++)
            assert_string_equal(again.points[p].settings[k].text, w->sweep.points[p].settings[k].text);
    er_text_free(&first);
    er_text_free(&second);
}

static void write_job(void)
{
    char cwd[256], text[2048];
    assert_non_null(getcwd(cwd, sizeof cwd));
    snprintf(text, sizeof text,
             "model: {path: %s/tests/fixtures/tiny-llama}\neditor: {method: alphaedit, layers: [1, 2]}\n"
             "data: {format: counterfact, path: %s/tests/fixtures/tiny-facts.json, count: 4}\n"
             "templates: {file: %s/tests/fixtures/tiny-templates.json}\n"
             "stats: {corpus: {path: %s/tests/fixtures/tiny-corpus.txt}}\n",
             cwd, cwd, cwd, cwd);
    write_file("job.yaml", text);
}

static void check(world *w, const char *text, er_sweep_item *items)
{
    assert_int_equal(read_text(w, text), 0);
    if (er_sweep_check(items, &w->sweep, &w->err)) fail_msg("%s", w->err.text);
}

static void test_names(void **state)
{
    world *w = *state;
    er_sweep_item a[4], b[4];
    write_job();
    check(w, "grid: {editor.nullspace_threshold: [0.01, 0.02], editor.L2: [1, 10]}", a);
    /* another order of keys and points, other spellings, a value more: the names stay */
    check(w, "list: [{editor.L2: 1e1, editor.nullspace_threshold: 2e-2}, {editor.L2: 10, editor.nullspace_threshold: "
             "3}, {editor.L2: 1.0, editor.nullspace_threshold: 1e-2}]", b);
    assert_string_equal(a[3].name, b[0].name);
    assert_string_equal(a[0].name, b[2].name);
    assert_string_not_equal(b[1].name, b[0].name);
    assert_true(er_hash_equal(&a[3].job, &b[0].job));
    assert_false(er_hash_equal(&a[0].job, &a[1].job));
    check(w, "grid: {editor.nullspace_threshold: [0.01], editor.L2: [1]}\nset: {data.count: 3}", b);
    assert_string_equal(a[0].name, b[0].name); /* a name is of the values, the content is of the job */
    assert_false(er_hash_equal(&a[0].job, &b[0].job));
}

static void not_checked(world *w, const char *text, const char *message)
{
    er_sweep_item items[4];
    char wanted[512];
    snprintf(wanted, sizeof wanted, "%s:%s", place("sweep.yaml"), message);
    assert_int_equal(read_text(w, text), 0);
    assert_int_equal(er_sweep_check(items, &w->sweep, &w->err), ER_E_INPUT);
    assert_string_equal(w->err.text, wanted);
}

static void test_checks(void **state)
{
    world *w = *state;
    write_job();
    not_checked(w, "grid: {editor.l2: [1]}", "2:8: unknown key 'editor.l2', did you mean 'editor.L2'?");
    not_checked(w, "grid: {editor.L2: [1, x]}", "2:23: editor.L2: 'x', expected a number from 0 to 1e+12");
    not_checked(w, "grid: {editor.L2: [1, 1.0]}", "2:23: point 2 has the values of point 1 in line 2");
    not_checked(w, "grid: {seed: [1], editor.L2: [0]}", "2:31: editor.L2: must be above 0");
    not_checked(w, "grid: {editor.layers: [[1], [1, 9]]}", "2:29: editor.layers: the model has no layer 9, only 0 to 3");
    not_checked(w, "list: [{editor.method: memitt}]", "2:24: unknown method 'memitt', did you mean 'memit'?");
    not_checked(w, "grid: {editor.L2: [1]}\nobjective: at_end.rewrite.sucess",
                " objective: 'at_end.rewrite.sucess', did you mean 'at_end.rewrite.success'?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_grid, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_together, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_set_of_swept_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_errors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_random, set_up, tear_down),
        cmocka_unit_test(test_between),
        cmocka_unit_test_setup_teardown(test_dump, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_checks, set_up, tear_down),
    };
    snprintf(folder, sizeof folder, "/tmp/errata-sweep-XXXXXX");
    if (!mkdtemp(folder)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    static const char *const names[] = {"sweep.yaml", "dumped.yaml", "job.yaml"};
    for (int i = 0; i < 3; i++) unlink(place(names[i]));
    rmdir(folder);
    return failed;
}
