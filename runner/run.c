/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/run.h"

#include "base/file.h"
#include "base/memory.h"
#include "runner/drift.h"
#include "runner/guard.h"
#include "runner/statistics.h"
#include "runner/outputs.h"
#include "runner/precision.h"
#include "runner/report.h"
#include "runner/team.h"
#include "runner/watch.h"

#include <stdio.h>
#include <string.h>

/* --- templates --------------------------------------------------------------------------------------------------- */

static int generate_templates(er_run *r, er_templates *out, er_err *err)
{
    const er_setup *s = &r->setup;
    int64_t lengths[16][2], count = 16;
    const char *braces = "";
    ER_TRY(s->editor->template_lengths(&s->hyper, lengths, &count, &braces));
    return er_templates_generate(out, &r->overlay.view, (const int64_t (*)[2])lengths, count, braces,
                                 (uint64_t)s->job.templates.seed, s->arena, s->work, err);
}

static int templates_key(const er_run *r, er_hash *key, er_err *err)
{
    const er_setup *s = &r->setup;
    int64_t lengths[16][2], count = 16;
    const char *braces = "";
    er_hasher *h = NULL;
    ER_TRY(s->editor->template_lengths(&s->hyper, lengths, &count, &braces));
    ER_TRY(er_hasher_new(&h, err));
    er_hasher_text(h, "templates");
    er_run_hash_unedited(h, r);
    er_hasher_text(h, s->editor->template_list);
    er_hasher_text(h, braces);
    for (int64_t i = 0; i < count; i++) {
        er_hasher_number(h, lengths[i][0]);
        er_hasher_number(h, lengths[i][1]);
    }
    er_hasher_number(h, s->job.templates.seed);
    *key = er_hasher_end(h);
    er_hasher_free(h);
    return 0;
}

/* A unit of its own, for any rank or group of shards. */
static int draw_templates(void *context, int64_t unit, er_text *json, er_err *err)
{
    er_run *r = context;
    er_templates t;
    (void)unit;
    ER_TRY(generate_templates(r, &t, err));
    return er_templates_json(json, &t, r->setup.editor->template_list, err);
}

static int save_templates(const er_run *r, const char *bytes, size_t n, er_err *err)
{
    char *path = NULL;
    ER_TRY(er_run_path(r, &path, "templates.json", err));
    int code = er_save_bytes(path, bytes, n, err);
    er_free(path);
    return code;
}

static int keep_templates(void *context, int64_t unit, const char *bytes, size_t n, er_err *err)
{
    er_run *r = context;
    er_hash key;
    (void)unit;
    r->setup.counts.templates++;
    if (r->cache) ER_TRY(templates_key(r, &key, err));
    if (r->cache) ER_TRY(er_cache_add(r->cache, ER_JOURNAL_TEMPLATES, &key, bytes, n, err));
    er_run_share(r, 1);
    return save_templates(r, bytes, n, err);
}

/* Rank 0: those that another run drew from the unedited model. */
static int find_templates(er_run *r, int *found, er_err *err)
{
    er_hash key;
    size_t n = 0;
    if (!r->cache) return 0;
    ER_TRY(templates_key(r, &key, err));
    const char *bytes = er_cache_find(r->cache, ER_JOURNAL_TEMPLATES, &key, &n);
    if (!bytes) return 0;
    *found = 1;
    r->setup.counts.templates_reused++;
    return save_templates(r, bytes, n, err);
}

static int copy_templates(er_run *r, er_err *err)
{
    const char *list = r->setup.editor->template_list;
    er_templates t;
    er_text json = ER_TEXT_INIT;
    ER_TRY(er_templates_read(&t, r->setup.job.templates.file, list, r->setup.arena, err));
    int code = er_templates_json(&json, &t, list, err);
    if (!code) code = save_templates(r, json.at, json.length, err);
    er_text_free(&json);
    return code;
}

/* Rank 0: templates.json in the run's folder, unless it must be drawn from the unedited model. */
static int store_templates(er_run *r, const char *path, int *have, er_err *err)
{
    *have = er_file_exists(path);
    if (*have) return 0;
    if (r->setup.job.templates.source != ER_JOB_TEMPLATES_FILE) return find_templates(r, have, err);
    *have = 1;
    return copy_templates(r, err);
}

static int read_templates(er_run *r, er_err *err)
{
    char *path = NULL;
    double start = er_seconds();
    er_watch_work("the templates", -1);
    er_units phase = {"templates", 1, NULL, draw_templates, keep_templates, r};
    int have = 0, code = er_run_path(r, &path, "templates.json", err);
    if (!code && r->w->rank == 0) code = store_templates(r, path, &have, err);
    code = er_world_agree(r->w, code, err);
    if (!code) code = er_world_bcast(r->w, &have, sizeof have, 0, err);
    if (!code && !have) code = er_world_units(r->w, &phase, err);
    if (!code) {
        code = er_templates_read(&r->templates, path, r->setup.editor->template_list, r->setup.arena, err);
        code = er_world_agree(r->w, code, err);
    }
    er_free(path);
    ER_TRY(code);
    ER_TRY(er_world_same(r->w, &r->templates.hash, sizeof r->templates.hash, "templates.json", err));
    return er_world_agree(r->w, r->w->rank == 0 ? er_run_time(r, "templates", -1, er_seconds() - start, err) : 0, err);
}

