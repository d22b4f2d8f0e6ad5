/* SPDX-License-Identifier: Apache-2.0 */
/* What writing and reading bundles share. */
#ifndef ER_RUNNER_BUNDLE_PARTS_H
#define ER_RUNNER_BUNDLE_PARTS_H

#include "runner/bundle.h"
#include "runner/setup.h"

enum { ER_BUNDLE_VERSION = 1, ER_BUNDLE_HEAD_MOST = 1 << 28, ER_LINE_HASH = 16 };

/* A bundle in the making. */
typedef struct er_packed {
    char *name, *path;
    int64_t bytes;
} er_packed;

typedef struct er_packing {
    const char *folder;
    er_setup setup;
    json_t *inputs;
    er_packed *items;
    size_t count, capacity;
} er_packing;
/* bundle_items.c: the files of a run, in order of their names in the bundle. */
int er_packing_fill(er_packing *p, const er_bundle_options *options, er_err *err);

extern const char er_bundle_head[], er_bundle_env[], er_bundle_env_hash[];

/* First digits of the hash of a line, without its end. */
void er_line_hash(char text[ER_LINE_HASH + 1], const char *line, size_t n);
/* "content": of the run's name and of all that "files" says. */
int er_bundle_content(er_hash *out, const char *run, const json_t *files, er_err *err);

#endif
