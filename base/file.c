/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/file.h"

#include "base/memory.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifdef ER_FAULTS
static void strike(void)
{
    static const struct {
        const char *name;
        int number;
    } signals[] = {{"TERM", SIGTERM}, {"USR1", SIGUSR1}, {"INT", SIGINT}, {"STOP", SIGSTOP}};
    const char *how = getenv("ERRATA_FAULT_HOW");
    int number = SIGKILL;
    for (size_t i = 0; how && i < sizeof signals / sizeof *signals; i++)
        if (!strcmp(how, signals[i].name)) number = signals[i].number;
    while (how && !strcmp(how, "hang")) pause();
    kill(getpid(), number);
}

void er_fault_point(const char *name)
{
    static long passed;
    const char *log = getenv("ERRATA_FAULT_LOG"), *at = getenv("ERRATA_FAULT");
    passed++;
    if (log) {
        FILE *f = fopen(log, "a");
        if (f) {
            fprintf(f, "%ld %s\n", passed, name);
            fclose(f);
        }
    }
    if (at && strtol(at, NULL, 10) == passed) strike();
}
#endif

static int fail_io(er_err *err, const char *path) { return er_fail(err, ER_E_IO, "%s: %s", path, strerror(errno)); }

int er_file_read(char **out, size_t *size, const char *path, er_err *err)
{
    struct stat info;
    char *bytes = NULL;
    FILE *f = fopen(path, "rb");
    if (!f) return fail_io(err, path);
    int code = fstat(fileno(f), &info) ? fail_io(err, path) : 0;
    if (!code && !S_ISREG(info.st_mode)) code = er_fail(err, ER_E_IO, "%s: is not a regular file", path);
    if (!code) code = er_alloc(&bytes, (size_t)info.st_size + 1, err);
    if (!code && fread(bytes, 1, (size_t)info.st_size, f) != (size_t)info.st_size)
        code = er_fail(err, ER_E_IO, "%s: shorter than its size says", path);
    fclose(f);
    if (code) {
        er_free(bytes);
        return code;
    }
    *out = bytes;
    *size = (size_t)info.st_size;
    return 0;
}

int er_map_open(er_map *out, const char *path, er_err *err)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_io(err, path);
    if (fstat(fd, &info)) {
        int code = fail_io(err, path);
        close(fd);
        return code;
    }
    if (!S_ISREG(info.st_mode)) {
        close(fd);
        return er_fail(err, ER_E_IO, "%s: is not a regular file", path);
    }
    er_map map = {NULL, (size_t)info.st_size};
    if (map.size) {
        void *p = mmap(NULL, map.size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) {
            int code = fail_io(err, path);
            close(fd);
            return code;
        }
        map.data = p;
    }
    close(fd);
    *out = map;
    return 0;
}

void er_map_ahead(const void *at, size_t bytes)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = (uintptr_t)at / page * page;
    if (bytes) madvise((void *)first, (uintptr_t)at - first + bytes, MADV_WILLNEED); /* advice: its failure costs time */
}

void er_map_rest(const void *at, size_t bytes)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), end = ((uintptr_t)at + bytes) / page * page;
    const uintptr_t first = ((uintptr_t)at + page - 1) / page * page;
    if (first < end) madvise((void *)first, end - first, MADV_DONTNEED); /* advice: its failure costs memory */
}

void er_map_close(er_map *map)
{
    if (map->data) munmap((void *)(uintptr_t)map->data, map->size);
    *map = (er_map){NULL, 0};
}

int er_save_name(char **temporary, const char *path, er_err *err)
{
    er_text name = ER_TEXT_INIT;
    ER_TRY(er_text_format(&name, err, "%s.%ld.tmp", path, (long)getpid()));
    *temporary = name.at;
    return 0;
}

static int sync_folder_of(const char *path, er_err *err)
{
    char *folder = NULL;
    ER_TRY(er_path_folder(&folder, path, err));
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int code = fd < 0 || fsync(fd) ? fail_io(err, folder) : 0;
    if (fd >= 0) close(fd);
    er_free(folder);
    return code;
}

int er_save_publish(const char *temporary, const char *path, er_err *err)
{
    int fd = open(temporary, O_RDONLY | O_CLOEXEC);
    int code = fd < 0 || fsync(fd) ? fail_io(err, temporary) : 0;
    if (fd >= 0) close(fd);
    er_fault_point("before rename");
    if (!code && rename(temporary, path)) code = fail_io(err, path);
    er_fault_point("after rename");
    if (!code) code = sync_folder_of(path, err);
    if (code) unlink(temporary);
    return code;
}

int er_save_open(er_save *save, const char *path, er_err *err)
{
    er_save s = {NULL, NULL, NULL};
    int code = er_strdup(&s.path, path, err);
    if (!code) code = er_save_name(&s.temporary, path, err);
    if (!code && !(s.stream = fopen(s.temporary, "wb"))) code = fail_io(err, s.temporary);
    er_fault_point("temporary file opened");
    if (code) {
        er_free(s.path);
        er_free(s.temporary);
        return code;
    }
    *save = s;
    return 0;
}

static void save_end(er_save *save)
{
    ER_FREE(save->path);
    ER_FREE(save->temporary);
    save->stream = NULL;
}

void er_save_abandon(er_save *save)
{
    if (save->stream) fclose(save->stream);
    if (save->temporary) unlink(save->temporary);
    save_end(save);
}

