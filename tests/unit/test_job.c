/* SPDX-License-Identifier: Apache-2.0 */
/* Job files: keys, errors with their places, the command line, what the resolved job and its hash say. */
#include "job_common.h"

#include "editors/editor.h"

static void a_minimal_job_has_the_defaults(void **state)
{
    (void)state;
    world w = WORLD(0);
    char path[128];
    good(&w, minimal);
    snprintf(path, sizeof path, "%s/m", folder);
    assert_string_equal(w.job.model.path, path);
    assert_string_equal(w.job.editor.method, "alphaedit");
    assert_int_equal(w.job.data.format, ER_JOB_FACTS);
    assert_int_equal(w.job.data.count, 100);
    assert_int_equal(w.job.data.order, ER_JOB_ORDER_FILE);
    assert_int_equal(w.job.data.conflicts, ER_JOB_KEEP);
    assert_int_equal(w.job.edit.mode, ER_JOB_SEQUENTIAL);
    assert_int_equal(w.job.edit.batch, 10);
    assert_int_equal(w.job.stats.corpus, ER_JOB_CORPUS_SAMPLE);
    assert_int_equal(w.job.stats.sample.tokens, 40000);
    assert_int_equal(w.job.templates.source, ER_JOB_TEMPLATES_GENERATE);
    assert_int_equal(w.job.templates.seed, 1);
    assert_int_equal(w.job.score.at_end, 1);
    assert_int_equal(w.job.run.memory, 256000000);
    assert_int_equal(w.h.layers.count, 5);
    snprintf(path, sizeof path, "%s/runs", folder);
    assert_string_equal(w.job.out, path);
    assert_int_equal(w.job.note_count, 0);
    er_arena_free(w.arena);
}

static void all_keys_of_the_contract_are_read(void **state)
{
    (void)state;
    world w = WORLD(0);
    char path[128];
    good(&w, "model:     {path: /models/x.gguf}\n"
             "precision: {weights: bf16, compute: fp32, update: fp16}\n"
             "editor:    {method: alphaedit, v_lr: 5e-1, layers: [4, 5], nullspace_threshold: 2e-2}\n"
             "data:      {format: zsre, path: z.json, skip: 3, count: 60, ids: ids.txt, order: {shuffle: 7},\n"
             "            target: alt, conflicts: drop}\n"
             "edit:      {mode: sequential, batch: 20}\n"
             "stats:     {store: s, corpus: {path: c.txt, documents: 5, max_tokens: 64}}\n"
             "templates: {file: t.json}\n"
             "score:     {before: no, at_edit: off, at_end: yes, every: 40, sample: 9, protocol: easyedit}\n"
             "parity:    easyedit\n"
             "seed:      12\n"
             "run:       {unit: 8, shards: 2, memory: 1GiB}\n"
             "out:       ./o\n");
    assert_int_equal(w.job.precision.weights, ER_JOB_BF16);
    assert_int_equal(w.job.precision.update, ER_JOB_FP16);
    assert_int_equal(w.h.layers.count, 2);
    assert_true(w.h.threshold == 0.02);
    assert_int_equal(w.job.data.order, ER_JOB_ORDER_SHUFFLE);
    assert_int_equal(w.job.data.shuffle, 7);
    assert_int_equal(w.job.data.target, ER_JOB_TARGET_ALT);
    assert_int_equal(w.job.data.conflicts, ER_JOB_DROP);
    assert_int_equal(w.job.stats.corpus, ER_JOB_CORPUS_FILE);
    assert_int_equal(w.job.stats.file.max_tokens, 64);
    assert_int_equal(w.job.templates.source, ER_JOB_TEMPLATES_FILE);
    assert_int_equal(w.job.score.before, 0);
    assert_int_equal(w.job.score.every, 40);
    assert_int_equal(w.job.score.protocol, ER_JOB_SCORE_EASYEDIT);
    assert_int_equal(w.job.parity, ER_JOB_PARITY_EASYEDIT);
    assert_int_equal(w.job.seed, 12);
    assert_int_equal(w.job.run.memory, 1 << 30);
    snprintf(path, sizeof path, "%s/o", folder);
    assert_string_equal(w.job.out, path);
    er_arena_free(w.arena);
}

