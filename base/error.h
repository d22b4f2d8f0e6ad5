/* SPDX-License-Identifier: Apache-2.0 */
/* Errors: a code for the program, one exact line for the person.
 *
 * Every function that can fail returns 0 or a negative er_code and fills the er_err that its caller passed as the
 * last argument (NULL is allowed: the text is then lost, the code is not). Nothing is printed below runner/: the
 * level that decides also speaks. Outputs are written on success only. */
#ifndef ER_BASE_ERROR_H
#define ER_BASE_ERROR_H

#include <stddef.h>

/* code, text, exit code of the program when such an error ends it */
#define ER_CODES(X)                                                                                                    \
    X(USAGE, "usage", 2)                                                                                               \
    X(INPUT, "bad input", 2)                                                                                           \
    X(FORMAT, "bad file", 1)                                                                                           \
    X(IO, "input/output", 1)                                                                                           \
    X(MEMORY, "out of memory", 1)                                                                                      \
    X(MISMATCH, "mismatch", 5)                                                                                         \
    X(NUMERIC, "numerical failure", 4)                                                                                 \
    X(UNSUPPORTED, "not supported", 1)                                                                                 \
    X(MPI, "MPI", 1)                                                                                                   \
    X(SIGNAL, "stopped by a signal", 75)                                                                               \
    X(INTERNAL, "internal error", 1)

enum er_code {
    ER_OK = 0,
#define X(name, text, exit_code) ER_E_POS_##name,
    ER_CODES(X)
#undef X
};
#define X(name, text, exit_code) ER_E_##name = -(int)ER_E_POS_##name,
enum er_code_negative { ER_CODES(X) };
#undef X

typedef struct er_err {
    int code;
    const char *file; /* where in errata's source it was raised */
    int line;
    char text[768];
} er_err;

#define ER_ERR_INIT {0, NULL, 0, {0}}

/* Sets *err and returns code. `code` is one of ER_E_*. */
int er_fail_at(er_err *err, const char *file, int line, int code, const char *format, ...)
    __attribute__((format(printf, 5, 6), cold));
#define er_fail(err, code, ...) er_fail_at((err), __FILE__, __LINE__, (code), __VA_ARGS__)

/* Puts context in front of the text: "layer 5: ...". Returns err->code (ER_E_INTERNAL when err is NULL). */
int er_prefix(er_err *err, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

/* Text of a code, and the exit code of a program ended by it. */
const char *er_code_text(int code);
int er_exit_code(int code);

/* Early return where nothing is held. */
#define ER_TRY(call)                                                                                                   \
    do {                                                                                                               \
        int er_try_code = (call);                                                                                      \
        if (er_try_code) return er_try_code;                                                                           \
    } while (0)

/* A broken invariant of ours: prints where and aborts, in every build. */
#define ER_ALWAYS(condition)                                                                                           \
    do {                                                                                                               \
        if (!(condition)) er_bug(__FILE__, __LINE__, #condition);                                                      \
    } while (0)
void er_bug(const char *file, int line, const char *condition) __attribute__((noreturn, cold));

#endif
