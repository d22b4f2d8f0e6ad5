/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as an .npz of second moments of four dimensions, and as one .npy. */
#include "base/memory.h"
#include "stats/foreign.h"
#include "stats/npy.h"

enum { DIMENSION = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    er_moment moment;
    er_npy array;
    er_err err = ER_ERR_INIT;
    int64_t samples = 0, number = 0;
    int code = er_npz_moment_parse(&moment, &samples, bytes, size, DIMENSION, "fuzz", &err);
    if (!code) {
        ER_ALWAYS(moment.n == DIMENSION && moment.tokens > 0 && samples >= -1);
        ER_ALWAYS(er_moment_sum_at(&moment, 0, 0) >= 0);
        er_moment_free(&moment);
    } else {
        ER_ALWAYS(code == ER_E_FORMAT || code == ER_E_UNSUPPORTED || code == ER_E_NUMERIC);
    }
    if (!er_npy_read(&array, bytes, size, "fuzz", &err)) {
        ER_ALWAYS(array.data >= bytes && array.data <= bytes + size);
        if (array.elements && array.width && array.width <= 8) er_npy_real(&array, array.elements - 1);
        er_npy_integer(&number, &array, "fuzz", &err);
    }
    ER_ALWAYS(er_memory_live() == 0);
    return 0;
}
