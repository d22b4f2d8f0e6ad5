/* SPDX-License-Identifier: Apache-2.0 */
/* Archives: names, round trips, equal bytes, refusals. Differences: the field that is named. Whole bundles are tested by
 * tests/mpi/run_bundle.sh. */
#include "tests/support.h"

#include "base/file.h"
#include "base/json.h"
#include "runner/archive.h"
#include "runner/bundle.h"
#include "runner/difference.h"

#include <archive.h>
#include <archive_entry.h>
#include <unistd.h>

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/errata-bundle-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static const char *at(const char *name)
{
    static char path[4][256];
    static int turn;
    char *p = path[turn++ & 3];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

static int drop_folder(void **state)
{
    static const char *const names[] = {"a", "b", "in", "out", "x.jsonl", "f", "bad"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unlink(at(names[i]));
    return rmdir(folder);
}

static void names_stay_inside(void **state)
{
    static const char *const good[] = {"a", "cases.jsonl", "ledger/000000.h5", "store/eigen-L01-0f.h5", "A_b-c.9"};
    static const char *const bad[] = {"",      ".",     "..",     "../a",   "/a",     "a/",   "a/../b", "a/..", "a/.b",
                                      ".a",    "a//b",  "a/b/c",  "a b",    "a\\b",   "a\n",  "\xc3\xa4", "a/./b",
                                      "//a",   "~",     "a:b",    "a*"};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!er_archive_name(good[i])) fail_msg("refused: %s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (er_archive_name(bad[i])) fail_msg("allowed: %s", bad[i]);
}

static void write_archive(const char *path)
{
    er_err err = ER_ERR_INIT;
    er_archive_writer *w = NULL;
    OK(er_archive_create(&w, path, &err));
    OK(er_archive_put(w, "first", "one\n", 4, &err));
    OK(er_archive_put(w, "in/empty", "", 0, &err));
    OK(er_archive_put_file(w, "in/file", at("in"), 70000, &err));
    OK(er_archive_end(w, &err));
}

static void brings_back_what_was_put(void **state)
{
    er_err err = ER_ERR_INIT;
    char big[70000], *bytes[2], *text;
    size_t size[2], n;
    const char *name;
    int64_t length;
    er_hash hash, wanted;
    er_archive_reader *r;
    (void)state;
    for (size_t i = 0; i < sizeof big; i++) big[i] = (char)(i * 7 + i / 256);
    OK(er_save_bytes(at("in"), big, sizeof big, &err));
    write_archive(at("a"));
    sleep(1); /* times have seconds */
    OK(er_save_bytes(at("in"), big, sizeof big, &err));
    write_archive(at("b"));
    for (int i = 0; i < 2; i++) OK(er_file_read(&bytes[i], &size[i], at(i ? "b" : "a"), &err));
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(bytes[0], bytes[1], size[0]);
    assert_int_equal(size[0], 512 * 3 + 512 + 70144 + 1024); /* heads, contents, the end: plain ustar */
    for (int i = 0; i < 2; i++) er_free(bytes[i]);
    OK(er_archive_open(&r, at("a"), &err));
    OK(er_archive_next(r, &name, &length, &err));
    assert_string_equal(name, "first");
    assert_int_equal(er_archive_text(r, &text, &n, 3, &err), ER_E_INPUT);
    OK(er_archive_text(r, &text, &n, 4, &err));
    assert_string_equal(text, "one\n");
    er_free(text);
    OK(er_archive_next(r, &name, &length, &err));
    assert_string_equal(name, "in/empty");
    OK(er_archive_next(r, &name, &length, &err));
    assert_true(!strcmp(name, "in/file") && length == sizeof big);
    OK(er_archive_save(r, at("out"), &hash, &err));
    OK(er_hash_file(&wanted, at("in"), &err));
    assert_true(er_hash_equal(&hash, &wanted));
    OK(er_archive_next(r, &name, &length, &err));
    assert_null(name);
    er_archive_close(r);
    /* a file that grew or shrank is no content to rely on, and the archive is not there */
    er_archive_writer *w = NULL;
    for (int i = -1; i < 2; i += 2) {
        OK(er_archive_create(&w, at("f"), &err));
        assert_int_equal(er_archive_put_file(w, "x", at("in"), 70000 + i, &err), ER_E_IO);
        er_archive_abandon(w);
        assert_false(er_file_exists(at("f")));
    }
}

static void never_writes_over_a_file(void **state)
{
    er_err err = ER_ERR_INIT;
    er_archive_reader *r;
    const char *name;
    int64_t length;
    er_hash hash;
    (void)state;
    OK(er_save_bytes(at("in"), "abc", 3, &err));
    er_archive_writer *w = NULL;
    OK(er_archive_create(&w, at("a"), &err));
    OK(er_archive_put(w, "out", "evil", 4, &err));
    OK(er_archive_end(w, &err));
    assert_int_equal(symlink(at("in"), at("out")), 0);
    OK(er_archive_open(&r, at("a"), &err));
    OK(er_archive_next(r, &name, &length, &err));
    assert_int_equal(er_archive_save(r, at("out"), &hash, &err), ER_E_IO);
    assert_int_equal(er_archive_save(r, at("in"), &hash, &err), ER_E_IO);
    er_archive_close(r);
}

/* What other programs may put into an archive. */
static void refuses_other_entries(void **state)
{
    static const struct {
        const char *name, *link;
        unsigned type;
        int64_t size;
    } entries[] = {{"a", "/etc/passwd", AE_IFLNK, 0}, {"a", NULL, AE_IFDIR, 0},    {"a", NULL, AE_IFIFO, 0},
                   {"a", NULL, AE_IFCHR, 0},          {"../a", NULL, AE_IFREG, 0}, {"/tmp/a", NULL, AE_IFREG, 0},
                   {"a", NULL, AE_IFREG, (int64_t)1 << 40}};
    (void)state;
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        er_err err = ER_ERR_INIT;
        er_archive_reader *r;
        const char *name;
        int64_t length;
        struct archive *a = archive_write_new();
        struct archive_entry *e = archive_entry_new();
        archive_write_set_format_pax_restricted(a);
        archive_write_set_bytes_per_block(a, 0);
        assert_int_equal(archive_write_open_filename(a, at("bad")), ARCHIVE_OK);
        archive_entry_set_pathname(e, entries[i].name);
        archive_entry_set_filetype(e, entries[i].type);
        archive_entry_set_size(e, entries[i].size);
        if (entries[i].link) archive_entry_set_symlink(e, entries[i].link);
        assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
        archive_entry_free(e);
        archive_write_fail(a);
        archive_write_free(a);
        /* written without its end: a second block for the reader to look at */
        assert_int_equal(truncate(at("bad"), 4096), 0);
        OK(er_archive_open(&r, at("bad"), &err));
        int code = er_archive_next(r, &name, &length, &err);
        if (code != ER_E_INPUT || !strstr(err.text, "refused")) fail_msg("entry %zu: %d %s", i, code, err.text);
        er_archive_close(r);
        unlink(at("bad"));
    }
}

static void names_the_field(void **state)
{
    static const struct {
        const char *a, *b, *words;
    } pairs[] = {
        {"{\"a\":1}", "{\"a\":1}", ""},
        {"{\"a\":1}", "{\"a\":2}", "a: 1 against 2"},
        {"{\"g\":{\"nll\":[1.5,2.25]}}", "{\"g\":{\"nll\":[1.5,2.5]}}", "g.nll[1]: 2.25 against 2.5"},
        {"{\"a\":[1]}", "{\"a\":[1,2]}", "a[1]: nothing against 2"},
        {"{\"a\":1}", "{\"a\":1,\"b\":null}", "b: nothing against null"},
        {"{\"a\":1,\"b\":null}", "{\"a\":1}", "b: null against nothing"},
        {"{\"a\":\"x\"}", "{\"a\":3}", "a: \"x\" against 3"},
        {"[1]", "{}", "it: [1] against {}"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        er_err err = ER_ERR_INIT;
        er_text out = ER_TEXT_INIT;
        json_t *a = json_loads(pairs[i].a, 0, NULL), *b = json_loads(pairs[i].b, 0, NULL);
        OK(er_difference_json(&out, a, b, &err));
        assert_string_equal(out.at ? out.at : "", pairs[i].words);
        er_text_free(&out);
        json_decref(a);
        json_decref(b);
    }
}

static void names_the_subject_of_a_line(void **state)
{
    static const char *const lines[][2] = {
        {"{\"case_id\":5,\"index\":4,\"batch\":2,\"moment\":\"at_end\"}", " (batch 2, case 5, at_end)"},
        {"{\"event\":\"spectrum\",\"layer\":1,", " (spectrum, layer 1)"},
        {"{\"case_id\":", " (case )"},
        {"{\"x\":1}", ""},
        {"", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        er_err err = ER_ERR_INIT;
        er_text out = ER_TEXT_INIT;
        OK(er_line_subject(&out, lines[i][0], strlen(lines[i][0]), &err));
        assert_string_equal(out.at ? out.at : "", lines[i][1]);
        er_text_free(&out);
    }
}

static void finds_the_line(void **state)
{
    er_err err = ER_ERR_INIT;
    er_text out = ER_TEXT_INIT;
    char two[80];
    (void)state;
    snprintf(two, sizeof two, "%s/two", folder);
    OK(er_make_folders(two, &err));
    OK(er_save_bytes(at("x.jsonl"), "{\"case_id\":1}\n{\"case_id\":2,\"v\":1}\n", 34, &err));
    OK(er_save_bytes(at("two/x.jsonl"), "{\"case_id\":1}\n{\"case_id\":2,\"v\":3}\n", 34, &err));
    OK(er_difference_lines(&out, folder, two, "x.jsonl", &err));
    assert_string_equal(out.at, "x.jsonl: line 2 (case 2): v: 1 against 3");
    out.length = 0;
    OK(er_save_bytes(at("two/x.jsonl"), "{\"case_id\":1}\n", 14, &err));
    OK(er_difference_lines(&out, folder, two, "x.jsonl", &err));
    assert_string_equal(out.at, "x.jsonl: line 2 (case 2): only in the first");
    out.length = 0;
    OK(er_difference_lines(&out, folder, two, "absent.jsonl", &err));
    assert_int_equal(out.length, 0);
    OK(er_difference_file(&out, two, folder, "x.jsonl", &err));
    assert_string_equal(out.at, "x.jsonl: line 2 (case 2): only in the second");
    er_text_free(&out);
    unlink(at("two/x.jsonl"));
    rmdir(two);
}

static void reads_the_statistics_of_a_run(void **state)
{
    static const char text[] = "{\"weights\":\"%032d\",\"tokenizer\":\"%032d\",\"stats\":{\"corpus\":\"%032d\",\"dimension\":160,"
                               "\"layers\":[{\"layer\":3,\"moment\":\"%032d\",\"eigen\":\"%032d\"}]}}";
    er_err err = ER_ERR_INIT;
    er_input_stats *stats = NULL;
    int64_t count = 7;
    char json[512], hash[ER_HASH_TEXT];
    (void)state;
    snprintf(json, sizeof json, text, 1, 2, 3, 4, 5);
    json_t *root = json_loads(json, 0, NULL), *none = json_loads("{\"stats\":null}", 0, NULL);
    OK(er_inputs_stats(&stats, &count, none, &err));
    assert_true(count == 0 && !stats);
    OK(er_inputs_stats(&stats, &count, root, &err));
    assert_true(count == 1 && stats->key.layer == 3 && stats->key.dimension == 160);
    er_hash_text(hash, &stats->content[1]);
    assert_string_equal(hash, "00000000000000000000000000000005");
    er_free(stats);
    json_object_del(json_object_get(root, "stats"), "corpus");
    assert_int_equal(er_inputs_stats(&stats, &count, root, &err), ER_E_FORMAT);
    json_decref(root);
    json_decref(none);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, drop_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(names_stay_inside),     TEST(brings_back_what_was_put), TEST(never_writes_over_a_file),
        TEST(refuses_other_entries), TEST(names_the_field),          TEST(names_the_subject_of_a_line),
        TEST(finds_the_line),        TEST(reads_the_statistics_of_a_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
