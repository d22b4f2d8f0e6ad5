/* SPDX-License-Identifier: Apache-2.0 */
/* One document written twice at once: as a page (HTML) and as Markdown.
 *
 * Every text given here is data and is escaped for both; only er_doc_raw takes markup. Errors stick: after the first
 * one all calls do nothing, and er_doc_end returns it. */
#ifndef ER_RUNNER_REPORT_DOC_H
#define ER_RUNNER_REPORT_DOC_H

#include "base/text.h"

#include <stdarg.h>

/* Appends text made safe: HTML text or attribute; a Markdown table cell or line. Bytes that are no UTF-8, control
 * characters and marks that turn the writing direction become U+FFFD, line ends and tabs become spaces. */
int er_html_text(er_text *out, const char *text, er_err *err);
int er_md_text(er_text *out, const char *text, er_err *err);

/* Text with a sticky error. */
typedef struct er_pen {
    er_text text;
    int code;
    er_err *err;
} er_pen;
void er_pen_say(er_pen *pen, const char *format, ...) __attribute__((format(printf, 2, 3)));

enum { ER_DOC_HTML = 1, ER_DOC_MD = 2, ER_DOC_BOTH = 3 };

/* Zero-initialise but for err; er_doc_end returns the first error, er_doc_free frees both texts. */
typedef struct er_doc {
    er_text html, md;
    int code;
    er_err *err;
    int only; /* 0: both; else where the next calls write */
    const char *align;
    int column, row;
    int listed; /* the last paragraph in Markdown was a line of a list */
} er_doc;

/* report.c: the page with errata's style up to its title; the HTML's <header> is left open. */
void er_report_page(er_doc *d, const char *name);
int er_doc_end(const er_doc *d);
void er_doc_free(er_doc *d);

void er_doc_raw(er_doc *d, int where, const char *markup);
void er_doc_section(er_doc *d, const char *id, const char *title);
void er_doc_say(er_doc *d, const char *format, ...) __attribute__((format(printf, 2, 3))); /* a paragraph */
void er_doc_item(er_doc *d, const char *format, ...) __attribute__((format(printf, 2, 3))); /* a line of a list */
/* align: one letter a column, l or r; the first row of cells is the heading. */
void er_doc_table(er_doc *d, const char *align);
void er_doc_cell(er_doc *d, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* kind: g (significant digits), f (digits behind the point), % (as f, with the sign); a dash for what is no number. */
void er_doc_number(er_doc *d, double x, char kind, int digits);
void er_doc_table_end(er_doc *d);
/* In HTML the tables that follow stand behind a line that opens them; Markdown shows the line alone. */
void er_doc_fold(er_doc *d, const char *title, int open);
void er_doc_fold_end(er_doc *d);
void er_doc_figure(er_doc *d, const char *svg, const char *caption); /* svg: markup, HTML only */
void er_doc_code(er_doc *d, const char *text);                       /* lines kept as they are */

#endif
