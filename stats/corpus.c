/* SPDX-License-Identifier: Apache-2.0 */
#include "stats/corpus.h"

#include "base/memory.h"
#include "base/random.h"
#include "base/tick.h"
#include "stats/corpus_parts.h"
#include "stats/moment.h"

#include <string.h>

/* Version of how a sampled document is drawn: its start, the top_k, what ends it. */
enum { SAMPLE_RULE = 1, SAMPLE_TOP_K = 50, DEFAULT_PASS = 1024 };

/* --- files ------------------------------------------------------------------------------------------------------- */

static int add_document(void *context, const char *text, size_t n, er_err *err)
{
    er_corpus *c = context;
    int64_t first = c->ids.count;
    ER_TRY(er_grow(&c->start, &c->start_capacity, (size_t)c->documents + 2, err));
    ER_TRY(er_encode(c->model->tokenizer, &c->ids, text, n, 1, err));
    if (c->ids.count - first > c->max_tokens) c->ids.count = first + c->max_tokens;
    if (c->ids.count > first) c->start[++c->documents] = c->ids.count;
    er_tick();
    return 0;
}

static int hash_documents(er_corpus *c, er_err *err)
{
    er_hasher *h = NULL;
    ER_TRY(er_hasher_new(&h, err));
    er_hasher_text(h, "corpus of documents");
    er_hasher_number(h, c->documents);
    for (int64_t i = 0; i < c->documents; i++) er_hasher_number(h, c->start[i + 1] - c->start[i]);
    for (int64_t i = 0; i < c->ids.count; i++) er_hasher_number(h, c->ids.at[i]);
    c->hash = er_hasher_end(h);
    er_hasher_free(h);
    return 0;
}

static int open_file(er_corpus *c, const er_corpus_options *o, er_err *err)
{
    if (o->documents < 0)
        return er_fail(err, ER_E_INPUT, "a corpus of %lld documents", (long long)o->documents);
    ER_TRY(er_documents_read(o->path, o->documents, add_document, c, err));
    if (!c->documents) return er_fail(err, ER_E_INPUT, "%s: holds no text", o->path);
    c->tokens = c->ids.count;
    return hash_documents(c, err);
}

/* --- samples ----------------------------------------------------------------------------------------------------- */

/* What a text of the model's training began with: what its template puts in front of every text, or the token that
 * parted documents, or whatever it calls begin or end of text. */
static int choose_start(er_corpus *c, er_err *err)
{
    static const char parting[] = "<|endoftext|>";
    const er_config *config = &c->model->config;
    ER_TRY(er_encode(c->model->tokenizer, &c->prompt, "", 0, 1, err));
    if (c->prompt.count) return 0;
    ER_TRY(er_encode(c->model->tokenizer, &c->prompt, parting, sizeof parting - 1, 0, err));
    if (c->prompt.count == 1) return 0;
    c->prompt.count = 0;
    ER_TRY(er_grow(&c->prompt.at, &c->prompt.capacity, 1, err));
    c->prompt.at[c->prompt.count++] = (int32_t)(config->bos >= 0 ? config->bos : config->eos >= 0 ? config->eos : 0);
    return 0;
}

static int open_sample(er_corpus *c, const er_corpus_options *o, er_err *err)
{
    er_hasher *h = NULL;
    c->sampled = 1;
    c->seed = o->seed;
    if (o->tokens <= 0 || o->tokens > INT64_MAX - c->max_tokens)
        return er_fail(err, ER_E_INPUT, "a sampled corpus of %lld tokens", (long long)o->tokens);
    c->documents = (o->tokens + c->max_tokens - 1) / c->max_tokens;
    c->tokens = c->documents * c->max_tokens;
    if (c->documents > INT32_MAX)
        return er_fail(err, ER_E_INPUT, "a sampled corpus of %lld documents", (long long)c->documents);
    ER_TRY(choose_start(c, err));
    if (c->prompt.count >= c->max_tokens)
        return er_fail(err, ER_E_INPUT, "sampled documents need more than %lld tokens", (long long)c->prompt.count);
    ER_TRY(er_hasher_new(&h, err));
    er_hasher_text(h, "corpus sampled from the model");
    er_hasher_number(h, SAMPLE_RULE);
    er_hasher_number(h, (int64_t)o->seed);
    er_hasher_number(h, c->documents);
    er_hasher_number(h, c->max_tokens);
    c->hash = er_hasher_end(h);
    er_hasher_free(h);
    return 0;
}

