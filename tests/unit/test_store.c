/* SPDX-License-Identifier: Apache-2.0 */
/* The store: round trips, mismatches, partial sums. */
#include "store_folder.h"

enum { LAYERS = 3, BLOCKS = 10 };

static er_eigen make_eigen(void)
{
    er_eigen e;
    static double c[N * N];
    for (int i = 0; i < N; i++)
        for (int j = i; j < N; j++)
            c[i * N + j] = c[j * N + i] = er_random_uniform(6, ER_STREAM_TEST, 1, (uint64_t)(i * N + j));
    assert_int_equal(er_eigen_solve(&e, c, N, NULL), 0);
    return e;
}

static void brings_back_what_was_put(void **state)
{
    (void)state;
    er_store *s = open_store();
    er_stats_key key = key_of(5);
    er_moment m = make_moment(N, 1), back = {0, 0, NULL};
    er_eigen e = make_eigen(), again = {0, NULL, NULL};
    er_hash a, b;
    int found = 1;
    char near_text[400] = "left";
    assert_int_equal(er_store_moment(s, &key, &back, &found, near_text, sizeof near_text, NULL), 0);
    assert_true(found == 0 && back.sum == NULL && *near_text == 0);
    assert_int_equal(er_store_hash(s, &key, 0, &a, &found, NULL), 0);
    assert_int_equal(found, 0);
    assert_int_equal(er_store_put_moment(s, &key, &m, NULL), 0);
    assert_int_equal(er_store_moment(s, &key, &back, &found, NULL, 0, NULL), 0);
    assert_true(found == 1 && same_moment(&m, &back));
    assert_int_equal(er_store_eigen(s, &key, &again, &found, NULL), 0);
    assert_true(found == 0 && again.values == NULL);
    assert_int_equal(er_store_put_eigen(s, &key, &e, NULL), 0);
    assert_int_equal(er_store_eigen(s, &key, &again, &found, NULL), 0);
    assert_int_equal(found, 1);
    assert_int_equal(again.n, N);
    assert_memory_equal(again.values, e.values, N * sizeof(double));
    assert_memory_equal(again.vectors, e.vectors, N * N * sizeof(double));
    assert_int_equal(er_store_hash(s, &key, 0, &a, &found, NULL), 0);
    assert_int_equal(er_store_hash(s, &key, 1, &b, &found, NULL), 0);
    assert_true(found == 1 && !er_hash_equal(&a, &b));
    assert_int_equal(count_files("moment-L05-", NULL), 1);
    assert_int_equal(count_files("eigen-L05-", NULL), 1);
    assert_int_equal(count_files(".tmp", NULL), 0);
    er_moment_free(&m);
    er_moment_free(&back);
    er_eigen_free(&e);
    er_eigen_free(&again);
    er_store_close(s);
}

/* No times, no addresses, no padding left over: equal content is equal bytes. */
static void equal_content_is_equal_bytes(void **state)
{
    (void)state;
    er_store *s = open_store();
    er_stats_key key = key_of(0);
    er_moment m = make_moment(N, 1);
    er_eigen e = make_eigen();
    char path[2][512], *first[2], *second[2];
    size_t size[2], size_again[2];
    assert_int_equal(er_store_put_moment(s, &key, &m, NULL), 0);
    assert_int_equal(er_store_put_eigen(s, &key, &e, NULL), 0);
    only_path(path[0], "moment-");
    only_path(path[1], "eigen-");
    for (int i = 0; i < 2; i++) assert_int_equal(er_file_read(&first[i], &size[i], path[i], NULL), 0);
    remove_files();
    sleep(1); /* object times have seconds */
    assert_int_equal(er_store_put_eigen(s, &key, &e, NULL), 0);
    assert_int_equal(er_store_put_moment(s, &key, &m, NULL), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(er_file_read(&second[i], &size_again[i], path[i], NULL), 0);
        assert_int_equal(size[i], size_again[i]);
        assert_memory_equal(first[i], second[i], size[i]);
        er_free(first[i]);
        er_free(second[i]);
    }
    er_moment_free(&m);
    er_eigen_free(&e);
    er_store_close(s);
}

