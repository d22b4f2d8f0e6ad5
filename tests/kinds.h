/* SPDX-License-Identifier: Apache-2.0 */
/* Small random models of every kind, made in memory: no file decides what they are. Header only. */
#ifndef ER_TESTS_KINDS_H
#define ER_TESTS_KINDS_H

#include "tests/support.h"

#include "base/random.h"
#include "model/forward.h"
#include "model/kernels.h"

#include <math.h>

/* Sizes of which no two are equal where the engine could mix them up; tests with threads need this much work. */
enum { K_LAYERS = 3, K_HIDDEN = 32, K_INNER = 44, K_HEADS = 6, K_KV_HEADS = 2, K_HEAD_DIM = 8, K_VOCAB = 29,
       K_NARROW = 20, K_LONGEST = 64 };

typedef struct kind {
    const char *name;
    unsigned norms; /* set of er_norm_id that its blocks have */
    er_config c;    /* its arithmetic; kv_heads and rope_dim 0: K_KV_HEADS and all of a head */
} kind;

#define HAS(norm) (1u << ER_NORM_##norm)
#define BOTH_BEFORE (HAS(ATTENTION) | HAS(MLP))
#define BOTH_AFTER (HAS(ATTENTION_OUT) | HAS(MLP_OUT))
#define QK (HAS(Q) | HAS(K))

