/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include "base/file.h"
#include "base/memory.h"

#include <string.h>

int er_json_parse(json_t **out, const char *text, size_t size, const char *name, er_err *err)
{
    static const char mark[] = "\xef\xbb\xbf"; /* a byte order mark, which some programs write, is not of the text */
    json_error_t error;
    if (size >= 3 && memcmp(text, mark, 3) == 0) text += 3, size -= 3;
    json_t *value = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (!value && json_error_code(&error) == json_error_out_of_memory)
        return er_fail(err, ER_E_MEMORY, "%s: no memory for %zu bytes of JSON", name, size);
    if (!value)
        return er_fail(err, ER_E_INPUT, "%s:%d:%d: %s", name, error.line > 0 ? error.line : 1,
                       error.column > 0 ? error.column : 1, error.text);
    *out = value;
    return 0;
}

int er_json_read(json_t **out, const char *path, er_err *err)
{
    char *text = NULL;
    size_t size = 0;
    ER_TRY(er_file_read(&text, &size, path, err));
    int code = er_json_parse(out, text, size, path, err);
    er_free(text);
    return code;
}

const char *er_json_kind(const json_t *value)
{
    if (!value) return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "a list";
    case JSON_STRING: return "a text";
    case JSON_INTEGER: return "a whole number";
    case JSON_REAL: return "a number";
    case JSON_TRUE:
    case JSON_FALSE: return "true or false";
    case JSON_NULL: return "null";
    }
    return "nothing";
}