/* Every byte in turn: an error, or (where the format leaves bytes unused) the same content. */
static void notices_every_flipped_byte(void **state)
{
    (void)state;
    er_store *s = open_store();
    er_stats_key key = key_of(1);
    er_moment m, back;
    double gram[9] = {1, 2, 3, 2, 5, 6, 3, 6, 9};
    char path[512], *bytes;
    size_t size;
    int found, harmless = 0, by_hash = 0;
    key.dimension = 3;
    assert_int_equal(er_moment_new(&m, 3, NULL), 0);
    assert_int_equal(er_moment_add(&m, gram, 7, NULL), 0);
    assert_int_equal(er_store_put_moment(s, &key, &m, NULL), 0);
    only_path(path, "moment-");
    assert_int_equal(er_file_read(&bytes, &size, path, NULL), 0);
    for (long at = 0; at < (long)size; at++) {
        er_err err = ER_ERR_INIT;
        flip(path, at);
        int code = er_store_moment(s, &key, &back, &found, NULL, 0, &err);
        flip(path, at);
        if (!code) {
            assert_true(found && same_moment(&m, &back));
            er_moment_free(&back);
            harmless++;
            continue;
        }
        assert_true(code == ER_E_FORMAT || code == ER_E_MISMATCH || code == ER_E_IO);
        assert_non_null(strstr(err.text, "moment-L01-"));
        if (strstr(err.text, "\"sum\" does not match its hash: the file is damaged")) by_hash++;
    }
    assert_int_equal(by_hash, 6 * sizeof(er_fixed)); /* the data themselves */
    assert_true(harmless < (int)size / 2);
    for (size_t keep = 0; keep < size; keep += 97) { /* cut short */
        assert_int_equal(truncate(path, (off_t)keep), 0);
        assert_int_not_equal(er_store_moment(s, &key, &back, &found, NULL, 0, NULL), 0);
        assert_int_equal(er_save_bytes(path, bytes, size, NULL), 0);
    }
    er_free(bytes);
    er_moment_free(&m);
    er_store_close(s);
}

/* An object under another key's name: each field is named. */
static void names_the_field_that_differs(void **state)
{
    (void)state;
    static const char *const want[] = {"weights is", "tokenizer is", "corpus is",
                                       "matrix is mlp.up_proj, its key says mlp.down_proj",
                                       "layer is 7, its key says 2", "dimension is 3, its key says 40"};
    er_store *s = open_store();
    er_moment m = make_moment(N, 1), small = make_moment(3, 1), back;
    er_stats_key right = key_of(2);
    char path[512], wrong_path[512];
    int found;
    assert_int_equal(er_store_put_moment(s, &right, &m, NULL), 0);
    only_path(path, "moment-");
    for (int i = 0; i < 6; i++) {
        er_stats_key wrong = right;
        er_err err = ER_ERR_INIT;
        assert_int_equal(unlink(path), 0);
        if (i == 0) wrong.weights = hash_of("other weights");
        if (i == 1) wrong.tokenizer = hash_of("other tokenizer");
        if (i == 2) wrong.corpus = hash_of("other corpus");
        if (i == 3) strcpy(wrong.matrix, "mlp.up_proj");
        if (i == 4) wrong.layer = 7;
        if (i == 5) wrong.dimension = 3;
        assert_int_equal(er_store_put_moment(s, &wrong, i == 5 ? &small : &m, NULL), 0);
        only_path(wrong_path, "moment-");
        assert_string_not_equal(path, wrong_path);
        assert_int_equal(rename(wrong_path, path), 0);
        assert_int_equal(er_store_moment(s, &right, &back, &found, NULL, 0, &err), ER_E_MISMATCH);
        if (!strstr(err.text, want[i])) fail_msg("%s", err.text);
    }
    er_err err = ER_ERR_INIT;
    assert_int_equal(er_store_put_moment(s, &right, &small, &err), ER_E_INTERNAL);
    er_moment_free(&m);
    er_moment_free(&small);
    er_store_close(s);
}

