/* SPDX-License-Identifier: Apache-2.0 */
/* What a person sees on stderr: log lines and progress. Only runner/ calls these; libraries return errors. */
#ifndef ER_BASE_LOG_H
#define ER_BASE_LOG_H

#include <stdint.h>

enum er_level { ER_LOG_ERROR, ER_LOG_WARN, ER_LOG_INFO, ER_LOG_DEBUG };

/* rank < 0: no MPI. Lines of ranks other than 0 carry their rank; info lines come from rank 0 only. */
void er_log_setup(int rank, enum er_level most);
void er_log(enum er_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Progress: a bar on a terminal once a second, a line every 30 s otherwise; rate and time left. All functions accept
 * NULL. The first draw comes after 2 s, so that short work stays silent. */
typedef struct er_progress {
    const char *what, *unit;
    int64_t done, total, at_start;
    double started, drawn;
    int terminal, shown;
} er_progress;

/* total <= 0: unknown. `done` counts work found finished from before, which the rate must not include. */
void er_progress_start(er_progress *p, const char *what, const char *unit, int64_t done, int64_t total);
void er_progress_add(er_progress *p, int64_t n);
void er_progress_end(er_progress *p);

double er_seconds(void); /* monotonic clock */

#endif
