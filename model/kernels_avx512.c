/* SPDX-License-Identifier: Apache-2.0 */
#ifdef __AVX512F__
#define ER_ISA 512
#define ER_TABLE avx512
#include "model/kernels_all.h"
#endif
