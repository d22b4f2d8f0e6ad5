/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a bundle: it is unpacked into its folder or refused, and nothing appears beside that folder. */
#define _GNU_SOURCE
#include "base/file.h"
#include "base/memory.h"
#include "runner/bundle.h"

#include <dirent.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)info, (void)kind, (void)at;
    return remove(path);
}

static int entries(const char *folder)
{
    int n = 0;
    DIR *d = opendir(folder);
    ER_ALWAYS(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char top[] = "/dev/shm/fuzz-bundle-XXXXXX", folder[64], path[64];
    er_err err = ER_ERR_INIT;
    er_hash content;
    er_text damage = ER_TEXT_INIT;
    int64_t files = 0;
    int fd = memfd_create("fuzz", 0);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size || !mkdtemp(top)) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    snprintf(folder, sizeof folder, "%s/run", top);
    int code = er_bundle_unpack(path, folder, &content, &files, &damage, &err);
    ER_ALWAYS((code != 0) == (err.text[0] != 0));
    ER_ALWAYS(entries(top) <= 3); /* ".", "..", "run" */
    nftw(top, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    er_text_free(&damage);
    close(fd);
    ER_ALWAYS(er_memory_live() == 0);
    return 0;
}
