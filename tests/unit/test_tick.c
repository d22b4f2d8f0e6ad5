/* SPDX-License-Identifier: Apache-2.0 */
/* Ticks, waits and announced quiet; who holds a lock. */
#include "base/file.h"
#include "base/memory.h"
#include "base/tick.h"
#include "tests/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int ticked, pulsed;

static void on_tick(void *context)
{
    assert_ptr_equal(context, &ticked);
    ticked++;
}

static void on_pulse(void) { pulsed++; }

static void test_ticks(void **state)
{
    double quiet;
    (void)state;
    uint64_t before = er_tick_count(&quiet);
    er_tick_set(on_tick, &ticked);
    er_tick_pulse(on_pulse);
    er_tick();
    er_tick_wait();
    assert_int_equal(ticked, 1); /* a wait serves nobody */
    assert_int_equal(pulsed, 2);
    assert_int_equal(er_tick_count(&quiet) - before, 2);
    assert_true(quiet == 0);
    er_tick_quiet(90);
    er_tick_count(&quiet);
    assert_true(quiet == 90);
    assert_int_equal(pulsed, 4); /* the announcement itself must be heard */
    er_tick_wait();
    er_tick_count(&quiet);
    assert_true(quiet == 0);
    er_tick_set(NULL, NULL);
    er_tick_pulse(NULL);
    er_tick();
    assert_int_equal(ticked + pulsed, 2 + 5);
}

static void test_holder(void **state)
{
    char path[] = "/tmp/errata-lock-XXXXXX", pid[32];
    int lock = -1, second = -1, fd = mkstemp(path);
    er_err err = ER_ERR_INIT;
    (void)state;
    assert_true(fd >= 0);
    close(fd);
    setenv("SLURM_JOB_ID", "4713", 1);
    setenv("SLURM_ARRAY_JOB_ID", "4711", 1);
    setenv("SLURM_ARRAY_TASK_ID", "3", 1);
    assert_int_equal(er_lock_take(&lock, path, &err), 0);
    assert_int_equal(er_lock_take(&second, path, &err), ER_E_IO);
    snprintf(pid, sizeof pid, ", pid %ld,", (long)getpid());
    assert_non_null(strstr(err.text, "held by host "));
    assert_non_null(strstr(err.text, pid));
    assert_non_null(strstr(err.text, ", job 4711_3, since 20"));
    assert_null(strchr(err.text, '\n'));
    unsetenv("SLURM_ARRAY_TASK_ID");
    er_lock_release(lock);
    assert_int_equal(er_lock_take(&lock, path, &err), 0);
    assert_int_equal(er_lock_take(&second, path, &err), ER_E_IO);
    assert_non_null(strstr(err.text, ", job 4713, since 20"));
    er_lock_release(lock);
    assert_int_equal(er_lock_take(&lock, path, &err), 0);
    er_lock_release(lock);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ticks), cmocka_unit_test(test_holder)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
