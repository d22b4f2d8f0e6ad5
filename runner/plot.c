/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "runner/plot.h"

#include "runner/report_doc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { PATIENCE_MS = 60000, MOST_BYTES = 64 << 20 };

/* One end of each of the child's three streams; -1: closed. */
typedef struct child {
    pid_t pid;
    int in, out, error;
} child;

static void shut(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* --- start ------------------------------------------------------------------------------------------------------- */

static int spawn_with(pid_t *pid, const int ends[3], posix_spawn_file_actions_t *actions, posix_spawnattr_t *attributes)
{
    static char name[] = "gnuplot", defaults[] = "-d"; /* -d: no gnuplotrc, no ~/.gnuplot */
    char *const arguments[] = {name, defaults, NULL};
    sigset_t none, all;
    int failed = 0;
    sigemptyset(&none);
    sigfillset(&all);
    sigdelset(&all, SIGKILL);
    sigdelset(&all, SIGSTOP);
    for (int i = 0; !failed && i < 3; i++) failed = posix_spawn_file_actions_adddup2(actions, ends[i], i);
    if (!failed) failed = posix_spawnattr_setsigmask(attributes, &none);
    if (!failed) failed = posix_spawnattr_setsigdefault(attributes, &all);
    if (!failed) failed = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    return failed ? failed : posix_spawnp(pid, name, actions, attributes, arguments, environ);
}

static int spawn(pid_t *pid, const int ends[3])
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int failed = posix_spawn_file_actions_init(&actions);
    if (failed) return failed;
    failed = posix_spawnattr_init(&attributes);
    if (!failed) {
        failed = spawn_with(pid, ends, &actions, &attributes);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return failed;
}

/* stdin is a socket, so that a reader who died is an error of send and no signal to a program that runs MPI. */
static int start(child *c, er_err *err)
{
    int in[2] = {-1, -1}, out[2] = {-1, -1}, error[2] = {-1, -1};
    int failed = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in) || pipe2(out, O_CLOEXEC) ||
                 pipe2(error, O_CLOEXEC) ? errno : 0;
    *c = (child){-1, in[0], out[0], error[0]};
    if (!failed) {
        const int ends[3] = {in[1], out[1], error[1]};
        failed = spawn(&c->pid, ends);
    }
    shut(&in[1]);
    shut(&out[1]);
    shut(&error[1]);
    if (!failed) return 0;
    shut(&c->in);
    shut(&c->out);
    shut(&c->error);
    return er_fail(err, ER_E_IO, "gnuplot cannot be run: %s", strerror(failed));
}

