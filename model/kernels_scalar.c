/* SPDX-License-Identifier: Apache-2.0 */
/* Portable kernels: no instruction set named; fma is the C library's where the compiler may not use the CPU's. */
#define ER_ISA 0
#define ER_TABLE scalar
#include "model/kernels_all.h"
