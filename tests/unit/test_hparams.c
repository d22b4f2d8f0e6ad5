/* SPDX-License-Identifier: Apache-2.0 */
/* Hyperparameter files of the field: what of them disagrees with a job and its model, and every published file, where a
 * folder has them: $ERRATA_HPARAMS or cache/hparams, in which each folder (one per repository) holds METHOD/FILE. */
#include "tests/support.h"

#include "base/file.h"
#include "runner/agree.h"

#include <ctype.h>
#include <sys/stat.h>

static char folder[] = "/tmp/errata-hparams-XXXXXX";

typedef struct world {
    er_setup s;
    er_config config;
    er_err err;
} world;

static void write_file(const char *name, const char *text)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(er_save_bytes(path, text, strlen(text), NULL), 0);
}

/* Reads a job of the method with that file; model: a name below jobs/models. */
static int read_job(world *w, const char *method, const char *hparams, const char *model)
{
    char path[600], text[1500], real[600];
    er_job_editor editor = er_setup_job_editor(&w->s);
    *w = (world){.err = ER_ERR_INIT};
    w->s.quiet = 1;
    assert_non_null(realpath("jobs/models", real));
    snprintf(path, sizeof path, "%s/job.yaml", folder);
    snprintf(text, sizeof text, "model: {path: %s/%s.json}\neditor: {method: %s, hparams: %s}\n"
                                "data: {format: facts, path: d}\nstats: {corpus: {path: wikipedia, documents: 100000}}\n",
             real, model ? model : "none", method, hparams);
    write_file("job.yaml", text);
    assert_int_equal(er_arena_new(&w->s.arena, 0, &w->err), 0);
    int code = er_job_read(&w->s.job, path, &editor, NULL, 0, w->s.arena, &w->err);
    if (code || !model) return code;
    w->s.needs = w->s.editor->needs(&w->s.hyper);
    ER_TRY(er_config_open(&w->config, w->s.job.model.path, &w->err));
    return er_agree_check(&w->s, &w->config, w->s.editor->most_batch ? 1 : 100, &w->err);
}

static void expect(const char *text, const char *method, const char *model, const char *message)
{
    world w;
    char whole[700];
    write_file("h.yaml", text);
    int code = read_job(&w, method, "h.yaml", model);
    if (!message) {
        if (code) fail_msg("%s", w.err.text);
    } else {
        snprintf(whole, sizeof whole, "%s/h.yaml:%s", folder, message);
        assert_string_equal(code ? w.err.text : "no error", whole);
        assert_int_equal(code, ER_E_INPUT);
    }
    er_arena_free(w.s.arena);
}

static void contradictions_are_errors_with_their_place(void **state)
{
    (void)state;
    expect("layers: [3, 4]\nrewrite_module_tmp: model.layers.{}.mlp.down_proj\nlayer_module_tmp: model.layers.{}\n",
           "memit", "llama-2-7b", NULL);
    expect("layers: [3, 40]\n", "memit", "llama-2-7b",
           "1:9: editor.layers: the model has no layer 40, only 0 to 31");
    expect("v_lr: 0.5\nv_loss_layer: 32\n", "memit", "llama-2-7b",
           "2:15: editor.v_loss_layer: the model has no layer 32, only 0 to 31");
    expect("rewrite_module_tmp: transformer.h.{}.mlp.c_proj\n", "memit", "llama-2-7b",
           "1:21: rewrite_module_tmp: 'transformer.h.{}.mlp.c_proj' is no matrix that is edited in llama, expected "
           "'model.layers.{}.mlp.down_proj'");
    expect("rewrite_module_tmp: model.layers.{}.mlp.up_proj\n", "memit", "llama-2-7b",
           "1:21: rewrite_module_tmp: 'model.layers.{}.mlp.up_proj' is no matrix that is edited in llama, expected "
           "'model.layers.{}.mlp.down_proj'");
    expect("rewrite_module_tmps: [\"transformer.h.{}.mlp.fc_out\"]\n", "memit", "gpt2-xl",
           "1:23: rewrite_module_tmps: 'transformer.h.{}.mlp.fc_out' is no matrix that is edited in gpt2, expected "
           "'transformer.h.{}.mlp.c_proj'");
    expect("layer_module_tmp: model.layers.{}\n", "rome", "gpt-neox-20b",
           "1:19: layer_module_tmp: 'model.layers.{}' is of another family, expected 'gpt_neox.layers.{}' of gpt_neox");
    expect("alg_name: MEMIT\n", "alphaedit", "llama-2-7b",
           "1:11: alg_name: 'MEMIT', but editor.method is alphaedit, expected a file of that method");
}