static void says_what_else_there_is(void **state)
{
    (void)state;
    er_store *s = open_store();
    er_moment m = make_moment(N, 1), back;
    er_stats_key key = key_of(3), other = key;
    char text[800], path[512];
    int found = 1;
    other.weights = hash_of("other weights");
    assert_int_equal(er_store_put_moment(s, &other, &m, NULL), 0);
    other.layer = 4;
    assert_int_equal(er_store_put_moment(s, &other, &m, NULL), 0);
    assert_int_equal(er_store_moment(s, &key, &back, &found, text, sizeof text, NULL), 0);
    assert_int_equal(found, 0);
    assert_non_null(strstr(text, "(101 tokens): weights differ"));
    assert_null(strstr(text, "another corpus"));
    assert_null(strstr(text, "L04"));
    other = key;
    other.corpus = hash_of("other corpus");
    other.tokenizer = hash_of("other tokenizer");
    assert_int_equal(er_store_put_moment(s, &other, &m, NULL), 0);
    snprintf(path, sizeof path, "%s/moment-L03-junk.h5", folder);
    assert_int_equal(er_save_bytes(path, "no HDF5 at all", 14, NULL), 0);
    assert_int_equal(er_store_moment(s, &key, &back, &found, text, sizeof text, NULL), 0);
    assert_non_null(strstr(text, "(101 tokens): weights differ"));
    assert_non_null(strstr(text, "(101 tokens): tokenizer differs, another corpus"));
    assert_non_null(strstr(text, "moment-L03-junk.h5: cannot be read"));
    assert_int_equal(er_store_moment(s, &key, &back, &found, text, 10, NULL), 0);
    assert_int_equal(strlen(text), 9);
    er_moment_free(&m);
    er_store_close(s);
}

/* --- partials ---------------------------------------------------------------------------------------------------- */

static void partial_keys(er_stats_key keys[LAYERS])
{
    for (int i = 0; i < LAYERS; i++) keys[i] = key_of(4 + i);
}

/* Moments of a set of blocks: block b of layer i is make_moment's block of item 16 b + i. */
static void sums_of(er_moment moments[LAYERS], const uint8_t *blocks)
{
    for (int i = 0; i < LAYERS; i++) {
        er_moment_clear(&moments[i]);
        for (int b = 0; b < BLOCKS; b++) {
            if (!blocks[b]) continue;
            er_moment one = make_moment(N, (uint32_t)(16 * b + i));
            assert_int_equal(er_fixed_sum(moments[i].sum, one.sum, er_moment_elements(N)), 0);
            moments[i].tokens += one.tokens;
            er_moment_free(&one);
        }
    }
}

static void put_part(er_store *s, const char *writer, const uint8_t *blocks)
{
    er_stats_key keys[LAYERS];
    er_moment moments[LAYERS];
    er_err err = ER_ERR_INIT;
    partial_keys(keys);
    for (int i = 0; i < LAYERS; i++) assert_int_equal(er_moment_new(&moments[i], N, NULL), 0);
    sums_of(moments, blocks);
    if (er_store_put_partial(s, keys, LAYERS, moments, blocks, BLOCKS, writer, &err)) fail_msg("%s", err.text);
    for (int i = 0; i < LAYERS; i++) er_moment_free(&moments[i]);
}

/* What is loaded covers exactly `blocks`, and the sums are theirs. */
static void assert_covers(er_store *s, const uint8_t *blocks)
{
    er_stats_key keys[LAYERS];
    er_moment got[LAYERS], want[LAYERS];
    uint8_t done[BLOCKS];
    er_err err = ER_ERR_INIT;
    partial_keys(keys);
    memset(done, 9, sizeof done);
    for (int i = 0; i < LAYERS; i++) {
        got[i] = make_moment(N, 3); /* to be overwritten */
        assert_int_equal(er_moment_new(&want[i], N, NULL), 0);
    }
    if (er_store_partials(s, keys, LAYERS, got, done, BLOCKS, "", &err)) fail_msg("%s", err.text);
    assert_memory_equal(done, blocks, BLOCKS);
    sums_of(want, done);
    for (int i = 0; i < LAYERS; i++) {
        assert_true(same_moment(&got[i], &want[i]));
        er_moment_free(&got[i]);
        er_moment_free(&want[i]);
    }
}

