/* SPDX-License-Identifier: Apache-2.0 */
/* Comparison of runs of many edits: rows, where they break, what saw it first; also of a run that has not ended. */
#define _GNU_SOURCE
#include "base/file.h"
#include "base/memory.h"
#include "runner/plot.h"
#include "runner/report.h"
#include "runner/report_course.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];
static const char *const names[] = {"summary.json", "events.jsonl", "drift.jsonl", "job.resolved.yaml",
                                    "scores.journal", "compare.md", "compare.html", "compare.csv", "compare.png"};

static void spill(const char *name, const char *text)
{
    char *path = NULL;
    assert_int_equal(er_path_join(&path, folder, name, NULL), 0);
    assert_int_equal(er_save_bytes(path, text, strlen(text), NULL), 0);
    er_free(path);
}

static int setup(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/errata-course-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = NULL;
        assert_int_equal(er_path_join(&path, folder, names[i], NULL), 0);
        unlink(path);
        er_free(path);
    }
    return rmdir(folder);
}

/* Six edits, two a batch; perplexity passes 1.5 times its start at 4; a guard of one case at edit 2. */
#define SCORES(x) "{\"rewrite\":{\"success\":{\"mean\":" x ","                                                            \
    "\"stderr\":0.1,\"n\":2},\"accuracy\":{\"mean\":0.5,\"n\":2}}}"
#define PROTOCOL "\"protocol\":{\"mode\":\"sequential\",\"batch\":2,\"count\":6}"
static const char summary[] =
    "{\"schema\":1,\"method\":\"alphaedit\",\"edits\":{\"requested\":6,\"applied\":6,\"failed\":0}," PROTOCOL ","
    "\"scores\":{\"before\":" SCORES("0.0") ",\"at_edit\":" SCORES("1.0") ",\"after_4\":" SCORES("0.75") ",\"after_6\":"
    SCORES("0.5") ",\"at_end\":" SCORES("0.25") "},"
    "\"guards\":[{\"guard\":\"failed\",\"batch\":0,\"case_id\":10,\"value\":1,\"limit\":1},"
    "{\"guard\":\"capacity\",\"batch\":1,\"layer\":3,\"value\":0.95,\"limit\":0.9},"
    "{\"guard\":\"shift\",\"batch\":0,\"case_id\":11,\"layer\":3,\"value\":2,\"limit\":1.5}],"
    "\"drift\":{\"moments\":{\"before\":{\"edits\":0,\"perplexity\":20,\"agreement\":1,\"kl\":0},"
    "\"after_2\":{\"edits\":2,\"perplexity\":25,\"agreement\":0.9,\"kl\":0.1},"
    "\"after_4\":{\"edits\":4,\"perplexity\":40,\"agreement\":0.5,\"kl\":1},"
    "\"at_end\":{\"edits\":6,\"perplexity\":80,\"agreement\":0.25,\"kl\":2}}},"
    "\"retention\":{\"width\":2,\"moments\":{\"after_6\":[{\"age\":0,\"n\":1,\"success\":1},"
    "{\"age\":4,\"n\":1,\"success\":0.125}]}}}";
static const char events[] =
    "{\"event\":\"target\",\"batch\":0,\"case_id\":10,\"index\":0,\"status\":\"ok\",\"losses\":[]}\n"
    "{\"event\":\"target\",\"batch\":0,\"case_id\":11,\"index\":1,\"status\":\"ok\",\"losses\":[]}\n"
    "{\"event\":\"layer\",\"batch\":0,\"layer\":3,\"requests\":2,\"update_norm\":1,\"weight_norm\":10,"
    "\"total_update_norm\":1,\"history_rows\":0,\"history_rank\":8}\n"
    "{\"event\":\"layer\",\"batch\":1,\"layer\":3,\"requests\":2,\"update_norm\":2,\"weight_norm\":10,"
    "\"total_update_norm\":3,\"history_rows\":2,\"history_rank\":8}\n";
#define DRIFT(m, e, p) "{\"moment\":\"" m "\",\"edits\":" e ",\"perplexity\":" p ",\"agreement\":1,\"kl\":0}\n"

static void read_course(er_report *r, er_course *c)
{
    er_err err = ER_ERR_INIT;
    if (er_report_open(r, folder, ER_REPORT_EVENTS, &err)) fail_msg("%s", err.text);
    if (er_course_make(c, r, &err)) fail_msg("%s", err.text);
}

static void says(const er_course *c, const char *text)
{
    er_pen p = {ER_TEXT_INIT, 0, NULL};
    er_course_say(&p, c, 7);
    assert_string_equal(p.text.at, text);
    er_text_free(&p.text);
}

static void end(er_report *r, er_course *c)
{
    er_free(c->rows);
    er_report_close(r);
}

