/* SPDX-License-Identifier: Apache-2.0 */
/* Keys: what the edited matrix, a layer's down projection, reads at the subject's last token (spec 5, 7, 19.2).
 *
 * Texts are cut after that token and the pass stops at the block that is needed. All texts of a chunk of requests run
 * in one call, what several begin with once (model/prefix.h); how requests fall into chunks bounds memory and changes no
 * bit. */
#ifndef ER_EDITORS_KEYS_H
#define ER_EDITORS_KEYS_H

#include "editors/editor.h"

/* MEMIT family: keys (count, f + d). The key: half of the plain text's plus half of the mean of the prefixed texts'
 * (the plain one alone where there is no other); behind it what the update has to move, at the plain text's subject: the
 * residual stream after block `last`, or the output of that block's down projection where it passes a norm
 * (editors/target.h). layer <= last. */
int er_keys_memit(const er_view *view, int64_t layer, int64_t last, const er_prompt *prompts, int64_t count,
                  float *keys, er_work *work, er_err *err);

/* ROME: keys (count, f + f + d). The mean of the key over all texts; the plain text's key; the output of the down
 * projection there, its bias included. */
int er_keys_rome(const er_view *view, int64_t layer, const er_prompt *prompts, int64_t count, float *keys,
                 er_work *work, er_err *err);

#endif
