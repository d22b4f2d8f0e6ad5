/* SPDX-License-Identifier: Apache-2.0 */
/* A run against its plan: seconds of its phases and memory of its ranks beside what was forecast (forecast.h). */
#include "runner/report_parts.h"

#include <math.h>
#include <string.h>

static void cell_or_dash(er_doc *d, double value, int digits)
{
    if (isfinite(value)) er_doc_cell(d, "%.*f", digits, value);
    else er_doc_cell(d, "–");
}

int er_report_has_forecast(const er_report *r)
{
    int any = 0;
    for (int64_t i = 0; i < r->phase_count; i++) any |= r->phases[i].forecast > 0;
    return any;
}

void er_part_phases(er_doc *d, const er_report *r)
{
    const int planned = er_report_has_forecast(r);
    double sum = 0;
    for (int64_t i = 0; i < r->phase_count; i++)
        if (strcmp(r->phases[i].name, "all") != 0) sum += r->phases[i].seconds;
    er_doc_table(d, planned ? "lrrrrr" : "lrrr");
    er_doc_cell(d, "phase");
    er_doc_cell(d, "times");
    er_doc_cell(d, "seconds");
    er_doc_cell(d, "share");
    if (planned) er_doc_cell(d, "planned");
    if (planned) er_doc_cell(d, "actual / planned");
    for (int64_t i = 0; i < r->phase_count; i++) {
        const er_report_phase *p = &r->phases[i];
        if (!strcmp(p->name, "all")) continue;
        er_doc_cell(d, "%s", p->name);
        er_doc_cell(d, "%lld", (long long)p->count);
        er_doc_cell(d, "%.3f", p->seconds);
        if (sum > 0) er_doc_cell(d, "%.1f %%", 100 * p->seconds / sum);
        else er_doc_cell(d, "–");
        if (!planned) continue;
        cell_or_dash(d, p->forecast > 0 ? p->forecast : (double)NAN, 3);
        cell_or_dash(d, p->forecast > 0 ? p->forecast_for / p->forecast : (double)NAN, 2);
    }
    er_doc_table_end(d);
    if (planned)
        er_doc_say(d, "Planned: by the cost model, from the rates that all ranks measured together when the run started and "
                   "the texts of its first requests, for what was really done.");
}

void er_part_memory(er_doc *d, const er_report *r)
{
    if (!r->memory_count) return;
    er_doc_table(d, "rrrrr");
    er_doc_cell(d, "rank");
    er_doc_cell(d, "peak, MB");
    er_doc_cell(d, "planned, MB");
    er_doc_cell(d, "peak / planned");
    er_doc_cell(d, "proportional at the end, MB");
    for (int64_t i = 0; i < r->memory_count; i++) {
        const er_report_memory *m = &r->memory[i];
        er_doc_cell(d, "%lld", (long long)m->rank);
        cell_or_dash(d, m->peak * 1e-6, 1);
        cell_or_dash(d, m->planned * 1e-6, 1);
        cell_or_dash(d, m->peak / m->planned, 2);
        cell_or_dash(d, m->pss * 1e-6, 1);
    }
    er_doc_table_end(d);
}
