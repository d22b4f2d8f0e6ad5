/* SPDX-License-Identifier: Apache-2.0 */
/* Inside jobs/sweep*.c: the state of one reading. */
#ifndef ER_JOBS_SWEEP_READ_H
#define ER_JOBS_SWEEP_READ_H

#include "jobs/sweep.h"
#include "jobs/yaml.h"

typedef struct er_sweep_reader {
    er_sweep *sweep;
    er_option_table table;
    size_t set_count;
    const char **keys;
    size_t key_count, key_room;
    er_sweep_point *points;
    size_t point_count, point_room;
    er_arena *arena;
    er_err *err;
} er_sweep_reader;

/* One key with one of its values, and where they stand. */
typedef struct er_sweep_choice {
    const char *key, *value;
    int64_t line, column, value_line, value_column;
} er_sweep_choice;

/* ER_E_INPUT, "FILE:LINE:COLUMN: ...". */
int er_sweep_fail(const er_sweep_reader *r, int64_t line, int64_t column, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* A mapping without twins, or a list; not empty. */
int er_sweep_expect(const er_sweep_reader *r, const er_yaml *node, enum er_yaml_kind kind, const char *what);
/* The members of a group of this file's own keys: known by name, set as rows "group.name", but for `skip`. */
int er_sweep_members(er_sweep_reader *r, const er_yaml *map, const char *group, const char *const *names, size_t count,
                     const char *skip);
int er_sweep_choice_of(er_sweep_choice *out, const er_sweep_reader *r, const er_yaml *key, const er_yaml *value);
/* One more point. */
int er_sweep_add(er_sweep_reader *r, const er_sweep_choice *choices, int64_t count);
/* random: count, seed, keys. */
int er_sweep_random(er_sweep_reader *r, const er_yaml *map);

#endif
