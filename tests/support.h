/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests share: cmocka's includes, checked set-up, golden JSON, reasons to skip. Header only. */
#ifndef ER_TESTS_SUPPORT_H
#define ER_TESTS_SUPPORT_H

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/error.h"
#include "base/memory.h"

/* A call that must succeed; its message is the failure's. Needs a local `er_err err`. */
#define OK(call)                                                                                                       \
    do {                                                                                                               \
        if (call) fail_msg("%s: %s (%s:%d)", #call, err.text, err.file ? err.file : "?", err.line);                    \
    } while (0)

/* Real data outside the checkout: $ERRATA_SHARED or ../shared, $ERRATA_CACHE or cache. Static storage. */
static inline const char *test_path(const char *variable, const char *preset, const char *name)
{
    static char path[4][512];
    static int turn;
    const char *root = getenv(variable);
    char *p = path[turn++ & 3];
    snprintf(p, sizeof path[0], "%s/%s", root && *root ? root : preset, name);
    return p;
}
#define SHARED(name) test_path("ERRATA_SHARED", "../shared", (name))
#define CACHE(name) test_path("ERRATA_CACHE", "cache", (name))
#define SMOLLM2 CACHE("SmolLM2-135M-Instruct.Q4_1.gguf")

/* Ends the program as skipped when a file that it needs is absent. Call from main. */
static inline void test_needs(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        printf("SKIP: %s is absent\n", path);
        exit(77);
    }
    fclose(f);
}

/* Removes a folder with all that is in it. */
static inline void test_remove_folder(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        char child[600];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        if (snprintf(child, sizeof child, "%s/%s", path, e->d_name) >= (int)sizeof child) continue;
        if (unlink(child)) test_remove_folder(child);
    }
    if (d) closedir(d);
    rmdir(path);
}

static inline json_t *test_json(const char *path)
{
    json_error_t error;
    json_t *root = json_load_file(path, 0, &error);
    if (!root) fail_msg("%s:%d: %s", path, error.line, error.text);
    return root;
}

/* Floats of a JSON list (of lists); null reads as NAN. Returns how many; at most `most` are written. */
static inline size_t test_floats(float *out, size_t most, const json_t *list)
{
    size_t n = 0, i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        if (json_is_array(item)) {
            n += test_floats(out + n, n < most ? most - n : 0, item);
        } else {
            if (n < most) out[n] = json_is_null(item) ? (float)(0.0 / 0.0) : (float)json_number_value(item);
            n++;
        }
    }
    return n;
}

#endif
