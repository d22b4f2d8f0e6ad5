/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "runner/report_data.h"

#include "base/file.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

/* Clamped, so that sums and products of what a damaged file says stay whole numbers. */
static int64_t whole(const json_t *object, const char *key)
{
    const json_int_t most = (json_int_t)1 << 40;
    json_int_t n = json_integer_value(json_object_get(object, key));
    return (int64_t)(n > most ? most : n < -most ? -most : n);
}

static int is_true(const json_t *object, const char *key, const char *word)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text && !strcmp(text, word);
}

static int text_of(er_report *r, const char **out, const json_t *object, const char *key, er_err *err)
{
    const char *text = json_string_value(json_object_get(object, key));
    *out = text ? er_arena_strdup(r->arena, text, err) : NULL;
    return text && !*out ? ER_E_MEMORY : 0;
}

/* --- cases ------------------------------------------------------------------------------------------------------- */

static double success_of(const json_t *group, int neighborhood)
{
    const json_t *fresh = json_object_get(group, "new_nll"), *truth = json_object_get(group, "true_nll");
    size_t n = json_array_size(fresh);
    double sum = 0;
    if (!n || json_array_size(truth) != n) return (double)NAN;
    for (size_t i = 0; i < n; i++) {
        const json_t *a = json_array_get(fresh, i), *b = json_array_get(truth, i);
        /* compared as the floats they were; null is not finite: no success */
        float x = json_is_number(a) ? (float)json_number_value(a) : NAN;
        float y = json_is_number(b) ? (float)json_number_value(b) : NAN;
        sum += neighborhood ? x > y : x < y;
    }
    return sum / (double)n;
}

static double accuracy_of(const json_t *group, int truth)
{
    const json_t *prompts = json_object_get(group, truth ? "true_ok" : "new_ok");
    size_t n = json_array_size(prompts);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *flags = json_array_get(prompts, i);
        size_t tokens = json_array_size(flags);
        double ok = 0;
        for (size_t t = 0; t < tokens; t++) ok += json_integer_value(json_array_get(flags, t)) != 0;
        sum += ok / (double)tokens; /* no tokens: NAN, as for the group */
    }
    return n ? sum / (double)n : (double)NAN;
}

static double mean_nll(const json_t *group, const char *key)
{
    const json_t *values = json_object_get(group, key);
    size_t n = json_array_size(values);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(values, i);
        sum += json_is_number(v) ? json_number_value(v) : (double)NAN;
    }
    return n ? sum / (double)n : (double)NAN;
}

static int take_moment(er_report *r, er_report_case *c, const json_t *line, er_err *err)
{
    const char *moment = json_string_value(json_object_get(line, "moment"));
    for (int64_t i = r->case_count; i-- > 0 && r->case_count - i < 4096;) {
        if (strcmp(r->cases[i].moment, moment) != 0) continue;
        c->moment = r->cases[i].moment;
        return 0;
    }
    return text_of(r, &c->moment, line, "moment", err);
}

static int take_case(er_report *r, const json_t *line, int *known, er_err *err)
{
    er_report_case c = {.case_id = whole(line, "case_id"), .index = whole(line, "index"),
                        .edits = whole(line, "edits_in_model"), .failed = is_true(line, "status", "failed")};
    *known = json_is_string(json_object_get(line, "moment")) && c.index >= 0;
    if (!*known) return 0;
    ER_TRY(take_moment(r, &c, line, err));
    ER_TRY(text_of(r, &c.reason, line, "reason", err));
    for (int g = 0; g < ER_REPORT_GROUPS; g++) {
        const json_t *group = json_object_get(line, er_report_groups[g].name);
        c.success[g] = success_of(group, g == ER_REPORT_SPE);
        c.accuracy[g] = accuracy_of(group, g == ER_REPORT_SPE);
    }
    c.new_nll = mean_nll(json_object_get(line, "rewrite"), "new_nll");
    c.true_nll = mean_nll(json_object_get(line, "rewrite"), "true_nll");
    ER_TRY(er_grow(&r->cases, &r->case_room, (size_t)r->case_count + 1, err));
    r->cases[r->case_count++] = c;
    return 0;
}

