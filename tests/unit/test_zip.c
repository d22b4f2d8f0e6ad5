/* SPDX-License-Identifier: Apache-2.0 */
/* The archives of PyTorch checkpoints: records that do not fit, and files beyond 4 GiB. */
#define _GNU_SOURCE
#include "pickle_common.h"

#include <unistd.h>

/* --- archives ----------------------------------------------------------------------------------------------------- */

static void one_tensor(er_text *t)
{
    const written w = {FLOATS, "0", 6, 2, 1, {3}, NULL, NULL};
    op_begin(t);
    op_text(t, "t");
    op_tensor(t, &w);
    op_end(t);
}

/* Where these bytes stand for the place-th time, from 0. */
static char *find_bytes(const archive *a, int place, const char *bytes, size_t n)
{
    char *at = a->file.at - 1, *end = a->file.at + a->file.length;
    for (int k = 0; k <= place; k++) {
        at = memmem(at + 1, (size_t)(end - at - 1), bytes, n);
        assert_non_null(at);
    }
    return at;
}

/* A good archive, one of whose bytes is other: at, counted from the place-th record of a kind. */
static void bad_archives_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *record;
        int place, at, value;
        int code;
        const char *said;
    } rows[] = {
        {"PK\1\2", 0, 10, 8, ER_E_UNSUPPORTED, "zip entry 'x/data.pkl' is compressed"},
        {"PK\1\2", 0, 8, 1, ER_E_UNSUPPORTED, "zip entry 'x/data.pkl' is encrypted"},
        {"PK\3\4", 1, 8, 8, ER_E_UNSUPPORTED, "zip entry 'x/byteorder' is compressed"},
        {"PK\3\4", 1, 6, 1, ER_E_UNSUPPORTED, "zip entry 'x/byteorder' is encrypted"},
        {"PK\1\2", 0, 0, 'p', ER_E_FORMAT, "no entry at byte 0 of the zip directory"},
        {"PK\1\2", 2, 20, 23, ER_E_FORMAT, "zip entry 'x/data/0' has two sizes"},
        {"PK\1\2", 2, 28, 255, ER_E_FORMAT, "the zip directory ends inside an entry"},
        {"PK\1\2", 2, 42, 1, ER_E_FORMAT, "zip entry 'x/data/0' has no header where the directory says"},
        {"PK\1\2", 2, 45, 127, ER_E_FORMAT, "zip entry 'x/data/0' has no header where the directory says"},
        {"PK\3\4", 2, 18, 23, ER_E_FORMAT, "zip entry 'x/data/0' has another size in its header"},
        {"PK\3\4", 2, 26, 7, ER_E_FORMAT, "zip entry 'x/data/0' has another name in its header"},
        {"PK\3\4", 2, 30, 'y', ER_E_FORMAT, "zip entry 'x/data/0' has another name in its header"},
        {"PK\3\4", 2, 28, 1, ER_E_FORMAT, "zip entry 'x/data/0' reaches into the directory"},
        {"PK\5\6", 0, 4, 1, ER_E_UNSUPPORTED, "the zip archive has several parts"},
        {"PK\5\6", 0, 10, 9, ER_E_FORMAT, "a zip directory of 9 entries"},
        {"PK\5\6", 0, 10, 0, ER_E_FORMAT, "the archive holds no data.pkl"},
        {"PK\5\6", 0, 19, 127, ER_E_FORMAT, "a zip directory of 3 entries"},
        {"PK\5\6", 0, 20, 1, ER_E_FORMAT, "the zip archive has no end"},
        {"little", 0, 0, 'x', ER_E_UNSUPPORTED, "the byte order is not little"},
    };
    er_text t = ER_TEXT_INIT;
    one_tensor(&t);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        parsed p;
        archive a;
        char what[32];
        snprintf(what, sizeof what, "archive %zu", i);
        assert_int_equal(parse_pickle(&p, &a, t.at, t.length), 0);
        parse_free(&p);
        find_bytes(&a, rows[i].place, rows[i].record, strlen(rows[i].record))[rows[i].at] = (char)rows[i].value;
        int code = parse_bytes(&p, a.file.at, a.file.length);
        assert_refused(what, &p, code, rows[i].code, rows[i].said);
        parse_free(&p);
        archive_free(&a);
    }
    er_text_free(&t);
}

