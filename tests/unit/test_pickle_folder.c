/* SPDX-License-Identifier: Apache-2.0 */
/* Folders whose weights are PyTorch checkpoints: the same models as from safetensors. */
#define _GNU_SOURCE
#include "pickle_common.h"

#include "model/model.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#define TINY "tests/fixtures/tiny-llama"
#define UNTIED "tests/fixtures/tiny-llama-untied"

static char scratch[64];

static const char *inside(const char *name)
{
    static char path[4][256];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", scratch, name);
    return p;
}

static int make_scratch(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(scratch, sizeof scratch, "%.40s/pickle-XXXXXX", base ? base : "/tmp");
    return mkdtemp(scratch) ? 0 : -1;
}

static void empty_folder(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        char child[600];
        snprintf(child, sizeof child, "%s/%s", path, e->d_name);
        if (e->d_name[0] != '.') unlink(child);
    }
    if (d) closedir(d);
}

static int drop_scratch(void **state)
{
    (void)state;
    empty_folder(inside("model"));
    rmdir(inside("model"));
    empty_folder(scratch);
    return rmdir(scratch);
}

/* --- folders ------------------------------------------------------------------------------------------------------ */

static const char *storage_of(int dtype)
{
    return dtype == ER_F32 ? FLOATS : dtype == ER_BF16 ? "torch\nBFloat16Storage\n" : "torch\nHalfStorage\n";
}

static written describe(char key[24], const er_tensor *t, size_t i)
{
    written w = {storage_of(t->dtype), key, t->elements, 0, t->dims, {0}, NULL, NULL};
    snprintf(key, 24, "%zu", i);
    for (int d = 0; d < t->dims; d++) w.shape[d] = t->shape[d];
    return w;
}

/* The pickle of those tensors that stand in `only` (NULL: all). */
static void write_pickle(er_text *t, const er_tensors *list, const char *only)
{
    char key[24];
    op_begin(t);
    for (size_t i = 0; i < list->count; i++) {
        const er_tensor *x = &list->at[i];
        if (only && strcmp(only, x->path) != 0) continue;
        written w = describe(key, x, i);
        op_text(t, x->name);
        op_tensor(t, &w);
    }
    op_end(t);
}

static void write_zip(const char *path, const er_tensors *list, const char *only)
{
    er_text t = ER_TEXT_INIT;
    archive a = {.wide = 0};
    write_pickle(&t, list, only);
    archive_add(&a, "archive/data.pkl", t.at, t.length, 0);
    for (size_t i = 0; i < list->count; i++) {
        char name[40];
        if (only && strcmp(only, list->at[i].path) != 0) continue;
        snprintf(name, sizeof name, "archive/data/%zu", i);
        archive_add(&a, name, list->at[i].data, list->at[i].bytes, 0);
    }
    archive_add(&a, "archive/version", "3\n", 2, 0);
    archive_end(&a);
    assert_int_equal(er_save_bytes(path, a.file.at, a.file.length, NULL), 0);
    archive_free(&a);
    er_text_free(&t);
}

static void write_legacy(const char *path, const er_tensors *list)
{
    er_text t = ER_TEXT_INIT;
    legacy_begin(&t);
    PUT(&t, "\x80\x02");
    er_text object = ER_TEXT_INIT;
    write_pickle(&object, list, NULL);
    put(&t, object.at + 2, object.length - 2);
    PUT(&t, "\x80\x02](");
    for (size_t i = 0; i < list->count; i++) {
        char key[24];
        snprintf(key, sizeof key, "%zu", i);
        op_text(&t, key);
    }
    PUT(&t, "e.");
    for (size_t i = 0; i < list->count; i++) {
        put_number(&t, (uint64_t)list->at[i].elements, 8);
        put(&t, list->at[i].data, list->at[i].bytes);
    }
    assert_int_equal(er_save_bytes(path, t.at, t.length, NULL), 0);
    er_text_free(&object);
    er_text_free(&t);
}

/* The tensors of a folder's safetensors files. */
static void read_weights(er_source *s, const char *folder)
{
    er_err err = ER_ERR_INIT;
    memset(s, 0, sizeof *s);
    OK(er_source_open(s, folder, &err));
}

static void copy_file(const char *folder, const char *name)
{
    char path[256], to[64], *bytes = NULL;
    size_t n = 0;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    snprintf(to, sizeof to, "model/%s", name);
    assert_int_equal(er_file_read(&bytes, &n, path, NULL), 0);
    assert_int_equal(er_save_bytes(inside(to), bytes, n, NULL), 0);
    er_free(bytes);
}

/* "model" in the scratch folder, with all of `folder` but its weights. */
static void make_folder(const char *folder)
{
    mkdir(inside("model"), 0777);
    empty_folder(inside("model"));
    copy_file(folder, "config.json");
    copy_file(folder, "tokenizer.json");
}

static void save_text(const char *name, const char *text)
{
    assert_int_equal(er_save_bytes(inside(name), text, strlen(text), NULL), 0);
}

