/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/text.h"
#include "runner/change.h"
#include "runner/report.h"
#include "runner/verbs.h"

#include <stdio.h>

static const er_flag flags[] = {
    {"to", "FOLDER", "write compare.html, .md, .csv and .png there: curves of all runs, where they break, spread"},
    {"spectra", NULL, "first measure what editing did to the singular values of the edited matrices (spectra.jsonl)"},
    {0},
};

static int call(er_world *w, const er_args *args, int *exit_code, er_err *err)
{
    er_text table = ER_TEXT_INIT;
    (void)w, (void)exit_code;
    for (int i = 0; i < args->count; i++) {
        if (er_args_get(args, "spectra")) ER_TRY(er_change_write(args->at[i], err));
        ER_TRY(er_report_write(args->at[i], err));
        er_log(ER_LOG_INFO, "report: %s/report.html", args->at[i]);
    }
    const char *to = er_args_get(args, "to");
    if (to) ER_TRY(er_report_compare_write(to, args->at, args->count, err));
    if (to) er_log(ER_LOG_INFO, "comparison: %s/compare.html", to);
    if (args->count == 1) return 0;
    int code = er_report_compare(&table, args->at, args->count, err);
    if (!code && table.at && fwrite(table.at, 1, table.length, stdout) != table.length)
        code = er_fail(err, ER_E_IO, "stdout: cannot be written");
    er_text_free(&table);
    return code;
}

const er_verb er_verb_report = {"report", "RUN...", "rebuild reports; several runs are also compared", 1, -1, 0, 0, flags,
                                call};