/* --- phases ------------------------------------------------------------------------------------------------------ */

static int open_run(er_run *r, const char *path, const char *const *sets, size_t set_count,
                    const er_run_options *options, er_err *err)
{
    er_setup *s = &r->setup;
    s->share = options->share;
    if (options->settings) ER_TRY(er_setup_settings(s, r->w, path, options->settings, options->setting_count, err));
    else ER_TRY(er_setup_job(s, r->w, path, sets, set_count, err));
    ER_TRY(er_setup_open(s, ER_SETUP_DATA | ER_SETUP_MODEL | ER_SETUP_NAME, err));
    r->edit = (er_edit_context){s->model, &s->hyper, &r->templates, (enum er_parity)s->job.parity};
    ER_TRY(er_world_agree(r->w, er_run_plan_scores(r, err), err));
    ER_TRY(er_run_open_folder(r, err));
    int code = r->w->rank == 0 ? er_run_write_start(r, err) : 0;
    if (!code && r->w->rank == 0 && s->job.run.cache) code = er_cache_open(&r->cache, s->job.run.cache, err);
    ER_TRY(er_world_agree(r->w, code, err)); /* shards open the overlay together */
    code = er_world_settle(r->w, er_setup_overlay(s, &r->overlay, err), err);
    if (!code) code = er_overlay_state(&r->overlay, &r->base, err);
    if (!code && r->w->rank == 0) code = er_run_load_scores(r, err);
    if (!code && r->w->rank == 0) code = er_drift_load(r, err);
    return er_world_agree(r->w, code, err);
}

static void log_formula(const er_setup *s)
{
    er_text text = ER_TEXT_INIT;
    if (!er_text_add(&text, s->editor->formula, NULL) && !er_stabilise_formula(&text, &s->hyper, NULL))
        er_log(ER_LOG_INFO, "%s: %s", s->editor->name, text.at);
    er_text_free(&text);
}

static void log_start(const er_run *r)
{
    static const char *const modes[] = {"sequential", "batch", "single"};
    const er_setup *s = &r->setup;
    if (r->w->rank != 0) return;
    er_log(ER_LOG_INFO, "run %s on %d rank%s x %d thread%s", s->run, r->w->size, r->w->size > 1 ? "s" : "",
           r->w->threads, r->w->threads > 1 ? "s" : "");
    if (r->w->team)
        er_log(ER_LOG_INFO, "%d group%s of %d shards", er_world_groups(r->w), er_world_groups(r->w) > 1 ? "s" : "",
               er_world_shards(r->w));
    log_formula(s);
    er_log(ER_LOG_INFO, "%lld edits in %lld batches of %lld, %s", (long long)s->data.count, (long long)s->batches,
           (long long)s->batch, modes[s->job.edit.mode]);
    if (r->head_count)
        er_log(ER_LOG_INFO, "continued: %lld of %lld batches are in the ledger", (long long)r->head_count,
               (long long)s->batches);
}

static int measure(er_run *r, int force, er_err *err)
{
    const er_setup *s = &r->setup;
    double start = er_seconds();
    if (!(s->needs & ER_NEEDS_EIGEN)) return 0;
    ER_TRY(er_measure(&r->setup, s->hyper.layers.at, s->hyper.layers.count, force, err));
    const double planned = er_forecast_statistics(r, s->counts.moments, s->counts.eigenpairs);
    const int root = r->w->rank == 0;
    int code = root ? er_run_time_planned(r, "statistics", -1, er_seconds() - start, planned, err) : 0;
    return er_world_agree(r->w, code, err);
}

/* inputs.json exists from the first time on and names what the batches were made with. */
static int write_inputs(er_run *r, er_err *err)
{
    return er_world_agree(r->w, r->w->rank == 0 ? er_run_write_inputs(r, err) : 0, err);
}

static int run_batches(er_run *r, er_err *err)
{
    er_setup *s = &r->setup;
    int64_t done = r->head_count;
    int64_t edited = done * s->batch < s->data.count ? done * s->batch : s->data.count;
    ER_TRY(er_run_anchor(r, err));
    if (done < s->batches) ER_TRY(er_run_open_editing(r, err));
    if (r->w->rank == 0) ER_TRY(er_world_agree(r->w, er_outputs_events(r, err), err));
    else ER_TRY(er_world_agree(r->w, 0, err));
    ER_TRY(er_run_score(r, -1, err));
    ER_TRY(er_drift_after(r, -1, err));
    er_progress_start(&r->edits, s->editor->name, "edits", edited, s->data.count);
    for (int64_t b = 0; b < s->batches; b++) {
        int fresh = b >= r->head_count;
        ER_TRY(er_run_batch(r, b, err));
        ER_TRY(er_world_agree(r->w, fresh && r->w->rank == 0 ? er_outputs_add_events(r, b, err) : 0, err));
        ER_TRY(er_run_score(r, b, err));
        ER_TRY(er_drift_after(r, b, err));
        ER_TRY(er_world_check_signal(r->w, err));
    }
    er_progress_end(&r->edits);
    return 0;
}

