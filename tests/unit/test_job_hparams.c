/* SPDX-License-Identifier: Apache-2.0 */
/* Hyperparameter files of EasyEdit and of the authors in a job. */
#include "job_common.h"

static const char easyedit_yaml[] = "alg_name: \"AlphaEdit\"\n"
                                    "model_name: \"./hugging_cache/some-model\"\n"
                                    "stats_dir: \"./data/stats\"\n"
                                    "device: 0\n"
                                    "layers: [4, 5, 6]\n"
                                    "v_num_grad_steps: 20\n"
                                    "\n"
                                    "v_lr: 1e-1   \n"
                                    "v_weight_deccay: 1\n"
                                    "fp16: true\n"
                                    "rewrite_module_tmp: \"model.layers.{}.mlp.down_proj\"\n"
                                    "context_template_length_params: [[5, 10], [10, 10]]\n"
                                    "L2: 1\n"
                                    "model_parallel: false\n";

static int has_note(const er_job *job, int warning, const char *text)
{
    char whole[1200];
    for (int64_t i = 0; i < job->note_count; i++) {
        snprintf(whole, sizeof whole, "%s/%s", folder, text);
        int same = !strcmp(job->notes[i].text, whole) || !strcmp(job->notes[i].text, text);
        if (same && job->notes[i].warning == warning) return 1;
    }
    return 0;
}

static void hparams_of_easyedit_are_read_unchanged(void **state)
{
    (void)state;
    char text[256];
    world w = WORLD("editor.L2=3");
    write_file("AlphaEdit.yaml", easyedit_yaml);
    good(&w, "model: {path: m}\n"
             "editor:\n"
             "  hparams: AlphaEdit.yaml\n"
             "  v_num_grad_steps: 25\n"
             "data: {format: facts, path: d}\n");
    assert_string_equal(w.job.editor.method, "alphaedit");
    assert_int_equal(w.h.layers.count, 3);
    assert_true(w.h.v_lr == 0.1);
    assert_int_equal(w.h.steps, 25);
    assert_true(w.h.l2 == 3);
    assert_int_equal(w.h.lengths.count, 4);
    assert_int_equal(w.h.lengths.at[3], 10);
    assert_int_equal(w.job.note_count, 5);
    assert_true(has_note(&w.job, 0, "AlphaEdit.yaml: alphaedit does not read model_name, stats_dir, device, fp16, "
                                    "rewrite_module_tmp, model_parallel"));
    assert_true(has_note(&w.job, 1, "AlphaEdit.yaml:9:1: unknown key 'v_weight_deccay' is not read, did you mean "
                                    "'v_weight_decay'?"));
    assert_true(has_note(&w.job, 1, "AlphaEdit.yaml:10:7: fp16: true, but precision.weights is fp32: the job's precision "
                                    "keys decide"));
    assert_string_equal(er_job_said_of(&w.job, "context_template_length_params")->text, "5");
    assert_string_equal(er_job_said_of(&w.job, "device")->text, "0");
    assert_null(er_job_said_of(&w.job, "P_loc"));
    snprintf(text, sizeof text, "%s/AlphaEdit.yaml:5:9", folder);
    assert_string_equal(er_job_place_of(&w.job, "editor.layers"), text);
    assert_string_equal(er_job_place_of(&w.job, "editor.L2"), "--set editor.L2=3");
    assert_null(er_job_place_of(&w.job, "edit.batch"));
    snprintf(text, sizeof text, "--set editor.L2=3: editor.L2: 3 overrides 1 of %s/AlphaEdit.yaml", folder);
    assert_true(has_note(&w.job, 0, text));
    snprintf(text, sizeof text, "%s/job.yaml:4:21: editor.v_num_grad_steps: 25 overrides 20 of %s/AlphaEdit.yaml",
             folder, folder);
    assert_true(has_note(&w.job, 0, text));
    er_arena_free(w.arena);
}

static void hparams_of_the_authors_are_json(void **state)
{
    (void)state;
    world w = WORLD(0);
    write_file("authors.json", "{\n    \"layers\": [\n        4, 5\n    ],\n    \"v_lr\": 1e-1,\n    \"mom2_dataset\": "
                               "\"wikipedia\",\n    \"L2\": 10\n}\n");
    good(&w, "model: {path: m}\neditor: {hparams: authors.json, method: alphaedit}\ndata: {format: facts, path: d}\n");
    assert_int_equal(w.h.layers.count, 2);
    assert_true(w.h.v_lr == 0.1);
    er_arena_free(w.arena);
    bad_with(NULL, "editor: {hparams: authors.json}\n",
             "job: key 'editor.method' is missing: the editing method (the hparams file has no alg_name)");
    world other = WORLD(0);
    char text[256];
    write_file("AlphaEdit.yaml", easyedit_yaml);
    assert_int_equal(read_text(&other, "model: {path: m}\neditor: {hparams: AlphaEdit.yaml, method: rome}\n"
                                       "data: {format: facts, path: d}\n"), ER_E_INPUT);
    snprintf(text, sizeof text, "%s/AlphaEdit.yaml:1:11: alg_name: 'AlphaEdit', but editor.method is rome, expected a "
                                "file of that method", folder);
    assert_string_equal(other.err.text, text);
    er_arena_free(other.arena);
}