static void errors_have_place_expectation_and_nearest_key(void **state)
{
    (void)state;
    static const struct {
        const char *more, *expected;
    } cases[] = {
        {"editor.v_lrr: 1\n", "job:5:1: unknown key 'editor.v_lrr', did you mean 'editor.v_lr'?"},
        {"edtor: {v_lr: 1}\n", "job:5:1: unknown key 'edtor', did you mean 'editor'?"},
        {"scores:\n  every: 5\n", "job:5:1: unknown key 'scores', did you mean 'score'?"},
        {"score:\n  evry: 5\n", "job:6:3: unknown key 'score.evry', did you mean 'score.every'?"},
        {"completely_different: 1\n", "job:5:1: unknown key 'completely_different', expected one of model, precision, "
                                      "editor, data, edit, stats, templates, score, guards, parity, seed, run, out"},
        {"score: {zzzzzzzzzzzz: 1}\n", "job:5:9: unknown key 'score.zzzzzzzzzzzz', expected one of before, at_edit, "
                                       "at_end, every, sample, protocol, greedy, generate, snippets, "
                                       "tfidf_vocab, tfidf_idf, fixed, drift"},
        {"seed: 1\nseed: 2\n", "job:6:1: key 'seed' stands twice, first in line 5"},
        {"model: {path: n}\n", "job:5:1: key 'model' stands twice, first in line 1"},
        {"model.path: n\n", "job:5:13: key 'model.path' is set twice"},
        {"editor.v_lr: 0.5abc\n", "job:5:14: editor.v_lr: '0.5abc', expected a number from 0 to 100"},
        {"editor.v_lr: 101\n", "job:5:14: editor.v_lr: '101', expected a number from 0 to 100"},
        {"editor.v_lr:\n", "job:5:13: editor.v_lr: '', expected a number from 0 to 100"},
        {"editor.v_lr: [1]\n", "job:5:14: editor.v_lr: a list, expected a number from 0 to 100"},
        {"editor.v_lr: {a: 1}\n", "job:5:14: editor.v_lr: a mapping, expected a number from 0 to 100"},
        {"run: {memory: 5kB}\n", "job:5:15: run.memory: '5kB', expected a size such as 256MB or 2GiB from 1MB up"},
        {"out: [a]\n", "job:5:6: out: a list, expected a path"},
        {"editor.layers: [4, {a: 1}]\n", "job:5:16: editor.layers: '[4, a mapping]', expected a list of whole numbers "
                                         "such as [4, 5, 6] or 4-8 from 0 to 200"},
        {"score: 5\n", "job:5:8: score: a value, expected a mapping"},
        {"precision: {weights: fp8}\n",
         "job:5:22: precision.weights: 'fp8', expected one of fp32, bf16, fp16, did you mean 'fp32'?"},
        {"data.order: shuffle\n",
         "job:5:13: data.order: 'shuffle', expected file (order of editing: file, or {shuffle: SEED})"},
        {"\tseed: 1\n", "job:5:1: a tab cannot indent, expected spaces"},
        {"score:\n\tevery: 1\n", "job:6:1: a tab cannot indent, expected spaces"},
        {"seed: &a 1\n", "job:5:7: anchors (&name) are not supported, expected a value"},
        {"seed: *a\n", "job:5:7: aliases (*name) are not supported, expected a value"},
        {"seed: !!int 1\n", "job:5:7: tags (!name) are not supported, expected a value"},
        {"---\nseed: 1\n", "job:5:1: expected one document, not several"},
        {"[1]: 2\n", "job:5:1: expected a key"},
        {"seed: 1: 2\n", "job:5:8: mapping values are not allowed in this context"},
        {"out: \"a\\0b\"\n", "job:5:6: a text holds the character 0"},
        {"edit: {mode: single}\nscore: {at_end: true}\n",
         "job:6:17: score.at_end: 'true', expected false with edit.mode single, where no model holds all edits"},
        {"edit: {mode: single}\nscore: {every: 4}\n", "job:6:16: score.every: '4', expected 0 with edit.mode single, "
                                                      "where no model gathers batch after batch"},
        {"edit: {mode: batch}\nscore: {every: 4}\n", "job:6:16: score.every: '4', expected 0 with edit.mode batch, "
                                                     "where no model gathers batch after batch"},
        {"edit: {batch: 4}\nscore: {every: 6}\n",
         "job:6:16: score.every: '6', expected a multiple of edit.batch, which is 4"},
        {"stats: {corpus: {path: c}, sample: {tokens: 9}}\n",
         "job:5:24: key 'stats.corpus.path' stands beside 'stats.sample.tokens' (JOB:5:45), expected one of them"},
        {"stats: {corpus: {documents: 9}}\n",
         "job:5:29: key 'stats.corpus.path' is missing: the corpus needs a file"},
        {"templates: {file: t, generate: {seed: 2}}\n",
         "job:5:19: key 'templates.file' stands beside 'templates.generate.seed' (JOB:5:39), expected one of them"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char expected[1024];
        const char *name = strstr(cases[i].expected, "JOB");
        if (name)
            snprintf(expected, sizeof expected, "%.*s%s/job.yaml%s", (int)(name - cases[i].expected), cases[i].expected,
                     folder, name + 3);
        else
            snprintf(expected, sizeof expected, "%s", cases[i].expected);
        bad(cases[i].more, expected);
    }
}

static void what_is_missing_is_named(void **state)
{
    (void)state;
    bad_with(NULL, "", "job:1:1: empty, expected a mapping with the keys of a job");
    bad_with(NULL, "- a\n", "job:1:1: a list, expected a mapping with the keys of a job");
    bad_with(NULL, "seed: 1\n", "job: key 'editor.method' is missing: the editing method");
    bad_with(NULL, "editor: {method: rome}\n",
             "job: key 'model.path' is missing: the model: a Hugging Face folder or a GGUF file");
    bad_with(NULL, "editor: {method: rom}\n", "job:1:18: editor.method: 'rom', expected one of rome, alphaedit");
    bad_with(NULL, "editor: {method: [rome]}\n", "job:1:18: editor.method: a list, expected a text");
    bad_with(NULL, "model: {path: \xff}\n", "job:1:15: invalid leading UTF-8 octet, expected UTF-8 text");
}

static void the_command_line_overrides_and_is_named(void **state)
{
    (void)state;
    world w = WORLD("editor.v_lr=0.25", "data.order={shuffle: 5}", "editor.layers=[1, 2]", "out=x");
    char path[128];
    good(&w, minimal);
    assert_true(w.h.v_lr == 0.25);
    assert_int_equal(w.job.data.order, ER_JOB_ORDER_SHUFFLE);
    assert_int_equal(w.job.data.shuffle, 5);
    assert_int_equal(w.h.layers.count, 2);
    snprintf(path, sizeof path, "%s/x", folder);
    assert_string_equal(w.job.out, path);
    er_arena_free(w.arena);
    bad_with("editor.v_lr=0.5abc", minimal,
             "--set editor.v_lr=0.5abc: editor.v_lr: '0.5abc', expected a number from 0 to 100");
    bad_with("editor.v_lrr=1", minimal,
             "--set editor.v_lrr=1: unknown key 'editor.v_lrr', did you mean 'editor.v_lr'?");
    bad_with("seed", minimal, "--set seed: expected key=value");
    bad_with("=1", minimal, "--set =1: expected key=value");
    bad_with("editor.method=grace", minimal, "--set: editor.method: 'grace', expected one of rome, alphaedit");
    bad_with("data={count: x}", minimal, "--set data={count: x}: data.count: 'x', expected a whole number from 0 up");
}

static void the_stronger_source_decides_between_members(void **state)
{
    (void)state;
    char text[1024];
    snprintf(text, sizeof text, "%sstats: {corpus: {path: c.txt}}\ntemplates: {file: t.json}\n", minimal);
    world w = WORLD("stats.corpus.sample.tokens=90", "templates.generate={seed: 4}");
    good(&w, text);
    assert_int_equal(w.job.stats.corpus, ER_JOB_CORPUS_SAMPLE);
    assert_int_equal(w.job.stats.sample.tokens, 90);
    assert_null(w.job.stats.file.path);
    assert_int_equal(w.job.templates.source, ER_JOB_TEMPLATES_GENERATE);
    assert_int_equal(w.job.templates.seed, 4);
    er_arena_free(w.arena);
    snprintf(text, sizeof text, "%sstats: {corpus: {sample: {tokens: 77, seed: 3}}}\ndata.order: {shuffle: 2}\n",
             minimal);
    world v = WORLD("data.order=file");
    good(&v, text);
    assert_int_equal(v.job.stats.sample.tokens, 77);
    assert_int_equal(v.job.stats.sample.seed, 3);
    assert_int_equal(v.job.data.order, ER_JOB_ORDER_FILE);
    er_arena_free(v.arena);
    snprintf(text, sizeof text, "%sdata.ids: ids.txt\nscore:\nrun: ~\n", minimal);
    world u = WORLD("data.ids=null");
    good(&u, text);
    assert_null(u.job.data.ids);
    er_arena_free(u.arena);
}

static void batches_follow_mode_and_method(void **state)
{
    (void)state;
    char rome[1024];
    snprintf(rome, sizeof rome, "model: {path: m}\neditor: {method: rome}\ndata: {format: facts, path: d}\n");
    world w = WORLD("score.every=3");
    good(&w, rome);
    assert_int_equal(w.job.edit.batch, 1);
    er_arena_free(w.arena);
    bad_with("edit.batch=2", rome,
             "--set edit.batch=2: edit.batch: '2', but rome edits at most 1 at a time, expected 1");
    bad_with("edit.mode=batch", rome, "--set edit.mode=batch: edit.mode: 'batch', but rome edits at most 1 at a time, "
                                      "expected sequential or single");
    world single = WORLD("edit.mode=single");
    good(&single, minimal);
    assert_int_equal(single.job.edit.batch, 1);
    assert_int_equal(single.job.score.at_end, 0);
    er_arena_free(single.arena);
    world pairs = WORLD("edit.mode=single", "edit.batch=2");
    good(&pairs, minimal);
    assert_int_equal(pairs.job.edit.batch, 2);
    er_arena_free(pairs.arena);
    world all = WORLD("edit.mode=batch", "edit.batch=7");
    good(&all, minimal);
    assert_int_equal(all.job.edit.batch, 0);
    assert_int_equal(all.job.note_count, 1);
    assert_int_equal(all.job.notes[0].warning, 1);
    assert_string_equal(all.job.notes[0].text,
                        "--set edit.batch=7: edit.batch is not read with edit.mode batch, which edits all at once");
    er_arena_free(all.arena);
}

static er_hash hash_of(const er_job *job, int identity)
{
    er_hasher *h = NULL;
    assert_int_equal(er_hasher_new(&h, NULL), 0);
    er_job_hash(h, job, identity);
    er_hash out = er_hasher_end(h);
    er_hasher_free(h);
    return out;
}

static void the_resolved_job_reads_back_equal(void **state)
{
    (void)state;
    static const char *const more[] = {
        "",
        "data.order: {shuffle: 7}\nstats: {corpus: {path: c.txt}}\ntemplates: {file: t.json}\n",
        "edit: {mode: batch}\neditor.nullspace_rank: 40\nstats: {sample: {tokens: 5}}\n",
        "edit: {mode: single, batch: 3}\nout: \"a \\\"b\\\": \\x85 c\"\neditor.v_lr: 0.1\n",
        "parity: authors\nrun: {memory: 1000001B}\neditor: {}\ndata.ids: null\n",
    };
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        char text[2048];
        er_text first = ER_TEXT_INIT, second = ER_TEXT_INIT;
        snprintf(text, sizeof text,
                 "model: {path: m}\neditor.method: alphaedit\ndata: {format: facts, path: ../d.json}\n%s", more[i]);
        world w = WORLD("editor.layers=[1, 2, 3]"), v = WORLD(0);
        good(&w, text);
        assert_int_equal(er_job_dump(&first, &w.job, 1, &w.err), 0);
        good(&v, first.at);
        assert_int_equal(er_job_dump(&second, &v.job, 1, &v.err), 0);
        assert_string_equal(first.at, second.at);
        er_hash a = hash_of(&w.job, 0), b = hash_of(&v.job, 0);
        assert_true(er_hash_equal(&a, &b));
        assert_string_equal(w.job.out, v.job.out);
        assert_int_equal(w.job.data.order, v.job.data.order);
        assert_int_equal(w.h.rank, v.h.rank);
        assert_int_equal(w.job.stats.corpus, v.job.stats.corpus);
        assert_null(strstr(first.at, "hparams"));
        er_text_free(&first);
        assert_int_equal(er_job_dump(&first, &w.job, 0, &w.err), 0);
        assert_null(strstr(first.at, "memory"));
        assert_null(strstr(first.at, "out:"));
        er_text_free(&first);
        er_text_free(&second);
        er_arena_free(w.arena);
        er_arena_free(v.arena);
    }
}

