/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as config.json: what is accepted must be consistent and countable. */
#include "model/config.h"
#include "model/weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    er_config c;
    er_err err = ER_ERR_INIT;
    if (er_config_parse(&c, (const char *)bytes, size, "fuzz", &err)) {
        ER_ALWAYS(err.text[0]);
        return 0;
    }
    int gguf = er_family_find(c.family)->gguf != NULL;
    int64_t total = 0, count = er_slot_count(&c);
    for (int64_t i = 0; c.positions != ER_POSITION_LEARNED && i < c.rope_dim / 2; i++) {
        float frequency = er_rope_frequency(&c, i, 0);
        ER_ALWAYS(frequency >= 0 && frequency <= 1);
    }
    for (int64_t i = 0; i < count; i++) {
        char name[ER_TENSOR_NAME];
        er_slot slot = er_slot_at(&c, i);
        er_slot_name(name, &c, &slot, gguf && i % 2);
        ER_ALWAYS(name[0]);
        total += slot.rows * slot.cols;
        ER_ALWAYS(slot.layer < 0 || er_config_window(&c, slot.layer) > 0);
    }
    ER_ALWAYS(total == er_config_parameters(&c));
    return 0;
}
