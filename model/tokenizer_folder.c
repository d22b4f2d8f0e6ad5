/* SPDX-License-Identifier: Apache-2.0 */
/* The tokenizer of a folder: tokenizer.json, or the older files from which Hugging Face's library makes one. Those are
 * put together to what a tokenizer.json would hold, and read as that. */
#include "model/tokenizer_components.h"
#include "model/tokenizer_folder.h"
#include "model/tokenizer_specials.h"

#include "base/file.h"

#include <string.h>

#define END_OF_TEXT "<|endoftext|>"
#define QWEN2_PATTERN                                                                                                  \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"                \
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* BOS, EOS, UNK, PAD */
static const struct er_folder_class classes[] = {
    {"GPT2Tokenizer", ER_FOLDER_GPT2, {{END_OF_TEXT, END_OF_TEXT, END_OF_TEXT, NULL}, 1}},
    {"CodeGenTokenizer", ER_FOLDER_GPT2, {{END_OF_TEXT, END_OF_TEXT, END_OF_TEXT, NULL}, 0}},
    {"Qwen2Tokenizer", ER_FOLDER_QWEN2, {{NULL, END_OF_TEXT, END_OF_TEXT, END_OF_TEXT}, 0}},
    {"LlamaTokenizer", ER_FOLDER_LLAMA, {{"<s>", "</s>", "<unk>", NULL}, 0}},
    {"GemmaTokenizer", ER_FOLDER_GEMMA, {{"<bos>", "<eos>", "<unk>", "<pad>"}, 0}},
};

int er_folder_no_memory(er_err *err) { return er_fail(err, ER_E_MEMORY, "no memory for a tokenizer's files"); }

/* --- files -------------------------------------------------------------------------------------------------------- */

/* A JSON object; NULL where the file is absent. `reals`: integers may be beyond 64 bits. */
static int read_object(json_t **out, size_t *bytes, const char *folder, const char *name, int reals, er_err *err)
{
    char *path = NULL, *text = NULL;
    size_t n = 0;
    json_error_t where;
    ER_TRY(er_path_join(&path, folder, name, err));
    int code = 0, there = er_file_exists(path);
    if (there) code = er_file_read(&text, &n, path, err);
    if (there && !code) {
        *out = json_loadb(text, n, JSON_REJECT_DUPLICATES | (reals ? JSON_DECODE_INT_AS_REAL : 0), &where);
        if (!*out)
            code = er_fail(err, ER_E_FORMAT, "%s: line %d column %d: %s", path, where.line, where.column, where.text);
        else if (!json_is_object(*out))
            code = er_fail(err, ER_E_FORMAT, "%s: no JSON object", path);
        *bytes += n;
    }
    er_free(text);
    er_free(path);
    return code;
}

static int has_file(int *has, const char *folder, const char *name, er_err *err)
{
    char *path = NULL;
    ER_TRY(er_path_join(&path, folder, name, err));
    *has = er_file_exists(path);
    er_free(path);
    return 0;
}

static int is_name(const char *name, const char *known)
{
    size_t n = strlen(known);
    return strncmp(name, known, n) == 0 && (!name[n] || strcmp(name + n, "Fast") == 0);
}

static int find_class(er_folder_files *f, int sentencepiece, er_err *err)
{
    const char *name = json_string_value(json_object_get(f->config, "tokenizer_class"));
    if (!name) name = sentencepiece ? "LlamaTokenizer" : "GPT2Tokenizer";
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (is_name(name, classes[i].name)) f->of = &classes[i];
    int is_pieces = f->of && (f->of->kind == ER_FOLDER_LLAMA || f->of->kind == ER_FOLDER_GEMMA);
    if (f->of && is_pieces == sentencepiece) return 0;
    return er_fail(err, ER_E_UNSUPPORTED, "tokenizer_class '%.60s' is not supported from %s", name,
                   sentencepiece ? "tokenizer.model" : "vocab.json and merges.txt");
}