/* What families do, and what they have in common with nobody. */
static const kind kinds[] = {
    {"LLaMA", BOTH_BEFORE, {.gated = 1, .tied = 1}},
    {"Mistral: windows", BOTH_BEFORE, {.gated = 1, .window = 7, .windowed = {{7}}}},
    {"Qwen 2: biases of q, k, v", BOTH_BEFORE, {.gated = 1, .attention_bias = 1}},
    {"Qwen 3: norms of heads", BOTH_BEFORE | QK, {.gated = 1, .qk_norm = ER_QK_HEAD}},
    {"SmolLM 3: a layer without positions", BOTH_BEFORE, {.gated = 1, .unrotated = {{2}}}},
    {"OLMo 2: norms of outputs and rows only", BOTH_AFTER | QK, {.gated = 1, .qk_norm = ER_QK_ROW}},
    {"Gemma 1", BOTH_BEFORE,
     {.gated = 1, .activation = ER_GELU_TANH, .scaled_embedding = 1, .kv_heads = 1, .tied = 1}},
    {"Gemma 2: caps", BOTH_BEFORE | BOTH_AFTER,
     {.gated = 1, .activation = ER_GELU_TANH, .scaled_embedding = 1, .score_width = 12, .score_cap = 1.5,
      .logit_cap = 2, .window = 7, .windowed = {{5}}}},
    {"Gemma 3: local positions", BOTH_BEFORE | BOTH_AFTER | QK,
     {.gated = 1, .activation = ER_GELU_TANH, .scaled_embedding = 1, .qk_norm = ER_QK_HEAD, .window = 5,
      .windowed = {{3}}, .rope_local_base = 50}},
    {"GPT-2", BOTH_BEFORE,
     {.norm = ER_NORM_LAYER, .positions = ER_POSITION_LEARNED, .activation = ER_GELU_TANH, .attention_bias = 1,
      .output_bias = 1, .mlp_bias = 1, .kv_heads = K_HEADS, .tied = 1}},
    {"GPT-Neo: scores as they are, windows", BOTH_BEFORE,
     {.norm = ER_NORM_LAYER, .positions = ER_POSITION_LEARNED, .activation = ER_GELU_TANH, .output_bias = 1,
      .mlp_bias = 1, .kv_heads = K_HEADS, .score_width = 1, .window = 9, .windowed = {{2}}}},
    {"GPT-J: parallel, one norm, interleaved pairs", HAS(ATTENTION),
     {.norm = ER_NORM_LAYER, .block = ER_BLOCK_PARALLEL, .positions = ER_POSITION_PAIRS, .rope_dim = 4,
      .activation = ER_GELU_TANH, .mlp_bias = 1, .head_bias = 1, .kv_heads = K_HEADS}},
    {"GPT-NeoX: parallel, two norms", BOTH_BEFORE,
     {.norm = ER_NORM_LAYER, .block = ER_BLOCK_PARALLEL, .rope_dim = 2, .activation = ER_GELU_ERF, .attention_bias = 1,
      .output_bias = 1, .mlp_bias = 1, .kv_heads = K_HEADS}},
    {"Phi: parallel, one norm, all biases", HAS(ATTENTION),
     {.norm = ER_NORM_LAYER, .block = ER_BLOCK_PARALLEL, .rope_dim = 4, .activation = ER_GELU_TANH,
      .attention_bias = 1, .output_bias = 1, .mlp_bias = 1, .head_bias = 1}},
    {"OPT", BOTH_BEFORE,
     {.norm = ER_NORM_LAYER, .positions = ER_POSITION_LEARNED, .position_offset = 2, .activation = ER_RELU,
      .attention_bias = 1, .output_bias = 1, .mlp_bias = 1, .kv_heads = K_HEADS, .tied = 1}},
    {"OPT-350M: norms behind the sums, narrow embedding", BOTH_AFTER,
     {.norm = ER_NORM_LAYER, .block = ER_BLOCK_POST, .positions = ER_POSITION_LEARNED, .position_offset = 2,
      .activation = ER_RELU, .attention_bias = 1, .output_bias = 1, .mlp_bias = 1, .kv_heads = K_HEADS,
      .no_final_norm = 1, .embedding_width = K_NARROW, .tied = 1}},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* And what no family does yet: every way to join the halves, with every norm, norm of q and k, gate, positions and
 * window; the smaller choices are drawn. */
static const struct { const char *name; int block; unsigned norms; } joins[] = {
    {"pre", ER_BLOCK_PRE, BOTH_BEFORE}, {"pre and out", ER_BLOCK_PRE, BOTH_BEFORE | BOTH_AFTER},
    {"out", ER_BLOCK_PRE, BOTH_AFTER}, {"parallel, one norm", ER_BLOCK_PARALLEL, HAS(ATTENTION)},
    {"parallel", ER_BLOCK_PARALLEL, BOTH_BEFORE}, {"post", ER_BLOCK_POST, BOTH_AFTER},
};
enum { JOINS = sizeof joins / sizeof *joins, COMBINATIONS = JOINS * 2 * 3 * 2 * 3 * 2 };

/* i: 0 .. KINDS - 1 the table's, then COMBINATIONS others; `name` has room for the name of such a one. */
static inline kind kind_at(int64_t i, char name[160])
{
    if (i < KINDS) return kinds[i];
    int64_t n = i - KINDS;
    kind k = {.name = name};
    er_config *c = &k.c;
    const int64_t join = n % JOINS;
    n /= JOINS;
    k.norms = joins[join].norms;
    c->block = joins[join].block;
    c->norm = (int)(n % 2);
    c->qk_norm = (int)(n / 2 % 3);
    c->gated = (int)(n / 6 % 2);
    c->positions = (int)(n / 12 % 3);
    c->window = n / 36 % 2 ? 6 : 0;
    if (c->qk_norm != ER_QK_NONE) k.norms |= QK;
    uint64_t drawn = 0;
#define DRAW(count) ((int)er_random_below((count), 3, ER_STREAM_TEST, (uint32_t)i, drawn++))
    if (c->window) c->windowed.bits[0] = (uint64_t)DRAW(8);
    c->unrotated.bits[0] = (uint64_t)(DRAW(2) ? 0 : DRAW(8));
    c->activation = DRAW(ER_ACTIVATION_COUNT);
    c->attention_bias = DRAW(2);
    c->output_bias = DRAW(2);
    c->mlp_bias = DRAW(2);
    c->head_bias = DRAW(2);
    c->scaled_embedding = DRAW(2);
    c->no_final_norm = DRAW(3) == 0;
    c->embedding_width = DRAW(3) ? 0 : K_NARROW;
    c->position_offset = c->positions == ER_POSITION_LEARNED ? DRAW(3) : 0;
    c->score_width = DRAW(2) ? 0 : 5;
    c->score_cap = DRAW(2) ? 0 : 1.5;
    c->logit_cap = DRAW(2) ? 0 : 2;
    c->rope_dim = DRAW(2) ? 0 : 6;
    c->rope_local_base = c->window && DRAW(2) ? 50 : 0;
    c->kv_heads = (int64_t[]){1, 2, 3, 6}[DRAW(4)];
    c->tied = DRAW(2);
#undef DRAW
    snprintf(name, 160, "%s, norm %d, of q and k %d, gated %d, positions %d, window %d (number %d)", joins[join].name,
             c->norm, c->qk_norm, c->gated, c->positions, (int)c->window, (int)i);
    return k;
}

/* --- weights ------------------------------------------------------------------------------------------------------ */

typedef struct random_model {
    er_model m;
    er_view view;
    er_arena *arena;
    uint32_t seed;
    uint64_t drawn;
} random_model;

/* count values of middle +- spread */
static inline float *random_floats(random_model *r, int64_t count, double middle, double spread)
{
    er_err err = ER_ERR_INIT;
    float *at;
    OK(er_arena_take(r->arena, &at, (size_t)count, &err));
    for (int64_t i = 0; i < count; i++)
        at[i] = (float)(middle + spread * (2 * er_random_uniform(r->seed, ER_STREAM_TEST, 1, r->drawn++) - 1));
    return at;
}

/* Outputs about as large as inputs, times `size`. */
static inline er_matrix random_matrix(random_model *r, int64_t rows, int64_t cols, double size)
{
    return (er_matrix){ER_F32, rows, cols, random_floats(r, rows * cols, 0, size * sqrt(3.0 / (double)cols))};
}

static inline er_norm random_norm(random_model *r, int64_t width)
{
    er_norm n = {.gain = random_floats(r, width, 1, 0.3)};
    n.stored = n.gain;
    if (r->m.config.norm == ER_NORM_LAYER) n.shift = random_floats(r, width, 0, 0.3);
    return n;
}

static inline er_rope_table rope_table(random_model *r, double base)
{
    er_err err = ER_ERR_INIT;
    const int64_t half = r->m.config.rope_dim / 2;
    float *cosine, *sine;
    OK(er_arena_take(r->arena, &cosine, (size_t)(K_LONGEST * half), &err));
    OK(er_arena_take(r->arena, &sine, (size_t)(K_LONGEST * half), &err));
    for (int64_t i = 0; i < K_LONGEST * half; i++) {
        double angle = (double)(i / half) * pow(base, -(double)(i % half) / (double)half);
        cosine[i] = (float)cos(angle);
        sine[i] = (float)sin(angle);
    }
    return (er_rope_table){cosine, sine};
}

static inline void random_layer(random_model *r, er_layer *l, unsigned norms)
{
    const er_config *c = &r->m.config;
    const int64_t d = c->hidden, q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    const int per_head = c->qk_norm == ER_QK_HEAD;
    const int64_t rows[] = {q, kv, kv, d, c->inner, c->inner, d}, cols[] = {d, d, d, q, d, d, c->inner};
    const int64_t width[] = {d, d, d, d, per_head ? c->head_dim : q, per_head ? c->head_dim : kv};
    const int attention = c->attention_bias, mlp = c->mlp_bias;
    const int bias[] = {attention, attention, attention, c->output_bias, mlp, mlp, mlp};
    *l = (er_layer){0};
    for (int w = 0; w < ER_MATRIX_COUNT; w++) {
        if (w == ER_MATRIX_GATE && !c->gated) continue;
        l->matrix[w] = random_matrix(r, rows[w], cols[w], w <= ER_MATRIX_K ? 1.5 : 1); /* attention that chooses */
        if (bias[w]) l->bias[w] = random_floats(r, rows[w], 0, 0.4);
    }
    for (int n = 0; n < ER_NORM_COUNT; n++)
        if (norms & 1u << n) l->norm[n] = random_norm(r, width[n]);
}

static inline void random_config(er_config *c)
{
    snprintf(c->family, sizeof c->family, "random");
    c->layers = K_LAYERS;
    c->hidden = K_HIDDEN;
    c->inner = K_INNER;
    c->heads = K_HEADS;
    if (!c->kv_heads) c->kv_heads = K_KV_HEADS;
    c->head_dim = K_HEAD_DIM;
    if (!c->rope_dim) c->rope_dim = K_HEAD_DIM;
    if (c->positions == ER_POSITION_LEARNED) c->rope_dim = 0;
    if (!c->embedding_width) c->embedding_width = c->hidden;
    c->vocab = K_VOCAB;
    c->max_positions = K_LONGEST;
    c->rope_base = 1000;
    c->norm_eps = (double)1e-5f;
    c->bos = c->eos = -1;
}

static inline void random_open(random_model *r, const kind *k, uint32_t seed)
{
    er_err err = ER_ERR_INIT;
    *r = (random_model){.seed = seed};
    er_model *m = &r->m;
    er_config *c = &m->config;
    OK(er_arena_new(&r->arena, 0, &err));
    *c = k->c;
    random_config(c);
    const int64_t d = c->hidden, e = c->embedding_width;
    m->longest_text = K_LONGEST;
    m->embedding = random_matrix(r, K_VOCAB, e, c->scaled_embedding ? 0.5 : 1.5);
    m->head = c->tied ? m->embedding : random_matrix(r, K_VOCAB, e, 1);
    if (c->head_bias) m->head_bias = random_floats(r, K_VOCAB, 0, 0.5);
    if (e != d) {
        m->project_in = random_matrix(r, d, e, 1);
        m->project_out = random_matrix(r, e, d, 1);
    }
    if (c->positions == ER_POSITION_LEARNED) {
        m->positions = random_matrix(r, c->position_offset + K_LONGEST, d, 1);
    } else {
        m->rope[0] = rope_table(r, c->rope_base);
        if (c->rope_local_base != 0) m->rope[1] = rope_table(r, c->rope_local_base);
    }
    if (!c->no_final_norm) m->final_norm = random_norm(r, d);
    OK(er_arena_take(r->arena, &m->layers, K_LAYERS, &err));
    for (int l = 0; l < K_LAYERS; l++) random_layer(r, &m->layers[l], k->norms);
    r->view = (er_view){m, m->layers};
}

static inline void random_close(random_model *r) { er_arena_free(r->arena); }

#endif
