/* SPDX-License-Identifier: Apache-2.0 */
/* What editing will take, from sizes alone: a model's config.json (or GGUF header) and a method, or a whole job.
 * Weights are never read, unless --folder asks for the run's name, which they are part of. */
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "runner/agree.h"
#include "runner/explain.h"
#include "runner/plan.h"
#include "runner/setup.h"
#include "runner/verbs.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const er_flag flags[] = {
    {"method", "NAME", "MODEL: the method; default alphaedit"},
    {"layers", "LIST", "MODEL: edited layers, as 4,5,6 or 4-8; default: the method's"},
    {"edits", "N", "MODEL: edits; default 1000"},
    {"batch", "N", "MODEL: of these in a batch; default 100, or the method's limit"},
    {"tokens", "P,S,T", "positions of prompt and target, of these up to the subject's end, tokens of the target"},
    {"speed", "GFLOP/s", "of a rank, for the times; default: MODEL: no times, JOB: measured here for a moment"},
    {"rates", "NAME=R,...", "of a rank, or of a node for --nodes: products, fp64, core64 (GF/s), read, network (GB/s), "
                            "latency (us)"},
    {"nodes", "LIST", "time on so many nodes of one rank each, as 1,2,4,8"},
    {"shards", "N", "MODEL: ranks that hold the model together; default 1 (JOB: run.shards)"},
    {"rank-memory", "GB", "say how many shards are needed for ranks that may take this much, weights included"},
    {"set", "KEY=VALUE", "overrides a key of the job file (MODEL: editor.KEY=VALUE); may be repeated"},
    {"show", "N", "JOB: print text, ids, subject index and target ids of the first N requests"},
    {"explain", NULL, "JOB: say first what the run would do, by which formula and values"},
    {"folder", NULL, "JOB: print the run's folder, too: reads and hashes the weights"},
    {"output", "json", "print JSON (also -o): bytes, flop and seconds as numbers"},
    {0},
};

enum { DEFAULT_EDITS = 1000, DEFAULT_BATCH = 100, DEFAULT_UNIT = 4, DEFAULT_DOCUMENT = 512,
       ADVISED_TOKENS = 50, MOST_COUNTED = 1000 };
static const double measured_seconds = 0.1;

/* What both forms of the command share. */
typedef struct call_state {
    const er_args *args;
    er_setup setup;
    er_config config;
    er_hyper hyper;
    er_tokenizer *tokenizer; /* NULL: none that opens, and why */
    er_err why;
    er_plan plan;
    er_plan_words words;
} call_state;

/* Rates: measured for a job, assumed for a model; what is given goes before both. */
static int choose_machine(call_state *s, int measure, er_err *err)
{
    const char *speed = er_args_get(s->args, "speed"), *rates = er_args_get(s->args, "rates");
    er_machine *m = &s->plan.machine;
    double given = 0;
    *m = er_machine_assumed();
    s->plan.machine_from = speed || rates ? "as given" : measure ? "measured now" : NULL;
    if (!s->plan.machine_from && er_args_get(s->args, "nodes")) s->plan.machine_from = "assumed: one core";
    if (measure && !speed && !rates) return er_machine_measure(m, &s->config, measured_seconds, err);
    if (speed && (er_parse_double(&given, speed) || !(given > 0)))
        return er_fail(err, ER_E_USAGE, "--speed: '%s' is no positive number of GFLOP/s", speed);
    if (speed) m->products = given * 1e9, m->products64 = m->core64 = m->products / 2;
    return rates ? er_machine_read(m, rates, err) : 0;
}

static int is_folder(const char *path)
{
    struct stat info;
    return !stat(path, &info) && S_ISDIR(info.st_mode);
}

static int ends_in(const char *path, const char *end)
{
    size_t n = strlen(path), m = strlen(end);
    return n > m && !strcmp(path + n - m, end);
}

/* Folders, GGUF files, and JSON files other than a job written as JSON. */
static int is_model(const char *path)
{
    if (is_folder(path) || ends_in(path, ".gguf")) return 1;
    if (!ends_in(path, ".json")) return 0;
    json_t *root = json_load_file(path, 0, NULL);
    int job = json_is_object(json_object_get(root, "model"));
    json_decref(root);
    return !job;
}

static void close_state(call_state *s)
{
    er_setup_close(&s->setup);
    er_tokenizer_close(s->tokenizer);
}

/* --- a model ----------------------------------------------------------------------------------------------------- */

