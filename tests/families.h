/* SPDX-License-Identifier: Apache-2.0 */
/* The tiny models of every family and what transformers computed on them (tests/golden/make_family.py). Header only. */
#ifndef ER_TESTS_FAMILIES_H
#define ER_TESTS_FAMILIES_H

#include "tests/engine.h"

#include "model/model.h"

#define FOLDERS "tests/fixtures/families"
#define GOLDEN "tests/golden/families"

/* Worst differences: of states from the norm of a state, of logits and log-probabilities from the spread of logits, of
 * gradients from their norm. */
typedef struct worst {
    double state, logit, gradient;
} worst;

typedef struct rig {
    char name[64];
    json_t *golden;
    er_model *model;
    er_view view;
    er_work *work;
    worst seen;
    size_t compared;
} rig;

static inline er_model *open_model(const char *path, int weights)
{
    er_err err = ER_ERR_INIT;
    er_model *m = NULL;
    OK(er_model_open(&m, path, weights, &err));
    return m;
}

static inline void rig_open(rig *r, const char *name)
{
    er_err err = ER_ERR_INIT;
    char path[256];
    memset(r, 0, sizeof *r);
    snprintf(r->name, sizeof r->name, "%s", name);
    snprintf(path, sizeof path, GOLDEN "/%s.json", name);
    r->golden = test_json(path);
    snprintf(path, sizeof path, FOLDERS "/%s", name);
    r->model = open_model(path, ER_F32);
    OK(er_view_open(&r->view, r->model, &err));
    OK(er_work_new(&r->work, r->model, &err));
    assert_string_equal(r->model->config.family, json_string_value(json_object_get(r->golden, "family")));
    assert_int_equal(r->model->config.layers, json_integer_value(json_object_get(r->golden, "layers")));
}

static inline void rig_close(rig *r)
{
    er_work_free(r->work);
    er_view_close(&r->view);
    er_model_close(r->model);
    json_decref(r->golden);
}

/* A check of one model: one cmocka test each, so that a failure leaves the others standing. */
typedef struct family_check {
    const char *name;
    void (*check)(rig *);
} family_check;

static inline void run_check(void **state)
{
    const family_check *c = *state;
    rig r;
    rig_open(&r, c->name);
    c->check(&r);
    rig_close(&r);
}

enum { MOST_CHECKS = 256 };

/* Every model by every one of `count` checks; what main returns. */
static inline int run_checks(void (*const *checks)(rig *), size_t count, CMFixtureFunction before,
                             CMFixtureFunction after)
{
    static struct CMUnitTest tests[MOST_CHECKS];
    static family_check states[MOST_CHECKS];
    json_t *names = json_load_file(GOLDEN "/models.json", 0, NULL), *name;
    size_t n = 0, i;
    if (er_kernels_start(NULL) || json_array_size(names) < 30 || json_array_size(names) * count > MOST_CHECKS) return 1;
    for (size_t c = 0; c < count; c++)
        json_array_foreach(names, i, name)
        {
            states[n] = (family_check){json_string_value(name), checks[c]};
            tests[n] = (struct CMUnitTest){states[n].name, run_check, NULL, NULL, &states[n]};
            n++;
        }
    int failed = _cmocka_run_group_tests("families", tests, n, before, after);
    json_decref(names);
    er_kernels_stop();
    return failed;
}

static inline float *floats(size_t n)
{
    er_err err = ER_ERR_INIT;
    float *out;
    OK(er_alloc(&out, n, &err));
    return out;
}

/* A member of the golden file that must hold n numbers. */
static inline float *golden_floats(const json_t *from, const char *key, size_t n)
{
    float *out = floats(n);
    assert_int_equal(test_floats(out, n, json_object_get(from, key)), n);
    return out;
}

static inline void golden_ids(er_ids *ids, const json_t *list)
{
    er_err err = ER_ERR_INIT;
    size_t i;
    json_t *id;
    memset(ids, 0, sizeof *ids);
    OK(er_grow(&ids->at, &ids->capacity, json_array_size(list), &err));
    json_array_foreach(list, i, id) ids->at[ids->count++] = (int32_t)json_integer_value(id);
}

#endif
