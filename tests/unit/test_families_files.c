/* SPDX-License-Identifier: Apache-2.0 */
/* The tiny models of every family written and read again, and read from a config.json as transformers 5 writes it: every
 * bit of weights and scores must be the same. */
#define _GNU_SOURCE
#include "tests/families.h"

#include "base/file.h"
#include "base/hash.h"
#include "model/generate.h"
#include "model/weights.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch[64];

static int make_scratch(void **state)
{
    const char *base = getenv("TMPDIR");
    (void)state;
    snprintf(scratch, sizeof scratch, "%.40s/families-XXXXXX", base ? base : "/tmp");
    return mkdtemp(scratch) ? 0 : -1;
}

static int drop_scratch(void **state)
{
    (void)state;
    test_remove_folder(scratch);
    return 0;
}

/* Every tensor of both, row by row, as fp32 bits. */
static void assert_same_weights(const char *name, const er_model *a, const er_model *b)
{
    er_err err = ER_ERR_INIT;
    er_view left, right;
    OK(er_view_open(&left, a, &err));
    OK(er_view_open(&right, b, &err));
    assert_int_equal(er_slot_count(&a->config), er_slot_count(&b->config));
    for (int64_t s = 0; s < er_slot_count(&a->config); s++) {
        er_slot slot = er_slot_at(&a->config, s);
        float *x = floats((size_t)slot.cols), *y = floats((size_t)slot.cols);
        for (int64_t r = 0; r < slot.rows; r++) {
            er_view_rows(x, &left, &slot, r, 1);
            er_view_rows(y, &right, &slot, r, 1);
            if (memcmp(x, y, (size_t)slot.cols * sizeof *x)) {
                char text[ER_TENSOR_NAME];
                er_slot_name(text, &a->config, &slot, 0);
                fail_msg("%s: %s differs in row %d", name, text, (int)r);
            }
        }
        er_free(x);
        er_free(y);
    }
    er_view_close(&left);
    er_view_close(&right);
    if (!er_hash_equal(&a->weights, &b->weights)) fail_msg("%s: configurations differ", name);
}

/* The same bits of log-probabilities: whatever of the configuration the hash might not know. */
static void assert_same_scores(rig *r, const er_model *other)
{
    er_err err = ER_ERR_INIT;
    er_view view;
    er_work *work;
    er_ids ids;
    const json_t *text = json_array_get(json_object_get(r->golden, "texts"), 0);
    golden_ids(&ids, json_object_get(text, "ids"));
    float *a = floats((size_t)ids.count), *b = floats((size_t)ids.count);
    OK(er_view_open(&view, other, &err));
    OK(er_work_new(&work, other, &err));
    OK(er_score_ids(&r->view, a, ids.at, ids.count, r->work, &err));
    OK(er_score_ids(&view, b, ids.at, ids.count, work, &err));
    if (memcmp(a + 1, b + 1, (size_t)(ids.count - 1) * sizeof *a)) fail_msg("%s: other scores", r->name);
    er_work_free(work);
    er_view_close(&view);
    er_free(a);
    er_free(b);
    er_ids_free(&ids);
}

/* Exports in dtype and opens what was written. */
static er_model *passed_on(const er_model *m, const char *folder, int dtype)
{
    er_err err = ER_ERR_INIT;
    er_view view;
    OK(er_view_open(&view, m, &err));
    OK(er_export(&view, folder, dtype, &err));
    er_view_close(&view);
    return open_model(folder, ER_F32);
}

static void assert_same_files(const char *a, const char *b, const char *name)
{
    er_err err = ER_ERR_INIT;
    char path[256];
    er_hash left, right;
    snprintf(path, sizeof path, "%s/%s", a, name);
    OK(er_hash_file(&left, path, &err));
    snprintf(path, sizeof path, "%s/%s", b, name);
    OK(er_hash_file(&right, path, &err));
    if (!er_hash_equal(&left, &right)) fail_msg("%s/%s and %s differ", a, name, path);
}

/* The type of the fixture's file, from its config.json. */
static int own_dtype(const rig *r)
{
    static const struct { const char *name; int dtype; } types[] = {
        {"float32", ER_F32}, {"float16", ER_F16}, {"bfloat16", ER_BF16}};
    char path[256];
    snprintf(path, sizeof path, FOLDERS "/%s/config.json", r->name);
    json_t *root = test_json(path), *said = json_object_get(root, "dtype");
    if (!said) said = json_object_get(root, "torch_dtype");
    int found = -1;
    for (size_t i = 0; i < 3; i++)
        if (strcmp(types[i].name, json_string_value(said)) == 0) found = types[i].dtype;
    json_decref(root);
    assert_true(found >= 0);
    return found;
}

