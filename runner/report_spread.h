/* SPDX-License-Identifier: Apache-2.0 */
/* Several runs beside each other: their spread over seeds. */
#ifndef ER_RUNNER_REPORT_SPREAD_H
#define ER_RUNNER_REPORT_SPREAD_H

#include "runner/report_data.h"
#include "runner/report_doc.h"

/* A table of the runs that differ in nothing but seeds (seed, data.order, data.order.shuffle, templates.generate.seed,
 * stats.sample.seed): per group of such runs and score at the last moment the mean over runs, the standard deviation
 * over runs (n - 1), and beside it, as another thing, the mean of the standard errors over cases. Says nothing where no
 * two runs are of one group. */
void er_part_spread(er_doc *d, const er_report *runs, int64_t count);

#endif
