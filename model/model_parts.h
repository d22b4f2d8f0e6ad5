/* SPDX-License-Identifier: Apache-2.0 */
/* Internal to model/: what stands behind a model's pointers, and how it is filled. */
#ifndef ER_MODEL_MODEL_PARTS_H
#define ER_MODEL_MODEL_PARTS_H

#include "model/model.h"
#include "model/weights.h"

struct er_model_owner {
    er_source source;
    void **buffers;
    size_t buffer_count, buffer_capacity;
};

/* Memory that lives as long as the model, zeroed; *out is a pointer of any type. */
int er_model_own(er_model *model, void *out, size_t count, size_t size, er_err *err);
/* Every tensor of the source is found, checked, hashed and put in its place, as `weights` (ER_F32, ...). A tensor that no
 * slot wants is a part of the model that the engine does not know: ER_E_UNSUPPORTED. */
int er_model_fill(er_model *model, int weights, const er_shared_memory *shared, er_err *err);
/* The tables of the rotation. */
int er_model_fill_rope(er_model *model, er_err *err);

#endif
