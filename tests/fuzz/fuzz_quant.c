/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as blocks of any type: byte 0 names the type, bytes 1 and 2 where a range starts and how long it is. A part
 * has the values that the whole has. */
#include "base/error.h"
#include "model/quant.h"

#include <stdlib.h>
#include <string.h>

enum { VALUES = 1 << 14 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static float whole[VALUES], part[VALUES];
    if (size < 3) return 0;
    int dtype = bytes[0] % ER_DTYPE_COUNT;
    int64_t block = er_dtype_block(dtype);
    if (!block) return 0;
    size_t step = er_dtype_block_bytes(dtype), blocks = (size - 3) / step;
    if (blocks > (size_t)(VALUES / block)) blocks = (size_t)(VALUES / block);
    int64_t n = (int64_t)blocks * block;
    uint8_t *data = malloc(blocks * step + 1); /* of the exact size: a sanitizer sees where it ends */
    if (!data) return 0;
    memcpy(data + 1, bytes + 3, blocks * step);
    er_widen(whole, data + 1, dtype, 0, n);
    int64_t first = n ? bytes[1] * n / 256 : 0, most = n - first, count = bytes[2] * (most + 1) / 256;
    er_widen(part, data + 1, dtype, first, count);
    ER_ALWAYS(!count || memcmp(part, whole + first, (size_t)count * sizeof *part) == 0);
    free(data);
    return 0;
}
