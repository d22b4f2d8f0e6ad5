/* SPDX-License-Identifier: Apache-2.0 */
/* Methods that papers name by their stabiliser: a base method with other presets (editors/stabilise.h).
 *
 *     encore  ENCORE (Gupta et al. 2025, arXiv 2502.01636): MEMIT-seq with a ridge and the most-probable early stop
 *     rect    RECT (Gu et al. 2024), as AlphaEdit's authors compare with it: MEMIT, of each update 40 % of the elements
 *     prune   PRUNE (Ma et al. 2024): MEMIT, singular values of the sum of updates lowered
 *     sphere  SPHERE (2025): AlphaEdit, updates kept out of the weights' principal directions
 *
 * Hyperparameters are those of the authors' files for Llama-3-8B. NAS, BLUE and REVIVE are named with the method that
 * they are added to: editor.use_nas, editor.blue, editor.revive_energy. */
#ifndef ER_EDITORS_STABILISED_H
#define ER_EDITORS_STABILISED_H

#include "editors/editor.h"

extern const er_editor er_editor_encore, er_editor_rect, er_editor_prune, er_editor_sphere;

#endif
