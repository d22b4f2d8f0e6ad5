/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int own_rank = -1;
static enum er_level highest = ER_LOG_INFO;

double er_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void er_log_setup(int rank, enum er_level most)
{
    own_rank = rank;
    highest = most;
}

void er_log(enum er_level level, const char *format, ...)
{
    static const char *const name[] = {"error", "warn", "info", "debug"};
    char line[1200], clock[16] = "";
    if (level > highest || (level == ER_LOG_INFO && own_rank > 0)) return;
    time_t now = time(NULL);
    struct tm local;
    if (localtime_r(&now, &local)) strftime(clock, sizeof clock, "%H:%M:%S", &local);
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (own_rank > 0)
        fprintf(stderr, "%s %-5s rank %d: %s\n", clock, name[level], own_rank, line);
    else
        fprintf(stderr, "%s %-5s %s\n", clock, name[level], line);
}

void er_progress_start(er_progress *p, const char *what, const char *unit, int64_t done, int64_t total)
{
    if (!p) return;
    double now = er_seconds();
    *p = (er_progress){what, unit, done, total, done, now, now + 1, isatty(STDERR_FILENO), 0};
}

static void time_left(char *text, size_t size, double seconds)
{
    long s = (long)(seconds + 0.5);
    if (s >= 3600)
        snprintf(text, size, "%ld h %02ld min", s / 3600, s / 60 % 60);
    else
        snprintf(text, size, "%ld:%02ld min", s / 60, s % 60);
}

static void draw(er_progress *p, double now)
{
    double rate = (double)(p->done - p->at_start) / (now - p->started > 1e-9 ? now - p->started : 1e-9);
    char left[32] = "?", bar[21] = "";
    if (p->total > 0 && rate > 0) time_left(left, sizeof left, (double)(p->total - p->done) / rate);
    if (p->terminal) {
        int full = p->total > 0 ? (int)(20 * p->done / p->total) : 0;
        memset(bar, '.', 20);
        memset(bar, '#', (size_t)(full > 20 ? 20 : full));
        bar[20] = 0;
        fprintf(stderr, "\r%s [%s] %lld/%lld %s, %.3g/s, %s left   ", p->what, bar, (long long)p->done,
                (long long)p->total, p->unit, rate, left);
        fflush(stderr);
    } else {
        er_log(ER_LOG_INFO, "%s: %lld of %lld %s, %.3g/s, %s left", p->what, (long long)p->done,
               (long long)p->total, p->unit, rate, left);
    }
    p->drawn = now;
    p->shown = 1;
}

void er_progress_add(er_progress *p, int64_t n)
{
    if (!p) return;
    p->done += n;
    double now = er_seconds();
    if (own_rank <= 0 && now - p->drawn >= (p->terminal ? 1 : 30)) draw(p, now);
}

void er_progress_end(er_progress *p)
{
    if (!p || own_rank > 0) return;
    if (p->shown && p->terminal) {
        draw(p, er_seconds());
        fputc('\n', stderr);
    }
}
