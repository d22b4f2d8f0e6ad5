/* SPDX-License-Identifier: Apache-2.0 */
/* A view as a Hugging Face folder. config.json is written last: a folder that has it is whole. */
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/tick.h"
#include "model/families.h"
#include "model/quant.h"
#include "model/safetensors.h"
#include "model/weights.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* 9 digits tell every fp32 value from its neighbours */
enum { CHUNK = 1 << 16, HEADER_ALIGNMENT = 8, REAL_DIGITS = 9 };

static int make_empty_folder(const char *folder, er_err *err)
{
    DIR *d = opendir(folder);
    if (!d && errno == ENOENT) return er_make_folders(folder, err);
    if (!d) return er_fail(err, ER_E_IO, "%s: %s", folder, strerror(errno));
    int count = 0;
    for (struct dirent *e; (e = readdir(d));) count += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(d);
    return count ? er_fail(err, ER_E_INPUT, "%s: the folder is not empty", folder) : 0;
}

/* Takes the reference to root. */
static int save_json(const char *folder, const char *name, json_t *root, er_err *err)
{
    char *dumped = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(REAL_DIGITS)) : NULL;
    er_text text = ER_TEXT_INIT;
    int code = dumped ? er_text_format(&text, err, "%s\n", dumped)
                      : er_fail(err, ER_E_MEMORY, "no memory for %s", name);
    free(dumped);
    json_decref(root);
    if (!code) code = er_save_text(folder, name, &text, err);
    er_text_free(&text);
    return code;
}

static const char *torch_type(int dtype)
{
    return dtype == ER_F32 ? "float32" : dtype == ER_F16 ? "float16" : "bfloat16";
}

static json_t *id_json(int64_t id) { return id < 0 ? json_null() : json_integer(id); }

/* One function has two names, and transformers rounds each in its own way: the gated families use the newer one. */
static const char *activation_name(const er_config *c, int activation)
{
    return c->gated && activation == ER_GELU_TANH ? "gelu_pytorch_tanh" : er_activation_name(activation);
}

/* A real of 0 is one that is not there: caps. */
static json_t *field_json(const er_field *f, er_config *c)
{
    double number = 0;
    switch (f->type) {
    case ER_FIELD_INT: return json_integer(*er_field_int(f, c));
    case ER_FIELD_ACTIVATION: return json_string(activation_name(c, *er_field_bool(f, c)));
    case ER_FIELD_BOOL: return json_boolean(*er_field_bool(f, c));
    case ER_FIELD_REAL: break;
    }
    number = *er_field_real(f, c);
    return number > 0 ? er_json_real(number) : json_null();
}

static int set_fields(json_t *root, const er_family *family, const er_config *c)
{
    er_config copy = *c;
    int failed = 0;
    for (size_t i = 0; i < family->field_count; i++) {
        const er_field *f = &family->fields[i];
        if (!f->json) continue;
        json_t *value = field_json(f, &copy);
        failed |= json_object_set_new(root, f->json, value);
    }
    for (const er_fixed_key *f = family->fixed_json; f->key; f++)
        if (strcmp(f->value, "null") != 0)
            failed |= json_object_set_new(root, f->key, json_loads(f->value, JSON_DECODE_ANY, NULL));
    return failed;
}

/* pad: said even where there is none, because the preset of a class may lie outside the vocabulary. */
static int save_config(const char *folder, const er_config *c, int64_t pad, int dtype, er_err *err)
{
    const er_family *family = er_family_find(c->family);
    json_t *root = json_object();
    int failed = json_object_set_new(root, "architectures", json_pack("[s]", family->architecture));
    failed |= json_object_set_new(root, "model_type", json_string(family->name));
    failed |= set_fields(root, family, c);
    if (c->positions != ER_POSITION_LEARNED) failed |= er_rope_write(root, c);
    if (family->write_json) failed |= family->write_json(root, c);
    failed |= json_object_set_new(root, "bos_token_id", id_json(c->bos));
    failed |= json_object_set_new(root, "eos_token_id", id_json(c->eos));
    failed |= json_object_set_new(root, "pad_token_id", id_json(pad < c->vocab ? pad : -1));
    failed |= json_object_set_new(root, "torch_dtype", json_string(torch_type(dtype)));
    if (failed) {
        json_decref(root);
        root = NULL;
    }
    return save_json(folder, "config.json", root, err);
}

static int save_generation(const char *folder, const er_config *c, er_err *err)
{
    json_t *root = json_pack("{s:b, s:o, s:o}", "_from_model_config", 1, "bos_token_id", id_json(c->bos),
                             "eos_token_id", id_json(c->eos));
    return save_json(folder, "generation_config.json", root, err);
}

static int set_token(json_t *root, const char *key, const er_tokenizer *t, int64_t id, er_err *err)
{
    const char *text = id < 0 ? NULL : er_tokenizer_text(t, id);
    if (!text || !json_object_set_new(root, key, json_string(text))) return 0;
    return er_fail(err, ER_E_FORMAT, "token %lld (%s) cannot be written as JSON", (long long)id, key);
}

