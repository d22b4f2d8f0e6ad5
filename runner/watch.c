/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "runner/watch.h"

#include "base/log.h"
#include "base/memory.h"
#include "base/tick.h"
#include "runner/signals.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { HOST_TEXT = 64, PHASE_TEXT = 32, TAG = 1 };
enum { ALIVE = 1, BYE = 2 };

static const double look_every = 0.002, thread_every = 0.2;
static const double default_timeout = 600, default_grace = 60; /* until the job has been read; its rows' defaults */

typedef struct pulse {
    int32_t kind, signal;
    double quiet; /* seconds in which no pulse is expected, beyond the time allowed */
    int64_t unit;
    char phase[PHASE_TEXT];
} pulse;

/* Rank 0 watches all others, the others watch rank 0. */
typedef struct other {
    char host[HOST_TEXT];
    pulse out, last; /* last: as heard */
    MPI_Request request;
    int sending, said_bye, sent;  /* sent: the version of the news that it was told */
    double silent;
    const char *owes_phase;
    int64_t owes;
} other;

static struct watch {
    er_world *w;
    MPI_Comm comm; /* MPI_COMM_NULL: alone, nobody to hear of */
    char host[HOST_TEXT];
    other *others; /* (size) */
    const char *phase;
    int64_t unit;
    int news;          /* version: grows when something must be told at once */
    int known_signal, told_end;
    double known_quiet, looked, judged, pulsed;

    pthread_t thread;
    int threaded, stop;
    pthread_mutex_t lock; /* of stop, name, timeout, grace */
    pthread_cond_t wake;
    char name[PHASE_TEXT + 32]; /* what the thread would say */
    double timeout, grace;
} watch;

/* --- the thread: one process, no MPI -------------------------------------------------------------------------------- */

/* No lock and no stdio here: the main thread may hang inside either. */
static void end_hanging(const char *name, double seconds)
{
    char line[512];
    int n = snprintf(line, sizeof line, "errata: rank %d on %s, pid %ld: no progress for %.0f s (run.timeout)%s%s; "
                     "ending the job, run again to continue\n", watch.w->rank, watch.host, (long)getpid(), seconds,
                     *name ? ", at " : "", name);
    if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0) { /* nobody listens; end all the same */
    }
    _exit(1);
}

static void wait_a_little(double seconds)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += (long)(seconds * 1e9);
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&watch.wake, &watch.lock, &t);
}

static void *watch_process(void *unused)
{
    double then = er_seconds(), still = 0, leaving = 0;
    uint64_t seen = 0;
    (void)unused;
    pthread_mutex_lock(&watch.lock);
    while (!watch.stop) {
        wait_a_little(thread_every);
        double now = er_seconds(), passed = now - then, quiet, timeout = watch.timeout, grace = watch.grace;
        char name[sizeof watch.name];
        if (passed > 5 * thread_every) passed = 5 * thread_every; /* stopped, not waiting */
        then = now;
        memcpy(name, watch.name, sizeof name);
        uint64_t ticks = er_tick_count(&quiet);
        still = ticks == seen ? still + passed : 0;
        seen = ticks;
        if (er_signal_seen()) leaving += passed;
        if (watch.stop) break;
        if (grace > 0 && leaving > grace)
            er_signal_leave("errata: the time after a signal is over (run.grace): leaving without the units in flight\n");
        if (timeout > 0 && still > timeout + quiet) end_hanging(name, still);
    }
    pthread_mutex_unlock(&watch.lock);
    return NULL;
}

static int start_thread(er_err *err)
{
    sigset_t all, before;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&watch.wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&watch.lock, NULL);
    sigfillset(&all); /* signals are the other threads' */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&watch.thread, NULL, watch_process, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code) return er_fail(err, ER_E_MEMORY, "the watching thread: %s", strerror(code));
    watch.threaded = 1;
    return 0;
}

static void stop_thread(void)
{
    if (!watch.threaded) return;
    pthread_mutex_lock(&watch.lock);
    watch.stop = 1;
    pthread_cond_signal(&watch.wake);
    pthread_mutex_unlock(&watch.lock);
    pthread_join(watch.thread, NULL);
    pthread_cond_destroy(&watch.wake);
    pthread_mutex_destroy(&watch.lock);
    watch.threaded = 0;
}

/* --- messages ------------------------------------------------------------------------------------------------------- */

