/* SPDX-License-Identifier: Apache-2.0 */
/* SentencePiece's tokenizer.model from nowhere, for LLaMA's and for Gemma's class: refused, or a tokenizer that
 * encodes, decodes, and is written out to its equal. */
#include "base/error.h"
#include "base/text.h"
#include "model/tokenizer.h"
#include "tests/fuzz/tokenizer_written.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void through(const er_tokenizer *t)
{
    static const char text[] = "ab a1 -b\n  A\xC3\xA9\xFF e\xCC\x81<s>\xE2\x96\x81 12's\t\t</s>hello";
    er_err err = ER_ERR_INIT;
    er_ids ids = {0};
    er_text out = ER_TEXT_INIT;
    ER_ALWAYS(er_encode(t, &ids, text, sizeof text - 1, 1, &err) == 0);
    for (int64_t i = 0; i < ids.count; i++) ER_ALWAYS(ids.at[i] >= 0 && ids.at[i] < er_tokenizer_size(t));
    ER_ALWAYS(er_decode_text(t, &out, ids.at, ids.count, 0, &err) == 0);
    check_written(t);
    er_ids_free(&ids);
    er_text_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const configs[] = {"{\"tokenizer_class\": \"LlamaTokenizer\", \"legacy\": false}",
                                          "{\"tokenizer_class\": \"GemmaTokenizer\"}"};
    for (int i = 0; i < 2; i++) {
        er_err err = ER_ERR_INIT;
        er_tokenizer *t = NULL;
        if (er_tokenizer_parse_pieces(&t, (const char *)data, size, configs[i], strlen(configs[i]), &err)) {
            ER_ALWAYS(err.code < 0 && err.text[0] && !t);
        } else {
            through(t);
            er_tokenizer_close(t);
        }
    }
    return 0;
}
