/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "runner/plot.h"
#include "runner/report.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* A run invented by hand: six edits in two batches on two layers, the fourth one failed. */
static const char fixture[] = "tests/fixtures/report-run";
static const char *const files[] = {"summary.json", "cases.jsonl", "events.jsonl", "timings.jsonl", "inputs.json",
                                    "env.json", "job.resolved.yaml"};
enum { FILES = sizeof files / sizeof *files };

static char folder[128];

static char *path_of(const char *where, const char *name)
{
    char *path = NULL;
    assert_int_equal(er_path_join(&path, where, name, NULL), 0);
    return path;
}

static char *slurp(const char *where, const char *name)
{
    char *path = path_of(where, name), *text = NULL;
    size_t n;
    er_err err = ER_ERR_INIT;
    if (er_file_read(&text, &n, path, &err)) fail_msg("%s", err.text);
    er_free(path);
    return text;
}

static void spill(const char *name, const char *text)
{
    char *path = path_of(folder, name);
    assert_int_equal(er_save_bytes(path, text, strlen(text), NULL), 0);
    er_free(path);
}

static void drop(const char *name)
{
    char *path = path_of(folder, name);
    unlink(path);
    er_free(path);
}

static int setup(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/errata-report-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    for (int i = 0; i < FILES; i++) {
        char *text = slurp(fixture, files[i]);
        spill(files[i], text);
        er_free(text);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < FILES; i++) drop(files[i]);
    drop("report.html");
    drop("report.md");
    return rmdir(folder);
}

static void write_report(void)
{
    er_err err = ER_ERR_INIT;
    if (er_report_write(folder, &err)) fail_msg("%s", err.text);
}

/* `text` with its first `from` replaced. */
static char *replaced(char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    er_text out = ER_TEXT_INIT;
    assert_non_null(at);
    assert_int_equal(er_text_bytes(&out, text, (size_t)(at - text), NULL), 0);
    assert_int_equal(er_text_add(&out, to, NULL), 0);
    assert_int_equal(er_text_add(&out, at + strlen(from), NULL), 0);
    er_free(text);
    char *copy = NULL;
    assert_int_equal(er_strdup(&copy, out.at, NULL), 0);
    er_text_free(&out);
    return copy;
}

static void edit_file(const char *name, const char *from, const char *to)
{
    char *text = replaced(slurp(folder, name), from, to);
    spill(name, text);
    er_free(text);
}

