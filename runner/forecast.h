/* SPDX-License-Identifier: Apache-2.0 */
/* A run held against its plan: what each phase should take by cost_time.h on the machine as it is now, and what memory.
 * The figures stand in timings.jsonl, beside those measured; nothing that is compared byte by byte holds any of them. */
#ifndef ER_RUNNER_FORECAST_H
#define ER_RUNNER_FORECAST_H

#include "runner/plan.h"

struct er_run;

/* Rank 0's; zeroed it knows nothing, and every forecast is NAN. */
typedef struct er_forecast {
    er_plan plan;
    er_plan_words words;
    int known;
} er_forecast;

/* Collective, behind er_run_open_folder: all ranks measure the machine at once, for some hundredths of a second. */
int er_forecast_open(struct er_run *r, er_err *err);
/* Rank 0, when the run's templates are known: counts the texts of its first requests. */
int er_forecast_texts(struct er_run *r, er_err *err);

/* Rank 0. Seconds of what is really done, not of what a journal or a cache brings: layers measured and solved, cases
 * scored, targets made, a batch's keys and solves. NAN: not known, or nothing is done. */
double er_forecast_statistics(const struct er_run *r, int64_t moments, int64_t eigenpairs);
double er_forecast_scores(const struct er_run *r, int64_t cases);
double er_forecast_targets(const struct er_run *r, int64_t targets);
double er_forecast_keys(const struct er_run *r, int64_t edits);
double er_forecast_solves(const struct er_run *r, int64_t edits, int64_t before);

/* Collective. Each rank's line of timings.jsonl: {"rank": , "planned_bytes": , "peak_bytes": , "pss_bytes": }. peak: the
 * largest resident size so far, pages shared with other ranks included; pss: the proportional size now, which counts a
 * page that n processes share by its nth part. A figure that the system does not tell is left out. */
int er_forecast_memory(struct er_run *r, er_err *err);

#endif
