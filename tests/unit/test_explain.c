/* SPDX-License-Identifier: Apache-2.0 */
/* --explain of every method: its formula, each of its keys with the job's value and place, its statistics, phases. */
#include "tests/support.h"

#include "base/file.h"
#include "runner/explain.h"

static char folder[] = "/tmp/errata-explain-XXXXXX";

static void explain(er_setup *s, er_text *out, const char *method, const char *more)
{
    er_err err = ER_ERR_INIT;
    char path[300], text[600];
    memset(s, 0, sizeof *s);
    er_job_editor editor = er_setup_job_editor(s);
    snprintf(path, sizeof path, "%s/job.yaml", folder);
    int n = snprintf(text, sizeof text, "model: {path: m}\neditor: {method: %s, layers: [3]}\n"
                     "data: {format: facts, path: d, count: 7}\n%s\n", method, more);
    OK(er_save_bytes(path, text, (size_t)n, &err));
    OK(er_arena_new(&s->arena, 0, &err));
    OK(er_job_read(&s->job, path, &editor, NULL, 0, s->arena, &err));
    s->needs = s->editor->needs(&s->hyper);
    OK(er_explain_text(out, s, &err));
}

static void has(const er_text *text, const char *what)
{
    if (!strstr(text->at, what)) fail_msg("'%s' is not in\n%s", what, text->at);
}

static void every_method_is_explained(void **state)
{
    (void)state;
    for (int64_t i = 0; er_editor_at(i); i++) {
        const er_editor *e = er_editor_at(i);
        er_setup s;
        er_text text = ER_TEXT_INIT;
        explain(&s, &text, e->name, "");
        assert_non_null(e->formula);
        has(&text, e->formula);
        has(&text, "[job.yaml:2:");
        for (size_t k = 0; k < s.job.tables[1].count; k++) {
            char key[80];
            snprintf(key, sizeof key, "\n  %s ", s.job.tables[1].rows[k].key);
            has(&text, key);
        }
        for (const char *line = e->symbols; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : "") {
            const char *colon = strchr(line, ':');
            if (!colon || colon > line + strcspn(line, "\n") || colon[1] != ' ')
                fail_msg("%s: '%.40s' defines no symbol", e->name, line);
        }
        has(&text, s.needs & ER_NEEDS_EIGEN ? "second moments of the down" : "needs no second moments");
        has(&text, "parity none");
        has(&text, "7 facts");
        er_text_free(&text);
        er_arena_free(s.arena);
    }
}

static void what_the_job_says_is_in_it(void **state)
{
    (void)state;
    er_setup s;
    er_text text = ER_TEXT_INIT;
    explain(&s, &text, "rome", "parity: easyedit\nedit: {mode: single}\nscore: {before: false}\ntemplates: {file: t}\n");
    has(&text, "parity easyedit");
    has(&text, "B8: ");
    has(&text, "B15: ");
    has(&text, "restored after each");
    has(&text, "presets mom2_adjustment: false");
    has(&text, "[parity: easyedit]");
    assert_int_equal(s.hyper.mom2_adjustment, 0);
    assert_null(strstr(text.at, "no GPT family")); /* PMET's alone */
    has(&text, "templates: read from");
    assert_null(strstr(text.at, "unedited model"));
    er_text_free(&text);
    er_arena_free(s.arena);
    explain(&s, &text, "rome", "parity: authors\n");
    has(&text, "B15: ");
    assert_null(strstr(text.at, "B8: "));
    er_text_free(&text);
    er_arena_free(s.arena);
    explain(&s, &text, "pmet", "parity: easyedit\n");
    has(&text, "no GPT family");
    er_text_free(&text);
    er_arena_free(s.arena);
    explain(&s, &text, "alphaedit", "parity: easyedit\nstats: {imported: theirs}\nscore: {every: 10}\n");
    assert_null(strstr(text.at, "B8: ")); /* ROME's alone */
    has(&text, "imported into");
    has(&text, "eigenvalue below 0.02");
    has(&text, "after every 10 edits");
    er_text_free(&text);
    er_arena_free(s.arena);
}

