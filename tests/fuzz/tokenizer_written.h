/* SPDX-License-Identifier: Apache-2.0 */
/* What the fuzzers of tokenizers share. */
#ifndef ER_TESTS_FUZZ_TOKENIZER_WRITTEN_H
#define ER_TESTS_FUZZ_TOKENIZER_WRITTEN_H

#include "base/text.h"
#include "model/tokenizer.h"

/* A tokenizer is written out to its equal. */
static inline void check_written(const er_tokenizer *t)
{
    er_err err = ER_ERR_INIT;
    er_tokenizer *again = NULL;
    er_text out = ER_TEXT_INIT;
    ER_ALWAYS(er_tokenizer_json(t, &out, &err) == 0);
    ER_ALWAYS(er_tokenizer_parse(&again, out.at, out.length, "written", &err) == 0);
    er_hash a = er_tokenizer_hash(t), b = er_tokenizer_hash(again);
    ER_ALWAYS(er_hash_equal(&a, &b));
    er_tokenizer_close(again);
    er_text_free(&out);
}

#endif
