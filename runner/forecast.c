/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/forecast.h"

#include "runner/cost_time.h"
#include "runner/run.h"
#include "runner/team.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_COUNTED = 100 }; /* requests: a run does not wait for its forecast */
static const double measured_seconds = 0.005;

/* --- opening ----------------------------------------------------------------------------------------------------- */

static int fill(er_run *r, int64_t most, er_err *err)
{
    er_forecast *f = &r->forecast;
    er_setup *s = &r->setup;
    const er_machine machine = f->plan.machine;
    const er_templates *known = r->templates.count ? &r->templates : NULL;
    ER_TRY(er_plan_of_job(&f->plan, &f->words, s, &s->model->config, s->model->tokenizer, NULL, known, most, err));
    f->plan.machine = machine;
    return 0;
}

int er_forecast_open(er_run *r, er_err *err)
{
    er_forecast *f = &r->forecast;
    er_machine m = er_machine_assumed();
    int code = er_machine_measure(&m, &r->setup.model->config, measured_seconds, err);
    m.takers = er_world_groups(r->w);
    m.shards = er_world_shards(r->w);
    f->plan.machine = m;
    if (!code && r->w->rank == 0) code = fill(r, 0, err);
    f->known = !code && r->w->rank == 0 && !r->setup.editor->train;
    return er_world_agree(r->w, code, err);
}

int er_forecast_texts(er_run *r, er_err *err) { return r->forecast.known ? fill(r, MOST_COUNTED, err) : 0; }

/* --- times ------------------------------------------------------------------------------------------------------- */

double er_forecast_statistics(const er_run *r, int64_t moments, int64_t eigenpairs)
{
    const er_plan *p = &r->forecast.plan;
    if (!r->forecast.known || (!moments && !eigenpairs)) return (double)NAN;
    return (moments ? er_time_statistics(p, &p->machine) : 0) +
           (eigenpairs ? er_time_eigenpairs(p, &p->machine, (double)eigenpairs) : 0);
}

double er_forecast_scores(const er_run *r, int64_t cases)
{
    const er_plan *p = &r->forecast.plan;
    if (!r->forecast.known || !cases) return (double)NAN;
    return er_time_scores(p, &p->machine, (double)cases);
}

double er_forecast_targets(const er_run *r, int64_t targets)
{
    const er_plan *p = &r->forecast.plan;
    if (!r->forecast.known || !targets) return (double)NAN;
    return er_time_targets(p, &p->machine, (double)targets);
}

double er_forecast_keys(const er_run *r, int64_t edits)
{
    const er_plan *p = &r->forecast.plan;
    if (!r->forecast.known || !edits) return (double)NAN;
    return er_time_keys(p, &p->machine, (double)edits);
}

double er_forecast_solves(const er_run *r, int64_t edits, int64_t before)
{
    const er_plan *p = &r->forecast.plan;
    if (!r->forecast.known || !edits) return (double)NAN;
    return er_time_solves(p, &p->machine, (double)edits, p->editor->history_new ? (double)before : 0) +
           er_time_messages(p, &p->machine, (double)edits).seconds;
}

/* --- memory ------------------------------------------------------------------------------------------------------ */

/* kB behind `name` in a file of /proc; 0: not told. */
static double told(const char *path, const char *name)
{
    char line[256];
    double kib = 0;
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, name, strlen(name)) == 0) kib = atof(line + strlen(name));
    if (f) fclose(f);
    return kib * 1024;
}

static double planned_memory(const er_run *r, int rank)
{
    const er_plan *p = &r->forecast.plan;
    const er_config *c = p->config;
    const int groups = er_world_groups(r->w), shard = rank / groups, home = rank % groups == 0;
    const er_model *model = r->setup.model;
    const int64_t from = model->cut ? model->cut[shard] : 0, to = model->cut ? model->cut[shard + 1] : c->layers;
    const double held = er_cost_program(c) + er_cost_model_part(c, p->weights, from, to);
    double most = er_plan_rank_memory(p, p->weights, from, to, home), other = 0;
    if (r->setup.counts.moments) other = er_cost_measuring(c, r->setup.counts.moments, p->document, rank == 0);
    if (r->setup.counts.eigenpairs && er_cost_solving(c) > other) other = er_cost_solving(c);
    return held + other > most ? held + other : most;
}

static int put_line(er_run *r, int rank, const double figures[2], er_err *err)
{
    char peak[48] = "", pss[48] = "", line[192];
    if (figures[0] > 0) snprintf(peak, sizeof peak, ",\"peak_bytes\":%.0f", figures[0]);
    if (figures[1] > 0) snprintf(pss, sizeof pss, ",\"pss_bytes\":%.0f", figures[1]);
    snprintf(line, sizeof line, "{\"rank\":%d,\"planned_bytes\":%.0f%s%s}\n", rank, planned_memory(r, rank), peak, pss);
    return er_run_time_line(r, line, err);
}

int er_forecast_memory(er_run *r, er_err *err)
{
    const double mine[2] = {told("/proc/self/status", "VmHWM:"), told("/proc/self/smaps_rollup", "Pss:")};
    for (int rank = 0; rank < r->w->size; rank++) {
        double figures[2] = {mine[0], mine[1]};
        ER_TRY(er_world_carry(r->w, rank, 0, figures, sizeof figures, err));
        int code = r->w->rank == 0 && r->forecast.known ? put_line(r, rank, figures, err) : 0;
        ER_TRY(er_world_agree(r->w, code, err));
    }
    return 0;
}