static er_hash hash_with(const char *set, int identity)
{
    world w = WORLD(set);
    good(&w, minimal);
    er_hash out = hash_of(&w.job, identity);
    er_arena_free(w.arena);
    return out;
}

static void the_hash_follows_content(void **state)
{
    (void)state;
    static const char *const silent[] = {"run.unit=9", "run.shards=2", "run.memory=1GB", "out=elsewhere",
                                         "model.path=other", "data.path=other", "stats.store=other",
                                         "data.order=file", "stats.sample.tokens=40000"};
    static const char *const extends[] = {"data.count=7", "score.every=20", "score.at_end=false", "score.before=false",
                                          "score.sample=3", "score.protocol=zsre"};
    static const char *const content[] = {"seed=2", "editor.v_lr=0.1", "editor.layers=4-7", "editor.method=rome",
                                          "data.skip=1", "data.order={shuffle: 1}", "edit.batch=5", "edit.mode=single",
                                          "stats.sample.seed=2", "stats.corpus.path=c", "templates.file=t",
                                          "templates.generate.seed=2", "parity=easyedit", "precision.weights=bf16",
                                          "data.conflicts=drop", "data.target=alt"};
    er_hash full = hash_with(NULL, 0), identity = hash_with(NULL, 1), now;
    for (size_t i = 0; i < sizeof silent / sizeof *silent; i++) {
        now = hash_with(silent[i], 0);
        if (!er_hash_equal(&full, &now)) fail_msg("%s changes the hash", silent[i]);
    }
    for (size_t i = 0; i < sizeof extends / sizeof *extends; i++) {
        now = hash_with(extends[i], 0);
        if (er_hash_equal(&full, &now)) fail_msg("%s does not change the hash", extends[i]);
        now = hash_with(extends[i], 1);
        if (!er_hash_equal(&identity, &now)) fail_msg("%s changes the identity", extends[i]);
    }
    for (size_t i = 0; i < sizeof content / sizeof *content; i++) {
        now = hash_with(content[i], 1);
        if (er_hash_equal(&identity, &now)) fail_msg("%s does not change the identity", content[i]);
    }
}

