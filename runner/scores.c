/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/scores.h"

#include "base/memory.h"

int er_scores_put(er_scores *s, const er_hash *key, const char *bytes, size_t n, er_err *err)
{
    er_text copy = ER_TEXT_INIT;
    if (er_keymap_find(&s->map, 0, key) >= 0) return 0;
    ER_TRY(er_grow(&s->at, &s->capacity, (size_t)s->count + 1, err));
    int code = er_text_bytes(&copy, bytes, n, err);
    if (!code) code = er_keymap_put(&s->map, 0, key, s->count, err);
    if (code) {
        er_text_free(&copy);
        return code;
    }
    s->at[s->count++] = copy;
    return 0;
}

const er_text *er_scores_find(const er_scores *s, const er_hash *key)
{
    int64_t i = er_keymap_find(&s->map, 0, key);
    return i < 0 ? NULL : &s->at[i];
}

void er_scores_free(er_scores *s)
{
    for (int64_t i = 0; i < s->count; i++) er_text_free(&s->at[i]);
    er_free(s->at);
    er_keymap_free(&s->map);
    *s = (er_scores){0};
}
