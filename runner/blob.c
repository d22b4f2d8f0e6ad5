/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/blob.h"

#include <string.h>

int er_blob_put(er_text *out, const void *bytes, size_t n, er_err *err) { return er_text_bytes(out, bytes, n, err); }

int er_blob_put_number(er_text *out, int64_t number, er_err *err)
{
    return er_text_bytes(out, &number, sizeof number, err);
}

int er_blob_put_float(er_text *out, float value, er_err *err) { return er_text_bytes(out, &value, sizeof value, err); }

int er_blob_put_floats(er_text *out, const float *values, int64_t count, er_err *err)
{
    ER_TRY(er_blob_put_number(out, count, err));
    return count ? er_text_bytes(out, values, (size_t)count * sizeof *values, err) : 0;
}

int er_blob_put_text(er_text *out, const char *text, er_err *err)
{
    size_t n = strlen(text);
    ER_TRY(er_blob_put_number(out, (int64_t)n, err));
    return n ? er_text_bytes(out, text, n, err) : 0;
}

void er_blob_get(er_reader *r, void *bytes, size_t n)
{
    if (r->failed || n > r->left) {
        r->failed = 1;
        if (n) memset(bytes, 0, n);
        return;
    }
    if (n) memcpy(bytes, r->at, n);
    r->at += n;
    r->left -= n;
}

int64_t er_blob_get_number(er_reader *r)
{
    int64_t number;
    er_blob_get(r, &number, sizeof number);
    return number;
}

float er_blob_get_float(er_reader *r)
{
    float value;
    er_blob_get(r, &value, sizeof value);
    return value;
}

int64_t er_blob_get_count(er_reader *r, size_t size)
{
    int64_t n = er_blob_get_number(r);
    if (!r->failed && n >= 0 && (uint64_t)n <= r->left / size) return n;
    r->failed = 1;
    return -1;
}

void er_blob_get_text(er_reader *r, char *text, size_t size)
{
    int64_t n = er_blob_get_count(r, 1);
    text[0] = 0;
    if (n < 0) return;
    size_t keep = (size_t)n < size ? (size_t)n : size - 1;
    memcpy(text, r->at, keep);
    text[keep] = 0;
    r->at += n;
    r->left -= (size_t)n;
}

int er_blob_end(const er_reader *r, const char *what, er_err *err)
{
    if (!r->failed && r->left == 0) return 0;
    return er_fail(err, ER_E_FORMAT, "%s: %s", what, r->failed ? "is cut short" : "has bytes behind its end");
}