typedef struct real_editor {
    er_arena *arena;
    er_hyper hyper;
} real_editor;

static int real_table(void *context, const char *method, er_option_table *out, int64_t *batch_most, er_err *err)
{
    real_editor *e = context;
    const er_editor *editor = NULL;
    ER_TRY(er_editor_find(&editor, method, err));
    *batch_most = editor->most_batch;
    return editor->options(out, &e->hyper, e->arena, err);
}

static void shipped_jobs_fit_their_editors(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        int64_t batch, count, layers;
    } jobs[] = {{"jobs/quickstart.yaml", 5, 20, 5},
                {"tests/fixtures/jobs/tiny-alphaedit.yaml", 3, 12, 2},
                {"tests/fixtures/jobs/tiny-memit.yaml", 3, 12, 2},
                {"tests/fixtures/jobs/tiny-rome.yaml", 1, 12, 1}};
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
        real_editor e;
        er_job job;
        er_err err = ER_ERR_INIT;
        memset(&e, 0, sizeof e);
        assert_int_equal(er_arena_new(&e.arena, 0, NULL), 0);
        const er_job_editor editor = {.table = real_table, .context = &e};
        if (er_job_read(&job, jobs[i].path, &editor, NULL, 0, e.arena, &err)) fail_msg("%s", err.text);
        assert_int_equal(job.edit.batch, jobs[i].batch);
        assert_int_equal(job.data.count, jobs[i].count);
        assert_int_equal(e.hyper.layers.count, jobs[i].layers);
        assert_int_equal(job.note_count, 0);
        assert_true(er_file_exists(job.data.path));
        er_arena_free(e.arena);
    }
}