/* --- what a face presets ------------------------------------------------------------------------------------------ */
static void job_of(er_setup *s, const char *keys, const char *more, const char *const *sets, size_t set_count)
{
    er_err err = ER_ERR_INIT;
    char path[300], text[600];
    memset(s, 0, sizeof *s);
    er_job_editor editor = er_setup_job_editor(s);
    snprintf(path, sizeof path, "%s/job.yaml", folder);
    int n = snprintf(text, sizeof text, "model: {path: m}\neditor: {%s}\ndata: {path: d, %s\n", keys, more);
    OK(er_save_bytes(path, text, (size_t)n, &err));
    OK(er_arena_new(&s->arena, 0, &err));
    OK(er_job_read(&s->job, path, &editor, sets, set_count, s->arena, &err));
}

static void faces_preset_what_their_files_say(void **state)
{
    (void)state;
    static const char hparams[] = "alg_name: ROME\nlayers: [1]\nmom2_adjustment: true\n";
    static const char facts[] = "format: facts}\n", easyedit[] = "format: facts}\nparity: easyedit\n";
    static const char authors[] = "format: facts}\nparity: authors\n";
    static const struct { const char *keys, *more, *set; int adjust, original; double ridge; } want[] = {
        {"method: rome", facts, NULL, 1, 0, 0},
        {"method: rome", easyedit, NULL, 0, 0, 0},
        {"method: rome", authors, NULL, 1, 0, 0},
        {"method: rome", facts, "parity=easyedit", 0, 0, 0},
        {"method: rome, mom2_adjustment: true", easyedit, NULL, 1, 0, 0},
        {"method: rome", easyedit, "editor.mom2_adjustment=true", 1, 0, 0},
        {"method: rome, hparams: h.yaml", easyedit, NULL, 1, 0, 0},
        {"method: r-rome", easyedit, NULL, 0, 0, 0},
        {"method: r-rome", authors, NULL, 1, 1, 0},
        {"method: alphaedit", facts, NULL, 0, 0, 1},
        {"method: alphaedit", easyedit, NULL, 0, 0, 1},
        {"method: alphaedit", authors, NULL, 0, 0, 10},
        {"method: alphaedit, L2: 2", authors, NULL, 0, 0, 2}};
    er_err err = ER_ERR_INIT;
    char path[300];
    snprintf(path, sizeof path, "%s/h.yaml", folder);
    OK(er_save_bytes(path, hparams, sizeof hparams - 1, &err));
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        er_setup s;
        job_of(&s, want[i].keys, want[i].more, &want[i].set, want[i].set ? 1 : 0);
        if (s.hyper.mom2_adjustment != want[i].adjust || s.hyper.original_implementation != want[i].original ||
            s.hyper.L2 != want[i].ridge)
            fail_msg("job %d: %d, %d, %g", (int)i, s.hyper.mom2_adjustment, s.hyper.original_implementation,
                     s.hyper.L2);
        er_arena_free(s.arena);
    }
}

static void faces_choose_zsres_target(void **state)
{
    (void)state;
    static const struct { const char *more; int target; } want[] = {
        {"format: zsre}\nparity: easyedit\n", ER_JOB_TARGET_ALT},
        {"format: zsre}\nparity: authors\n", ER_JOB_TARGET_ANSWERS},
        {"format: zsre, target: answers}\nparity: easyedit\n", ER_JOB_TARGET_ANSWERS},
        {"format: facts}\nparity: easyedit\n", ER_JOB_TARGET_NONE}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        er_setup s;
        job_of(&s, "method: rome", want[i].more, NULL, 0);
        assert_int_equal(s.job.data.target, want[i].target);
        if (!i) assert_string_equal(er_job_place_of(&s.job, "data.target"), "parity: easyedit");
        er_arena_free(s.arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_method_is_explained),
        cmocka_unit_test(what_the_job_says_is_in_it),
        cmocka_unit_test(faces_preset_what_their_files_say),
        cmocka_unit_test(faces_choose_zsres_target),
    };
    if (!mkdtemp(folder)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_remove_folder(folder);
    return failed;
}