/* --- talk -------------------------------------------------------------------------------------------------------- */

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void feed(child *c, const char *script, size_t n, size_t *sent)
{
    ssize_t got = send(c->in, script + *sent, n - *sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (got > 0) *sent += (size_t)got;
    /* gone: its exit status will tell */
    if (*sent == n || (got < 0 && errno != EAGAIN && errno != EINTR)) shut(&c->in);
}

static int take(int *fd, er_text *to, er_err *err)
{
    char bytes[16384];
    ssize_t got = read(*fd, bytes, sizeof bytes);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return 0;
    if (got <= 0) {
        shut(fd);
        return 0;
    }
    if (to->length + (size_t)got > MOST_BYTES) return er_fail(err, ER_E_IO, "gnuplot gives no end of output");
    return er_text_bytes(to, bytes, (size_t)got, err);
}

static int talk(child *c, const char *script, er_text *out, er_text *error, er_err *err)
{
    size_t n = strlen(script), sent = 0;
    int64_t end = now_ms() + PATIENCE_MS;
    while (c->out >= 0 || c->error >= 0) {
        struct pollfd fds[] = {{c->in, POLLOUT, 0}, {c->out, POLLIN, 0}, {c->error, POLLIN, 0}};
        int64_t left = end - now_ms();
        int ready = left > 0 ? poll(fds, 3, (int)left) : 0;
        if (ready < 0 && errno == EINTR) continue;
        if (ready < 0) return er_fail(err, ER_E_IO, "gnuplot: poll: %s", strerror(errno));
        if (ready == 0) return er_fail(err, ER_E_IO, "gnuplot did not end within %d seconds", PATIENCE_MS / 1000);
        if (c->in >= 0 && fds[0].revents) feed(c, script, n, &sent);
        if (c->out >= 0 && fds[1].revents) ER_TRY(take(&c->out, out, err));
        if (c->error >= 0 && fds[2].revents) ER_TRY(take(&c->error, error, err));
    }
    return 0;
}

/* The last line that gnuplot wrote says what was wrong; those before it repeat the script. */
static int finish(child *c, int code, const er_text *error, er_err *err)
{
    int status = 0;
    pid_t ended;
    shut(&c->in);
    shut(&c->out);
    shut(&c->error);
    if (code) kill(c->pid, SIGKILL);
    do ended = waitpid(c->pid, &status, 0);
    while (ended < 0 && errno == EINTR);
    if (code) return code;
    if (ended < 0) return er_fail(err, ER_E_IO, "gnuplot: waitpid: %s", strerror(errno));
    if (WIFSIGNALED(status)) return er_fail(err, ER_E_IO, "gnuplot died of signal %d", WTERMSIG(status));
    if (WEXITSTATUS(status) == 0) return 0;
    size_t end = error->length, start;
    while (end && strchr(" \n", error->at[end - 1])) end--;
    for (start = end; start && error->at[start - 1] != '\n';) start--;
    return er_fail(err, ER_E_IO, "gnuplot failed with status %d: %.*s", WEXITSTATUS(status), (int)(end - start),
                   end ? error->at + start : "");
}

/* --- the picture ------------------------------------------------------------------------------------------------- */

/* Copies [from, end) with ids and references to them prefixed. */
static int copy_prefixed(er_text *svg, const char *from, const char *end, const char *id, er_err *err)
{
    static const char *const marks[] = {" id=\"", " id='", "href=\"#", "href='#", "url(#"};
    const char *done = from;
    for (const char *p = from; p < end; p++) {
        if (*p != ' ' && *p != 'h' && *p != 'u') continue;
        for (size_t m = 0; m < sizeof marks / sizeof *marks; m++) {
            size_t n = strlen(marks[m]);
            if ((size_t)(end - p) <= n || strncmp(p, marks[m], n) != 0) continue;
            ER_TRY(er_text_bytes(svg, done, (size_t)(p + n - done), err));
            ER_TRY(er_text_format(svg, err, "%s-", id));
            done = p + n;
            break;
        }
    }
    return er_text_bytes(svg, done, (size_t)(end - done), err);
}

static int inline_svg(er_text *svg, const char *text, const char *id, const char *title, er_err *err)
{
    const char *open = strstr(text, "<svg"), *body = open ? strchr(open, '>') : NULL;
    const char *end = body ? strstr(body, "</svg>") : NULL, *own = body ? strstr(body, "</title>") : NULL;
    if (!end) return er_fail(err, ER_E_IO, "gnuplot gave no whole picture");
    const char *rest = own && own < end ? own + strlen("</title>") : body + 1;
    ER_TRY(copy_prefixed(svg, open, body, id, err));
    ER_TRY(er_text_add(svg, " role=\"img\"><title>", err));
    ER_TRY(er_html_text(svg, title, err));
    ER_TRY(er_text_add(svg, "</title>", err));
    return copy_prefixed(svg, rest, end + strlen("</svg>"), id, err);
}

/* gnuplot's stdout for a script, to be er_text_freed in every case. */
static int drawn(er_text *out, const char *script, er_err *err)
{
    child c;
    er_text error = ER_TEXT_INIT;
    ER_TRY(start(&c, err));
    int code = talk(&c, script, out, &error, err);
    code = finish(&c, code, &error, err);
    er_text_free(&error);
    return code;
}

int er_plot_svg(er_text *svg, const char *script, const char *id, const char *title, er_err *err)
{
    er_text out = ER_TEXT_INIT;
    size_t before = svg->length;
    int code = drawn(&out, script, err);
    if (!code) code = inline_svg(svg, out.at ? out.at : "", id, title, err);
    if (code && svg->at) {
        svg->length = before;
        svg->at[before] = 0;
    }
    er_text_free(&out);
    return code;
}

int er_plot_png(er_text *png, const char *script, er_err *err)
{
    static const char head[] = "\x89PNG\r\n\x1a\n", tail[] = "IEND\xae\x42\x60\x82";
    enum { HEAD = sizeof head - 1, TAIL = sizeof tail - 1 };
    er_text out = ER_TEXT_INIT;
    int code = drawn(&out, script, err);
    if (!code && (out.length < HEAD + TAIL || memcmp(out.at, head, HEAD) != 0 ||
                  memcmp(out.at + out.length - TAIL, tail, TAIL) != 0))
        code = er_fail(err, ER_E_IO, "gnuplot gave no whole picture");
    if (!code) code = er_text_bytes(png, out.at, out.length, err);
    er_text_free(&out);
    return code;
}