/* --- events ------------------------------------------------------------------------------------------------------ */

static int take_target(er_report *r, const json_t *line, er_err *err)
{
    const json_t *losses = json_object_get(line, "losses");
    er_report_target t = {.case_id = whole(line, "case_id"), .index = whole(line, "index"),
                          .batch = whole(line, "batch"), .steps = (int64_t)json_array_size(losses),
                          .failed = is_true(line, "status", "failed"),
                          .flat = json_is_true(json_object_get(line, "flat")), .init_norm = number(line, "init_norm"),
                          .delta_norm = number(line, "delta_norm"), .target_norm = number(line, "target_norm")};
    const json_t *reached = json_object_get(line, "probability");
    const json_t *last = json_array_size(reached) ? json_array_get(reached, json_array_size(reached) - 1) : NULL;
    t.reached = json_is_number(last) ? json_number_value(last) : (double)NAN;
    t.after = number(json_object_get(line, "after"), "probability");
    ER_TRY(text_of(r, &t.reason, line, "reason", err));
    ER_TRY(text_of(r, &t.stop, line, "stop", err));
    ER_TRY(er_arena_take(r->arena, &t.total, (size_t)t.steps, err));
    for (int64_t s = 0; s < t.steps; s++) {
        const json_t *total = json_array_get(json_array_get(losses, (size_t)s), 0);
        t.total[s] = json_is_number(total) ? (float)json_number_value(total) : NAN;
    }
    ER_TRY(er_grow(&r->targets, &r->target_room, (size_t)r->target_count + 1, err));
    r->targets[r->target_count++] = t;
    return 0;
}

/* Mean over requests of one figure of their keys. */
static double mean_of_keys(const json_t *keys, size_t figure)
{
    double sum = 0;
    size_t n = json_array_size(keys);
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(json_array_get(keys, i), figure);
        sum += json_is_number(v) ? json_number_value(v) : (double)NAN;
    }
    return n ? sum / (double)n : (double)NAN;
}

static int take_layer(er_report *r, const json_t *line, er_err *err)
{
    er_report_layer l = {whole(line, "batch"), whole(line, "layer"), whole(line, "requests"),
                         whole(line, "history_rows"), whole(line, "history_rank"), number(line, "z_error"),
                         number(line, "update_norm"), number(line, "weight_norm"), number(line, "condition"),
                         number(line, "total_update_norm"), {0}, ""};
    const char *matrix = json_string_value(json_object_get(line, "matrix"));
    snprintf(l.matrix, sizeof l.matrix, "%s", matrix ? matrix : "");
    for (size_t c = 0; c < 4; c++) l.keys[c] = mean_of_keys(json_object_get(line, "keys"), c);
    ER_TRY(er_grow(&r->layers, &r->layer_room, (size_t)r->layer_count + 1, err));
    r->layers[r->layer_count++] = l;
    return 0;
}

static int take_spectrum(er_report *r, const json_t *line, er_err *err)
{
    const json_t *points = json_object_get(line, "points");
    er_report_spectrum s = {.layer = whole(line, "layer"), .dimension = whole(line, "dimension"),
                            .kept = json_is_integer(json_object_get(line, "kept")) ? whole(line, "kept") : -1,
                            .count = (int64_t)json_array_size(points)};
    ER_TRY(er_arena_take(r->arena, &s.index, (size_t)s.count, err));
    ER_TRY(er_arena_take(r->arena, &s.value, (size_t)s.count, err));
    for (int64_t i = 0; i < s.count; i++) {
        const json_t *p = json_array_get(points, (size_t)i);
        s.index[i] = json_number_value(json_array_get(p, 0));
        s.value[i] = json_number_value(json_array_get(p, 1));
    }
    ER_TRY(er_grow(&r->spectra, &r->spectrum_room, (size_t)r->spectrum_count + 1, err));
    r->spectra[r->spectrum_count++] = s;
    return 0;
}

