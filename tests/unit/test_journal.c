/* SPDX-License-Identifier: Apache-2.0 */
/* The journal: records come back, a torn tail is cut at every length, damage and other versions never come back. */
#define _GNU_SOURCE
#include "tests/support.h"

#include "base/file.h"
#include "runner/blob.h"
#include "runner/journal.h"
#include "runner/keymap.h"

#include <unistd.h>

static char path[] = "/tmp/errata-journal-XXXXXX";

static er_hash key_of(int64_t n) { return er_hash_bytes(&n, sizeof n); }

static void add(er_journal *j, int64_t n, const char *text)
{
    er_err err = ER_ERR_INIT;
    er_hash key = key_of(n);
    OK(er_journal_add(j, ER_JOURNAL_TARGET, &key, text, strlen(text), &err));
}

static void holds(er_journal *j, int64_t n, const char *text)
{
    er_err err = ER_ERR_INIT;
    er_hash key = key_of(n);
    er_text bytes = ER_TEXT_INIT;
    int found;
    OK(er_journal_read(j, ER_JOURNAL_TARGET, &key, &bytes, &found, &err));
    assert_int_equal(found, text != NULL);
    assert_int_equal(er_journal_has(j, ER_JOURNAL_TARGET, &key), text != NULL);
    if (text) assert_string_equal(bytes.at, text);
    er_text_free(&bytes);
}

static er_journal *reopen(er_journal *j, int64_t *cut)
{
    er_err err = ER_ERR_INIT;
    er_journal_close(j);
    OK(er_journal_open(&j, path, cut, &err));
    return j;
}

static void comes_back(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    int64_t cut = -1;
    er_hash key = key_of(1);
    unlink(path);
    er_journal *j = reopen(NULL, &cut);
    assert_int_equal(cut, 0);
    add(j, 1, "one");
    add(j, 2, "");
    OK(er_journal_add(j, ER_JOURNAL_SCORES, &key, "other kind", 10, &err));
    add(j, 3, "three");
    OK(er_journal_sync(j, &err));
    for (int again = 0; again < 2; again++) {
        holds(j, 1, "one");
        holds(j, 2, "");
        holds(j, 3, "three");
        holds(j, 4, NULL);
        assert_int_equal(er_journal_records(j), 4);
        j = reopen(j, &cut);
        assert_int_equal(cut, 0);
    }
    OK(er_journal_remove(j, &err));
    assert_int_not_equal(access(path, F_OK), 0);
}

static void torn_tail(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    int64_t cut, whole;
    unlink(path);
    er_journal *j = reopen(NULL, &cut);
    add(j, 1, "first record");
    er_journal_close(j);
    er_map map;
    OK(er_map_open(&map, path, &err));
    whole = (int64_t)map.size;
    er_map_close(&map);
    j = reopen(NULL, &cut);
    add(j, 2, "second record");
    er_journal_close(j);
    OK(er_map_open(&map, path, &err));
    int64_t size = (int64_t)map.size;
    char *bytes = malloc(map.size);
    assert_non_null(bytes);
    memcpy(bytes, map.data, map.size);
    er_map_close(&map);
    for (int64_t n = whole; n <= size; n++) {
        OK(er_save_bytes(path, bytes, (size_t)n, &err));
        j = reopen(NULL, &cut);
        holds(j, 1, "first record");
        holds(j, 2, n == size ? "second record" : NULL);
        assert_int_equal(cut, n == size ? 0 : n - whole);
        add(j, 3, "behind the cut");
        j = reopen(j, &cut);
        holds(j, 1, "first record");
        holds(j, 3, "behind the cut");
        er_journal_close(j);
    }
    free(bytes);
}

static void damage(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    int64_t cut;
    unlink(path);
    er_journal *j = reopen(NULL, &cut);
    add(j, 1, "first record");
    add(j, 2, "second record");
    er_journal_close(j);
    char *bytes;
    size_t size;
    OK(er_file_read(&bytes, &size, path, &err));
    for (size_t i = 0; i < size; i++) {
        bytes[i] ^= 0x10;
        OK(er_save_bytes(path, bytes, size, &err));
        bytes[i] ^= 0x10;
        j = reopen(NULL, &cut);
        /* whatever is damaged, and all behind it, is gone; nothing comes back changed */
        er_hash one = key_of(1), two = key_of(2);
        if (er_journal_has(j, ER_JOURNAL_TARGET, &one)) holds(j, 1, "first record");
        if (er_journal_has(j, ER_JOURNAL_TARGET, &two)) holds(j, 2, "second record");
        assert_true(er_journal_records(j) < 2);
        er_journal_close(j);
    }
    er_free(bytes);
}

static void blobs(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    er_text t = ER_TEXT_INIT;
    const float values[3] = {1.5f, -2, 1e-30f};
    OK(er_blob_put_number(&t, -7, &err));
    OK(er_blob_put_floats(&t, values, 3, &err));
    OK(er_blob_put_text(&t, "reason", &err));
    for (size_t n = 0; n <= t.length; n++) {
        er_reader r = {t.at, n, 0};
        float back[3];
        char text[4];
        int64_t number = er_blob_get_number(&r), count = er_blob_get_count(&r, sizeof(float));
        if (count == 3) er_blob_get(&r, back, sizeof back);
        er_blob_get_text(&r, text, sizeof text);
        if (n < t.length) {
            assert_int_equal(er_blob_end(&r, "test", &err), ER_E_FORMAT);
            continue;
        }
        OK(er_blob_end(&r, "test", &err));
        assert_int_equal(number, -7);
        assert_memory_equal(back, values, sizeof back);
        assert_string_equal(text, "rea"); /* cut to its room */
    }
    int64_t huge = INT64_MAX;
    er_reader r = {(const char *)&huge, sizeof huge, 0};
    assert_int_equal(er_blob_get_count(&r, 4), -1);
    er_text_free(&t);
}

static void keymap_grows(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    er_keymap m = {0};
    for (int64_t i = 0; i < 5000; i++) {
        er_hash key = key_of(i);
        OK(er_keymap_put(&m, (uint32_t)(i % 3), &key, i, &err));
    }
    for (int64_t i = 0; i < 5000; i++) {
        er_hash key = key_of(i);
        assert_int_equal(er_keymap_find(&m, (uint32_t)(i % 3), &key), i);
        assert_int_equal(er_keymap_find(&m, 7, &key), -1);
    }
    er_hash key = key_of(4);
    OK(er_keymap_put(&m, 1, &key, 99, &err));
    assert_int_equal(er_keymap_find(&m, 1, &key), 99);
    assert_int_equal(m.count, 5000);
    er_keymap_free(&m);
}

static int end(void **state)
{
    (void)state;
    unlink(path);
    return er_memory_live() != 0;
}

int main(void)
{
    int fd = mkstemp(path);
    if (fd < 0) return 1;
    close(fd);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back), cmocka_unit_test(torn_tail),    cmocka_unit_test(damage),
        cmocka_unit_test(blobs),      cmocka_unit_test(keymap_grows),
    };
    return cmocka_run_group_tests(tests, NULL, end);
}
