/* SPDX-License-Identifier: Apache-2.0 */
/* What the golden tests of tokenizers share: the tokenizers, the golden file, hashes as the reference script makes
 * them. Header only. */
#ifndef ER_TESTS_TOKENIZER_FIGURES_H
#define ER_TESTS_TOKENIZER_FIGURES_H

#include "tests/support.h"

#include "base/file.h"
#include "base/hash.h"
#include "model/gguf.h"
#include "model/tokenizer.h"
#include "tests/unit/tokenizer_strings.h"

static json_t *golden;

static inline int golden_open(void **unused)
{
    (void)unused;
    golden = json_load_file("tests/golden/tokenizer.json", JSON_ALLOW_NUL, NULL);
    return golden ? 0 : -1;
}

static inline int golden_close(void **unused)
{
    (void)unused;
    json_decref(golden);
    return er_memory_live() == 0 ? 0 : -1;
}

static inline er_tokenizer *from_gguf(const char *path)
{
    er_err err = ER_ERR_INIT;
    er_map map;
    er_gguf g;
    er_tensors list = {0};
    er_arena *arena = NULL;
    er_tokenizer_parts parts;
    er_tokenizer *t = NULL;
    OK(er_map_open(&map, path, &err));
    OK(er_arena_new(&arena, 0, &err));
    OK(er_gguf_parse(&g, &list, arena, map.data, map.size, path, &err));
    OK(er_gguf_tokenizer(&parts, &g, arena, &err));
    OK(er_tokenizer_make(&t, &parts, &err));
    er_tensors_free(&list);
    er_arena_free(arena);
    er_map_close(&map);
    return t;
}

/* NULL where the file is absent. */
static inline er_tokenizer *open_named(const char *name)
{
    char rest[128];
    const char *path;
    er_err err = ER_ERR_INIT;
    er_tokenizer *t = NULL;
    if (!strcmp(name, "smollm2")) return er_file_exists(SMOLLM2) ? from_gguf(SMOLLM2) : NULL;
    snprintf(rest, sizeof rest, "data/tokenizers/%s/tokenizer.json", name);
    if (!strcmp(name, "tiny"))
        path = "tests/fixtures/tiny-llama/tokenizer.json";
    else
        path = SHARED(strcmp(name, "tinystories") ? rest : "data/models/TinyStories-656K/tokenizer.json");
    if (!er_file_exists(path)) return NULL;
    OK(er_tokenizer_open(&t, path, &err));
    return t;
}

/* One of the golden file's small tokenizers. */
static inline er_tokenizer *case_tokenizer(json_t *entry)
{
    er_err err = ER_ERR_INIT;
    er_tokenizer *t = NULL;
    json_t *root = json_deep_copy(json_object_get(json_object_get(golden, "bases"),
                                                  json_string_value(json_object_get(entry, "base"))));
    json_t *change = json_deep_copy(json_object_get(entry, "change"));
    json_t *model = json_incref(json_object_get(change, "model"));
    json_object_del(change, "model");
    assert_int_equal(json_object_update(root, change), 0);
    if (model) assert_int_equal(json_object_update(json_object_get(root, "model"), model), 0);
    char *text = json_dumps(root, 0);
    OK(er_tokenizer_parse(&t, text, strlen(text), json_string_value(json_object_get(entry, "name")), &err));
    free(text);
    json_decref(model);
    json_decref(change);
    json_decref(root);
    return t;
}

static inline json_t *case_named(const char *name)
{
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(golden, "cases"), i, entry) {
        if (!strcmp(json_string_value(json_object_get(entry, "name")), name)) return entry;
    }
    return NULL;
}

static inline void add_number(er_hasher *h, int32_t number)
{
    uint8_t b[4];
    for (int i = 0; i < 4; i++) b[i] = (uint8_t)((uint32_t)number >> (8 * i));
    er_hasher_add(h, b, sizeof b);
}

static inline void add_ids(er_hasher *h, const er_ids *ids, int counted)
{
    if (counted) add_number(h, (int32_t)ids->count);
    for (int64_t i = 0; i < ids->count; i++) add_number(h, ids->at[i]);
}

#endif
