/* SPDX-License-Identifier: Apache-2.0 */
/* One value from text, and the words for what a row accepts: for base/options*.c and the reader of job files. */
#ifndef ER_BASE_OPTIONS_VALUE_H
#define ER_BASE_OPTIONS_VALUE_H

#include "base/options.h"

/* Writes the value into target on success. *fault != 0: the text is not what the row accepts (the target is as
 * before, the return value 0); the return value is for lack of memory alone. */
int er_option_parse(const er_option *row, void *target, const char *text, const char *folder, er_arena *arena,
                    er_err *err, int *fault);
/* "a number from 0 to 100", "one of fp32, bf16, fp16". */
int er_option_expected(er_text *out, const er_option *row, er_err *err);
int er_option_choice(int *out, const char *choices, const char *text);

#endif
