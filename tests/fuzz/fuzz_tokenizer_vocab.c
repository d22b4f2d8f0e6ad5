/* SPDX-License-Identifier: Apache-2.0 */
/* vocab.json, merges.txt and tokenizer_config.json from nowhere, parted by lines "---": refused, or a tokenizer that
 * encodes, decodes, and is written out to its equal. */
#include "base/error.h"
#include "base/text.h"
#include "model/tokenizer.h"
#include "tests/fuzz/tokenizer_written.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Bytes up to the next parting line; *rest: what stands behind it. */
static size_t part(const char *text, size_t n, const char **rest, size_t *left)
{
    static const char line[] = "\n---\n";
    size_t length = 0, most = sizeof line - 1;
    while (length + most <= n && memcmp(text + length, line, most) != 0) length++;
    if (length + most > n) {
        *rest = text + n;
        *left = 0;
        return n;
    }
    *rest = text + length + most;
    *left = n - length - most;
    return length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "ab a1 -b\n  A\xC3\xA9\xFF e\xCC\x81<s>\xE2\x96\x81 12's<|endoftext|>";
    const char *vocab = (const char *)data, *merges, *config, *end;
    size_t left, vocab_bytes = part(vocab, size, &merges, &left), merges_bytes = part(merges, left, &config, &left);
    size_t config_bytes = part(config, left, &end, &left);
    er_err err = ER_ERR_INIT;
    er_tokenizer *t = NULL;
    er_ids ids = {0};
    er_text out = ER_TEXT_INIT;
    if (er_tokenizer_parse_vocab(&t, vocab, vocab_bytes, merges, merges_bytes, config, config_bytes, &err)) {
        ER_ALWAYS(err.code < 0 && err.text[0] && !t);
        return 0;
    }
    ER_ALWAYS(er_encode(t, &ids, text, sizeof text - 1, 1, &err) == 0);
    for (int64_t i = 0; i < ids.count; i++) ER_ALWAYS(ids.at[i] >= 0 && ids.at[i] < er_tokenizer_size(t));
    ER_ALWAYS(er_decode(t, &out, ids.at, ids.count, 1, &err) == 0);
    ER_ALWAYS(er_decode_text(t, &out, ids.at, ids.count, 0, &err) == 0);
    check_written(t);
    er_tokenizer_close(t);
    er_ids_free(&ids);
    er_text_free(&out);
    return 0;
}
