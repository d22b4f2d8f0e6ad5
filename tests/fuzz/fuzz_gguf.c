/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a GGUF file: metadata, tensors, configuration, the parts of a tokenizer, and the values of each
 * tensor. */
#include "base/memory.h"
#include "model/gguf.h"
#include "model/quant.h"

enum { VALUES = 4096, PIECE = 64 }; /* small pieces: a sanitizer sees where each ends */

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* First and last values: the rest lies between them. */
static void read_values(const er_tensors *list)
{
    static float out[VALUES];
    for (size_t i = 0; i < list->count; i++) {
        const er_tensor *t = &list->at[i];
        int64_t block = er_dtype_block(t->dtype), n = t->elements < VALUES ? t->elements : VALUES / block * block;
        er_widen(out, t->data, t->dtype, 0, n);
        er_widen(out, t->data, t->dtype, t->elements - n, n);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    er_tensors list = {NULL, 0, 0};
    er_arena *arena = NULL;
    er_err err = ER_ERR_INIT;
    er_gguf g;
    er_config config;
    er_tokenizer_parts parts;
    if (er_arena_new(&arena, PIECE, &err)) return 0;
    int code = er_gguf_parse(&g, &list, arena, bytes, size, "fuzz", &err);
    if (!code) code = er_tensors_sort(&list, &err);
    if (!code) read_values(&list);
    if (!code) {
        ER_ALWAYS(er_gguf_config(&config, &g, &list, arena, &err) == 0 || err.text[0]);
        ER_ALWAYS(er_gguf_tokenizer(&parts, &g, arena, &err) == 0 || err.text[0]);
    }
    er_tensors_free(&list);
    er_arena_free(arena);
    ER_ALWAYS(er_memory_live() == 0);
    return 0;
}
