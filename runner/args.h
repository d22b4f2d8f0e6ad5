/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of one verb: long options, some with a value ("--at 5" or "--at=5"), and the rest in order. */
#ifndef ER_RUNNER_ARGS_H
#define ER_RUNNER_ARGS_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

typedef struct er_flag {
    const char *name;  /* without "--" */
    const char *value; /* what stands for its value in help, NULL: takes none */
    const char *help;
} er_flag;

enum { ER_ARGS_MOST = 256 };

typedef struct er_args {
    int count; /* positional */
    const char *at[ER_ARGS_MOST];
    int flag_count; /* given options in order; value "" where the option takes none */
    const er_flag *flag[ER_ARGS_MOST];
    const char *value[ER_ARGS_MOST];
} er_args;

/* flags end with a NULL name. argv: behind the verb. Unknown options are ER_E_USAGE with the nearest one. */
int er_args_parse(er_args *out, int argc, char **argv, const er_flag *flags, er_err *err);
/* Value of the last use, NULL when not given. */
const char *er_args_get(const er_args *a, const char *name);
/* A whole number in [low, ...), or `preset` when not given. */
int er_args_number(int64_t *out, const er_args *a, const char *name, int64_t preset, int64_t low, er_err *err);
/* All values of a repeated option, in order. *out: er_free it. */
int er_args_all(const char ***out, size_t *count, const er_args *a, const char *name, er_err *err);

#endif
