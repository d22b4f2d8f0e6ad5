/* SPDX-License-Identifier: Apache-2.0 */
/* Files: whole reads, read-only maps, and writes that are either complete or absent after any interruption. */
#ifndef ER_BASE_FILE_H
#define ER_BASE_FILE_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The whole file with a 0 behind it, *size without that 0. Free with er_free. */
int er_file_read(char **out, size_t *size, const char *path, er_err *err);

/* A read-only map; data stays valid until er_map_close. An empty file maps to size 0, data NULL. */
typedef struct er_map {
    const uint8_t *data;
    size_t size;
} er_map;
int er_map_open(er_map *out, const char *path, er_err *err);
void er_map_close(er_map *map);
/* Asks the system to read these bytes of a map soon; returns at once and cannot fail. */
void er_map_ahead(const void *at, size_t bytes);
/* The pages that lie wholly in these bytes leave the process's memory; read again they come back from the file. */
void er_map_rest(const void *at, size_t bytes);

/* Complete-or-absent write: er_save_open gives a stream to PATH.PID.tmp; er_save_commit flushes, fsyncs, renames it to
 * path and fsyncs the folder; er_save_abandon removes it. Commit and abandon end the life of *save; commit removes
 * the temporary file when it fails. Writers of HDF5 use er_save_name + er_save_publish around their own calls. */
typedef struct er_save {
    FILE *stream;
    char *path, *temporary;
} er_save;
int er_save_open(er_save *save, const char *path, er_err *err);
int er_save_commit(er_save *save, er_err *err);
void er_save_abandon(er_save *save);
int er_save_bytes(const char *path, const void *bytes, size_t n, er_err *err); /* the three in one */
struct er_text;
int er_save_text(const char *folder, const char *name, const struct er_text *text, er_err *err); /* folder/name */

/* Name for a temporary file beside path (to be er_freed), and its publication: fsync, rename, fsync of the folder. */
int er_save_name(char **temporary, const char *path, er_err *err);
int er_save_publish(const char *temporary, const char *path, er_err *err);
/* Removes what dead writers left in a folder: files named *.PID.tmp. Call it only while holding the folder's lock. */
int er_save_sweep(const char *folder, er_err *err);

/* Advisory lock on PATH (created if absent) for the life of the returned descriptor. When another process holds it:
 * ER_E_IO, the text names the holder as it wrote itself into the file: "PATH: held by host n1, pid 123, job 45 (Slurm's,
 * if any), since 2026-11-22 10:30:00 +0000". */
int er_lock_take(int *descriptor, const char *path, er_err *err);
void er_lock_release(int descriptor);

int er_file_exists(const char *path);
int er_make_folders(const char *path, er_err *err); /* like mkdir -p */
/* base/name, or name itself when it is absolute. Free with er_free. */
int er_path_join(char **out, const char *base, const char *name, er_err *err);
/* The folder of a path: "a/b" -> "a", "b" -> ".". Free with er_free. */
int er_path_folder(char **out, const char *path, er_err *err);

/* Test builds (ER_FAULTS): every write, rename and commit calls this with a name; the process kills itself with
 * SIGKILL at the n-th point when ERRATA_FAULT=n is set, and appends the names it passes to ERRATA_FAULT_LOG.
 * ERRATA_FAULT_HOW=TERM|USR1|INT|STOP sends itself that signal instead, =hang waits there for ever. */
#ifdef ER_FAULTS
void er_fault_point(const char *name);
#else
#define er_fault_point(name) ((void)0)
#endif

#endif
