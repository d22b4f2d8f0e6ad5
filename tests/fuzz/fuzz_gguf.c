/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a GGUF file: metadata, tensors, configuration, the parts of a tokenizer, and the values of each
 * tensor. */
#include "base/memory.h"
#include "model/gguf.h"
#include "model/quant.h"

enum { VALUES = 4096, PIECE = 64 }; /* small pieces: a sanitizer sees where each ends */

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* First and last values, and some from within: the rest lies between them. */
static void read_values(const er_tensors *list)
{
    static float out[VALUES];
    for (size_t i = 0; i < list->count; i++) {
        const er_tensor *t = &list->at[i];
        int64_t n = t->elements < VALUES ? t->elements : VALUES;
        er_widen(out, t->data, t->dtype, 0, n);
        er_widen(out, t->data, t->dtype, t->elements - n, n);
        er_widen(out, t->data, t->dtype, n / 3, n / 2);
    }
}

/* What was accepted must keep the promises that the engine builds on. */
static void check_config(const er_config *c)
{
    ER_ALWAYS(er_config_check(c, "fuzz", NULL) == 0);
    for (int64_t i = 0; i < er_slot_count(c); i += 1 + er_slot_count(c) / 64) {
        er_slot slot = er_slot_at(c, i);
        char name[ER_TENSOR_NAME];
        ER_ALWAYS(slot.rows > 0 && slot.cols > 0 && slot.row->gguf);
        er_slot_name(name, c, &slot, 1);
    }
    for (int64_t l = 0; l < c->layers; l++) ER_ALWAYS(er_config_window(c, l) > 0);
    if (c->rope_dim && c->positions != ER_POSITION_LEARNED)
        ER_ALWAYS(er_rope_frequency(c, c->rope_dim / 2 - 1, 0) >= 0);
}

static void make_tokenizer(const er_tokenizer_parts *parts)
{
    er_tokenizer *t = NULL;
    er_err err = ER_ERR_INIT;
    ER_ALWAYS(er_tokenizer_make(&t, parts, &err) == 0 || err.text[0]);
    er_tokenizer_close(t);
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
        code = er_gguf_config(&config, &g, &list, arena, &err);
        if (!code) check_config(&config);
        ER_ALWAYS(code == 0 || err.text[0]);
        code = er_gguf_tokenizer(&parts, &g, arena, &err);
        if (!code) make_tokenizer(&parts);
        ER_ALWAYS(code == 0 || err.text[0]);
    }
    er_tensors_free(&list);
    er_arena_free(arena);
    ER_ALWAYS(er_memory_live() == 0);
    return 0;
}
