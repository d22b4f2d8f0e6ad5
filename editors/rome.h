/* SPDX-License-Identifier: Apache-2.0 */
/* ROME (Meng et al. 2022; spec 5): one fact, one layer, one rank.
 *     u = C^-1 k / |C^-1 k|  (mom2_adjustment; else u = k / |k|),  k the mean key over all templates
 *     W += r u^T,  r = (v* - o0) / (k0 . u),  k0 and o0 the plain prompt's key and the output there
 * The mean key stands in u, the plain key in the division: so it was published. */
#ifndef ER_EDITORS_ROME_H
#define ER_EDITORS_ROME_H

#include "editors/editor.h"

extern const er_editor er_editor_rome;

#endif