static int read_files(er_folder_files *f, const char *folder, int sentencepiece, er_err *err)
{
    json_t *config = NULL, *map = NULL, *added = NULL;
    int code = read_object(&config, &f->bytes, folder, "tokenizer_config.json", 1, err);
    f->config = config;
    if (!code) code = read_object(&map, &f->bytes, folder, "special_tokens_map.json", 1, err);
    f->map = map;
    if (!code) code = read_object(&added, &f->bytes, folder, "added_tokens.json", 0, err);
    f->added = added;
    return code ? code : find_class(f, sentencepiece, err);
}

static void close_files(er_folder_files *f)
{
    json_decref(f->config);
    json_decref(f->map);
    json_decref(f->added);
}

/* --- merges.txt --------------------------------------------------------------------------------------------------- */

static int is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1C && c <= 0x1F); }

/* The two tokens of a line as ["a", "b"]; 0 parts: *pair stays NULL. */
static int read_pair(json_t **pair, const char *line, size_t n, size_t number, er_err *err)
{
    const char *part[2];
    size_t length[2], parts = 0;
    for (size_t i = 0; i < n;) {
        size_t start = i;
        while (i < n && is_blank(line[i])) i++;
        if (i > start) continue;
        while (i < n && !is_blank(line[i])) i++;
        if (parts < 2) part[parts] = line + start, length[parts] = i - start;
        parts++;
    }
    if (parts == 0) return 0;
    if (parts != 2) return er_fail(err, ER_E_FORMAT, "line %zu is not two tokens", number);
    if (er_utf8_valid(line, n) != n) return er_fail(err, ER_E_FORMAT, "line %zu is no UTF-8", number);
    *pair = json_pack("[s%, s%]", part[0], length[0], part[1], length[1]);
    return *pair ? 0 : er_fail(err, ER_E_FORMAT, "line %zu cannot be kept", number);
}

/* A pair that came before is left out: its first rank counts. */
static int add_pair(json_t *merges, json_t *seen, json_t *pair, er_err *err)
{
    char *key = json_dumps(pair, JSON_COMPACT);
    if (!key || json_object_get(seen, key)) {
        json_decref(pair);
        free(key);
        return key ? 0 : er_folder_no_memory(err);
    }
    int bad = json_object_set_new(seen, key, json_true());
    free(key);
    return json_array_append_new(merges, pair) || bad ? er_folder_no_memory(err) : 0;
}

/* GPT-2's reader takes the lines between the first and the last, whatever these are (the last is what stands behind
 * the last line end); Qwen2's leaves out a first line with the version, and empty lines. */
static int add_line(json_t *merges, json_t *seen, const char *line, size_t n, size_t number, int last, int qwen2,
                    er_err *err)
{
    static const char version[] = "#version:";
    json_t *pair = NULL;
    if (!qwen2 && (number == 1 || last)) return 0;
    if (qwen2 && number == 1 && n >= strlen(version) && memcmp(line, version, strlen(version)) == 0) return 0;
    ER_TRY(read_pair(&pair, line, n, number, err));
    if (pair) return add_pair(merges, seen, pair, err);
    return qwen2 ? 0 : er_fail(err, ER_E_FORMAT, "line %zu is not two tokens", number);
}

static int add_lines(json_t *merges, json_t *seen, const char *text, size_t n, int qwen2, er_err *err)
{
    for (size_t at = 0, number = 1;; number++) {
        size_t end = at;
        while (end < n && text[end] != '\n' && text[end] != '\r') end++;
        ER_TRY(add_line(merges, seen, text + at, end - at, number, end == n, qwen2, err));
        if (end == n) return 0;
        at = end + (end + 1 < n && text[end] == '\r' && text[end + 1] == '\n' ? 2 : 1);
    }
}

int er_folder_merges(json_t **out, const char *text, size_t n, int qwen2, er_err *err)
{
    json_t *merges = json_array(), *seen = json_object();
    int code = merges && seen ? add_lines(merges, seen, text, n, qwen2, err) : er_folder_no_memory(err);
    json_decref(seen);
    if (code)
        json_decref(merges);
    else
        *out = merges;
    return code;
}

/* --- putting together --------------------------------------------------------------------------------------------- */

