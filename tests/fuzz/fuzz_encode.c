/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes through the fixture's byte-level tokenizer come back; through one with every other component they do not
 * crash. Run from the source folder. */
#include "base/error.h"
#include "base/text.h"
#include "model/tokenizer.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char other_json[] =
    "{\"model\": {\"vocab\": {\"<unk>\": 0, \"a\": 1, \"b\": 2, \"ab\": 3, \"\xE2\x96\x81\": 4, \"\xE2\x96\x81\x61\": "
    "5, \"<0x0A>\": 6, "
    "\"<0xFF>\": 7, \"\xE2\x96\x81\xE2\x96\x81\": 8}, \"merges\": [\"a b\", \"\xE2\x96\x81 a\", \"\xE2\x96\x81 "
    "\xE2\x96\x81\"], "
    "\"unk_token\": \"<unk>\", \"byte_fallback\": true, \"fuse_unk\": true}, \"added_tokens\": ["
    "{\"id\": 9, \"content\": \"<s>\", \"special\": true, \"lstrip\": true, \"rstrip\": true}, "
    "{\"id\": 10, \"content\": \"<w>\", \"single_word\": true}, {\"id\": 11, \"content\": \"\xC3\xA9!\", "
    "\"normalized\": true}], "
    "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFKC\"}, {\"type\": \"Prepend\", "
    "\"prepend\": \"\xE2\x96\x81\"}, "
    "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\xE2\x96\x81\"}]}, "
    "\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\"}, {\"type\": \"Split\", "
    "\"pattern\": {\"Regex\": \"\\\\w*-|\\\\s+(?!\\\\S)\"}, \"behavior\": \"MergedWithNext\"}, {\"type\": \"Split\", "
    "\"pattern\": {\"String\": \"--\"}, \"behavior\": \"MergedWithPrevious\"}]}, \"decoder\": {\"type\": \"Sequence\", "
    "\"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\": \"\xE2\x96\x81\"}, \"content\": \" \"}, "
    "{\"type\": \"ByteFallback\"}, "
    "{\"type\": \"Fuse\"}, {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 1}]}}";

static void through(const er_tokenizer *t, const char *text, size_t size, int lossless)
{
    er_err err = ER_ERR_INIT;
    er_ids ids = {0};
    er_text back = ER_TEXT_INIT;
    ER_ALWAYS(er_encode(t, &ids, text, size, 0, &err) == 0);
    ER_ALWAYS(er_decode(t, &back, ids.at, ids.count, 0, &err) == 0);
    if (lossless) ER_ALWAYS(back.length == size && (size == 0 || memcmp(back.at, text, size) == 0));
    er_ids_free(&ids);
    er_text_free(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static er_tokenizer *bytes, *other;
    er_err err = ER_ERR_INIT;
    if (!bytes) {
        ER_ALWAYS(er_tokenizer_open(&bytes, "tests/fixtures/tiny-llama/tokenizer.json", &err) == 0);
        ER_ALWAYS(er_tokenizer_parse(&other, other_json, sizeof other_json - 1, "other", &err) == 0);
    }
    through(bytes, (const char *)data, size, 1);
    through(other, (const char *)data, size, 0);
    return 0;
}
