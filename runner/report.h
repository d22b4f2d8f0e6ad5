/* SPDX-License-Identifier: Apache-2.0 */
/* report.html and report.md of a run, made from the run's own files alone (summary.json, cases.jsonl, events.jsonl,
 * timings.jsonl, inputs.json, env.json, job.resolved.yaml), so that `errata report RUN` can rebuild them anywhere. */
#ifndef ER_RUNNER_REPORT_H
#define ER_RUNNER_REPORT_H

#include "base/error.h"

#include <stdint.h>

/* Not collective, rank 0. Writes FOLDER/report.html and FOLDER/report.md, each complete or absent. Files that are
 * absent or parts that cannot be plotted (no gnuplot) are left out and named in the report; only an unreadable
 * summary.json or a failing write is an error. */
int er_report_write(const char *folder, er_err *err);

/* Comparison of several runs: one table (md) appended to *out, a row per run: method, edits, scores at the end; below
 * it what differs in protocol and inputs, the spread over seeds, where each breaks, and a row per run and moment. Reads
 * each run's summary.json, events and resolved job; an unreadable summary is an error, no run at all is ER_E_USAGE. */
struct er_text;
int er_report_compare(struct er_text *out, const char *const *folders, int64_t count, er_err *err);
/* The same as TO/compare.html and TO/compare.md, with curves of all runs against the number of edits, which are
 * TO/compare.png as one picture and TO/compare.csv as numbers. */
int er_report_compare_write(const char *to, const char *const *folders, int64_t count, er_err *err);

#endif
