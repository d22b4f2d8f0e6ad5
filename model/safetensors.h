/* SPDX-License-Identifier: Apache-2.0 */
/* Internal to model/: the safetensors format. 8 bytes with the length of a JSON header, the header
 * {"name": {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {...}}, then the data, which the tensors
 * cover without holes or overlap. */
#ifndef ER_MODEL_SAFETENSORS_H
#define ER_MODEL_SAFETENSORS_H

#include "base/error.h"
#include "base/memory.h"
#include "model/weights.h"

#include <stddef.h>
#include <stdint.h>

/* Appends the tensors of a file of `size` bytes to *list, unsorted. Names go to the arena; bytes and path are borrowed.
 * Anything that does not fit the format is ER_E_FORMAT naming path and tensor. */
int er_safetensors_parse(er_tensors *list, er_arena *arena, const uint8_t *bytes, size_t size, const char *path,
                         er_err *err);
/* The format's name of ER_F32, ER_F16 or ER_BF16. */
const char *er_safetensors_type(int dtype);

#endif