static void assert_same_model(const char *folder)
{
    er_err err = ER_ERR_INIT;
    er_model *a = NULL, *b = NULL;
    OK(er_model_open(&a, folder, ER_F32, &err));
    OK(er_model_open(&b, inside("model"), ER_F32, &err));
    assert_true(er_hash_equal(&a->weights, &b->weights));
    er_model_close(a);
    er_model_close(b);
}

static void folders_with_one_file_open(void **state)
{
    (void)state;
    int64_t live = er_memory_live();
    er_source w;
    static const char *const folders[] = {TINY, UNTIED};
    for (int i = 0; i < 2; i++) {
        read_weights(&w, folders[i]);
        make_folder(folders[i]);
        write_zip(inside("model/pytorch_model.bin"), &w.tensors, NULL);
        assert_same_model(folders[i]);
        write_legacy(inside("model/pytorch_model.bin"), &w.tensors);
        assert_same_model(folders[i]);
        er_source_close(&w);
    }
    assert_int_equal(er_memory_live(), live);
}

static const char *part_of(const er_tensor *t)
{
    return strstr(t->path, "00001") ? "pytorch_model-00001-of-00002.bin" : "pytorch_model-00002-of-00002.bin";
}

static void write_parts(const er_source *w)
{
    er_text index = ER_TEXT_INIT;
    const er_tensors *list = &w->tensors;
    const char *separator = "{\"metadata\": {}, \"weight_map\": {";
    for (size_t i = 0; i < list->count; i++) {
        char path[64];
        const char *part = part_of(&list->at[i]);
        assert_int_equal(er_text_format(&index, NULL, "%s\"%s\": \"%s\"", separator, list->at[i].name, part), 0);
        separator = ", ";
        snprintf(path, sizeof path, "model/%s", part);
        if (!er_file_exists(inside(path))) write_zip(inside(path), list, list->at[i].path);
    }
    PUT(&index, "}}");
    save_text("model/pytorch_model.bin.index.json", index.at);
    er_text_free(&index);
}

static void refuse_folder(int wanted, const char *said)
{
    er_err err = ER_ERR_INIT;
    er_model *m = NULL;
    int code = er_model_open(&m, inside("model"), ER_F32, &err);
    if (code != wanted || !strstr(err.text, said)) fail_msg("%d '%s', expected '%s'", code, err.text, said);
}

static void folders_with_parts_open(void **state)
{
    (void)state;
    er_source w;
    read_weights(&w, UNTIED);
    make_folder(UNTIED);
    refuse_folder(ER_E_IO, "model: holds neither model.safetensors nor pytorch_model.bin, nor an index of either");
    write_parts(&w);
    assert_same_model(UNTIED);
    const char *part = inside("model/pytorch_model-00002-of-00002.bin");
    write_zip(part, &w.tensors, er_tensors_find(&w.tensors, "model.embed_tokens.weight")->path);
    refuse_folder(ER_E_FORMAT, "appears twice");
    unlink(part);
    refuse_folder(ER_E_IO, "pytorch_model-00002-of-00002.bin");
    save_text("model/pytorch_model-00002-of-00002.bin", "nothing");
    refuse_folder(ER_E_FORMAT, "pytorch_model-00002-of-00002.bin: neither a zip archive nor");
    save_text("model/pytorch_model.bin.index.json",
              "{\"weight_map\": {\"lm_head.weight\": \"pytorch_model-00001-of-00002.bin\"}}");
    refuse_folder(ER_E_FORMAT, "pytorch_model.bin.index.json: weight_map: 'lm_head.weight' is not in");
    save_text("model/pytorch_model.bin.index.json", "{\"weight_map\": {\"a\": \"../x.bin\"}}");
    refuse_folder(ER_E_FORMAT, "stands in no file of this folder");
    er_source_close(&w);
}

/* safetensors before pickles, a whole file before parts. */
static void the_order_of_files_is_fixed(void **state)
{
    (void)state;
    er_source w;
    read_weights(&w, TINY);
    make_folder(TINY);
    save_text("model/pytorch_model.bin.index.json", "{}");
    refuse_folder(ER_E_FORMAT, "pytorch_model.bin.index.json: weight_map is missing");
    write_zip(inside("model/pytorch_model.bin"), &w.tensors, NULL);
    assert_same_model(TINY);
    save_text("model/pytorch_model.bin", "nothing");
    refuse_folder(ER_E_FORMAT, "pytorch_model.bin: neither");
    save_text("model/model.safetensors.index.json", "{}");
    refuse_folder(ER_E_FORMAT, "model.safetensors.index.json: weight_map is missing");
    copy_file(TINY, "model.safetensors");
    assert_same_model(TINY);
    er_source_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_with_one_file_open),
        cmocka_unit_test(folders_with_parts_open),
        cmocka_unit_test(the_order_of_files_is_fixed),
    };
    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