static void adds_up_partials(void **state)
{
    (void)state;
    static const uint8_t none[BLOCKS] = {0}, low[BLOCKS] = {1, 1, 1}, more[BLOCKS] = {1, 1, 1, 0, 0, 1},
                         high[BLOCKS] = {0, 0, 0, 0, 0, 0, 1, 0, 1, 1}, both[BLOCKS] = {1, 1, 1, 0, 0, 0, 1, 0, 1, 1},
                         three[BLOCKS] = {1, 1, 1, 0, 0, 1, 1, 0, 1, 1}, crossing[BLOCKS] = {0, 0, 1, 1};
    er_store *s = open_store();
    er_stats_key keys[LAYERS];
    partial_keys(keys);
    assert_covers(s, none);
    put_part(s, "rank-0", low);
    assert_covers(s, low);
    put_part(s, "rank-1", high);
    assert_covers(s, both);
    put_part(s, "rank-0", more); /* replaces its own old one */
    assert_int_equal(count_files("partial-", NULL), 2);
    assert_covers(s, three);
    put_part(s, "rank-2", crossing); /* overlaps: the smaller one is left out */
    assert_covers(s, three);
    put_part(s, "rank-3", none);
    assert_covers(s, three);
    assert_int_equal(er_store_drop_partials(s, keys, LAYERS - 1, "", NULL), 0); /* other layers, another set */
    assert_int_equal(count_files("partial-", NULL), 4);
    assert_int_equal(er_store_drop_partials(s, keys, LAYERS, "", NULL), 0);
    assert_int_equal(count_files("partial-", NULL), 0);
    assert_covers(s, none);
    er_store_close(s);
}

static void refuses_bad_partials(void **state)
{
    (void)state;
    static const uint8_t low[BLOCKS] = {1, 1, 1};
    er_store *s = open_store();
    er_stats_key keys[LAYERS];
    er_moment moments[LAYERS];
    uint8_t done[BLOCKS + 1];
    er_err err = ER_ERR_INIT;
    char path[512];
    partial_keys(keys);
    for (int i = 0; i < LAYERS; i++) moments[i] = make_moment(N, 1);
    static const char *const bad[] = {"", "a/b", "../x", "rank 0"};
    for (int i = 0; i < 4; i++)
        assert_int_equal(er_store_put_partial(s, keys, LAYERS, moments, low, BLOCKS, bad[i], &err), ER_E_INPUT);
    put_part(s, "rank-0", low);
    only_path(path, "partial-");
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    flip(path, (long)info.st_size / 2); /* the bulk of the file is sums */
    assert_int_equal(er_store_partials(s, keys, LAYERS, moments, done, BLOCKS, "", &err), ER_E_MISMATCH);
    assert_non_null(strstr(err.text, "rank-0.h5: \"sum-L"));
    for (int i = 0; i < LAYERS; i++) assert_int_equal(moments[i].tokens, 0);
    for (int b = 0; b < BLOCKS; b++) assert_int_equal(done[b], 0);
    flip(path, (long)info.st_size / 2);
    assert_int_equal(er_store_partials(s, keys, LAYERS, moments, done, BLOCKS + 1, "", &err), ER_E_FORMAT); /* another cut */
    keys[1].weights = hash_of("others");
    assert_int_equal(er_store_partials(s, keys, LAYERS, moments, done, BLOCKS, "", &err), ER_E_INTERNAL);
    for (int i = 0; i < LAYERS; i++) er_moment_free(&moments[i]);
    er_store_close(s);
}

/* --- shards ------------------------------------------------------------------------------------------------------ */

static void put_shard(er_store *s, int64_t shard, int64_t shards)
{
    uint8_t done[BLOCKS];
    char writer[64];
    for (int b = 0; b < BLOCKS; b++) done[b] = er_shard_has(b, shard, shards) != 0;
    er_shard_writer(writer, shard, shards);
    put_part(s, writer, done);
}