int er_folder_flag(const er_folder_files *f, const char *key, int otherwise)
{
    const json_t *value = json_object_get(f->config, key);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

json_t *er_folder_template(const char *bos, json_int_t bos_id, const char *eos, json_int_t eos_id)
{
    json_t *single = json_array(), *tokens = json_object();
    if (bos) {
        json_array_append_new(single, json_pack("{s:{s:s, s:i}}", "SpecialToken", "id", bos, "type_id", 0));
        json_object_set_new(tokens, bos, json_pack("{s:s, s:[I], s:[s]}", "id", bos, "ids", bos_id, "tokens", bos));
    }
    json_array_append_new(single, json_pack("{s:{s:s, s:i}}", "Sequence", "id", "A", "type_id", 0));
    if (eos) {
        json_array_append_new(single, json_pack("{s:{s:s, s:i}}", "SpecialToken", "id", eos, "type_id", 0));
        json_object_set_new(tokens, eos, json_pack("{s:s, s:[I], s:[s]}", "id", eos, "ids", eos_id, "tokens", eos));
    }
    return json_pack("{s:s, s:o, s:o}", "type", "TemplateProcessing", "single", single, "special_tokens", tokens);
}

json_int_t er_folder_id(const json_t *added, const char *content)
{
    size_t i;
    json_t *token;
    json_array_foreach((json_t *)(uintptr_t)added, i, token) {
        if (content && strcmp(json_string_value(json_object_get(token, "content")), content) == 0)
            return json_integer_value(json_object_get(token, "id"));
    }
    return -1;
}

static json_t *byte_pieces(const er_folder_files *f)
{
    if (f->of->kind == ER_FOLDER_QWEN2)
        return json_pack("{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, {s:s, s:b, s:b, s:b}]}", "type", "Sequence",
                         "pretokenizers", "type", "Split", "pattern", "Regex", QWEN2_PATTERN, "behavior", "Isolated",
                         "invert", 0, "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 0);
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space",
                     er_folder_flag(f, "add_prefix_space", 0), "trim_offsets", 1, "use_regex", 1);
}

/* Steals merges; on failure *out is NULL. */
static int byte_root(json_t **out, const er_folder_files *f, json_t *vocab, json_t *merges, const json_t *added,
                     const char *bos, er_err *err)
{
    int qwen2 = f->of->kind == ER_FOLDER_QWEN2;
    int add_bos = !qwen2 && er_folder_flag(f, "add_bos_token", 0);
    json_t *root = json_pack("{s:{s:s, s:O, s:o}, s:O, s:{s:s}, s:o}", "model", "type", "BPE", "vocab", vocab, "merges",
                             merges, "added_tokens", added, "decoder", "type", "ByteLevel", "pre_tokenizer",
                             byte_pieces(f));
    if (!root) return er_folder_no_memory(err);
    int bad = 0;
    if (qwen2) bad = json_object_set_new(root, "normalizer", json_pack("{s:s}", "type", "NFC"));
    if (add_bos && bos)
        bad = json_object_set_new(root, "post_processor", er_folder_template(bos, er_folder_id(added, bos), NULL, -1));
    *out = root;
    if (add_bos && !bos) return er_fail(err, ER_E_FORMAT, "add_bos_token without a token for it");
    return bad ? er_folder_no_memory(err) : 0;
}

static int byte_level(er_tokenizer **out, er_folder_files *f, json_t *vocab, const char *text, size_t n, er_err *err)
{
    json_t *tokens = NULL, *added = NULL, *merges = NULL, *root = NULL;
    const char *named[ER_SPECIAL_NAMED];
    er_special_files files = {f->config, f->map, f->added};
    int code = er_specials_gather(&tokens, named, &files, &f->of->rules, err);
    if (!code) code = er_specials_number(&added, vocab, NULL, tokens, err);
    if (!code) {
        code = er_folder_merges(&merges, text, n, f->of->kind == ER_FOLDER_QWEN2, err);
        if (code) er_prefix(err, "merges.txt: ");
    }
    if (!code) code = byte_root(&root, f, vocab, merges, added, named[ER_SPECIAL_BOS], err);
    if (!code) code = er_tokenizer_from_root(out, root, NULL, f->bytes + n, err);
    if (!code) er_folder_name(*out, named);
    json_decref(root);
    json_decref(added);
    json_decref(tokens);
    return code;
}

void er_folder_name(er_tokenizer *t, const char *const named[ER_SPECIAL_NAMED])
{
    int64_t *const ids[] = {&t->bos, &t->eos, &t->unk, &t->pad};
    for (int i = 0; i < ER_SPECIAL_NAMED; i++) *ids[i] = named[i] ? er_tokenizer_find(t, named[i]) : -1;
}

static int parse_config(json_t **out, const char *text, size_t n, er_err *err)
{
    json_error_t where;
    *out = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &where);
    return json_is_object(*out) ? 0 : er_fail(err, ER_E_FORMAT, "tokenizer_config.json: no JSON object");
}