static int sample_block(const er_corpus *c, int64_t first, er_ids ids[], int64_t count, er_work *work, er_err *err)
{
    er_view view;
    er_draw draw = {SAMPLE_TOP_K, c->seed, ER_STREAM_SAMPLE, (uint32_t)first};
    for (int64_t i = 0; i < count; i++) {
        ER_TRY(er_grow(&ids[i].at, &ids[i].capacity, (size_t)c->max_tokens, err));
        memcpy(ids[i].at, c->prompt.at, (size_t)c->prompt.count * sizeof *ids[i].at);
        ids[i].count = c->prompt.count;
    }
    ER_TRY(er_view_open(&view, c->model, err));
    int code = er_generate(&view, ids, count, c->max_tokens, 0, &draw, work, err);
    er_view_close(&view);
    return code;
}

/* --- both -------------------------------------------------------------------------------------------------------- */

int er_corpus_open(er_corpus **out, const er_corpus_options *options, const er_model *model, er_err *err)
{
    er_corpus *c = NULL;
    int64_t positions = model->longest_text;
    int64_t max_tokens = options->max_tokens ? options->max_tokens : positions;
    if (max_tokens < 1 || max_tokens > positions)
        return er_fail(err, ER_E_INPUT, "documents of %lld tokens: the model has %lld positions",
                       (long long)max_tokens, (long long)positions);
    ER_TRY(er_alloc(&c, 1, err));
    c->model = model;
    c->max_tokens = max_tokens;
    c->pass_tokens = options->pass_tokens > 0 ? options->pass_tokens : DEFAULT_PASS;
    int code = options->path ? open_file(c, options, err) : open_sample(c, options, err);
    if (code) {
        er_corpus_close(c);
        return code;
    }
    *out = c;
    return 0;
}

void er_corpus_close(er_corpus *c)
{
    if (!c) return;
    er_ids_free(&c->ids);
    er_ids_free(&c->prompt);
    er_free(c->start);
    er_free(c);
}

int64_t er_corpus_documents(const er_corpus *c) { return c->documents; }

int64_t er_corpus_blocks(const er_corpus *c) { return (c->documents + ER_BLOCK_DOCUMENTS - 1) / ER_BLOCK_DOCUMENTS; }

int64_t er_corpus_tokens(const er_corpus *c) { return c->tokens; }

er_hash er_corpus_hash(const er_corpus *c) { return c->hash; }

static int copy_block(const er_corpus *c, int64_t first, er_ids ids[], int64_t count, er_err *err)
{
    for (int64_t i = 0; i < count; i++) {
        int64_t start = c->start[first + i], n = c->start[first + i + 1] - start;
        ER_TRY(er_grow(&ids[i].at, &ids[i].capacity, (size_t)n, err));
        memcpy(ids[i].at, c->ids.at + start, (size_t)n * sizeof *ids[i].at);
        ids[i].count = n;
    }
    return 0;
}

int er_corpus_block(const er_corpus *c, int64_t block, er_ids ids[], int64_t *count, er_work *work, er_err *err)
{
    int64_t first = block * ER_BLOCK_DOCUMENTS, n = c->documents - first;
    ER_ALWAYS(block >= 0 && block < er_corpus_blocks(c));
    if (n > ER_BLOCK_DOCUMENTS) n = ER_BLOCK_DOCUMENTS;
    memset(ids, 0, (size_t)n * sizeof *ids);
    int code = c->sampled ? sample_block(c, first, ids, n, work, err) : copy_block(c, first, ids, n, err);
    if (!code) {
        *count = n;
        return 0;
    }
    for (int64_t i = 0; i < n; i++) er_ids_free(&ids[i]);
    er_prefix(err, "block %lld of the corpus: ", (long long)block);
    return code;
}