/* An entry that is larger than the file in both of its headers. */
static void an_entry_beyond_the_end_is_refused(void **state)
{
    (void)state;
    er_text t = ER_TEXT_INIT;
    one_tensor(&t);
    for (int far = 0; far < 2; far++) {
        parsed p;
        archive a;
        assert_int_equal(parse_pickle(&p, &a, t.at, t.length), 0);
        parse_free(&p);
        uint32_t size = far ? 0x7fffffff : 25;
        char *local = find_bytes(&a, 2, "PK\3\4", 4), *entry = find_bytes(&a, 2, "PK\1\2", 4);
        memcpy(local + 18, &size, 4);
        memcpy(local + 22, &size, 4);
        memcpy(entry + 20, &size, 4);
        memcpy(entry + 24, &size, 4);
        int code = parse_bytes(&p, a.file.at, a.file.length);
        assert_refused("far", &p, code, ER_E_FORMAT,
                       far ? "zip entry 'x/data/0' is larger than the file" : "reaches into the directory");
        parse_free(&p);
        archive_free(&a);
    }
    er_text_free(&t);
}

static void names_in_archives_are_checked(void **state)
{
    (void)state;
    er_text t = ER_TEXT_INIT;
    one_tensor(&t);
    static const struct {
        const char *name[4], *said;
    } rows[] = {
        {{"x/data.pkl", "x/data/0", "x/data/0", "x/version"}, "zip entry 'x/data/0' appears twice"},
        {{"x/data.pkl", "y/data.pkl", "x/data/0", "x/version"}, "the archive holds two data.pkl"},
        {{"x/data.pkl", "y/data/0", "data/0", "x/data0"}, "lies in a storage that the file does not hold"},
        {{"data.pkl", "data/0", "version", "byteorder"}, "the archive holds no data.pkl"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        parsed p;
        archive a = {.wide = 0};
        for (int k = 0; k < 4; k++) {
            const char *name = rows[i].name[k];
            int pickle = strstr(name, ".pkl") != NULL;
            archive_add(&a, name, pickle ? t.at : "123456781234567812345678", pickle ? t.length : 24, 0);
        }
        archive_end(&a);
        int code = parse_bytes(&p, a.file.at, a.file.length);
        assert_refused(rows[i].said, &p, code, ER_E_FORMAT, rows[i].said);
        parse_free(&p);
        archive_free(&a);
    }
    er_text_free(&t);
}

/* 5 GiB, all but two kilobytes of them a hole: a storage that is longer than 4 GiB, and one behind it. */
static void archives_beyond_four_gigabytes_read_right(void **state)
{
    (void)state;
    const uint64_t gap = 5ull << 30;
    const int64_t count = (int64_t)(gap / 4) + 1;
    static const float first[1] = {7}, second[6] = {1, 2, 3, 4, 5, 6};
    const written rows[] = {{FLOATS, "0", count, 0, 1, {1}, NULL, NULL},
                            {FLOATS, "0", count, count - 3, 1, {3}, NULL, NULL},
                            {FLOATS, "1", 6, 1, 2, {1, 5}, NULL, NULL}};
    const char *const names[] = {"first", "hole", "behind"};
    er_text t = ER_TEXT_INIT;
    archive a = {.wide = 1};
    op_begin(&t);
    for (int i = 0; i < 3; i++) {
        op_text(&t, names[i]);
        op_tensor(&t, &rows[i]);
    }
    op_end(&t);
    archive_add(&a, "big/data.pkl", t.at, t.length, 0);
    archive_add(&a, "big/data/0", first, sizeof first, gap);
    archive_add(&a, "big/data/1", second, sizeof second, 0);
    archive_end(&a);
    const char *base = getenv("TMPDIR");
    char path[256];
    snprintf(path, sizeof path, "%.200s/pickle-XXXXXX", base ? base : "/tmp");
    int fd = mkstemp(path);
    size_t rest = a.file.length - a.gap_at;
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, a.file.at, a.gap_at, 0), a.gap_at);
    ssize_t wrote = pwrite(fd, a.file.at + a.gap_at, rest, (off_t)(a.gap_at + a.gap));
    close(fd);
    er_map map;
    parsed p;
    if (wrote == (ssize_t)rest) {
        assert_int_equal(er_map_open(&map, path, NULL), 0);
        unlink(path);
        if (parse_bytes(&p, map.data, map.size)) fail_msg("%s", p.err.text);
        const er_tensor *x = er_tensors_find(&p.list, "behind");
        assert_memory_equal(x->data, second + 1, 20);
        assert_true(x->data > map.data + gap);
        assert_memory_equal(er_tensors_find(&p.list, "first")->data, first, 4);
        x = er_tensors_find(&p.list, "hole");
        assert_memory_equal(x->data, "\0\0\0\0\0\0\0\0\0\0\0\0", 12);
        assert_true(x->data > map.data + gap);
        parse_free(&p);
        er_map_close(&map);
    } else {
        unlink(path);
        print_message("no file of 5 GiB can be made here\n");
    }
    archive_free(&a);
    er_text_free(&t);
    if (wrote != (ssize_t)rest) skip();
}