int er_tokenizer_parse_vocab(er_tokenizer **out, const char *vocab, size_t vocab_bytes, const char *merges,
                             size_t merges_bytes, const char *config, size_t config_bytes, er_err *err)
{
    json_error_t where;
    er_folder_files f = {.bytes = vocab_bytes + config_bytes};
    json_t *tokens = json_loadb(vocab, vocab_bytes, JSON_REJECT_DUPLICATES, &where);
    int code = json_is_object(tokens) ? 0 : er_fail(err, ER_E_FORMAT, "vocab.json: no JSON object");
    if (!code && config_bytes) code = parse_config(&f.config, config, config_bytes, err);
    if (!code) code = find_class(&f, 0, err);
    if (!code) code = byte_level(out, &f, tokens, merges, merges_bytes, err);
    json_decref(tokens);
    close_files(&f);
    return code;
}

static int open_vocab(er_tokenizer **out, const char *folder, er_err *err)
{
    er_folder_files f = {0};
    json_t *vocab = NULL;
    char *path = NULL, *text = NULL;
    size_t n;
    int code = read_files(&f, folder, 0, err);
    if (!code) code = read_object(&vocab, &f.bytes, folder, "vocab.json", 0, err);
    if (!code) code = er_path_join(&path, folder, "merges.txt", err);
    if (!code) code = er_file_read(&text, &n, path, err);
    if (!code) {
        code = byte_level(out, &f, vocab, text, n, err);
        if (code) er_prefix(err, "%s: ", folder);
    }
    json_decref(vocab);
    er_free(text);
    er_free(path);
    close_files(&f);
    return code;
}

int er_tokenizer_parse_pieces(er_tokenizer **out, const char *bytes, size_t n, const char *config, size_t config_bytes,
                              er_err *err)
{
    er_folder_files f = {.bytes = config_bytes};
    int code = config_bytes ? parse_config(&f.config, config, config_bytes, err) : 0;
    if (!code) code = find_class(&f, 1, err);
    if (!code) code = er_folder_pieces(out, &f, bytes, n, err);
    close_files(&f);
    return code;
}

static int open_pieces(er_tokenizer **out, const char *folder, er_err *err)
{
    er_folder_files f = {0};
    char *path = NULL, *bytes = NULL;
    size_t n;
    int code = read_files(&f, folder, 1, err);
    if (!code) code = er_path_join(&path, folder, "tokenizer.model", err);
    if (!code) code = er_file_read(&bytes, &n, path, err);
    if (!code) {
        code = er_folder_pieces(out, &f, bytes, n, err);
        if (code) er_prefix(err, "%s: ", path);
    }
    er_free(bytes);
    er_free(path);
    close_files(&f);
    return code;
}

static int open_json(er_tokenizer **out, const char *folder, er_err *err)
{
    char *path = NULL;
    ER_TRY(er_path_join(&path, folder, "tokenizer.json", err));
    int code = er_tokenizer_open(out, path, err);
    er_free(path);
    return code;
}

int er_tokenizer_open_folder(er_tokenizer **out, const char *folder, er_err *err)
{
    int json, vocab, merges, pieces;
    ER_TRY(has_file(&json, folder, "tokenizer.json", err));
    ER_TRY(has_file(&vocab, folder, "vocab.json", err));
    ER_TRY(has_file(&merges, folder, "merges.txt", err));
    ER_TRY(has_file(&pieces, folder, "tokenizer.model", err));
    if (json) return open_json(out, folder, err);
    if (vocab && merges) return open_vocab(out, folder, err);
    if (pieces) return open_pieces(out, folder, err);
    return er_fail(err, ER_E_IO, "%s: holds neither tokenizer.json nor vocab.json with merges.txt nor tokenizer.model",
                   folder);
}
