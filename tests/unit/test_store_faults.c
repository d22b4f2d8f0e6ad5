/* SPDX-License-Identifier: Apache-2.0 */
/* The store under interruptions and on failing disks. */
#include "store_folder.h"

static void write_for_ever(const er_moment *m)
{
    er_store *s = NULL;
    if (er_store_open(&s, folder, NULL)) _exit(3);
    for (int64_t layer = 0;; layer = (layer + 1) % 4) {
        er_stats_key key = key_of(layer);
        key.dimension = m->n;
        if (er_store_put_moment(s, &key, m, NULL)) _exit(4);
    }
}

/* kill -9 at twenty random moments: what is visible is complete, what is left over is swept. */
static void survives_kill_9(void **state)
{
    (void)state;
    er_moment m = make_moment(300, 1);
    int complete = 0, left_over = 0;
    for (int round = 0; round < 20; round++) {
        remove_files();
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) write_for_ever(&m);
        usleep((useconds_t)(1000 + er_random_below(60000, 11, ER_STREAM_TEST, 1, (uint64_t)round)));
        assert_int_equal(kill(child, SIGKILL), 0);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        er_store *s = open_store();
        for (int64_t layer = 0; layer < 4; layer++) {
            er_stats_key key = key_of(layer);
            er_moment back;
            er_err err = ER_ERR_INIT;
            int found = 0;
            key.dimension = m.n;
            if (er_store_moment(s, &key, &back, &found, NULL, 0, &err)) fail_msg("%s", err.text);
            if (!found) continue;
            assert_true(same_moment(&m, &back));
            er_moment_free(&back);
            complete++;
        }
        left_over += count_files(".tmp", NULL);
        assert_int_equal(er_store_sweep(s, NULL), 0);
        assert_int_equal(count_files(".tmp", NULL), 0);
        er_store_close(s);
    }
    print_message("20 writers killed: %d complete objects, %d temporary files swept\n", complete, left_over);
    assert_true(complete > 0);
    er_moment_free(&m);
}

static void sweeps_only_when_alone(void **state)
{
    (void)state;
    er_store *s = open_store();
    char path[512], lock[512];
    snprintf(path, sizeof path, "%s/moment-L00-x.h5.12345.tmp", folder);
    snprintf(lock, sizeof lock, "%s/sweep.lock", folder);
    assert_int_equal(er_save_bytes(path, "x", 1, NULL), 0);
    int fd = open(lock, O_RDWR | O_CREAT, 0666);
    assert_true(fd >= 0 && flock(fd, LOCK_SH) == 0); /* as a writer does */
    assert_int_equal(er_store_sweep(s, NULL), 0);
    assert_true(er_file_exists(path));
    close(fd);
    assert_int_equal(er_store_sweep(s, NULL), 0);
    assert_false(er_file_exists(path));
    er_store_close(s);
}

/* Root may write everywhere; as somebody else the folder is read-only. Exit status of the child tells. */
static void says_that_a_folder_is_read_only(void **state)
{
    (void)state;
    er_moment m = make_moment(N, 1);
    assert_int_equal(chmod(folder, 0555), 0);
    pid_t child = fork();
    if (child == 0) {
        er_store *s = NULL;
        er_err err = ER_ERR_INIT;
        er_stats_key key = key_of(0);
        if (getuid() == 0 && setuid(65534)) _exit(2);
        if (er_store_open(&s, folder, &err)) _exit(3);
        if (er_store_put_moment(s, &key, &m, &err) != ER_E_IO) _exit(4);
        if (!strstr(err.text, "cannot be created: Permission denied") || !strstr(err.text, "moment-L00-")) {
            fprintf(stderr, "%s\n", err.text);
            _exit(5);
        }
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(chmod(folder, 0755), 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(count_files("", NULL), 0);
    er_moment_free(&m);
}

/* A file may not grow beyond `bytes`: what a full disk looks like, without one. */
static int child_with_limit(const er_moment *m, rlim_t bytes)
{
    er_store *s = NULL;
    er_err err = ER_ERR_INIT;
    er_stats_key key = key_of(0);
    struct rlimit limit = {bytes, RLIM_INFINITY};
    key.dimension = m->n;
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGSEGV, SIG_DFL); /* cmocka's handler would let the child go on with the tests */
    if (er_store_open(&s, folder, &err) || setrlimit(RLIMIT_FSIZE, &limit)) return 2;
    if (er_store_put_moment(s, &key, m, &err) != ER_E_IO) return 3;
    if (!strstr(err.text, strerror(EFBIG)) || !strstr(err.text, "moment-L00-")) {
        fprintf(stderr, "%s\n", err.text);
        return 4;
    }
    if (count_files("moment", NULL)) return 5;
    limit.rlim_cur = RLIM_INFINITY; /* somebody made room: nothing is stuck */
    if (setrlimit(RLIMIT_FSIZE, &limit) || er_store_put_moment(s, &key, m, &err)) return 6;
    er_store_close(s);
    return count_files("moment", NULL) == 1 ? 0 : 7;
}

static void leaves_nothing_on_a_full_disk(void **state)
{
    (void)state;
    er_moment m = make_moment(300, 1); /* 700 kB */
    static const rlim_t limits[] = {300, 2000, 100000, 700000};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        pid_t child = fork();
        if (child == 0) exit(child_with_limit(&m, limits[i])); /* with HDF5's own end of process */
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status)) fail_msg("limit %ld: child says %d", (long)limits[i], WEXITSTATUS(status));
        remove_files();
    }
    er_moment_free(&m);
}

static void leaks_no_memory_and_no_handles(void **state)
{
    (void)state;
    er_store *s = open_store();
    er_stats_key key = key_of(6);
    er_moment m = make_moment(N, 1), back;
    int found, failures = 0;
    assert_int_equal(er_store_put_moment(s, &key, &m, NULL), 0);
    int64_t live = er_memory_live();
    for (int64_t at = 1; at < 40; at++) {
        er_memory_fail_at(at);
        int code = er_store_moment(s, &key, &back, &found, NULL, 0, NULL);
        if (!code) er_moment_free(&back);
        assert_true(code == 0 || code == ER_E_MEMORY);
        failures += code != 0;
        er_memory_fail_at(at);
        code = er_store_put_moment(s, &key, &m, NULL);
        assert_true(code == 0 || code == ER_E_MEMORY);
        failures += code != 0;
        er_memory_fail_at(0);
        assert_int_equal(er_memory_live(), live);
    }
    assert_true(failures > 4);
    assert_int_equal(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL), 0);
    assert_int_equal(count_files(".tmp", NULL), 0);
    er_moment_free(&m);
    er_store_close(s);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, drop_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(survives_kill_9),
        TEST(sweeps_only_when_alone),
        TEST(says_that_a_folder_is_read_only),
        TEST(leaves_nothing_on_a_full_disk),
        TEST(leaks_no_memory_and_no_handles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
