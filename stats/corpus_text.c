/* SPDX-License-Identifier: Apache-2.0 */
/* Documents of a file: plain text parted by two empty lines, or JSON lines. */
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "stats/corpus_parts.h"

#include <jansson.h>
#include <string.h>
#include <utf8proc.h>

/* What Python's str.isspace accepts: the peers strip documents with it. */
static int is_space(utf8proc_int32_t c)
{
    const utf8proc_property_t *p = utf8proc_get_property(c);
    return p->bidi_class == UTF8PROC_BIDI_CLASS_WS || p->bidi_class == UTF8PROC_BIDI_CLASS_B ||
           p->bidi_class == UTF8PROC_BIDI_CLASS_S || p->category == UTF8PROC_CATEGORY_ZS;
}

/* Bytes of the white space character at p, 0 when there is none. */
static size_t space_at(const char *p, size_t n)
{
    utf8proc_int32_t c;
    utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)p, (utf8proc_ssize_t)n, &c);
    return used > 0 && is_space(c) ? (size_t)used : 0;
}

/* Drops white space at both ends. */
static void strip(const char **text, size_t *n)
{
    const char *p = *text, *end = p + *n;
    for (size_t used; p < end && (used = space_at(p, (size_t)(end - p))) > 0;) p += used;
    while (end > p) {
        const char *last = end - 1;
        while (last > p && end - last < 4 && ((unsigned char)*last & 0xc0) == 0x80) last--;
        if (space_at(last, (size_t)(end - last)) != (size_t)(end - last)) break;
        end = last;
    }
    *text = p;
    *n = (size_t)(end - p);
}

/* Length of "\n\n\n" at p, each line perhaps ended by "\r\n"; 0 when there are no two empty lines. */
static size_t gap_at(const char *p, const char *end)
{
    const char *q = p;
    for (int lines = 0; lines < 3; lines++) {
        if (lines && q < end && *q == '\r') q++;
        if (q == end || *q != '\n') return 0;
        q++;
    }
    return (size_t)(q - p);
}

/* One document with "\r\n" made "\n". */
static int give(er_text *buffer, const char *text, size_t n, int64_t *given, er_document_fn *each, void *context,
                er_err *err)
{
    strip(&text, &n);
    if (!n) return 0;
    ++*given;
    if (!memchr(text, '\r', n)) return each(context, text, n, err);
    buffer->length = 0;
    for (const char *end = text + n; text < end;) {
        const char *cr = text;
        while ((cr = memchr(cr, '\r', (size_t)(end - cr))) && cr + 1 < end && cr[1] != '\n') cr++;
        const char *stop = cr && cr + 1 < end ? cr : end;
        ER_TRY(er_text_bytes(buffer, text, (size_t)(stop - text), err));
        text = stop == end ? end : stop + 1;
    }
    return each(context, buffer->at, buffer->length, err);
}

static int read_plain(const char *p, const char *end, int64_t most, er_document_fn *each, void *context, er_err *err)
{
    er_text buffer = ER_TEXT_INIT;
    int64_t given = 0;
    int code = 0;
    while (!code && p < end && (!most || given < most)) {
        const char *stop = p;
        size_t gap = 0;
        while ((stop = memchr(stop, '\n', (size_t)(end - stop))) && !(gap = gap_at(stop, end))) stop++;
        if (!stop) stop = end;
        code = give(&buffer, p, (size_t)(stop - p), &given, each, context, err);
        p = stop + gap;
    }
    er_text_free(&buffer);
    return code;
}

static int read_line(const char *path, int64_t line, const char *p, size_t n, int64_t *given, er_document_fn *each,
                     void *context, er_err *err)
{
    json_error_t why;
    json_t *object = json_loadb(p, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    if (!object)
        return er_fail(err, ER_E_INPUT, "%s:%lld:%d: %s", path, (long long)line, why.column, why.text);
    json_t *text = json_object_get(object, "text");
    int code = 0;
    if (!json_is_string(text)) {
        code = er_fail(err, ER_E_INPUT, "%s:%lld: no \"text\" string in the object", path, (long long)line);
    } else {
        const char *at = json_string_value(text);
        size_t length = json_string_length(text);
        strip(&at, &length);
        if (length) {
            ++*given;
            code = each(context, at, length, err);
        }
    }
    json_decref(object);
    return code;
}

static int read_json_lines(const char *path, const char *p, const char *end, int64_t most, er_document_fn *each,
                           void *context, er_err *err)
{
    int64_t given = 0, line = 1;
    for (; p < end && (!most || given < most); line++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p)), *next = stop ? stop + 1 : end;
        const char *text = p;
        size_t n = (size_t)((stop ? stop : end) - p);
        strip(&text, &n);
        if (n) ER_TRY(read_line(path, line, text, n, &given, each, context, err));
        p = next;
    }
    return 0;
}

int er_documents_read(const char *path, int64_t most, er_document_fn *each, void *context, er_err *err)
{
    er_map map;
    ER_TRY(er_map_open(&map, path, err));
    const char *p = (const char *)map.data, *first = p;
    size_t n = map.size;
    strip(&first, &n);
    int code = 0;
    if (n && *first == '{')
        code = read_json_lines(path, p, p + map.size, most, each, context, err);
    else if (n)
        code = read_plain(p, p + map.size, most, each, context, err);
    er_map_close(&map);
    return code;
}