static int set_editor_keys(call_state *s, er_option_table *table, er_err *err)
{
    const char **sets = NULL, *layers = er_args_get(s->args, "layers");
    size_t count = 0;
    if (layers) ER_TRY(er_options_set(table, 1, "editor.layers", layers, 3, "--layers", ".", s->setup.arena, err));
    ER_TRY(er_args_all(&sets, &count, s->args, "set", err));
    int code = 0;
    for (size_t i = 0; i < count && !code; i++) {
        const char *equals = strchr(sets[i], '=');
        char key[128];
        if (!equals || (size_t)(equals - sets[i]) >= sizeof key) {
            code = er_fail(err, ER_E_USAGE, "--set %s: expected KEY=VALUE", sets[i]);
            break;
        }
        snprintf(key, sizeof key, "%.*s", (int)(equals - sets[i]), sets[i]);
        code = er_options_set(table, 1, key, equals + 1, 3, "--set", ".", s->setup.arena, err);
    }
    er_free(sets);
    return code;
}

/* Of layers that nobody chose those that the model has, or its last one. */
static int fit_layers(call_state *s, const er_option_table *table, er_err *err)
{
    er_int_list *list = &s->hyper.layers;
    int64_t n = 0, *at = NULL;
    for (size_t i = 0; i < table->count; i++)
        if (!strcmp(table->rows[i].key, "layers") && table->set[i]) return 0;
    if (!list->count && s->setup.editor->edited) return 0; /* none named: all */
    while (n < list->count && list->at[n] < s->config.layers) n++;
    list->count = n ? n : 1;
    if (n) return 0;
    ER_TRY(er_arena_take(s->setup.arena, &at, 1, err));
    at[0] = s->config.layers - 1;
    list->at = at;
    return 0;
}

static int choose_method(call_state *s, er_err *err)
{
    const char *name = er_args_get(s->args, "method");
    er_option_table table = {0};
    ER_TRY(er_editor_find(&s->setup.editor, name ? name : "alphaedit", err));
    ER_TRY(s->setup.editor->options(&table, &s->hyper, s->setup.arena, err));
    ER_TRY(er_options_defaults(&table, s->setup.arena, err));
    ER_TRY(set_editor_keys(s, &table, err));
    ER_TRY(fit_layers(s, &table, err));
    if (s->hyper.layers.count < 1 && !s->setup.editor->edited)
        return er_fail(err, ER_E_USAGE, "--layers: no layer");
    for (int64_t i = 0; i < s->hyper.layers.count; i++)
        if (s->hyper.layers.at[i] < 0 || s->hyper.layers.at[i] >= s->config.layers)
            return er_fail(err, ER_E_USAGE, "--layers: layer %lld, the model has 0 to %lld",
                           (long long)s->hyper.layers.at[i], (long long)s->config.layers - 1);
    return 0;
}

static int plan_model(call_state *s, er_err *err)
{
    er_plan *p = &s->plan;
    const char *given = er_args_get(s->args, "tokens");
    for (const char *const *f = (const char *const[]){"show", "folder", "explain", NULL}; *f; f++)
        if (er_args_get(s->args, *f))
            return er_fail(err, ER_E_USAGE, "--%s is for jobs, %s is a model", *f, s->args->at[0]);
    ER_TRY(er_arena_new(&s->setup.arena, 0, err));
    ER_TRY(er_config_open(&s->config, s->args->at[0], err));
    ER_TRY(choose_method(s, err));
    const er_editor *editor = s->setup.editor;
    *p = (er_plan){.config = &s->config, .path = s->args->at[0], .editor = editor, .hyper = &s->hyper, .weights = -1,
                   .unit = DEFAULT_UNIT, .document = DEFAULT_DOCUMENT, .texts_from = s->words.texts,
                   .tokens_from = s->words.tokens, .shared = er_plan_shared_assumed};
    ER_TRY(er_args_number(&p->edits, s->args, "edits", DEFAULT_EDITS, 1, err));
    ER_TRY(er_args_number(&p->shards, s->args, "shards", 1, 1, err));
    int64_t batch = editor->most_batch ? editor->most_batch : DEFAULT_BATCH;
    ER_TRY(er_args_number(&p->batch, s->args, "batch", batch, 1, err));
    if (p->batch > p->edits) p->batch = p->edits;
    er_err refused = ER_ERR_INIT;
    int code = editor->check(&s->hyper, &s->config, p->batch, &refused);
    if (code == ER_E_UNSUPPORTED) er_log(ER_LOG_WARN, "%s", refused.text); /* the model's figures hold all the same */
    else if (code && err) *err = refused;
    if (code && code != ER_E_UNSUPPORTED) return code;
    ER_TRY(er_plan_texts_assumed(&p->texts, editor, &s->hyper, given, err));
    snprintf(s->words.texts, sizeof s->words.texts, "%s",
             given ? "as given" : "assumed, near the means of CounterFact's records");
    p->tokens = ADVISED_TOKENS * (double)s->config.inner;
    snprintf(s->words.tokens, sizeof s->words.tokens, "assumed");
    return choose_machine(s, 0, err);
}

/* --- a job ------------------------------------------------------------------------------------------------------- */

