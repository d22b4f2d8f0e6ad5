/* SPDX-License-Identifier: Apache-2.0 */
#ifdef __AVX2__
#define ER_ISA 2
#define ER_TABLE avx2
#include "model/kernels_all.h"
#endif