int er_save_commit(er_save *save, er_err *err)
{
    er_fault_point("before flush");
    int failed = ferror(save->stream) || fflush(save->stream);
    failed |= fclose(save->stream) != 0;
    save->stream = NULL;
    int code = failed ? fail_io(err, save->temporary) : er_save_publish(save->temporary, save->path, err);
    if (failed) unlink(save->temporary);
    save_end(save);
    return code;
}

int er_save_bytes(const char *path, const void *bytes, size_t n, er_err *err)
{
    er_save save;
    ER_TRY(er_save_open(&save, path, err));
    if (fwrite(bytes, 1, n, save.stream) != n) {
        int code = fail_io(err, save.temporary);
        er_save_abandon(&save);
        return code;
    }
    return er_save_commit(&save, err);
}

int er_save_text(const char *folder, const char *name, const er_text *text, er_err *err)
{
    char *path = NULL;
    ER_TRY(er_path_join(&path, folder, name, err));
    int code = er_save_bytes(path, text->at ? text->at : "", text->length, err);
    er_free(path);
    return code;
}

/* NAME.PID.tmp with a PID of digits: ours. Anything else ending in .tmp belongs to somebody else. */
static int is_temporary(const char *name)
{
    size_t n = strlen(name);
    if (n < 6 || strcmp(name + n - 4, ".tmp") != 0) return 0;
    size_t i = n - 4, digits = 0;
    while (i > 0 && name[i - 1] >= '0' && name[i - 1] <= '9') {
        i--;
        digits++;
    }
    return digits > 0 && i > 1 && name[i - 1] == '.';
}

int er_save_sweep(const char *folder, er_err *err)
{
    DIR *d = opendir(folder);
    if (!d) return fail_io(err, folder);
    int code = 0;
    for (struct dirent *e; !code && (e = readdir(d));)
        if (is_temporary(e->d_name) && unlinkat(dirfd(d), e->d_name, 0) && errno != ENOENT)
            code = fail_io(err, e->d_name);
    closedir(d);
    return code;
}

/* "host n1, pid 123, job 45_6, since 2026-11-22 10:30:00 +0000" */
static int describe_holder(char *text, size_t size)
{
    char host[64] = "?", since[40] = "?";
    const char *job = getenv("SLURM_JOB_ID"), *array = getenv("SLURM_ARRAY_JOB_ID"),
               *task = getenv("SLURM_ARRAY_TASK_ID");
    time_t now = time(NULL);
    struct tm local;
    gethostname(host, sizeof host - 1);
    if (localtime_r(&now, &local)) strftime(since, sizeof since, "%Y-%m-%d %H:%M:%S %z", &local);
    int n = snprintf(text, size, "host %s, pid %ld", host, (long)getpid());
    if (array && task) n += snprintf(text + n, size - (size_t)n, ", job %.20s_%.20s", array, task);
    else if (job) n += snprintf(text + n, size - (size_t)n, ", job %.20s", job);
    return n + snprintf(text + n, size - (size_t)n, ", since %s\n", since);
}

int er_lock_take(int *descriptor, const char *path, er_err *err)
{
    char holder[256] = "";
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return fail_io(err, path);
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK) {
            int code = er_fail(err, ER_E_IO, "%s: cannot be locked (%s): does the file system know locks?", path,
                               strerror(errno));
            close(fd);
            return code;
        }
        ssize_t n = read(fd, holder, sizeof holder - 1);
        close(fd);
        if (n > 0) holder[n] = 0;
        holder[strcspn(holder, "\n")] = 0;
        return er_fail(err, ER_E_IO, "%s: held by %s", path, *holder ? holder : "another process");
    }
    int n = describe_holder(holder, sizeof holder);
    if (ftruncate(fd, 0) || pwrite(fd, holder, (size_t)n, 0) != n) {
        int code = fail_io(err, path);
        close(fd);
        return code;
    }
    *descriptor = fd;
    return 0;
}

void er_lock_release(int descriptor)
{
    if (descriptor >= 0) close(descriptor);
}

int er_file_exists(const char *path) { return access(path, F_OK) == 0; }

int er_make_folders(const char *path, er_err *err)
{
    char *copy = NULL;
    ER_TRY(er_strdup(&copy, path, err));
    int code = 0;
    for (char *p = copy + 1; !code; p++) {
        char c = *p;
        if (c && c != '/') continue;
        *p = 0;
        if (mkdir(copy, 0777) && errno != EEXIST) code = fail_io(err, copy);
        *p = c;
        if (!c) break;
    }
    struct stat info;
    if (!code && (stat(path, &info) || !S_ISDIR(info.st_mode)))
        code = er_fail(err, ER_E_IO, "%s: is not a folder", path);
    er_free(copy);
    return code;
}

int er_path_join(char **out, const char *base, const char *name, er_err *err)
{
    er_text t = ER_TEXT_INIT;
    int code = *name == '/' || !*base || strcmp(base, ".") == 0 ? er_text_add(&t, name, err)
                                                                : er_text_format(&t, err, "%s/%s", base, name);
    if (code) {
        er_text_free(&t);
        return code;
    }
    *out = t.at;
    return 0;
}

int er_path_folder(char **out, const char *path, er_err *err)
{
    const char *slash = strrchr(path, '/');
    ER_TRY(er_strdup(out, slash ? path : ".", err));
    if (slash) (*out)[slash == path ? 1 : slash - path] = 0;
    return 0;
}