/* Classes whose preset pad token lies outside a small vocabulary would refuse the folder. */
static void assert_pad_is_said(const char *folder, int64_t vocab)
{
    char path[256];
    snprintf(path, sizeof path, "%s/config.json", folder);
    json_t *root = test_json(path), *pad = json_object_get(root, "pad_token_id");
    assert_true(json_is_null(pad) || (json_is_integer(pad) && json_integer_value(pad) < vocab));
    json_decref(root);
}

/* Weights held in memory as the file has them: widening is exact, so nothing may change. */
static void check_held_as_stored(rig *r, int own)
{
    char path[256];
    snprintf(path, sizeof path, FOLDERS "/%s", r->name);
    er_model *m = open_model(path, own);
    assert_int_equal(m->layers[0].matrix[ER_MATRIX_DOWN].dtype, own);
    assert_same_weights(r->name, r->model, m);
    assert_same_scores(r, m);
    er_model_close(m);
}

static void check_round_trip(rig *r)
{
    const int own = own_dtype(r);
    check_held_as_stored(r, own);
    for (int dtype = ER_F32; dtype <= ER_BF16; dtype++) {
        char first[192], second[192];
        snprintf(first, sizeof first, "%s/%s-%d", scratch, r->name, dtype);
        snprintf(second, sizeof second, "%s/%s-%d-again", scratch, r->name, dtype);
        er_model *once = passed_on(r->model, first, dtype), *twice = passed_on(once, second, dtype);
        assert_same_weights(r->name, once, twice);
        assert_same_files(first, second, "model.safetensors");
        assert_same_files(first, second, "config.json");
        assert_pad_is_said(first, r->model->config.vocab);
        if (dtype == ER_F32 || dtype == own) {
            assert_same_weights(r->name, r->model, once);
            assert_same_scores(r, once);
        }
        er_model_close(once);
        er_model_close(twice);
        test_remove_folder(first);
        test_remove_folder(second);
    }
}

/* --- config.json of transformers 5 -------------------------------------------------------------------------------- */

/* Moves a key under another name into rope_parameters. */
static void move(json_t *root, json_t *rope, const char *key, const char *as)
{
    json_t *value = json_object_get(root, key);
    if (!value) return;
    json_object_set(rope, as, value);
    json_object_del(root, key);
}

static json_t *newest(const json_t *config)
{
    json_t *root = json_deep_copy(config), *scaling = json_object_get(root, "rope_scaling"), *rope = json_object();
    if (json_is_object(scaling)) json_object_update(rope, scaling);
    else json_object_set_new(rope, "rope_type", json_string("default"));
    json_object_del(root, "rope_scaling");
    json_object_del(rope, "type");
    move(root, root, "torch_dtype", "dtype");
    move(root, rope, "rope_theta", "rope_theta");
    move(root, rope, "rotary_emb_base", "rope_theta");
    move(root, rope, "partial_rotary_factor", "partial_rotary_factor");
    move(root, rope, "rotary_pct", "partial_rotary_factor");
    if (json_object_get(root, "rope_local_base_freq")) {
        json_t *local = json_pack("{s:s, s:O}", "rope_type", "default", "rope_theta",
                                  json_object_get(root, "rope_local_base_freq"));
        json_object_del(root, "rope_local_base_freq");
        rope = json_pack("{s:o, s:o}", "full_attention", rope, "sliding_attention", local);
    }
    if (json_object_get(rope, "rope_theta") || json_object_get(rope, "full_attention"))
        json_object_set_new(root, "rope_parameters", rope);
    else json_decref(rope);
    return root;
}

static void check_newest(rig *r)
{
    char from[512], to[512], base[256], folder[192];
    snprintf(folder, sizeof folder, "%s/%s-new", scratch, r->name);
    assert_int_equal(mkdir(folder, 0777), 0);
    assert_true(realpath(FOLDERS, from) && strlen(from) < sizeof base - sizeof r->name);
    snprintf(base, sizeof base, "%.190s/%s", from, r->name);
    DIR *d = opendir(base);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.' || strcmp(e->d_name, "config.json") == 0) continue;
        snprintf(from, sizeof from, "%s/%s", base, e->d_name);
        snprintf(to, sizeof to, "%s/%s", folder, e->d_name);
        assert_int_equal(symlink(from, to), 0);
    }
    closedir(d);
    snprintf(from, sizeof from, "%s/config.json", base);
    snprintf(to, sizeof to, "%s/config.json", folder);
    json_t *config = test_json(from), *changed = newest(config);
    assert_int_equal(json_dump_file(changed, to, JSON_INDENT(1)), 0);
    er_model *m = open_model(folder, ER_F32);
    assert_same_weights(r->name, r->model, m);
    assert_same_scores(r, m);
    er_model_close(m);
    json_decref(config);
    json_decref(changed);
    test_remove_folder(folder);
}

int main(void)
{
    void (*const checks[])(rig *) = {check_round_trip, check_newest};
    return run_checks(checks, 2, make_scratch, drop_scratch);
}