static void hparams_suit_their_method_and_its_kin(void **state)
{
    (void)state;
    static const struct {
        const char *alg_name, *method;
        int suits;
    } cases[] = {{"rome", "rome", 1},       {"r-rome", "r-rome", 1},      {"rome", "r-rome", 0}, {"r-rome", "rome", 0},
                 {"memit", "memit-seq", 1}, {"memit-seq", "memit", 0},    {"memit", "nse", 1},   {"ft", "ft-m", 1},
                 {"alphaedit", "memit", 0}, {"alphaedit", "evoedit", 1},  {"memit", "memitx", 0}, {"", "rome", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(er_job_hparams_suits(cases[i].alg_name, cases[i].method), cases[i].suits);
}

static void hparams_of_another_model_are_named(void **state)
{
    (void)state;
    static const char job[] = "model: {path: models/%s}\neditor: {hparams: h.yaml, method: rome}\n"
                              "data: {format: facts, path: d}\n";
    static const struct {
        const char *model;
        int alike;
    } cases[] = {{"Llama-2-7b-chat-hf/", 1}, {"llama-2-7b.Q4_1.gguf", 1}, {"gpt2-xl", 0}, {"Llama-3-8B.json", 0}};
    write_file("h.yaml", "model_name: ./hugging_cache/llama-2-7b\nfp16: false\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        world w = WORLD(0);
        char text[256], place[256];
        int64_t warnings = 0;
        snprintf(text, sizeof text, job, cases[i].model);
        good(&w, text);
        snprintf(place, sizeof place, "%s/h.yaml:1:13: model_name: './hugging_cache/llama-2-7b', but the job", folder);
        for (int64_t n = 0; n < w.job.note_count; n++) {
            warnings += w.job.notes[n].warning;
            if (w.job.notes[n].warning) assert_memory_equal(w.job.notes[n].text, place, strlen(place));
        }
        assert_int_equal(warnings, !cases[i].alike);
        er_arena_free(w.arena);
    }
}

static void bad_hparams_have_their_own_place(void **state)
{
    (void)state;
    world w = WORLD(0);
    char text[256];
    const char *job = "model: {path: m}\neditor: {hparams: h.yaml, method: rome}\ndata: {format: facts, path: d}\n";
    write_file("h.yaml", "layers: [4]\nv_lr: 0.5abc\n");
    assert_int_equal(read_text(&w, job), ER_E_INPUT);
    snprintf(text, sizeof text, "%s/h.yaml:2:7: editor.v_lr: '0.5abc', expected a number from 0 to 100", folder);
    assert_string_equal(w.err.text, text);
    write_file("h.yaml", "v_lr: 1\nv_lr: 2\n");
    assert_int_equal(read_text(&w, job), ER_E_INPUT);
    snprintf(text, sizeof text, "%s/h.yaml:2:7: key 'editor.v_lr' is set twice", folder);
    assert_string_equal(w.err.text, text);
    write_file("h.yaml", "- 1\n");
    assert_int_equal(read_text(&w, job), ER_E_INPUT);
    snprintf(text, sizeof text, "%s/h.yaml:1:1: a list, expected a mapping", folder);
    assert_string_equal(w.err.text, text);
    snprintf(text, sizeof text, "%s/job.yaml:1:19: editor.hparams: ", folder);
    assert_int_equal(read_text(&w, "editor: {hparams: none.yaml}\n"), ER_E_IO);
    assert_int_equal(strncmp(w.err.text, text, strlen(text)), 0);
    er_arena_free(w.arena);
}

static void lack_of_memory_leaks_nothing(void **state)
{
    (void)state;
    int64_t live = er_memory_live();
    int code = ER_E_MEMORY;
    write_file("AlphaEdit.yaml", easyedit_yaml);
    write_file("job.yaml", "model: {path: m}\neditor: {hparams: AlphaEdit.yaml}\ndata: {format: facts, path: d}\n");
    for (int64_t n = 1; code; n++) {
        hyper h;
        er_job job;
        er_arena *arena = NULL;
        const char *set = "editor.layers=[1, 2]";
        const er_job_editor editor = {.table = table_of, .context = &h};
        char path[128];
        snprintf(path, sizeof path, "%s/job.yaml", folder);
        assert_int_equal(er_arena_new(&arena, 256, NULL), 0);
        er_memory_fail_at(n);
        code = er_job_read(&job, path, &editor, &set, 1, arena, NULL);
        er_memory_fail_at(0);
        if (code) assert_int_equal(code, ER_E_MEMORY);
        er_arena_free(arena);
        assert_true(er_memory_live() == live);
        assert_true(n < 10000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hparams_of_easyedit_are_read_unchanged),
        cmocka_unit_test(hparams_of_the_authors_are_json),
        cmocka_unit_test(hparams_suit_their_method_and_its_kin),
        cmocka_unit_test(hparams_of_another_model_are_named),
        cmocka_unit_test(bad_hparams_have_their_own_place),
        cmocka_unit_test(lack_of_memory_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