static int take_event(er_report *r, const json_t *line, int *known, er_err *err)
{
    *known = json_is_string(json_object_get(line, "event")); /* kinds of other versions are nobody's damage */
    if (is_true(line, "event", "target")) return take_target(r, line, err);
    if (is_true(line, "event", "layer")) return take_layer(r, line, err);
    if (is_true(line, "event", "guard"))
        return json_array_append(r->guards, (json_t *)(uintptr_t)line) ? er_fail(err, ER_E_MEMORY, "out of memory") : 0;
    return is_true(line, "event", "spectrum") ? take_spectrum(r, line, err) : 0;
}

/* --- times ------------------------------------------------------------------------------------------------------- */

static int take_memory(er_report *r, const json_t *line, er_err *err)
{
    const er_report_memory m = {whole(line, "rank"), number(line, "planned_bytes"), number(line, "peak_bytes"),
                                number(line, "pss_bytes")};
    int64_t i = m.rank ? r->memory_count : 0; /* a later start says it anew, from rank 0 on */
    ER_TRY(er_grow(&r->memory, &r->memory_room, (size_t)i + 1, err));
    r->memory[i] = m;
    r->memory_count = i + 1;
    return 0;
}

static int take_time(er_report *r, const json_t *line, int *known, er_err *err)
{
    const char *name = json_string_value(json_object_get(line, "phase"));
    double seconds = number(line, "seconds");
    const double planned = number(line, "planned");
    int64_t i = 0;
    *known = json_is_integer(json_object_get(line, "rank")) || (name && isfinite(seconds));
    if (!*known) return 0;
    if (!name) return take_memory(r, line, err);
    while (i < r->phase_count && strcmp(r->phases[i].name, name) != 0) i++;
    if (i == r->phase_count) {
        er_report_phase p = {0};
        ER_TRY(text_of(r, &p.name, line, "phase", err));
        ER_TRY(er_grow(&r->phases, &r->phase_room, (size_t)i + 1, err));
        r->phases[r->phase_count++] = p;
    }
    r->phases[i].seconds += seconds;
    r->phases[i].count++;
    if (isfinite(planned)) r->phases[i].forecast += planned, r->phases[i].forecast_for += seconds;
    return 0;
}

/* --- lines ------------------------------------------------------------------------------------------------------- */

typedef int line_sink(er_report *r, const json_t *line, int *known, er_err *err);

static int take_lines(er_report *r, FILE *f, const char *name, line_sink *sink, er_err *err)
{
    char *text = NULL;
    size_t room = 0;
    ssize_t n;
    int64_t bad = 0;
    int code = 0;
    while (!code && (n = getline(&text, &room, f)) > 0) {
        er_err why = ER_ERR_INIT;
        json_t *line = NULL;
        int known = 0;
        if (n == 1 && *text == '\n') continue;
        code = er_json_parse(&line, text, (size_t)n, name, &why);
        if (!code) code = sink(r, line, &known, &why);
        if (code == ER_E_MEMORY) er_fail(err, code, "%s", why.text);
        if (code != ER_E_MEMORY) code = 0;
        bad += !known;
        json_decref(line);
    }
    free(text);
    if (!code && ferror(f)) code = er_report_note(r, err, "%s was not read to its end: %s.", name, strerror(errno));
    if (!code && bad)
        code = er_report_note(r, err, "%lld line%s of %s cannot be read and %s left out.", (long long)bad,
                              bad > 1 ? "s" : "", name, bad > 1 ? "are" : "is");
    return code;
}

static int read_file(er_report *r, const char *name, line_sink *sink, er_err *err)
{
    char *path = NULL;
    ER_TRY(er_path_join(&path, r->folder, name, err));
    FILE *f = fopen(path, "r");
    er_free(path);
    if (!f) return er_report_note(r, err, errno == ENOENT ? "%s is not there." : "%s cannot be opened.", name);
    int code = take_lines(r, f, name, sink, err);
    fclose(f);
    return code;
}

int er_report_read_lines(er_report *r, int all, er_err *err)
{
    if (all) ER_TRY(read_file(r, "cases.jsonl", take_case, err));
    ER_TRY(read_file(r, "events.jsonl", take_event, err));
    return all ? read_file(r, "timings.jsonl", take_time, err) : 0;
}
