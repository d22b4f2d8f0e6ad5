/* SPDX-License-Identifier: Apache-2.0 */
/* The cache that runs share: entries, packs of several writers, damage, what killed writers left. */
#include "base/file.h"
#include "base/memory.h"
#include "runner/cache.h"
#include "runner/journal.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[64];

static er_hash key_of(int i) { return er_hash_bytes(&i, sizeof i); }

static void add(er_cache *c, int kind, int key, const char *text)
{
    er_hash k = key_of(key);
    assert_int_equal(er_cache_add(c, kind, &k, text, strlen(text), NULL), 0);
}

static void has(const er_cache *c, int kind, int key, const char *text)
{
    er_hash k = key_of(key);
    size_t n = 0;
    const char *found = er_cache_find(c, kind, &k, &n);
    if (!text) {
        assert_null(found);
        return;
    }
    assert_non_null(found);
    assert_int_equal(n, strlen(text));
    assert_memory_equal(found, text, n);
}

static er_cache *open_cache(void)
{
    er_cache *c = NULL;
    er_err err = ER_ERR_INIT;
    if (er_cache_open(&c, folder, &err)) fail_msg("%s", err.text);
    return c;
}

static int files(const char *ending, int act) /* act: cut the file by one byte */
{
    DIR *d = opendir(folder);
    int count = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[400];
        size_t n = strlen(e->d_name), m = strlen(ending);
        if (n < m || strcmp(e->d_name + n - m, ending) != 0) continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        count++;
        if (act == 1) {
            char *bytes = NULL;
            size_t size = 0;
            assert_int_equal(er_file_read(&bytes, &size, path, NULL), 0);
            assert_int_equal(truncate(path, (off_t)size - 1), 0);
            er_free(bytes);
        }
        if (act == 2) unlink(path);
    }
    closedir(d);
    return count;
}

static void test_two_writers(void **state)
{
    er_cache *a = open_cache(), *b = open_cache();
    (void)state;
    add(a, ER_JOURNAL_TARGET, 1, "one");
    add(a, ER_JOURNAL_SCORES, 1, "other kind");
    add(a, ER_JOURNAL_TARGET, 2, "");
    has(a, ER_JOURNAL_TARGET, 1, "one"); /* before it is published, too */
    assert_int_equal(er_cache_publish(a, 0, NULL), 0);
    assert_int_equal(files(".pack", 0), 0); /* too little to bother others */
    assert_int_equal(er_cache_publish(a, 1, NULL), 0);
    assert_int_equal(er_cache_publish(a, 1, NULL), 0);
    assert_int_equal(files(".pack", 0), 1);
    has(b, ER_JOURNAL_TARGET, 1, NULL);
    assert_int_equal(er_cache_refresh(b, NULL), 0);
    has(b, ER_JOURNAL_TARGET, 1, "one");
    has(b, ER_JOURNAL_SCORES, 1, "other kind");
    has(b, ER_JOURNAL_TARGET, 2, "");
    has(b, ER_JOURNAL_TARGET, 3, NULL);
    add(b, ER_JOURNAL_TARGET, 1, "one"); /* known: nothing to write */
    assert_int_equal(er_cache_publish(b, 1, NULL), 0);
    assert_int_equal(files(".pack", 0), 1);
    add(b, ER_JOURNAL_TARGET, 3, "three");
    assert_int_equal(er_cache_publish(b, 1, NULL), 0);
    er_cache_close(a);
    er_cache_close(b);
    a = open_cache();
    has(a, ER_JOURNAL_TARGET, 1, "one");
    has(a, ER_JOURNAL_TARGET, 3, "three");
    er_cache_close(a);
}

static void test_damage(void **state)
{
    er_cache *c = open_cache();
    (void)state;
    add(c, ER_JOURNAL_KEY, 10, "whole");
    add(c, ER_JOURNAL_KEY, 11, "cut");
    assert_int_equal(er_cache_publish(c, 1, NULL), 0);
    er_cache_close(c);
    files(".pack", 1);
    c = open_cache();
    has(c, ER_JOURNAL_KEY, 10, "whole");
    has(c, ER_JOURNAL_KEY, 11, NULL);
    er_cache_close(c);
}

static void test_leftovers(void **state)
{
    char path[128];
    (void)state;
    snprintf(path, sizeof path, "%s/0123.pack.77.tmp", folder);
    er_cache *c = open_cache(); /* somebody is at work: their file stays */
    assert_int_equal(er_save_bytes(path, "x", 1, NULL), 0);
    er_cache *other = open_cache();
    assert_true(er_file_exists(path));
    er_cache_close(c);
    er_cache_close(other);
    er_cache_close(open_cache());
    assert_false(er_file_exists(path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_writers),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_leftovers),
    };
    snprintf(folder, sizeof folder, "/tmp/errata-cache-XXXXXX");
    if (!mkdtemp(folder)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    files(".pack", 2);
    files(".lock", 2);
    rmdir(folder);
    return failed;
}