static void rows_stand_in_order_of_edits(void **state)
{
    (void)state;
    er_report r;
    er_course c;
    const double none = (double)NAN;
    spill("summary.json", summary);
    spill("events.jsonl", events);
    read_course(&r, &c);
    const struct {
        const char *moment;
        int64_t edits, cases;
        double eff, perplexity, total, used;
    } rows[] = {{"before", 0, 2, 0, 20, none, none},
                {"after_2", 2, 0, none, 25, 0.1, 0.25},
                {"after_4", 4, 2, 0.75, 40, 0.3, 0.5},
                {"after_6", 6, 2, 0.5, 80, 0.3, 0.5}, {"at_end", 6, 2, 0.25, 80, 0.3, 0.5}};
    assert_int_equal(c.count, 5);
    for (int i = 0; i < 5; i++) {
        const er_course_row *row = &c.rows[i];
        const double want[] = {rows[i].eff, rows[i].perplexity, rows[i].total, rows[i].used};
        const double have[] = {row->value[ER_COURSE_EFF], row->value[ER_COURSE_PERPLEXITY], row->value[ER_COURSE_TOTAL],
                               row->value[ER_COURSE_USED]};
        assert_string_equal(row->moment, rows[i].moment);
        assert_int_equal(row->edits, rows[i].edits);
        assert_int_equal(row->cases, rows[i].cases);
        assert_int_equal(row->repeated, i == 4);
        for (int k = 0; k < 4; k++)
            assert_true(isnan(want[k]) ? isnan(have[k]) : fabs(want[k] - have[k]) < 1e-12);
    }
    assert_true(fabs(c.rows[3].value[ER_COURSE_OLDEST] - 0.125) < 1e-12);
    says(&c, "7, alphaedit: breaks at edit 4: perplexity 40, 2 times the 20 of the unedited model (25 at 2, the moment "
             "before); first guard: shift at edit 2 (2, limit 1.5), 2 edits before");
    end(&r, &c);
}

/* A guard of drift with a limit of its own; then none, and no break; then a perplexity that is no number. */
static void an_unfinished_run_stands_as_it_is(void **state)
{
    (void)state;
    er_report r;
    er_course c;
    static const char job[] = "editor: {method: rome}\ndata: {count: 9}\nedit: {mode: sequential, batch: 2}\n"
                              "guards: {perplexity: {at: 1.2, do: warn}}\n";
    spill("scores.journal", "");
    spill("events.jsonl", events);
    spill("job.resolved.yaml", job);
    spill("drift.jsonl", DRIFT("before", "0", "20") DRIFT("after_2", "2", "25") "{\"moment\":\"aft");
    read_course(&r, &c);
    assert_true(r.unfinished);
    assert_int_equal(er_report_edits(&r, "applied"), 2);
    says(&c, "7, rome: does not break in 2 edits: perplexity 25, 1.25 times the 20 of the unedited model; first guard: "
             "perplexity at edit 2 (1.25, limit 1.2)");
    end(&r, &c);
    spill("job.resolved.yaml", "editor: {method: rome}\n");
    spill("drift.jsonl", DRIFT("before", "0", "20") DRIFT("after_2", "2", "null"));
    read_course(&r, &c);
    says(&c, "7, rome: breaks at edit 2: perplexity is no number, the unedited model's is 20 (20 at 0, the moment "
             "before); no guard was beyond its limit");
    end(&r, &c);
    spill("drift.jsonl", DRIFT("before", "0", "20"));
    read_course(&r, &c);
    says(&c, "7, rome: perplexity is known of the unedited model alone; no guard was beyond its limit");
    end(&r, &c);
    spill("drift.jsonl", "");
    read_course(&r, &c);
    says(&c, "7, rome: perplexity was not measured; no guard was beyond its limit");
    end(&r, &c);
}

static char *slurp(const char *name, size_t *n)
{
    char *path = NULL, *text = NULL;
    assert_int_equal(er_path_join(&path, folder, name, NULL), 0);
    if (er_file_read(&text, n, path, NULL)) fail_msg("%s is not there", path);
    er_free(path);
    return text;
}

static void comparison_has_table_picture_and_csv(void **state)
{
    (void)state;
    const char *const both[] = {folder, folder};
    er_err err = ER_ERR_INIT;
    size_t n;
    spill("summary.json", summary);
    spill("events.jsonl", events);
    int64_t live = er_memory_live();
    if (er_report_compare_write(folder, both, 2, &err)) fail_msg("%s", err.text);
    assert_int_equal(er_memory_live(), live);
    char *md = slurp("compare.md", &n), *csv = slurp("compare.csv", &n), *html = slurp("compare.html", &n);
    assert_non_null(strstr(md, "- 2, alphaedit: breaks at edit 4: "));
    assert_non_null(strstr(md, "| alphaedit | after_4 | 4 | 2 | 75.0 ± 10.0 | 50.0 | 40 | 50.0 | 1 | 20.0 | 30.0 | "
                               "50.0 | – | – |"));
    assert_null(strstr(md, "| after_2 |")); /* has no scores, and nothing breaks there */
    assert_non_null(strstr(csv, ",alphaedit,after_2,2,0,,,,,,,,,,,25,0.9,0.1,0.1,0.1,0.25,,\n"));
    er_free(csv);
    er_text svg = ER_TEXT_INIT;
    int drawing = !er_plot_svg(&svg, "set terminal svg\nplot [0:1] x\n", "p", "line", NULL);
    er_text_free(&svg);
    if (drawing) {
        char *png = slurp("compare.png", &n);
        assert_true(n > 8 && !memcmp(png, "\x89PNG\r\n\x1a\n", 8));
        assert_non_null(strstr(html, "<svg"));
        assert_non_null(strstr(md, "](compare.png)"));
        er_free(png);
    } else {
        assert_non_null(strstr(md, "A picture is missing: gnuplot"));
    }
    er_free(html);
    er_free(md);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(rows_stand_in_order_of_edits), TEST(an_unfinished_run_stands_as_it_is),
                                       TEST(comparison_has_table_picture_and_csv)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