static void keys_of_other_names_and_false_are_taken(void **state)
{
    (void)state;
    world w;
    write_file("h.yaml", "alg_name: SPHERE\ncumulative_ratio: 0.25\nsuppression_strength: 0.75\nkl_factor: false\n");
    if (read_job(&w, "sphere", "h.yaml", "gpt2-xl")) fail_msg("%s", w.err.text);
    assert_true(w.s.hyper.sphere_energy == 0.25 && w.s.hyper.sphere_alpha == 0.75 && w.s.hyper.kl_factor == 0);
    assert_int_equal(w.s.job.note_count, 0);
    er_arena_free(w.s.arena);
}

/* --- warnings: what the program would log ------------------------------------------------------------------------- */

static char logged[4000];

static void take_log(const char *text, const char *method, const char *model)
{
    char path[600], *read = NULL;
    size_t size = 0;
    world w;
    snprintf(path, sizeof path, "%s/log", folder);
    write_file("h.yaml", text);
    int kept = dup(2);
    FILE *to = freopen(path, "w", stderr);
    assert_non_null(to);
    int code = read_job(&w, method, "h.yaml", model);
    w.s.quiet = 0;
    if (!code) code = er_agree_check(&w.s, &w.config, 1, &w.err);
    fflush(stderr);
    dup2(kept, 2);
    close(kept);
    if (code) fail_msg("%s", w.err.text);
    er_arena_free(w.s.arena);
    assert_int_equal(er_file_read(&read, &size, path, NULL), 0);
    snprintf(logged, sizeof logged, "%.*s", (int)size, read);
    er_free(read);
}

static void disagreements_are_warnings(void **state)
{
    (void)state;
    take_log("v_loss_layer: 31\nmom2_dataset: wikipedia\nmom2_n_samples: 100000\nmom2_dtype: float32\n", "memit",
             "llama-2-7b");
    assert_string_equal(logged, "");
    take_log("v_loss_layer: 27\n", "memit", "llama-2-7b");
    assert_non_null(strstr(logged, "/h.yaml:1:15: v_loss_layer: 27, but the model's last layer is 31: the loss is read "
                                   "below the top"));
    take_log("v_loss_layer: 27\n", "rome", "llama-2-7b");
    assert_non_null(strstr(logged, "27, but the model's last layer is 31; ROME's code reads the last one all the same"));
    take_log("mom2_dataset: wikitext\nmom2_n_samples: 100000\n", "memit", "llama-2-7b");
    assert_non_null(strstr(logged, "/h.yaml:1:15: mom2_dataset wikitext, mom2_n_samples 100000: the job's statistics are "
                                   "of 100000 documents of '"));
    take_log("mom2_dataset: wikipedia\nmom2_n_samples: 1000\n", "memit", "llama-2-7b");
    assert_non_null(strstr(logged, "mom2_dataset wikipedia, mom2_n_samples 1000: the job's"));
    take_log("mom2_dtype: float16\n", "memit", "llama-2-7b");
    assert_non_null(strstr(logged, "/h.yaml:1:13: mom2_dtype: 'float16'"));
    take_log("mom2_adjustment: false\nmom2_dataset: wikitext\n", "rome", "llama-2-7b"); /* no statistics, no warning */
    assert_string_equal(logged, "");
}

/* --- every published file ----------------------------------------------------------------------------------------- */