static void adds_up_shards(void **state)
{
    (void)state;
    static const uint8_t all[BLOCKS] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, some[BLOCKS] = {1};
    er_store *s = open_store();
    er_stats_key keys[LAYERS];
    er_moment want[LAYERS], got;
    er_err err = ER_ERR_INIT;
    char path[512];
    partial_keys(keys);
    for (int i = 0; i < LAYERS; i++) assert_int_equal(er_moment_new(&want[i], N, NULL), 0);
    sums_of(want, all);
    put_shard(s, 3, 3);
    only_path(path, "-shard-3of3.h5");
    put_part(s, "rank-0", some); /* of an unfinished pass: no shard */
    er_shards list = {NULL, 0, 0};
    assert_int_equal(er_shards_add(&list, path, keys, LAYERS, BLOCKS, 1, NULL, &err), 0);
    put_shard(s, 1, 3);
    assert_int_equal(er_shards_add(&list, folder, keys, LAYERS, BLOCKS, 1, NULL, &err), 0);
    assert_int_equal(list.count, 2); /* the first is not added again */
    assert_int_equal(er_shards_check(&list, BLOCKS, &err), ER_E_INPUT);
    if (!strstr(err.text, "1, 4, 7 (shard 2/3)")) fail_msg("%s", err.text);
    put_shard(s, 2, 3);
    assert_int_equal(er_shards_add(&list, folder, keys, LAYERS, BLOCKS, 1, NULL, &err), 0);
    assert_int_equal(er_shards_check(&list, BLOCKS, &err), 0);
    for (int i = 0; i < LAYERS; i++) {
        if (er_shards_sum(&got, &list, keys, LAYERS, i, &err)) fail_msg("%s", err.text);
        assert_true(same_moment(&got, &want[i]));
        er_moment_free(&got);
        er_moment_free(&want[i]);
    }
    put_shard(s, 2, 2);
    assert_int_equal(er_shards_add(&list, folder, keys, LAYERS, BLOCKS, 1, NULL, &err), 0);
    assert_int_equal(er_shards_check(&list, BLOCKS, &err), ER_E_INPUT);
    if (!strstr(err.text, "stand twice") || !strstr(err.text, "shard-2of2.h5")) fail_msg("%s", err.text);
    er_shards_free(&list);
    er_store_close(s);
}

static void refuses_shards_of_others(void **state)
{
    (void)state;
    static const char *const want[] = {"weights differ", "tokenizer differs", "another corpus",
                                       "its layers are 4 5 6, not 4 5"};
    er_store *s = open_store();
    char path[512];
    put_shard(s, 1, 2);
    only_path(path, "-shard-1of2.h5");
    for (int i = 0; i < 4; i++) {
        er_stats_key keys[LAYERS];
        er_err err = ER_ERR_INIT;
        er_text others = ER_TEXT_INIT;
        er_shards list = {NULL, 0, 0};
        partial_keys(keys);
        for (int k = 0; k < LAYERS; k++) {
            if (i == 0) keys[k].weights = hash_of("other weights");
            if (i == 1) keys[k].tokenizer = hash_of("other tokenizer");
            if (i == 2) keys[k].corpus = hash_of("other corpus");
        }
        int64_t layers = i == 3 ? LAYERS - 1 : LAYERS;
        assert_int_equal(er_shards_add(&list, folder, keys, layers, BLOCKS, 1, NULL, &err), ER_E_MISMATCH);
        if (!strstr(err.text, want[i]) || !strstr(err.text, path)) fail_msg("%s", err.text);
        assert_int_equal(er_shards_add(&list, folder, keys, layers, BLOCKS, 0, &others, &err), 0);
        assert_int_equal(list.count, 0);
        assert_non_null(strstr(others.at, want[i]));
        assert_int_equal(er_shards_check(&list, BLOCKS, &err), ER_E_INPUT);
        er_text_free(&others);
        er_shards_free(&list);
    }
    /* damage in the sums is found when they are added */
    er_stats_key keys[LAYERS];
    er_shards list = {NULL, 0, 0};
    er_moment got;
    er_err err = ER_ERR_INIT;
    struct stat info;
    partial_keys(keys);
    assert_int_equal(stat(path, &info), 0);
    flip(path, (long)info.st_size / 2);
    assert_int_equal(er_shards_add(&list, path, keys, LAYERS, BLOCKS, 1, NULL, &err), 0);
    int damaged = 0;
    for (int i = 0; i < LAYERS; i++) {
        int code = er_shards_sum(&got, &list, keys, LAYERS, i, &err);
        damaged += code == ER_E_MISMATCH;
        if (!code) er_moment_free(&got);
    }
    assert_int_equal(damaged, 1);
    er_shards_free(&list);
    er_store_close(s);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, drop_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(brings_back_what_was_put),     TEST(equal_content_is_equal_bytes), TEST(notices_every_flipped_byte),
        TEST(names_the_field_that_differs), TEST(says_what_else_there_is),      TEST(adds_up_partials),
        TEST(refuses_bad_partials),         TEST(adds_up_shards),               TEST(refuses_shards_of_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