static void must_have(const char *text, const char *const *parts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strstr(text, parts[i])) fail_msg("'%s' is not in the report", parts[i]);
}
#define MUST_HAVE(text, ...)                                                                                           \
    must_have((text), (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static int occurrences(const char *text, const char *part)
{
    int n = 0;
    while ((text = strstr(text, part)) != NULL) n++, text += strlen(part);
    return n;
}

static int has_gnuplot(void)
{
    er_text svg = ER_TEXT_INIT;
    int code = er_plot_svg(&svg, "set terminal svg\nplot [0:1] x\n", "p", "line", NULL);
    er_text_free(&svg);
    return code == 0;
}

/* --- tests ------------------------------------------------------------------------------------------------------- */

static void shows_all_sections_and_cells(void **state)
{
    (void)state;
    write_report();
    char *md = slurp(folder, "report.md"), *html = slurp(folder, "report.html");
    MUST_HAVE(md, "alphaedit on toy, data six-facts.json (facts)", "mode sequential, batch 3, 6 edits",
              "parity faults on: none", "guards: warn", "Edits: 6 requested, 5 applied, 1 failed.",
              "| before | success | 0.0 | 0.0 ± 0.0 | 0.0 ± 0.0 | 100.0 ± 0.0 | 6 |",
              "| at_end | success | 73.3 | 66.7 ± 21.1 | 66.7 ± 16.7 | 91.7 ± 8.3 | 6 |",
              "|  | accuracy |  | 66.7 ± 21.1 | 41.7 ± 8.3 | 50.0 ± 0.0 | 6 |",
              "| at_edit | 0–2 | 3 | 100.0 | 100.0 | 100.0 | 100.0 | 50.0 | 50.0 |",
              "| at_end | 3–5 | 3 | 66.7 | 66.7 | 83.3 | 66.7 | 33.3 | 50.0 |",
              "| 0 | 8 | 8 | 8 |", /* every target starts at a loss of 8 */
              "| 2 | 20 | 19 | 2 | 2.25 | 50 | 2.5 | 5 of 40 | 12.50 % |",
              "| 3 | 64 | 50 |", "| failed | 1 | 104 |", "| 104 | 3 | 1 | the subject is not in the prompt |",
              "| targets | 2 | 23.000 | 84.4 % |", "27.2 s in 1 start on 2 ranks of 4 threads.",
              "| layer 3 · eigen | 5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c |", "| v_lr | 0.5 |", "| layers | \\[2, 3\\] |",
              "mpirun -n 2 errata run job.resolved.yaml");
    /* the failed edit is the worst case, then the one that was overwritten */
    const char *worst = strstr(md, "## Worst cases"), *a = strstr(worst, "| 104 | 3 |");
    const char *b = strstr(worst, "| 101 | 0 |");
    assert_true(a && b && a < b && b < strstr(worst, "| 102 | 1 |"));
    MUST_HAVE(html, "<!DOCTYPE html>", "(P (K K^T + Cc) P + L2 I)^-1", "<td class=\"n\">66.7 ± 21.1</td>",
              "id=\"protocol\"", "id=\"worst\"", "</html>\n");
    assert_null(strstr(html, "What is missing"));
    er_free(md);
    er_free(html);
}

static void page_is_self_contained(void **state)
{
    (void)state;
    static const char *const outside[] = {"<script", "<link", "<img", "@import", "src=", "url(http", "href=\"http"};
    write_report();
    char *html = slurp(folder, "report.html");
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) assert_null(strstr(html, outside[i]));
    if (has_gnuplot()) {
        assert_int_equal(occurrences(html, "<svg"), 8);
        assert_int_equal(occurrences(html, "</svg>"), 8);
        assert_int_equal(occurrences(html, "<figure>"), 8);
        assert_null(strstr(html, "<?xml"));
        for (int f = 1; f <= 7; f++) { /* ids of one picture do not meet those of another */
            char id[40];
            snprintf(id, sizeof id, "id=\"f%d-gnuplot_canvas\"", f);
            assert_int_equal(occurrences(html, id), 1);
        }
        assert_null(strstr(html, "id=\"gnuplot"));
    }
    er_free(html);
}

static void same_files_same_bytes(void **state)
{
    (void)state;
    write_report();
    char *html = slurp(folder, "report.html"), *md = slurp(folder, "report.md");
    write_report();
    char *html2 = slurp(folder, "report.html"), *md2 = slurp(folder, "report.md");
    assert_string_equal(html, html2);
    assert_string_equal(md, md2);
    er_free(html);
    er_free(html2);
    er_free(md);
    er_free(md2);
}

static void missing_files_are_named(void **state)
{
    (void)state;
    for (int i = 1; i < FILES; i++) drop(files[i]);
    write_report();
    char *md = slurp(folder, "report.md");
    for (int i = 1; i < FILES; i++) {
        char line[64];
        snprintf(line, sizeof line, "%s is not there.", files[i]);
        MUST_HAVE(md, line);
    }
    MUST_HAVE(md, "| at_end | success | 73.3 |", "| failed | 1 | 104 |", "1, which events.jsonl does not name.",
              "| weights | b2b2"); /* the summary has the inputs too */
    assert_null(strstr(md, "## Time"));
    assert_null(strstr(md, "## Worst"));
    er_free(md);
}

static void damaged_lines_are_counted(void **state)
{
    (void)state;
    edit_file("events.jsonl", "{\"event\":\"layer\"", "{\"event\":\"la");
    edit_file("cases.jsonl", "\"moment\":\"before\"", "\"moment\":7");
    edit_file("job.resolved.yaml", "editor:", "ed: [");
    spill("timings.jsonl", "\x01\x02\n[]\n");
    spill("inputs.json", "{");
    write_report();
    char *md = slurp(folder, "report.md");
    MUST_HAVE(md, "1 line of events.jsonl cannot be read and is left out.",
              "1 line of cases.jsonl cannot be read and is left out.",
              "2 lines of timings.jsonl cannot be read and are",
              "inputs.json is left out: it cannot be read.", "is no YAML");
    er_free(md);
}

static void plan_stands_beside_what_was(void **state)
{
    (void)state;
    spill("timings.jsonl", "{\"phase\":\"targets\",\"batch\":0,\"seconds\":6.000,\"planned\":4.000}\n"
                           "{\"phase\":\"targets\",\"batch\":1,\"seconds\":2.000}\n"
                           "{\"phase\":\"keys\",\"batch\":0,\"seconds\":1.000}\n"
                           "{\"rank\":0,\"planned_bytes\":9e8,\"peak_bytes\":9e8}\n"
                           "{\"rank\":0,\"planned_bytes\":800e6,\"peak_bytes\":760e6,\"pss_bytes\":400e6}\n"
                           "{\"rank\":1,\"planned_bytes\":500e6,\"peak_bytes\":600e6}\n");
    write_report();
    char *md = slurp(folder, "report.md");
    /* the ratio is of what a plan stands beside; the last start's ranks count */
    MUST_HAVE(md, "| targets | 2 | 8.000 | 88.9 % | 4.000 | 1.50 |", "| keys | 1 | 1.000 | 11.1 % | – | – |",
              "| 0 | 760.0 | 800.0 | 0.95 | 400.0 |", "| 1 | 600.0 | 500.0 | 1.20 | – |");
    assert_null(strstr(md, "| 0 | 900.0"));
    er_free(md);
}

static void hostile_numbers_do_no_harm(void **state)
{
    (void)state;
    edit_file("cases.jsonl", "\"index\":0", "\"index\":9223372036854775807");
    edit_file("cases.jsonl", "\"index\":1", "\"index\":-9223372036854775807");
    edit_file("events.jsonl", "\"batch\":0", "\"batch\":9223372036854775807");
    edit_file("events.jsonl", "\"history_rank\":40", "\"history_rank\":1");
    edit_file("events.jsonl", "\"history_rows\":0", "\"history_rows\":9223372036854775807");
    edit_file("events.jsonl", "[[8.0,", "[[-1e308,");
    edit_file("events.jsonl", "\"points\":[[0,", "\"points\":[[],[0,");
    edit_file("timings.jsonl", "12.25", "1e300");
    write_report();
}

static void summary_must_be_readable(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    char *path = path_of(folder, "report.html");
    spill("summary.json", "{\"schema\": 2}");
    assert_int_equal(er_report_write(folder, &err), ER_E_FORMAT);
    assert_non_null(strstr(err.text, "summary.json"));
    spill("summary.json", "[1, 2");
    assert_int_not_equal(er_report_write(folder, &err), 0);
    drop("summary.json");
    assert_int_equal(er_report_write(folder, &err), ER_E_IO);
    assert_non_null(strstr(err.text, "summary.json"));
    assert_false(er_file_exists(path));
    er_free(path);
}

static void texts_are_escaped(void **state)
{
    (void)state;
    edit_file("summary.json", "\"alphaedit\"", "\"<script>alert('1')</script>|x\\n# y\\u202e\"");
    edit_file("summary.json", "\"at_end\": {", "\"<b onload=x>\": {");
    edit_file("inputs.json", "\"b2b2", "\"`<i>&amp;");
    edit_file("events.jsonl", "the subject is not in the prompt", "</td><img src=x>| a | b \\\"q\\\"");
    edit_file("timings.jsonl", "\"phase\":\"targets\"", "\"phase\":\"\\\"\\nsystem('touch owned')\\n<u>\"");
    edit_file("job.resolved.yaml", "six-facts.json", "<svg onload=x>.json");
    spill("env.json", "{\"host\": \"</pre><iframe>\"}");
    edit_file("job.resolved.yaml", "seed: 1", "seed: 1 # ```` </pre><embed>");
    write_report();
    char *html = slurp(folder, "report.html"), *md = slurp(folder, "report.md");
    static const char *const bad[] = {"<script", "<img", "<iframe", "<embed", "<b onload", "<svg onload", "<u>", "<i>",
                                      "\xe2\x80\xae"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_null(strstr(html, bad[i]));
    MUST_HAVE(html, "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;|x # y\xef\xbf\xbd",
              "&lt;/td&gt;&lt;img src=x&gt;");
    MUST_HAVE(md, "\\|x # y", "| &lt;/td&gt;&lt;img src=x&gt;\\| a \\| b \"q\" |", "\\`&lt;i&gt;&amp;amp;",
              "\n`````\nmodel:"); /* the fence is longer than the one in the text */
    assert_int_not_equal(access("owned", F_OK), 0);
    er_free(html);
    er_free(md);
}

static void writes_without_gnuplot(void **state)
{
    (void)state;
    char *old = getenv("PATH"), *copy = NULL;
    assert_int_equal(er_strdup(&copy, old ? old : "", NULL), 0);
    setenv("PATH", "", 1);
    write_report();
    setenv("PATH", copy, 1);
    er_free(copy);
    char *html = slurp(folder, "report.html"), *md = slurp(folder, "report.md");
    assert_null(strstr(html, "<svg"));
    MUST_HAVE(md, "Pictures are missing: gnuplot cannot be run", "| targets | 2 | 23.000 | 84.4 % |");
    MUST_HAVE(html, "Pictures are missing: gnuplot cannot be run", "<details open><summary>as numbers</summary>");
    er_free(html);
    er_free(md);
}

static void leaves_nothing_behind(void **state)
{
    (void)state;
    int count = 0;
    int64_t live = er_memory_live();
    write_report();
    assert_int_equal(er_memory_live(), live);
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) count += *e->d_name != '.';
    closedir(d);
    assert_int_equal(count, FILES + 2);
}

static void failing_gnuplot_is_an_error(void **state)
{
    (void)state;
    er_text svg = ER_TEXT_INIT;
    er_err err = ER_ERR_INIT;
    if (!has_gnuplot()) {
        print_message("gnuplot is not installed: skipped\n");
        skip();
    }
    assert_int_equal(er_text_add(&svg, "before", NULL), 0);
    assert_int_equal(er_plot_svg(&svg, "set terminal svg\nplot nonsense(\n", "p", "t", &err), ER_E_IO);
    assert_int_equal(er_plot_svg(&svg, "exit status 3\n", "p", "t", &err), ER_E_IO);
    assert_non_null(strstr(err.text, "status 3"));
    assert_int_equal(er_plot_svg(&svg, "", "p", "t", &err), ER_E_IO);
    assert_string_equal(svg.at, "before");
    /* more than the pipes hold, in both directions */
    er_text big = ER_TEXT_INIT;
    assert_int_equal(er_text_add(&big, "set terminal svg\n$d << EOD\n", NULL), 0);
    for (int i = 0; i < 30000; i++) assert_int_equal(er_text_format(&big, NULL, "%d %d\n", i, i * 7919 % 10007), 0);
    assert_int_equal(er_text_add(&big, "EOD\nplot $d using 1:2 with points\n", NULL), 0);
    if (er_plot_svg(&svg, big.at, "p", "a < b", &err)) fail_msg("%s", err.text);
    assert_non_null(strstr(svg.at, "<title>a &lt; b</title>"));
    /* a gnuplot that dies before it has read all */
    assert_int_equal(er_text_add(&big, "\n", NULL), 0);
    memcpy(big.at, "exit status 4 #", 15);
    assert_int_equal(er_plot_svg(&svg, big.at, "p", "t", &err), ER_E_IO);
    er_text_free(&big);
    er_text_free(&svg);
}

static void memory_failures_are_clean(void **state)
{
    (void)state;
    int64_t live = er_memory_live();
    int code = -1;
    for (int64_t n = 1; code; n += n < 40 ? 1 : 37) {
        er_err err = ER_ERR_INIT;
        er_memory_fail_at(n);
        code = er_report_write(folder, &err);
        er_memory_fail_at(0);
        assert_int_equal(er_memory_live(), live);
        assert_true(code == 0 || code == ER_E_MEMORY);
    }
}

/* Of one layer's two lines the second becomes another matrix of it. */
static void matrices_of_a_layer_are_told_apart(void **state)
{
    (void)state;
    static const char third[] = "\"layer\":3,\"requests\"", value[] = "\"layer\":2,\"matrix\":\"v'|\",\"requests\"";
    for (int batch = 0; batch < 2; batch++) edit_file("events.jsonl", third, value);
    write_report();
    char *md = slurp(folder, "report.md"), *html = slurp(folder, "report.html");
    MUST_HAVE(md, "| 2 | 20 | 19 | 2 | 2.25 | 50 | 2.5 | 5 of 40 | 12.50 % |", "| 2 v'\\| | 17 | 16 | 2.5 | 2.75 |");
    if (has_gnuplot()) MUST_HAVE(html, "2 v..");
    er_free(html);
    er_free(md);
}

static void comparison_names_what_differs(void **state)
{
    (void)state;
    const char *const same[] = {fixture, fixture}, *const both[] = {fixture, folder};
    er_text out = ER_TEXT_INIT;
    er_err err = ER_ERR_INIT;
    assert_int_equal(er_report_compare(&out, same, 2, &err), 0);
    MUST_HAVE(out.at, "| report-run | alphaedit | toy | 6 | 5 | 1 | at_end | 6 | 73.3 | 66.7 ± 21.1 | 66.7 ± 16.7 |",
              "All runs share one protocol and the same inputs.");
    out.length = 0;
    edit_file("summary.json", "\"batch\": 3", "\"batch\": 2");
    edit_file("summary.json", "\"parity\": \"none\"", "\"parity\": \"easyedit\"");
    edit_file("summary.json", "\"29292929292929292929292929292929\"", "\"00\"");
    assert_int_equal(er_report_compare(&out, both, 2, &err), 0);
    MUST_HAVE(out.at, "These runs differ in more than their method", "- batch: report-run 3; errata-report-",
              "- parity: report-run none; errata-report-", " easyedit\n", "- statistics of the layers: ");
    assert_null(strstr(out.at, "- mode"));
    assert_null(strstr(out.at, "share one protocol"));
    drop("summary.json");
    assert_int_equal(er_report_compare(&out, both, 2, &err), ER_E_IO);
    assert_int_equal(er_report_compare(&out, both, 0, &err), ER_E_USAGE);
    er_text_free(&out);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(shows_all_sections_and_cells), TEST(page_is_self_contained),    TEST(same_files_same_bytes),
        TEST(missing_files_are_named),      TEST(damaged_lines_are_counted), TEST(hostile_numbers_do_no_harm),
        TEST(plan_stands_beside_what_was),
        TEST(summary_must_be_readable),     TEST(texts_are_escaped),         TEST(writes_without_gnuplot),
        TEST(leaves_nothing_behind),        TEST(failing_gnuplot_is_an_error), TEST(memory_failures_are_clean),
        TEST(comparison_names_what_differs), TEST(matrices_of_a_layer_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
