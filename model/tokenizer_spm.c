/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.model -> what Hugging Face's converters for LLaMA and Gemma make of it. */
#include "model/tokenizer_components.h"
#include "model/tokenizer_folder.h"
#include "model/tokenizer_proto.h"

#include <string.h>

#define MARK "\xE2\x96\x81" /* U+2581, SentencePiece's space */

/* --- vocabulary --------------------------------------------------------------------------------------------------- */

/* Gemma's tab is its byte's token in older files: it is that token's text. */
static void name_tab(er_pieces *p)
{
    static const char byte[] = "<0x09>";
    er_piece *tab = NULL;
    for (size_t i = 0; i < p->count; i++) {
        const er_slice *t = &p->at[i].text;
        if (t->length == 1 && *t->at == '\t') return;
        if (t->length == sizeof byte - 1 && !memcmp(t->at, byte, t->length)) tab = &p->at[i];
    }
    if (tab) *tab = (er_piece){{"\t", 1}, 0, ER_PIECE_NORMAL};
}

static int is_turn(const char *text)
{
    return strcmp(text, "<start_of_turn>") == 0 || strcmp(text, "<end_of_turn>") == 0;
}

/* vocab: text -> id; tokens: control and user-defined pieces. */
static int add_piece(json_t *vocab, json_t *tokens, const er_piece *p, size_t id, int gemma, er_err *err)
{
    json_t *content = json_stringn(p->text.at, p->text.length);
    const char *text = json_string_value(content);
    int code = 0;
    if (!text || json_object_get(vocab, text))
        code = text ? er_fail(err, ER_E_FORMAT, "piece '%.60s' is there twice", text) : er_folder_no_memory(err);
    if (!code && json_object_set_new(vocab, text, json_integer((json_int_t)id))) code = er_folder_no_memory(err);
    if (!code && (p->type == ER_PIECE_CONTROL || p->type == ER_PIECE_USER)) {
        int special = p->type == ER_PIECE_CONTROL || (gemma && is_turn(text));
        json_t *token = json_pack("{s:O, s:b, s:b, s:b, s:b, s:b}", "content", content, "single_word", 0, "lstrip", 0,
                                  "rstrip", 0, "normalized", 0, "special", special);
        if (!token || json_array_append_new(tokens, token)) code = er_folder_no_memory(err);
    }
    json_decref(content);
    return code;
}

static int add_pieces(json_t *vocab, json_t *tokens, float *scores, const er_pieces *p, int gemma, er_err *err)
{
    if (!vocab || !tokens) return er_folder_no_memory(err);
    for (size_t i = 0; i < p->count; i++) {
        ER_TRY(add_piece(vocab, tokens, &p->at[i], i, gemma, err));
        scores[i] = i < 3 ? 0 : p->at[i].score;
    }
    return 0;
}

/* --- components --------------------------------------------------------------------------------------------------- */

static json_t *replace(const char *what, const char *with)
{
    return json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", what, "content", with);
}

static json_t *decoder(int strip)
{
    json_t *list = json_array();
    json_array_append_new(list, replace(MARK, " "));
    json_array_append_new(list, json_pack("{s:s}", "type", "ByteFallback"));
    json_array_append_new(list, json_pack("{s:s}", "type", "Fuse"));
    if (strip)
        json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ", "start", 1,
                                              "stop", 0));
    return json_pack("{s:s, s:o}", "type", "Sequence", "decoders", list);
}

static json_t *normalizer(int prefix)
{
    json_t *list = json_array();
    if (prefix) json_array_append_new(list, json_pack("{s:s, s:s}", "type", "Prepend", "prepend", MARK));
    json_array_append_new(list, replace(" ", MARK));
    return json_pack("{s:s, s:o}", "type", "Sequence", "normalizers", list);
}

static int set_components(json_t *root, const er_folder_files *f, er_err *err)
{
    int gemma = f->of->kind == ER_FOLDER_GEMMA;
    /* null counts as false for the prefix and as true for legacy, as there */
    const json_t *space = json_object_get(f->config, "add_prefix_space");
    int prefix = !gemma && (space ? json_is_true(space) : 1);
    int bad = json_object_set_new(root, "decoder", decoder(prefix));
    if (gemma) {
        bad |= json_object_set_new(root, "normalizer", replace(" ", MARK));
    } else if (er_folder_flag(f, "legacy", 1)) {
        bad |= json_object_set_new(root, "normalizer", normalizer(prefix));
    } else {
        bad |= json_object_set_new(root, "pre_tokenizer",
                                   json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement", MARK,
                                             "prepend_scheme", prefix ? "first" : "never", "split", 0));
    }
    return bad ? er_folder_no_memory(err) : 0;
}

static int set_template(json_t *root, const er_folder_files *f, const json_t *added, const char *const *named,
                        er_err *err)
{
    int add_bos = er_folder_flag(f, "add_bos_token", 1), add_eos = er_folder_flag(f, "add_eos_token", 0);
    const char *bos = add_bos ? named[ER_SPECIAL_BOS] : NULL, *eos = add_eos ? named[ER_SPECIAL_EOS] : NULL;
    if ((add_bos && !bos) || (add_eos && !eos))
        return er_fail(err, ER_E_FORMAT, "add_bos_token or add_eos_token without a token for it");
    if (!add_bos && !add_eos) return 0;
    json_t *made = er_folder_template(bos, er_folder_id(added, bos), eos, er_folder_id(added, eos));
    return json_object_set_new(root, "post_processor", made) ? er_folder_no_memory(err) : 0;
}

static int make_root(json_t **out, const er_folder_files *f, const er_pieces *p, json_t *vocab, json_t *added,
                     const char *const *named, er_err *err)
{
    *out = json_pack("{s:{s:s, s:O, s:b, s:b, s:o}, s:O}", "model", "type", "BPE", "vocab", vocab, "byte_fallback", 1,
                     "fuse_unk", 1, "unk_token", json_stringn(p->unknown.at, p->unknown.length), "added_tokens", added);
    if (!*out) return er_folder_no_memory(err);
    ER_TRY(set_components(*out, f, err));
    return set_template(*out, f, added, named, err);
}

int er_folder_pieces(er_tokenizer **out, er_folder_files *f, const char *bytes, size_t n, er_err *err)
{
    int gemma = f->of->kind == ER_FOLDER_GEMMA;
    json_t *vocab = json_object(), *pieces_added = json_array(), *gathered = NULL, *added = NULL, *root = NULL;
    er_special_files files = {f->config, f->map, f->added};
    const char *named[ER_SPECIAL_NAMED];
    float *scores = NULL;
    er_pieces p;
    int code = er_pieces_read(&p, bytes, n, err);
    if (!code && !p.is_bpe) code = er_fail(err, ER_E_UNSUPPORTED, "a SentencePiece model that is no BPE");
    if (!code && gemma) name_tab(&p);
    if (!code) code = er_alloc(&scores, p.count + 3, err);
    if (!code) code = add_pieces(vocab, pieces_added, scores, &p, gemma, err);
    if (!code) code = er_specials_gather(&gathered, named, &files, &f->of->rules, err);
    if (!code) code = er_specials_number(&added, vocab, pieces_added, gathered, err);
    if (!code) code = make_root(&root, f, &p, vocab, added, named, err);
    if (!code) code = er_tokenizer_from_root(out, root, scores, f->bytes + n, err);
    if (!code) er_folder_name(*out, named);
    json_decref(root);
    json_decref(added);
    json_decref(gathered);
    json_decref(pieces_added);
    json_decref(vocab);
    er_free(scores);
    er_pieces_free(&p);
    return code;
}
