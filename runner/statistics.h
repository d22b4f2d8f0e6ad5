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

/* Collective. Measures this job's share of the blocks, shard I of N (1 .. N, N >= 2), and leaves it in the store as a
 * partial object, for er_merge, or for er_measure in the same store, which continues behind what it finds. Nothing is
 * done where the shard, or every moment, is in the store. Interruption and errors as above. */
int er_measure_shard(er_setup *s, const int64_t *layers, int64_t count, int64_t shard, int64_t shards, int force,
                     er_err *err);

/* merge.c. Collective. Adds up the shards in the store and at `paths` (folders or files) to the moments of the layers,
 * and computes their eigenpairs. What stands at `paths` must be of this job (ER_E_MISMATCH); every block of the corpus
 * must be there once (ER_E_INPUT names those that are not). Then the store's own shards are removed. Repeating it after an
 * interruption ends with the same objects. */
int er_merge(er_setup *s, const int64_t *layers, int64_t count, const char *const *paths, int path_count, int force,
             er_err *err);

#endif
