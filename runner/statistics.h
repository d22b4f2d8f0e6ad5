/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics of a job, measured by all ranks into the store, or found there. Shared by `stats` and `run`.
 *
 * Each rank adds the blocks of documents that it is handed to sums of its own; sums are exact, so that who did which
 * block leaves no trace. Every half minute a rank stores what it has as a partial object; a pass that was interrupted
 * continues behind them with any number of ranks. At the end the ranks' sums are reduced, stored as one moment per
 * layer, and the eigenpairs of the layers are computed by whichever rank takes them. */
#ifndef ER_RUNNER_STATISTICS_H
#define ER_RUNNER_STATISTICS_H

#include "runner/setup.h"

/* Collective. After success the store holds the moment and the eigenpairs of each layer. Fewer than 2 tokens per
 * dimension is ER_E_INPUT unless force != 0; below 50 there is a warning. Partials survive a failure or a signal. */
int er_measure(er_setup *s, const int64_t *layers, int64_t count, int force, er_err *err);

#endif
