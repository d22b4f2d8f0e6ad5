/* SPDX-License-Identifier: Apache-2.0 */
/* Internal to model/pickle*: the globals that a pickle may name, and what the opcodes are called. */
#ifndef ER_MODEL_PICKLE_NAMES_H
#define ER_MODEL_PICKLE_NAMES_H

#include <stddef.h>
#include <stdint.h>

/* Numbers below ER_PICKLE_ORDERED_DICT are those of element types: torch.*Storage. */
enum { ER_PICKLE_ORDERED_DICT = 100, ER_PICKLE_REBUILD_TENSOR, ER_PICKLE_REBUILD_PARAMETER };

/* The number of module.name; -1: not one of those. */
int er_pickle_global(const uint8_t *module, size_t module_length, const uint8_t *name, size_t name_length);
/* " (NAME)" of an opcode that is not read here; "" for a byte that is no opcode at all. */
const char *er_pickle_opcode(uint8_t op);

#endif
