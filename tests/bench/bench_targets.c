/* SPDX-License-Identifier: Apache-2.0 */
/* bench_targets MODEL FACTS TEMPLATES [REQUESTS] [LAYER]: seconds per edit of the value optimisation, the flops that it
 * needs by DESIGN section 6 (forward and backward of the blocks above, active positions only, head at read rows), and
 * the rate. FACTS is CounterFact's JSON. */
#include "base/json.h"
#include "base/log.h"
#include "editors/target.h"
#include "model/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void die(const er_err *err)
{
    fprintf(stderr, "%s\n", err->text);
    exit(1);
}

/* Multiply-adds of one step of one request: rows' active positions through the blocks above, forward and backward. */
static double step_flops(const er_config *c, const er_prompt *p, int64_t layer)
{
    double positions = 1, heads = (double)(p->templates * p->target_count + 1);
    for (int64_t r = 0; r < p->templates; r++) positions += (double)(p->rows[r].count - p->rows[r].subject);
    double block = 2.0 * (double)(er_config_block_parameters(c) - 2 * c->hidden);
    return 2 * positions * block * (double)(c->layers - 1 - layer) + 2 * heads * 2.0 * (double)(c->vocab * c->hidden);
}

int main(int argc, char **argv)
{
    er_err err = ER_ERR_INIT;
    er_model *model;
    er_view view;
    er_work *work;
    er_arena *arena;
    er_templates templates;
    json_t *facts;
    if (argc < 4) return fprintf(stderr, "usage: %s MODEL FACTS TEMPLATES [REQUESTS] [LAYER]\n", argv[0]), 2;
    int64_t count = argc > 4 ? atoll(argv[4]) : 4, layer = argc > 5 ? atoll(argv[5]) : 8;
    if (er_kernels_start(NULL)) return 1;
    if (er_model_open(&model, argv[1], ER_F32, &err) || er_view_open(&view, model, &err) ||
        er_work_new(&work, model, &err) || er_arena_new(&arena, 0, &err) ||
        er_templates_read(&templates, argv[3], "memit", arena, &err) || er_json_read(&facts, argv[2], &err))
        die(&err);
    er_hyper hyper = {.v_num_grad_steps = 25, .v_lr = 0.5, .v_loss_layer = -1, .v_weight_decay = 0.5,
                      .clamp_norm_factor = 0.75, .kl_factor = 0.0625, .early_stop = 0};
    er_edit_context edit = {model, &hyper, &templates, ER_PARITY_NONE};
    er_prompt *prompts;
    er_target *targets;
    if (er_arena_take(arena, &prompts, (size_t)count, &err) || er_arena_take(arena, &targets, (size_t)count, &err))
        die(&err);
    double flops = 0;
    for (int64_t i = 0; i < count; i++) {
        json_t *rewrite = json_object_get(json_array_get(facts, (size_t)i), "requested_rewrite");
        er_request q = {.case_id = i,
                        .subject = json_string_value(json_object_get(rewrite, "subject")),
                        .prompt = json_string_value(json_object_get(rewrite, "prompt")),
                        .target_new = json_string_value(json_object_get(json_object_get(rewrite, "target_new"), "str"))};
        if (er_prompt_make(&prompts[i], model->tokenizer, &q, &templates, ER_PARITY_NONE, 0, arena, &err)) die(&err);
        flops += 25 * step_flops(&model->config, &prompts[i], layer);
    }
    er_target_plan plan = {.layer = layer, .init = ER_INIT_BLOCK_OUTPUT};
    double start = er_seconds();
    clock_t cpu = clock();
    if (er_target_optimise(&edit, &view, &plan, prompts, count, targets, work, &err)) die(&err);
    double seconds = er_seconds() - start;
    double spent = (double)(clock() - cpu) / CLOCKS_PER_SEC;
    printf("%s: %lld edits, %.3f s per edit, %.3f of the CPU, %.1f GFLOP needed each, %.1f GFLOP/s\n", er_kernels_name(),
           (long long)count, seconds / (double)count, spent / (double)count, flops / (double)count * 1e-9, flops / seconds * 1e-9);
    for (int64_t i = 0; i < count; i++) {
        printf("  loss %.3f %.3f .. %.3f, init %.4f delta %.4f target %.4f\n", (double)targets[i].loss[0].total,
               (double)targets[i].loss[1].total, (double)targets[i].loss[targets[i].steps - 1].total,
               (double)targets[i].init_norm, (double)targets[i].delta_norm, (double)targets[i].target_norm);
        er_target_free(&targets[i]);
    }
    json_decref(facts);
    er_arena_free(arena);
    er_work_free(work);
    er_view_close(&view);
    er_model_close(model);
    return 0;
}
