/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/memory.h"
#include "runner/ledger.h"
#include "runner/subject.h"
#include "runner/verbs.h"

#include <stdio.h>
#include <string.h>

static const er_flag flags[] = {{0}};

static int floats_differ(const float *a, const float *b, int64_t n)
{
    if (!a || !b) return a != b && n > 0;
    return memcmp(a, b, (size_t)n * sizeof *a) != 0;
}

static int target_differs(const er_record *a, const er_record *b, int64_t i)
{
    const er_target *s = &a->targets[i], *t = &b->targets[i];
    if (s->failed != t->failed || s->steps != t->steps || floats_differ(s->value, t->value, a->outputs)) return 1;
    return s->steps && memcmp(s->loss, t->loss, (size_t)s->steps * sizeof *s->loss) != 0;
}

/* The first thing that differs in one layer, NULL: nothing. */
static const char *layer_differs(const er_record *a, const er_record *b, int64_t k)
{
    const er_record_layer *s = &a->layers[k], *t = &b->layers[k];
    const er_update *u = &s->update, *v = &t->update;
    if (s->layer != t->layer) return "the layer's number";
    if (s->key_floats != t->key_floats || floats_differ(s->keys, t->keys, a->applied * s->key_floats)) return "keys";
    if (u->rank != v->rank || u->inputs != v->inputs) return "the update's shape";
    if (floats_differ(u->u, v->u, u->outputs * u->rank)) return "U";
    if (floats_differ(u->v, v->v, u->rank * u->inputs)) return "V";
    if (!er_hash_equal(&s->matrix, &t->matrix)) return "the edited matrix";
    return NULL;
}

/* Prints the first difference of two records; 0 when there is none. */
static int records_differ(const er_record *a, const er_record *b)
{
    long long n = (long long)a->batch;
    if (er_hash_equal(&a->self, &b->self)) return 0;
    if (!er_hash_equal(&a->weights, &b->weights)) return printf("record %lld: other weights of the model\n", n);
    if (a->requests != b->requests || a->outputs != b->outputs || a->layer_count != b->layer_count)
        return printf("record %lld: %lld requests and %lld layers against %lld and %lld\n", n, (long long)a->requests,
                      (long long)a->layer_count, (long long)b->requests, (long long)b->layer_count);
    for (int64_t i = 0; i < a->requests; i++)
        if (!er_hash_equal(&a->request[i], &b->request[i]))
            return printf("record %lld: request %lld is case %lld against case %lld\n", n, (long long)i,
                          (long long)a->case_id[i], (long long)b->case_id[i]);
    for (int64_t i = 0; i < a->requests; i++)
        if (target_differs(a, b, i))
            return printf("record %lld: the target of case %lld\n", n, (long long)a->case_id[i]);
    if (a->applied != b->applied) return printf("record %lld: the requests that joined the solve\n", n);
    for (int64_t k = 0; k < a->layer_count; k++) {
        const char *what = layer_differs(a, b, k);
        if (what) return printf("record %lld, layer %lld: %s\n", n, (long long)a->layers[k].layer, what);
    }
    return printf("record %lld: norms or guards\n", n);
}

static int compare_record(const char *const *ledger, int64_t batch, int *differ, int *end, er_err *err)
{
    er_record r[2];
    int found[2] = {0};
    ER_TRY(er_record_read(&r[0], ledger[0], batch, 0, &found[0], err));
    int code = er_record_read(&r[1], ledger[1], batch, 0, &found[1], err);
    if (!code && found[0] != found[1])
        *differ = printf("record %lld: only in %s\n", (long long)batch, ledger[found[0] ? 0 : 1]);
    if (!code && found[0] && found[1]) *differ = records_differ(&r[0], &r[1]);
    *end = !found[0] || !found[1];
    if (found[0]) er_record_free(&r[0]);
    if (!code && found[1]) er_record_free(&r[1]);
    return code;
}

/* First line of cases.jsonl that differs. */
static int compare_cases(const char *const *folder, int *differ, er_err *err)
{
    er_map map[2] = {{NULL, 0}, {NULL, 0}};
    int code = 0;
    for (int i = 0; !code && i < 2; i++) {
        char *path = NULL;
        code = er_path_join(&path, folder[i], "cases.jsonl", err);
        if (!code && er_file_exists(path)) code = er_map_open(&map[i], path, err);
        er_free(path);
    }
    size_t n = map[0].size < map[1].size ? map[0].size : map[1].size, at = 0;
    int64_t line = 1;
    while (!code && at < n && map[0].data[at] == map[1].data[at]) line += map[0].data[at++] == '\n';
    if (!code && (at < n || map[0].size != map[1].size)) *differ = printf("cases.jsonl: line %lld\n", (long long)line);
    er_map_close(&map[0]);
    er_map_close(&map[1]);
    return code;
}

static int call(er_world *w, const er_args *args, int *exit_code, er_err *err)
{
    char *ledger[2] = {NULL, NULL};
    int differ = 0, end = 0, code = 0;
    (void)w;
    for (int i = 0; !code && i < 2; i++) {
        if (!er_is_run(args->at[i])) code = er_fail(err, ER_E_USAGE, "%s: is no folder of a run", args->at[i]);
        else code = er_path_join(&ledger[i], args->at[i], "ledger", err);
    }
    const char *const both[2] = {ledger[0], ledger[1]};
    for (int64_t b = 0; !code && !differ && !end; b++) code = compare_record(both, b, &differ, &end, err);
    if (!code && !differ) code = compare_cases(args->at, &differ, err);
    if (!code && !differ) printf("no difference\n");
    er_free(ledger[0]);
    er_free(ledger[1]);
    if (!code && differ) *exit_code = 1;
    return code;
}

const er_verb er_verb_diff = {"diff", "RUN RUN", "the first record, tensor or score that differs (exit code 1)", 2, 2,
                              0, 0, flags, call};
