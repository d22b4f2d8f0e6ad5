/* SPDX-License-Identifier: Apache-2.0 */
/* What editing did to the spectra of the edited matrices (errata report --spectra). */
#ifndef ER_RUNNER_CHANGE_H
#define ER_RUNNER_CHANGE_H

#include "base/error.h"

/* Not collective. FOLDER/spectra.jsonl of a run, also of one that is at work: a line per edited matrix, {"layer", "matrix",
 * "clean", "edited", "update"}, each of the three {"norm": Frobenius norm, "sigma": largest singular value,
 * "stable_rank": (norm / sigma)^2}, of W0, of W with all edits of the ledger, and of W - W0. Opens the model; about 3 d^3 +
 * 2 d^2 f operations of one thread per matrix (d, f), three times. Same bits on every machine. ER_E_USAGE for mode
 * single. */
int er_change_write(const char *folder, er_err *err);

#endif