/* Which of jobs/models a file is for, by its name; NULL: a model that is not among them. */
static const char *model_of(const char *file)
{
    static const char *const names[][2] = {
        {"gpt2-xl", "gpt2-xl"},       {"gpt2-medium", "gpt2-medium"}, {"gpt2-large", "gpt2-large"},
        {"gpt-j-6", "gpt-j-6b"},      {"gpt-neox-20b", "gpt-neox-20b"}, {"llama3.2-3b", "llama-3.2-3b"},
        {"llama3.1-8b", "llama-3.1-8b"}, {"llama3-8b", "llama-3-8b"}, {"llama2-7b", "llama-2-7b"},
        {"llama-7b", "llama-2-7b"},   {"mistral-7b", "mistral-7b"},   {"qwen2.5-7b", "qwen2.5-7b"},
        {"qwen2-7b", "qwen2-7b"},
    };
    char lower[256];
    size_t n = 0;
    for (; file[n] && n < sizeof lower - 1; n++) lower[n] = (char)tolower((unsigned char)file[n]);
    lower[n] = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strstr(lower, names[i][0])) return names[i][1];
    return NULL;
}

typedef struct counts {
    int64_t read, checked, refused, other_methods;
} counts;

static int is_notes_file(const char *name) { return strstr(name, ".md") || !strchr(name, '.'); }

static void one_file(const char *path, const char *method, const char *file, counts *c)
{
    world w;
    int64_t unread = 0;
    const char *model = model_of(file);
    int code = read_job(&w, method, path, model);
    /* a variant that is not built (AdaLoRA, dropout) is refused by the method, at its place */
    if (code == ER_E_UNSUPPORTED && !strncmp(w.err.text, path, strlen(path))) c->refused++;
    else if (code && strstr(w.err.text, "'promptz_last'")) c->refused++; /* a slip of EasyEdit's FT/chatglm4-9b.yaml */
    else if (code) fail_msg("%s", w.err.text);
    for (int64_t i = 0; i < w.s.job.note_count; i++) {
        unread += strstr(w.s.job.notes[i].text, " does not read ") != NULL;
        if (strstr(w.s.job.notes[i].text, "unknown key")) fail_msg("%s", w.s.job.notes[i].text);
    }
    assert_in_range(unread, 0, 1);
    c->read++;
    c->checked += model != NULL;
    er_arena_free(w.s.arena);
}

static int is_folder(const char *path)
{
    struct stat info;
    return !stat(path, &info) && S_ISDIR(info.st_mode);
}

static void one_method(const char *path, const char *name, counts *c)
{
    char method[64], file[600];
    const er_editor *editor = NULL;
    size_t n = 0;
    for (; name[n] && n < sizeof method - 1; n++) method[n] = (char)tolower((unsigned char)name[n]);
    method[n] = 0;
    int built = !er_editor_find(&editor, method, NULL);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (*e->d_name == '.' || is_notes_file(e->d_name)) continue;
        if (snprintf(file, sizeof file, "%s/%s", path, e->d_name) >= (int)sizeof file) continue;
        if (is_folder(file)) continue;
        if (built) one_file(file, method, e->d_name, c);
        else c->other_methods++;
    }
    if (d) closedir(d);
}

static void walk(const char *path, int depth, counts *c)
{
    char child[600];
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (*e->d_name == '.') continue;
        if (snprintf(child, sizeof child, "%s/%s", path, e->d_name) >= (int)sizeof child) continue;
        if (!is_folder(child)) continue;
        if (depth) walk(child, depth - 1, c);
        else one_method(child, e->d_name, c);
    }
    if (d) closedir(d);
}

static void published_files_are_read_unchanged(void **state)
{
    (void)state;
    char *all = realpath(test_path("ERRATA_HPARAMS", "cache/hparams", ""), NULL);
    counts c = {0, 0, 0, 0};
    if (!all || !is_folder(all)) {
        printf("SKIP: neither $ERRATA_HPARAMS nor cache/hparams holds published files\n");
        free(all);
        skip();
    }
    walk(all, 1, &c);
    printf("%lld files read, %lld of them held against their model, %lld of a variant that is not built; %lld of methods "
           "that are not built\n", (long long)c.read, (long long)c.checked, (long long)c.refused,
           (long long)c.other_methods);
    assert_true(c.read > 0);
    free(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contradictions_are_errors_with_their_place),
        cmocka_unit_test(keys_of_other_names_and_false_are_taken),
        cmocka_unit_test(disagreements_are_warnings),
        cmocka_unit_test(published_files_are_read_unchanged),
    };
    if (!mkdtemp(folder)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_remove_folder(folder);
    return failed;
}
