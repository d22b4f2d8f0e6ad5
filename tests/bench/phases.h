/* SPDX-License-Identifier: Apache-2.0 */
/* The phases that bench_phases measures. Each knows how to do itself once and what that needed. */
#ifndef ER_BENCH_PHASES_H
#define ER_BENCH_PHASES_H

#include "editors/prompts.h"
#include "jobs/dataset.h"
#include "model/forward.h"
#include "rates.h"
#include "stats/eigen.h"

#include <stdint.h>

/* What all phases share. Everything is made by bench_open and constant afterwards. */
typedef struct bench {
    const char *model_path, *facts, *templates, *corpus; /* corpus NULL: no statistics */
    int threads;
    er_arena *arena;
    er_model *model;
    er_view view;
    er_work *work;
    er_templates rome_texts, memit_texts;
    er_job job;
    er_dataset data;
    er_prompt *rome, *memit; /* (data.count) */
} bench;
int bench_open(bench *b, er_err *err);
void bench_close(bench *b);

/* One measurement. flops: what the phase needs by runner/cost.h, what texts begin with once, of which fp64 at Gram matrices
 * (statistics); apart: with every text for itself, 0 where that is the same. bytes: what
 * has to come from memory or from a file at least. peak: MiB, the highest of the measuring process meanwhile. */
typedef struct sample {
    double seconds, cpu, flops, apart, fp64, bytes, peak;
} sample;

/* What a phase's rate is held against: a kind of rate; sgemm for flops and dsyrk for fp64; nothing. */
enum { YARD_FLOOR = RATE_KINDS, YARD_NONE };
enum { RUN_QUICK = 1, RUN_FULL = 2, RUN_LONG = 4 };

typedef struct phase {
    const char *name;
    int64_t size, more; /* edits, records, tokens, ...; and what `size` does not say */
    const char *unit;   /* of size; "%lld" in it: `more` */
    int yard, one;      /* one: runs on one thread whatever the machine has */
    unsigned runs;
    int (*run)(bench *b, const struct phase *p, sample *out, er_err *err);
} phase;

typedef struct bench_watch {
    double wall, cpu;
} bench_watch;
void bench_start(bench_watch *w);
void bench_end(const bench_watch *w, sample *out); /* seconds, cpu and peak since bench_start */
/* For what is short: counts one more repetition; when they make a steady time, ends and divides by their number: 0. */
int bench_again(const bench_watch *w, sample *out, int64_t *times);

int phase_targets(bench *b, const phase *p, sample *out, er_err *err);  /* size edits of AlphaEdit behind layer `more` */
int phase_rome(bench *b, const phase *p, sample *out, er_err *err);     /* size edits one after another, layer `more` */
int phase_keys(bench *b, const phase *p, sample *out, er_err *err);     /* size edits, layers 4-8 */
int phase_scores(bench *b, const phase *p, sample *out, er_err *err);   /* size records */
int phase_generate(bench *b, const phase *p, sample *out, er_err *err); /* size texts, `more` tokens each */
int phase_statistics(bench *b, const phase *p, sample *out, er_err *err); /* size documents, layers 4-8 */
int phase_solve(bench *b, const phase *p, sample *out, er_err *err);    /* history size, f = more, batches of 16 or 100 */
/* The i-th number of a sequence between -0.5 and 0.5. */
double bench_uniform(uint64_t i);
/* Orthogonal vectors without an eigenproblem: a reflection I - 2 w w^T / w^T w; eigenvalues 1/n .. 1. */
int bench_reflection(er_eigen *out, int64_t n, er_err *err);
/* In a process of their own, because of OPENBLAS_CORETYPE and of peak memory. */
int phase_eigen(bench *b, const phase *p, sample *out, er_err *err);    /* f = size */
int phase_load(bench *b, const phase *p, sample *out, er_err *err);     /* weights of type size */
/* The other end: `bench_phases child eigen N` and `child load TYPE MODEL`; the exit code. */
int phase_child(int argc, char **argv);

#endif