static int plan_job(call_state *s, er_world *w, er_err *err)
{
    er_setup *job = &s->setup;
    const char **sets = NULL, *given = er_args_get(s->args, "tokens");
    size_t count = 0;
    for (const char *const *f = (const char *const[]){"method", "layers", "edits", "batch", "shards", NULL}; *f; f++)
        if (er_args_get(s->args, *f))
            return er_fail(err, ER_E_USAGE, "--%s is for models; a job's keys are changed by --set", *f);
    ER_TRY(er_args_all(&sets, &count, s->args, "set", err));
    int code = er_setup_job(job, w, s->args->at[0], sets, count, err);
    if (!code) code = er_plan_open_data(job, err);
    er_free(sets);
    ER_TRY(code);
    ER_TRY(er_config_open(&s->config, job->job.model.path, err));
    ER_TRY(er_agree_check(job, &s->config, job->batch, err));
    er_plan_tokenizer(&s->tokenizer, job->job.model.path, &s->why); /* without one texts are assumed */
    if (!given && !s->tokenizer && s->why.code) er_log(ER_LOG_WARN, "texts are not counted: %s", s->why.text);
    ER_TRY(er_plan_of_job(&s->plan, &s->words, job, &s->config, s->tokenizer, given, NULL, MOST_COUNTED, err));
    return choose_machine(s, 1, err);
}

/* The run's folder, by everything that it is named by. */
static int print_folder(const er_args *args, er_world *w, er_err *err)
{
    er_setup s = {.quiet = 1, .whole = 1};
    const char **sets = NULL;
    size_t count = 0;
    ER_TRY(er_args_all(&sets, &count, args, "set", err));
    int code = er_setup_job(&s, w, args->at[0], sets, count, err);
    if (!code) code = er_setup_open(&s, ER_SETUP_DATA | ER_SETUP_MODEL | ER_SETUP_NAME, err);
    if (!code) printf("\nrun folder %s\n", s.run);
    er_setup_close(&s);
    er_free(sets);
    return code;
}

/* --- both -------------------------------------------------------------------------------------------------------- */

static int read_memory(call_state *s, er_err *err)
{
    const char *given = er_args_get(s->args, "rank-memory");
    if (given && (er_parse_double(&s->plan.rank_memory, given) || !(s->plan.rank_memory > 0)))
        return er_fail(err, ER_E_USAGE, "--rank-memory: '%s' is no positive number of GB", given);
    s->plan.rank_memory *= 1e9;
    return 0;
}

static int print_plan(const call_state *s, int json, er_err *err)
{
    er_sheet sheet = {.err = err};
    er_text text = ER_TEXT_INIT;
    ER_TRY(er_arena_new(&sheet.arena, 0, err));
    er_plan_model(&sheet, &s->config, s->plan.path);
    er_plan_edit(&sheet, &s->plan);
    if (er_args_get(s->args, "nodes")) er_plan_nodes(&sheet, &s->plan, er_args_get(s->args, "nodes"));
    int code = sheet.code;
    if (!code) code = json ? er_sheet_json(&sheet, &text, err) : er_sheet_text(&sheet, &text, err);
    if (!code && fwrite(text.at, 1, text.length, stdout) != text.length)
        code = er_fail(err, ER_E_IO, "stdout: cannot be written");
    er_text_free(&text);
    er_sheet_free(&sheet);
    er_arena_free(sheet.arena);
    return code;
}

static int call(er_world *w, const er_args *args, int *exit_code, er_err *err)
{
    const char *output = er_args_get(args, "output");
    const int json = output != NULL, model = is_model(args->at[0]);
    call_state s = {.args = args};
    int64_t shown;
    (void)exit_code;
    if (json && strcmp(output, "json") != 0) return er_fail(err, ER_E_USAGE, "--output: '%s', expected json", output);
    ER_TRY(er_args_number(&shown, args, "show", 0, 0, err));
    if (json && (shown || er_args_get(args, "folder") || er_args_get(args, "explain")))
        return er_fail(err, ER_E_USAGE, "--show, --folder and --explain print no JSON");
    int code = model ? plan_model(&s, err) : plan_job(&s, w, err);
    if (!code) code = read_memory(&s, err);
    if (!code && er_args_get(args, "explain")) code = er_explain(&s.setup, err);
    if (!code) code = print_plan(&s, json, err);
    if (!code && shown) code = er_plan_show(&s.setup, s.plan.config, s.tokenizer, &s.why, shown, err);
    close_state(&s);
    if (!code && er_args_get(args, "folder")) code = print_folder(args, w, err);
    return code;
}

const er_verb er_verb_plan = {"plan", "MODEL|JOB", "sizes and costs from config.json alone: parameters, memory, disk, "
                              "operations, rough times", 1, 1, 0, 1, flags, call};