static int save_tokenizer(const char *folder, const er_model *m, er_err *err)
{
    er_text text = ER_TEXT_INIT;
    const er_tokenizer *t = m->tokenizer;
    int code = er_tokenizer_json(t, &text, err);
    if (!code) code = er_save_text(folder, "tokenizer.json", &text, err);
    er_text_free(&text);
    if (code) return code;
    json_t *root = json_pack("{s:s, s:b, s:I}", "tokenizer_class", "PreTrainedTokenizerFast",
                             "clean_up_tokenization_spaces", 0, "model_max_length",
                             (json_int_t)m->config.max_positions);
    if (!root) return er_fail(err, ER_E_MEMORY, "no memory for tokenizer_config.json");
    code = set_token(root, "bos_token", t, er_tokenizer_bos(t), err);
    if (!code) code = set_token(root, "eos_token", t, er_tokenizer_eos(t), err);
    if (!code) code = set_token(root, "unk_token", t, er_tokenizer_unk(t), err);
    if (!code) code = set_token(root, "pad_token", t, er_tokenizer_pad(t), err);
    if (!code) return save_json(folder, "tokenizer_config.json", root, err);
    json_decref(root);
    return code;
}

/* The header of model.safetensors, padded with spaces. */
static int make_header(er_text *out, const er_config *c, int dtype, er_err *err)
{
    int64_t begin = 0, count = er_slot_count(c);
    ER_TRY(er_text_add(out, "{\"__metadata__\":{\"format\":\"pt\"}", err));
    for (int64_t i = 0; i < count; i++) {
        char name[ER_TENSOR_NAME];
        er_slot slot = er_slot_at(c, i);
        int64_t end = begin + slot.rows * slot.cols * er_dtype_bytes(dtype);
        er_slot_name(name, c, &slot, 0);
        ER_TRY(er_text_format(out, err, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", name, er_safetensors_type(dtype)));
        if (slot.dims == 2) ER_TRY(er_text_format(out, err, "%lld,", (long long)slot.rows));
        ER_TRY(er_text_format(out, err, "%lld],\"data_offsets\":[%lld,%lld]}", (long long)slot.cols, (long long)begin,
                              (long long)end));
        begin = end;
    }
    ER_TRY(er_text_add(out, "}", err));
    while (out->length % HEADER_ALIGNMENT) ER_TRY(er_text_add(out, " ", err));
    return 0;
}

typedef struct writing {
    er_save save;
    float *wide, *narrow; /* some rows, as they are and as dtype (in room for fp32) */
    size_t wide_capacity, narrow_capacity;
    int dtype;
} writing;

static int write_bytes(writing *w, const void *bytes, size_t n, er_err *err)
{
    if (fwrite(bytes, 1, n, w->save.stream) == n) return 0;
    return er_fail(err, ER_E_IO, "%s: %s", w->save.temporary, strerror(errno));
}

static int write_tensor(writing *w, const er_view *view, const er_slot *slot, const char *name, er_err *err)
{
    int64_t step = slot->cols < CHUNK ? CHUNK / slot->cols : 1, lost = 0;
    ER_TRY(er_grow(&w->wide, &w->wide_capacity, (size_t)(step * slot->cols), err));
    ER_TRY(er_grow(&w->narrow, &w->narrow_capacity, (size_t)(step * slot->cols), err));
    for (int64_t at = 0; at < slot->rows; at += step) {
        int64_t n = slot->rows - at < step ? slot->rows - at : step, values = n * slot->cols;
        er_view_rows(w->wide, view, slot, at, n);
        lost += er_narrow(w->narrow, w->dtype, w->wide, values);
        ER_TRY(write_bytes(w, w->narrow, (size_t)(values * er_dtype_bytes(w->dtype)), err));
        er_tick();
    }
    if (!lost) return 0;
    return er_fail(err, ER_E_NUMERIC, "%s: tensor '%s': %lld values are too large for %s", w->save.path, name,
                   (long long)lost, er_dtype_name(w->dtype));
}

static int write_weights(writing *w, const er_view *view, er_err *err)
{
    const er_config *c = &view->model->config;
    er_text header = ER_TEXT_INIT;
    int code = make_header(&header, c, w->dtype, err);
    uint64_t length = header.length;
    if (!code) code = write_bytes(w, &length, sizeof length, err);
    if (!code) code = write_bytes(w, header.at, header.length, err);
    er_text_free(&header);
    for (int64_t i = 0, count = er_slot_count(c); i < count && !code; i++) {
        char name[ER_TENSOR_NAME];
        er_slot slot = er_slot_at(c, i);
        er_slot_name(name, c, &slot, 0);
        code = write_tensor(w, view, &slot, name, err);
    }
    return code;
}

static int save_weights(const char *folder, const er_view *view, int dtype, er_err *err)
{
    writing w = {.dtype = dtype};
    char *path = NULL;
    int code = er_path_join(&path, folder, "model.safetensors", err), opened = 0;
    if (!code) code = er_save_open(&w.save, path, err);
    if (!code) {
        opened = 1;
        code = write_weights(&w, view, err);
    }
    if (opened && code) er_save_abandon(&w.save);
    if (opened && !code) code = er_save_commit(&w.save, err);
    er_free(w.wide);
    er_free(w.narrow);
    er_free(path);
    return code;
}

int er_export(const er_view *view, const char *folder, int dtype, er_err *err)
{
    if (dtype != ER_F32 && dtype != ER_BF16 && dtype != ER_F16)
        return er_fail(err, ER_E_INPUT, "%s: weights cannot be written as %s", folder, er_dtype_name(dtype));
    ER_TRY(make_empty_folder(folder, err));
    ER_TRY(save_weights(folder, view, dtype, err));
    ER_TRY(save_tokenizer(folder, view->model, err));
    ER_TRY(save_generation(folder, &view->model->config, err));
    return save_config(folder, &view->model->config, er_tokenizer_pad(view->model->tokenizer), dtype, err);
}
