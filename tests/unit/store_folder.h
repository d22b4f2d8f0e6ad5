/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the store share: a folder per test, keys, moments. Include it once, first of all. */
#ifndef ER_TESTS_STORE_FOLDER_H
#define ER_TESTS_STORE_FOLDER_H

#define _GNU_SOURCE
#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "model/kernels.h"
#include "stats/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { N = 40 };

/* Under the address sanitizer: HDF5 1.10 loses some hundred bytes with each damaged file it refuses to open, and all it
 * holds of a file that a full disk kept it from closing. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:libhdf5\n"; }

static char folder[64];

static inline er_hash hash_of(const char *text) { return er_hash_bytes(text, strlen(text)); }

static inline er_stats_key key_of(int64_t layer)
{
    er_stats_key key = {hash_of("weights"), hash_of("tokenizer"), hash_of("corpus"), layer, N, "mlp.down_proj"};
    return key;
}

static inline void remove_files(void)
{
    char path[512];
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (*e->d_name != '.') unlink(path);
    }
    closedir(d);
}

/* How many names in the folder contain `part`; the last of them into name. */
static inline int count_files(const char *part, char name[256])
{
    int count = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (*e->d_name == '.' || !strstr(e->d_name, part)) continue;
        if (name) snprintf(name, 256, "%s", e->d_name);
        count++;
    }
    closedir(d);
    return count;
}

static inline void only_path(char path[512], const char *part)
{
    char name[256];
    assert_int_equal(count_files(part, name), 1);
    snprintf(path, 512, "%s/%s", folder, name);
}

static inline er_moment make_moment(int64_t n, uint32_t item)
{
    er_moment m;
    double *gram = NULL;
    assert_int_equal(er_moment_new(&m, n, NULL), 0);
    assert_int_equal(er_alloc(&gram, (size_t)(n * n), NULL), 0);
    for (int64_t i = 0; i < n * n; i++)
        gram[i] = ldexp(er_random_uniform(5, ER_STREAM_TEST, item, (uint64_t)i) - 0.5, (int)(i % 40));
    assert_int_equal(er_moment_add(&m, gram, 100 + (int64_t)item, NULL), 0);
    er_free(gram);
    return m;
}

static inline int same_moment(const er_moment *a, const er_moment *b)
{
    return a->n == b->n && a->tokens == b->tokens &&
           memcmp(a->sum, b->sum, (size_t)er_moment_elements(a->n) * sizeof *a->sum) == 0;
}

static inline er_store *open_store(void)
{
    er_store *s = NULL;
    er_err err = ER_ERR_INIT;
    if (er_store_open(&s, folder, &err)) fail_msg("%s", err.text);
    return s;
}

static inline void flip(const char *path, long at)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    fputc(c ^ 0x10, f);
    assert_int_equal(fclose(f), 0);
}

static inline int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/errata-store-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static inline int drop_folder(void **state)
{
    (void)state;
    remove_files();
    return rmdir(folder);
}

#endif