static void help_lists_all_keys(void **state)
{
    (void)state;
    hyper h;
    er_text text = ER_TEXT_INIT;
    er_option_table table = {0};
    int64_t most = 0;
    assert_int_equal(table_of(&h, "alphaedit", &table, &most, NULL), 0);
    assert_int_equal(er_job_help(&text, &table, 1, NULL), 0);
    for (size_t i = 0; i < er_job_row_count; i++) {
        char key[64];
        snprintf(key, sizeof key, "| `%s` |", er_job_rows[i].key);
        assert_non_null(strstr(text.at, key));
        assert_non_null(er_job_rows[i].help);
    }
    assert_non_null(strstr(text.at, "| `editor.v_lr` | a number from 0 to 100 | `0.5` | Adam's step |"));
    er_text_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_minimal_job_has_the_defaults),
        cmocka_unit_test(all_keys_of_the_contract_are_read),
        cmocka_unit_test(errors_have_place_expectation_and_nearest_key),
        cmocka_unit_test(what_is_missing_is_named),
        cmocka_unit_test(the_command_line_overrides_and_is_named),
        cmocka_unit_test(the_stronger_source_decides_between_members),
        cmocka_unit_test(batches_follow_mode_and_method),
        cmocka_unit_test(the_resolved_job_reads_back_equal),
        cmocka_unit_test(the_hash_follows_content),
        cmocka_unit_test(shipped_jobs_fit_their_editors),
        cmocka_unit_test(help_lists_all_keys),
    };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
