/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of PyTorch checkpoints share: a file as a list of tensors, archives around a pickle. */
#ifndef ER_TESTS_PICKLE_COMMON_H
#define ER_TESTS_PICKLE_COMMON_H

#include "tests/support.h"

#include "base/file.h"
#include "model/pickle.h"

#include "pickle_write.h"

#define FLOATS "torch\nFloatStorage\n"

/* One file as a list of tensors. */
typedef struct parsed {
    er_tensors list;
    er_arena *arena;
    char *bytes;
    size_t size;
    er_err err;
} parsed;

static inline int parse_bytes(parsed *p, const void *bytes, size_t size)
{
    memset(p, 0, sizeof *p);
    if (er_arena_new(&p->arena, 4096, &p->err)) return p->err.code;
    int code = er_pickle_parse(&p->list, p->arena, bytes, size, "FILE", &p->err);
    return code ? code : er_tensors_sort(&p->list, &p->err);
}

static inline void parse_free(parsed *p)
{
    er_tensors_free(&p->list);
    er_arena_free(p->arena);
    er_free(p->bytes);
}

static inline void assert_refused(const char *what, const parsed *p, int code, int wanted, const char *said)
{
    if (code != wanted || !strstr(p->err.text, said))
        fail_msg("%s: %d '%s', expected %d '%s'", what, code, p->err.text, wanted, said);
    if (strncmp(p->err.text, "FILE: ", 6) != 0) fail_msg("%s: '%s' does not begin with its file", what, p->err.text);
}

/* An archive with this pickle, and 24 bytes under the key "0". */
static inline int parse_pickle(parsed *p, archive *a, const void *pickle, size_t n)
{
    static const float values[6] = {1, 2, 3, 4, 5, 6};
    memset(a, 0, sizeof *a);
    archive_add(a, "x/data.pkl", pickle, n, 0);
    archive_add(a, "x/byteorder", "little", 6, 0);
    archive_add(a, "x/data/0", values, sizeof values, 0);
    archive_end(a);
    return parse_bytes(p, a->file.at, a->file.length);
}

#endif
