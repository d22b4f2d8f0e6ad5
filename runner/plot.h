/* SPDX-License-Identifier: Apache-2.0 */
/* Drawings by gnuplot, run as a program: the script goes in through its stdin, the picture comes back through its
 * stdout. No shell, no files. */
#ifndef ER_RUNNER_PLOT_H
#define ER_RUNNER_PLOT_H

#include "base/text.h"

/* Not collective. Runs gnuplot (found through PATH, without the user's start-up files) on `script`, which must choose
 * the svg terminal and leave the output on stdout, and appends the <svg> element to *svg, ready to stand inside an HTML
 * page: no XML declaration, `title` (escaped here) in place of gnuplot's own, and every id prefixed with `id` (letters
 * and digits) so that several pictures can stand on one page. No gnuplot, a failing or hanging one (a minute), or
 * output that is no whole picture: ER_E_IO with gnuplot's own last words, *svg as it was. */
int er_plot_svg(er_text *svg, const char *script, const char *id, const char *title, er_err *err);
/* The same for a script that chooses a png terminal: appends the file's bytes. */
int er_plot_png(er_text *png, const char *script, er_err *err);

#endif