/* The same records in a small file, and broken. */
static void zip64_records_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *record;
        int at, value;
        const char *said;
    } rows[] = {
        {"", 0, 'P', NULL},
        {"PK\6\7", 8, 255, "the zip archive has no zip64 end at byte"},
        {"PK\6\7", 15, 255, "the zip archive has no zip64 end at byte"},
        {"PK\6\6", 0, 'p', "the zip archive has no zip64 end at byte"},
        {"PK\6\6", 32, 9, "a zip directory of 9 entries"},
        {"PK\6\6", 55, 255, "a zip directory of 2 entries"},
        {"PK\6\6", 47, 255, "a zip directory of 2 entries"},
        {"\1\0\x18\0", 0, 2, "zip entry 'x/data.pkl' has a broken zip64 field"},
        {"\1\0\x18\0", 2, 0x17, "zip entry 'x/data.pkl' has a broken zip64 field"},
        {"\1\0\x18\0", 2, 0x19, "zip entry 'x/data.pkl' has a broken zip64 field"},
        {"\1\0\x18\0", 4, 0, "zip entry 'x/data.pkl' has two sizes"},
        {"\1\0\x18\0", 27, 255, "has no header where the directory says"},
    };
    er_text t = ER_TEXT_INIT;
    one_tensor(&t);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        parsed p;
        archive a = {.wide = 1};
        static const float values[6] = {1, 2, 3, 4, 5, 6};
        archive_add(&a, "x/data.pkl", t.at, t.length, 0);
        archive_add(&a, "x/data/0", values, sizeof values, 0);
        archive_end(&a);
        find_bytes(&a, 0, rows[i].record, i ? 4 : 0)[rows[i].at] = (char)rows[i].value;
        int code = parse_bytes(&p, a.file.at, a.file.length);
        if (rows[i].said) assert_refused(rows[i].said, &p, code, ER_E_FORMAT, rows[i].said);
        else assert_memory_equal(p.list.at[0].data, values + 2, 12);
        parse_free(&p);
        archive_free(&a);
    }
    er_text_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_archives_are_refused),
        cmocka_unit_test(an_entry_beyond_the_end_is_refused),
        cmocka_unit_test(names_in_archives_are_checked),
        cmocka_unit_test(archives_beyond_four_gigabytes_read_right),
        cmocka_unit_test(zip64_records_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
