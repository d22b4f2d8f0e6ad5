/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/report_doc.h"

#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

/* --- escaping ---------------------------------------------------------------------------------------------------- */

typedef const char *escape_of(int c, int lines);

static const char *html_escape(int c, int lines)
{
    switch (c) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    case '\n': return lines ? "\n" : " ";
    case '\t': return " ";
    default: return NULL;
    }
}

static const char *md_escape(int c, int lines)
{
    switch (c) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '\\': return "\\\\";
    case '`': return "\\`";
    case '*': return "\\*";
    case '[': return "\\[";
    case ']': return "\\]";
    case '|': return "\\|";
    case '\n': return lines ? "\n" : " ";
    case '\t': return " ";
    default: return NULL;
    }
}

/* Inside a Markdown code block only the fence could end it; er_doc_code makes it longer than any line of marks. */
static const char *code_escape(int c, int lines)
{
    (void)lines;
    return c == '\n' ? "\n" : c == '\t' ? " " : NULL;
}

static int unwelcome(utf8proc_int32_t c)
{
    return c < 32 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || (c >= 0x200e && c <= 0x200f) ||
           (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

static int escape(er_text *out, const char *text, escape_of *of, int lines, er_err *err)
{
    const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)text;
    size_t left = strlen(text);
    while (left) {
        utf8proc_int32_t c = -1;
        utf8proc_ssize_t n = utf8proc_iterate(p, (utf8proc_ssize_t)left, &c);
        const char *word = n > 0 ? of((int)c, lines) : NULL;
        if (word) {
            ER_TRY(er_text_add(out, word, err));
        } else if (n <= 0 || unwelcome(c)) {
            ER_TRY(er_text_add(out, "\xef\xbf\xbd", err));
        } else {
            ER_TRY(er_text_bytes(out, p, (size_t)n, err));
        }
        if (n <= 0) n = 1;
        p += n;
        left -= (size_t)n;
    }
    return 0;
}

int er_html_text(er_text *out, const char *text, er_err *err) { return escape(out, text, html_escape, 0, err); }
int er_md_text(er_text *out, const char *text, er_err *err) { return escape(out, text, md_escape, 0, err); }

/* --- formatted text ---------------------------------------------------------------------------------------------- */

static int format_text(char **out, const char *format, va_list args, er_err *err)
    __attribute__((format(printf, 2, 0)));
static int format_text(char **out, const char *format, va_list args, er_err *err)
{
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (n < 0) return er_fail(err, ER_E_INTERNAL, "a text of the report cannot be formatted");
    ER_TRY(er_alloc(out, (size_t)n + 1, err));
    vsnprintf(*out, (size_t)n + 1, format, args);
    return 0;
}

void er_pen_say(er_pen *pen, const char *format, ...)
{
    char *text = NULL;
    va_list args;
    if (pen->code) return;
    va_start(args, format);
    pen->code = format_text(&text, format, args, pen->err);
    va_end(args);
    if (!pen->code) pen->code = er_text_add(&pen->text, text, pen->err);
    er_free(text);
}

/* --- document ---------------------------------------------------------------------------------------------------- */

int er_doc_end(const er_doc *d) { return d->code; }

void er_doc_free(er_doc *d)
{
    er_text_free(&d->html);
    er_text_free(&d->md);
}

static int writes(const er_doc *d, int where) { return !d->code && ((d->only ? d->only : ER_DOC_BOTH) & where) != 0; }

static void html(er_doc *d, const char *markup)
{
    if (writes(d, ER_DOC_HTML)) d->code = er_text_add(&d->html, markup, d->err);
}

static void md(er_doc *d, const char *markup)
{
    if (writes(d, ER_DOC_MD)) d->code = er_text_add(&d->md, markup, d->err);
}

static void both(er_doc *d, const char *text)
{
    if (writes(d, ER_DOC_HTML)) d->code = er_html_text(&d->html, text, d->err);
    if (writes(d, ER_DOC_MD)) d->code = er_md_text(&d->md, text, d->err);
}

void er_doc_raw(er_doc *d, int where, const char *markup)
{
    if (where & ER_DOC_HTML) html(d, markup);
    if (where & ER_DOC_MD) md(d, markup);
}

void er_doc_section(er_doc *d, const char *id, const char *title)
{
    html(d, "<h2 id=\"");
    if (writes(d, ER_DOC_HTML)) d->code = er_html_text(&d->html, id, d->err);
    html(d, "\">");
    md(d, "\n## ");
    both(d, title);
    html(d, "</h2>\n");
    md(d, "\n\n");
}

static void say(er_doc *d, int item, const char *format, va_list args) __attribute__((format(printf, 3, 0)));
static void say(er_doc *d, int item, const char *format, va_list args)
{
    char *text = NULL;
    if (d->code) return;
    d->code = format_text(&text, format, args, d->err);
    if (!d->code) {
        html(d, item ? "<p>• " : "<p>");
        md(d, item ? "- " : d->listed ? "\n" : ""); /* else the paragraph would go on with the list's last line */
        if (writes(d, ER_DOC_MD)) d->listed = item;
        both(d, text);
        html(d, "</p>\n");
        md(d, item ? "\n" : "\n\n");
    }
    er_free(text);
}

void er_doc_say(er_doc *d, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(d, 0, format, args);
    va_end(args);
}

void er_doc_item(er_doc *d, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(d, 1, format, args);
    va_end(args);
}

void er_doc_table(er_doc *d, const char *align)
{
    html(d, "<div class=\"wide\"><table>\n<thead>");
    d->align = align;
    d->column = d->row = 0;
}

static void start_cell(er_doc *d)
{
    char tag[32];
    if (d->column == 0) html(d, "<tr>");
    snprintf(tag, sizeof tag, "<%s%s>", d->row ? "td" : "th", d->align[d->column] == 'r' ? " class=\"n\"" : "");
    html(d, tag);
    md(d, "| ");
}

static void end_row(er_doc *d)
{
    html(d, d->row ? "</tr>\n" : "</tr></thead>\n<tbody>\n");
    md(d, "|\n");
    for (const char *a = d->align; d->row == 0 && *a; a++) md(d, *a == 'r' ? "|---:" : "|:---");
    if (d->row == 0) md(d, "|\n");
    d->column = 0;
    d->row++;
}

void er_doc_cell(er_doc *d, const char *format, ...)
{
    char *text = NULL;
    va_list args;
    if (d->code) return;
    va_start(args, format);
    d->code = format_text(&text, format, args, d->err);
    va_end(args);
    if (!d->code) {
        start_cell(d);
        both(d, text);
        html(d, d->row ? "</td>" : "</th>");
        md(d, " ");
        if (!d->align[++d->column]) end_row(d);
    }
    er_free(text);
}

void er_doc_number(er_doc *d, double x, char kind, int digits)
{
    if (!isfinite(x)) er_doc_cell(d, "–");
    else if (kind == 'g') er_doc_cell(d, "%.*g", digits, x);
    else er_doc_cell(d, "%.*f%s", digits, x, kind == '%' ? " %" : "");
}

void er_doc_table_end(er_doc *d)
{
    html(d, "</tbody></table></div>\n");
    md(d, "\n");
}

void er_doc_fold(er_doc *d, const char *title, int open)
{
    html(d, open ? "<details open><summary>" : "<details><summary>");
    both(d, title);
    html(d, "</summary>\n");
    md(d, "\n\n");
}

void er_doc_fold_end(er_doc *d) { html(d, "</details>\n"); }

void er_doc_figure(er_doc *d, const char *svg, const char *caption)
{
    html(d, "<figure>");
    html(d, svg);
    html(d, "<figcaption>");
    if (writes(d, ER_DOC_HTML)) d->code = er_html_text(&d->html, caption, d->err);
    html(d, "</figcaption></figure>\n");
}

/* A run of back quotes longer than every run in text. */
static void fence(er_doc *d, const char *text)
{
    int longest = 2, run = 0;
    for (const char *p = text; *p; p++) {
        run = *p == '`' ? run + 1 : 0;
        if (run > longest) longest = run;
    }
    for (int i = 0; i <= longest; i++) md(d, "`");
    md(d, "\n");
}

void er_doc_code(er_doc *d, const char *text)
{
    size_t n = strlen(text);
    html(d, "<pre>");
    fence(d, text);
    if (writes(d, ER_DOC_HTML)) d->code = escape(&d->html, text, html_escape, 1, d->err);
    if (writes(d, ER_DOC_MD)) d->code = escape(&d->md, text, code_escape, 1, d->err);
    html(d, "</pre>\n");
    if (!n || text[n - 1] != '\n') md(d, "\n");
    fence(d, text);
    md(d, "\n");
}