static double pulse_every(void)
{
    double every = watch.timeout > 0 ? watch.timeout / 10 : default_timeout / 10;
    return every < 30 ? every : 30;
}

static int first_other(void) { return watch.w->rank == 0 ? 1 : 0; }
static int end_other(void) { return watch.w->rank == 0 ? watch.w->size : 1; }

/* Nothing here returns an error: where MPI fails, the call of the main thread's own business fails, too. */
static int send_pulse(int rank, int kind)
{
    other *o = &watch.others[rank];
    int done = 1;
    double quiet;
    if (o->sending && (MPI_Test(&o->request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS || !done)) return 0;
    er_tick_count(&quiet);
    o->out = (pulse){.kind = kind, .signal = er_signal_seen(), .quiet = quiet, .unit = watch.unit};
    if (watch.phase) snprintf(o->out.phase, sizeof o->out.phase, "%s", watch.phase);
    o->sending = MPI_Isend(&o->out, sizeof o->out, MPI_BYTE, rank, TAG, watch.comm, &o->request) == MPI_SUCCESS;
    o->sent = watch.news;
    return o->sending;
}

static void hear(void)
{
    for (;;) {
        MPI_Status status;
        int flag = 0;
        pulse p;
        if (MPI_Iprobe(MPI_ANY_SOURCE, TAG, watch.comm, &flag, &status) != MPI_SUCCESS || !flag) return;
        if (MPI_Recv(&p, sizeof p, MPI_BYTE, status.MPI_SOURCE, TAG, watch.comm, MPI_STATUS_IGNORE) != MPI_SUCCESS)
            return;
        other *o = &watch.others[status.MPI_SOURCE];
        o->last = p;
        o->last.phase[PHASE_TEXT - 1] = 0;
        o->silent = 0;
        if (p.kind == BYE) o->said_bye = 1;
        if (p.signal) er_signal_learn(p.signal);
    }
}

static void end_silent(int rank)
{
    const other *o = &watch.others[rank];
    int owes = watch.w->rank == 0 && o->owes >= 0;
    const char *phase = owes ? o->owes_phase : o->last.phase;
    int64_t unit = owes ? o->owes : o->last.unit;
    char at[PHASE_TEXT + 64] = "";
    if (unit >= 0) snprintf(at, sizeof at, ", at unit %lld of %s", (long long)unit, phase);
    else if (*phase) snprintf(at, sizeof at, ", at %s", phase);
    er_log(ER_LOG_ERROR, "rank %d on %s: nothing heard of it for %.0f s (run.timeout)%s; ending the job, run again to "
           "continue", rank, o->host, o->silent, at);
    watch.told_end = 1;
    er_world_abort(watch.w, 1);
}

/* A quarter later than the rank itself would speak. Rank 1 judges rank 0; the others would, were rank 1 lost with it. */
static void judge(double now)
{
    double passed = now - watch.judged, every = pulse_every();
    if (passed < every / 4 || watch.timeout <= 0 || watch.told_end) return;
    watch.judged = now;
    if (passed > every) passed = every;
    for (int r = first_other(); r < end_other(); r++) {
        other *o = &watch.others[r];
        double allowed = (watch.w->rank > 1 ? 2.25 : 1.25) * watch.timeout;
        if (o->said_bye) continue;
        o->silent += passed;
        if (o->silent > allowed + o->last.quiet + every) end_silent(r);
    }
}

/* What is announced must have left before the main thread goes away. */
static void push_out(void)
{
    for (int turn = 0, waiting = 1; waiting && turn < 200; turn++) {
        waiting = 0;
        for (int r = first_other(); r < end_other(); r++) {
            other *o = &watch.others[r];
            int done = 1;
            if (o->sending && MPI_Test(&o->request, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && done) o->sending = 0;
            waiting |= o->sending;
        }
        if (waiting) usleep(100);
    }
}

static void look(double now)
{
    double quiet;
    int signal = er_signal_seen();
    watch.looked = now;
    hear();
    er_tick_count(&quiet);
    if (signal != watch.known_signal || quiet != watch.known_quiet) watch.news++;
    watch.known_signal = signal;
    watch.known_quiet = quiet;
    int due = now - watch.pulsed >= pulse_every();
    if (due) watch.pulsed = now;
    for (int r = first_other(); r < end_other(); r++)
        if (due || watch.others[r].sent != watch.news) send_pulse(r, ALIVE);
    if (quiet > 0) push_out();
    judge(now);
}

static void on_tick(void)
{
    double now = er_seconds(), quiet;
    er_tick_count(&quiet);
    if (now - watch.looked >= look_every || quiet > watch.known_quiet) look(now);
}

/* --- life ----------------------------------------------------------------------------------------------------------- */

static int meet(er_world *w, er_err *err)
{
    char(*hosts)[HOST_TEXT] = NULL;
    ER_TRY(er_alloc(&watch.others, (size_t)w->size, err));
    ER_TRY(er_alloc(&hosts, (size_t)w->size, err));
    int code = MPI_Allgather(watch.host, HOST_TEXT, MPI_BYTE, hosts, HOST_TEXT, MPI_BYTE, w->comm);
    for (int r = 0; code == MPI_SUCCESS && r < w->size; r++) {
        memcpy(watch.others[r].host, hosts[r], HOST_TEXT);
        watch.others[r].owes = watch.others[r].last.unit = -1;
    }
    er_free(hosts);
    ER_MPI(code, err);
    ER_MPI(MPI_Comm_dup(w->comm, &watch.comm), err);
    ER_MPI(MPI_Comm_set_errhandler(watch.comm, MPI_ERRORS_RETURN), err);
    return 0;
}

int er_watch_open(er_world *w, er_err *err)
{
    watch = (struct watch){.w = w, .comm = MPI_COMM_NULL, .unit = -1, .timeout = default_timeout,
                           .grace = default_grace};
    if (gethostname(watch.host, sizeof watch.host - 1)) snprintf(watch.host, sizeof watch.host, "?");
    if (w->size > 1) ER_TRY(meet(w, err));
    watch.judged = er_seconds();
    ER_TRY(start_thread(err));
    if (w->size > 1) er_tick_pulse(on_tick);
    return 0;
}

static void nap(void)
{
    er_tick_wait();
    usleep(200);
}

/* Everybody's last message is a BYE, so that none is left over when the communicator goes. */
void er_watch_close(void)
{
    if (!watch.w || watch.comm == MPI_COMM_NULL) return;
    int root = watch.w->rank == 0;
    er_watch_work("the end", -1);
    if (!root)
        while (!send_pulse(0, BYE)) nap();
    for (int r = first_other(); r < end_other(); r++)
        while (!watch.others[r].said_bye) nap();
    er_tick_pulse(NULL);
    for (int r = first_other(); root && r < end_other(); r++)
        while (!send_pulse(r, BYE)) nap();
    for (int r = first_other(); r < end_other(); r++)
        if (watch.others[r].sending) MPI_Wait(&watch.others[r].request, MPI_STATUS_IGNORE);
    MPI_Comm_free(&watch.comm);
    er_free(watch.others);
    watch.others = NULL;
}

void er_watch_end(void)
{
    stop_thread();
    watch.w = NULL;
}

void er_watch_limits(double timeout, double grace)
{
    if (!watch.threaded) return;
    pthread_mutex_lock(&watch.lock);
    watch.timeout = timeout;
    watch.grace = grace;
    pthread_mutex_unlock(&watch.lock);
}

void er_watch_work(const char *phase, int64_t unit)
{
    watch.news += phase != watch.phase; /* a new unit waits for the next message */
    watch.phase = phase;
    watch.unit = unit;
    if (!watch.threaded) return;
    pthread_mutex_lock(&watch.lock);
    if (unit >= 0) snprintf(watch.name, sizeof watch.name, "unit %lld of %.*s", (long long)unit, PHASE_TEXT, phase);
    else snprintf(watch.name, sizeof watch.name, "%.*s", PHASE_TEXT, phase ? phase : "");
    pthread_mutex_unlock(&watch.lock);
}

void er_watch_owes(int rank, const char *phase, int64_t unit)
{
    if (!watch.others) return;
    watch.others[rank].owes_phase = phase;
    watch.others[rank].owes = unit;
}

int er_watch_owing(er_text *out, er_err *err)
{
    enum { MOST = 8 };
    int named = 0, owing = 0;
    for (int r = 0; watch.others && r < watch.w->size; r++) {
        const other *o = &watch.others[r];
        if (o->owes < 0 || ++owing > MOST) continue;
        ER_TRY(er_text_format(out, err, "%srank %d on %s (unit %lld of %s)", named++ ? ", " : "", r, o->host,
                              (long long)o->owes, o->owes_phase));
    }
    return owing > named ? er_text_format(out, err, " and %d more", owing - named) : 0;
}