/* Above the table, where a guard may have left edits out: a comment in its format. */
static int table_heading(er_text *out, const er_run *r, const char *format, er_err *err)
{
    const char *mark = format && !strcmp(format, "tex") ? "% " : format && !strcmp(format, "csv") ? "# " : "";
    er_text policies = ER_TEXT_INIT;
    int code = er_guard_policies(&policies, &r->setup.job, err);
    if (!code && strcmp(policies.at, "warn") != 0)
        code = er_text_format(out, err, "%sguards: %s%s", mark, policies.at, *mark ? "\n" : "\n\n");
    er_text_free(&policies);
    return code;
}

static int print_table(const er_summary *s, const er_run *r, const er_run_options *options, er_err *err)
{
    er_text table = ER_TEXT_INIT;
    int code = table_heading(&table, r, options->table, err);
    if (!code) code = er_summary_table(&table, s, options->table, err);
    if (!code && table.at) fwrite(table.at, 1, table.length, stdout);
    if (!code && fflush(stdout)) code = er_fail(err, ER_E_IO, "stdout: cannot be written");
    er_text_free(&table);
    return code;
}

static int finish(er_run *r, const er_run_options *options, int64_t *failed, er_err *err)
{
    er_summary s = {0};
    er_watch_work("the results", -1);
    *failed = er_outputs_failed(r);
    er_run_share(r, 1);
    int code = er_outputs_summarise(&s, r, err);
    if (!code) code = er_outputs_write(r, &s, err);
    if (!code && r->setup.job.precision.measure) code = er_precision_write(&r->setup, r->setup.run, err);
    if (!code) code = er_run_time_all(r, err);
    if (!code) code = er_report_write(r->setup.run, err);
    if (!code && !options->outcome) code = print_table(&s, r, options, err);
    er_summary_free(&s);
    if (code) return code;
    if (*failed)
        er_log(ER_LOG_WARN, "%lld of %lld edits failed: see %s/events.jsonl", (long long)*failed,
               (long long)r->setup.data.count, r->setup.run);
    er_log(ER_LOG_INFO, "report: %s/report.html", r->setup.run);
    return 0;
}

/* Rank 0. Scores and drift that are asked for and not known. */
static int missing_figures(er_run *r, int64_t *missing, er_err *err)
{
    int64_t drift = 0;
    ER_TRY(er_run_missing_scores(r, missing, err));
    ER_TRY(er_drift_missing(r, &drift, err));
    *missing += drift;
    return 0;
}

static int run_all(er_run *r, const char *path, const char *const *sets, size_t set_count,
                   const er_run_options *options, int64_t *failed, er_err *err)
{
    int64_t missing = 0;
    ER_TRY(open_run(r, path, sets, set_count, options, err));
    log_start(r);
    ER_TRY(er_world_agree(r->w, r->w->rank == 0 ? missing_figures(r, &missing, err) : 0, err));
    ER_TRY(er_world_bcast(r->w, &missing, sizeof missing, 0, err));
    const int left = missing || r->head_count < r->setup.batches;
    if (left) ER_TRY(er_forecast_open(r, err));
    ER_TRY(measure(r, options->force, err));
    ER_TRY(read_templates(r, err));
    ER_TRY(write_inputs(r, err));
    if (left) ER_TRY(er_world_agree(r->w, r->w->rank == 0 ? er_forecast_texts(r, err) : 0, err));
    if (left) ER_TRY(run_batches(r, err));
    if (left) ER_TRY(er_forecast_memory(r, err));
    int code = r->w->rank == 0 ? finish(r, options, failed, err) : 0;
    ER_TRY(er_world_agree(r->w, code, err));
    return er_world_bcast(r->w, failed, sizeof *failed, 0, err);
}

int er_run_job(er_world *w, const char *path, const char *const *sets, size_t set_count,
               const er_run_options *options, int64_t *failed, er_err *err)
{
    er_run r = {.w = w, .lock = -1, .started = er_seconds()};
    int code = run_all(&r, path, sets, set_count, options, failed, err);
    er_run_outcome *o = w->rank == 0 ? options->outcome : NULL;
    if (o) {
        *o = (er_run_outcome){.folder = r.setup.run, .requested = r.setup.data.count, .failed = *failed,
                              .counts = r.setup.counts};
        r.setup.run = NULL;
    }
    er_run_close(&r);
    return code;
}
