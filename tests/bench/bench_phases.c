/* SPDX-License-Identifier: Apache-2.0 */
/* bench_phases [--quick | --long] [--model PATH] [--facts FILE] [--templates FILE] [--corpus FILE] [--csv FILE]
 *              [--version TEXT] [--rounds N] [--only PHASE]
 * What this machine sustains (sgemm, dgemm, dsyrk, reading memory), then every phase of editing. A round goes through
 * all phases; each is measured between two measurements of the rate that it is held against, and the median of the
 * rounds by share is printed: a busy machine slows both. run.sh calls this. */
#include "phases.h"

#include "base/memory.h"
#include "model/kernels.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_ROUNDS = 15 };

#define ALL (RUN_QUICK | RUN_FULL | RUN_LONG)
#define MORE (RUN_FULL | RUN_LONG)
static const phase phases[] = {
    {"targets alphaedit", 1, 8, "edit, layer %lld", RATE_SGEMM, 0, ALL, phase_targets},
    {"targets alphaedit", 4, 8, "edits, layer %lld", RATE_SGEMM, 0, ALL, phase_targets},
    {"targets alphaedit", 16, 8, "edits, layer %lld", RATE_SGEMM, 0, MORE, phase_targets},
    {"targets rome", 1, 5, "edit, layer %lld", RATE_SGEMM, 0, ALL, phase_rome},
    {"keys", 1, 0, "edit, layers 4-8", RATE_SGEMM, 0, ALL, phase_keys},
    {"keys", 16, 0, "edits, layers 4-8", RATE_SGEMM, 0, ALL, phase_keys},
    {"scores", 1, 0, "record", RATE_SGEMM, 0, ALL, phase_scores},
    {"scores", 8, 0, "records", RATE_SGEMM, 0, ALL, phase_scores},
    {"statistics", 8, 400, "documents of at most %lld tokens", YARD_FLOOR, 0, ALL, phase_statistics},
    {"statistics", 32, 400, "documents of at most %lld tokens", YARD_FLOOR, 0, MORE, phase_statistics},
    {"eigenpairs", 576, 0, "dimensions", RATE_DGEMM, 1, ALL, phase_eigen},
    {"eigenpairs", 1536, 0, "dimensions", RATE_DGEMM, 1, ALL, phase_eigen},
    {"solve 16 edits", 0, 1536, "edits before, f = %lld", RATE_DGEMM, 0, ALL & ~RUN_LONG, phase_solve},
    {"solve 16 edits", 100, 1536, "edits before, f = %lld", RATE_DGEMM, 0, ALL & ~RUN_LONG, phase_solve},
    {"solve 16 edits", 1000, 1536, "edits before, f = %lld", RATE_DGEMM, 0, ALL & ~RUN_LONG, phase_solve},
    {"solve 100 edits", 100, 1536, "edits before, f = %lld", RATE_DGEMM, 0, RUN_LONG, phase_solve},
    {"solve 100 edits", 1000, 1536, "edits before, f = %lld", RATE_DGEMM, 0, RUN_LONG, phase_solve},
    {"solve 100 edits", 1000, 14336, "edits before, f = %lld", RATE_DGEMM, 0, RUN_LONG, phase_solve},
    {"generate", 1, 32, "text, %lld tokens", RATE_READ, 0, ALL, phase_generate},
    {"generate", 8, 32, "texts, %lld tokens each", RATE_READ, 0, ALL, phase_generate},
    {"load fp32", ER_F32, 0, NULL, YARD_NONE, 0, ALL, phase_load},
    {"load bf16", ER_BF16, 0, NULL, YARD_NONE, 0, ALL, phase_load},
};
enum { PHASES = sizeof phases / sizeof phases[0] };

typedef struct options {
    unsigned runs;
    int rounds;
    const char *csv, *version, *only;
} options;

typedef struct measured {
    sample s;
    double rate, rate64, share, share_cpu;
} measured;

typedef struct row {
    int count;
    measured round[MOST_ROUNDS];
} row;

/* --- one measurement ------------------------------------------------------------------------------------------------ */

static double mean(double a, double b) { return (a + b) / 2; }

/* Rates of the same moments: before and after. */
static void judge(measured *m, const phase *p, const rate before[2], const rate after[2])
{
    if (p->yard == YARD_NONE) return;
    const double cpu = mean(before[0].cpu, after[0].cpu), cpu64 = mean(before[1].cpu, after[1].cpu);
    m->rate = mean(before[0].wall, after[0].wall);
    m->rate64 = mean(before[1].wall, after[1].wall);
    if (p->yard == YARD_FLOOR) {
        m->share = ((m->s.flops - m->s.fp64) / m->rate + m->s.fp64 / m->rate64) / m->s.seconds;
        m->share_cpu = ((m->s.flops - m->s.fp64) / cpu + m->s.fp64 / cpu64) / m->s.cpu;
    } else {
        const double work = p->yard == RATE_READ ? m->s.bytes : m->s.flops;
        m->share = work / m->s.seconds / m->rate;
        m->share_cpu = work / m->s.cpu / cpu;
    }
}

static void rates_beside(rate out[2], const bench *b, const phase *p)
{
    const int workers = p->one ? 1 : b->threads;
    out[0] = out[1] = (rate){0, 0};
    if (p->yard == YARD_NONE) return;
    out[0] = rates_measure(p->yard == YARD_FLOOR ? RATE_SGEMM : (enum rate_kind)p->yard, workers);
    if (p->yard == YARD_FLOOR) out[1] = rates_measure(RATE_DSYRK, workers);
}

static int measure(bench *b, const phase *p, measured *m, er_err *err)
{
    rate before[2], after[2];
    *m = (measured){0};
    rates_beside(before, b, p);
    ER_TRY(p->run(b, p, &m->s, err));
    rates_beside(after, b, p);
    judge(m, p, before, after);
    return 0;
}

static int by_share(const void *a, const void *b)
{
    const measured *x = a, *y = b;
    if (x->share < y->share || x->share > y->share) return x->share < y->share ? -1 : 1;
    return x->s.seconds < y->s.seconds ? 1 : -1;
}

static measured median(row *r)
{
    qsort(r->round, (size_t)r->count, sizeof *r->round, by_share);
    measured m = r->round[r->count / 2];
    for (int i = 0; i < r->count; i++)
        if (r->round[i].s.peak > m.s.peak) m.s.peak = r->round[i].s.peak;
    return m;
}

/* --- the table ------------------------------------------------------------------------------------------------------ */

static const char *yard_name(const phase *p)
{
    return p->yard == YARD_NONE ? "" : p->yard == YARD_FLOOR ? "sgemm+dsyrk" : rate_names[p->yard];
}

static void size_text(char *out, size_t size, const phase *p)
{
    char rest[64] = "";
    if (p->unit && p->more) {
        const char *mark = strstr(p->unit, "%lld");
        snprintf(rest, sizeof rest, "%.*s%lld%s", mark ? (int)(mark - p->unit) : (int)strlen(p->unit), p->unit,
                 (long long)p->more, mark ? mark + 4 : "");
    } else if (p->unit) {
        snprintf(rest, sizeof rest, "%s", p->unit);
    }
    if (p->unit) snprintf(out, size, "%lld %s", (long long)p->size, rest);
    else snprintf(out, size, "model");
}

static void print_row(const phase *p, const measured *m)
{
    char size[96];
    size_text(size, sizeof size, p);
    printf("%-18s %-38s %9.4f %9.4f", p->name, size, m->s.seconds, m->s.cpu);
    if (m->s.flops > 0) printf(" %10.3f %8.1f", 1e-9 * m->s.flops, 1e-9 * m->s.flops / m->s.seconds);
    else printf(" %10s %8s", "", "");
    if (p->yard == YARD_NONE) printf(" %11s %8s %6s %6s", "", "", "", "");
    else printf(" %11s %8.1f %5.0f%% %5.0f%%", yard_name(p), 1e-9 * m->rate, 100 * m->share, 100 * m->share_cpu);
    printf(" %7.2f %8.0f\n", 1e-9 * m->s.bytes / m->s.seconds, m->s.peak);
    fflush(stdout);
}

static void csv_row(FILE *f, const phase *p, const measured *m)
{
    char size[96];
    size_text(size, sizeof size, p);
    fprintf(f, "%s,\"%s\",%.6g,%.6g,%.6g,%.6g,%s,%.6g,%.4g,%.4g,%.6g,%.6g,%.6g\n", p->name, size, m->s.seconds, m->s.cpu,
            1e-9 * m->s.flops, 1e-9 * m->s.flops / m->s.seconds, yard_name(p), 1e-9 * m->rate, m->share, m->share_cpu,
            1e-9 * m->s.bytes / m->s.seconds, m->s.peak, 1e-9 * (m->s.apart > 0 ? m->s.apart : m->s.flops));
}

static void print_rates(const bench *b, FILE *csv)
{
    for (int k = 0; k < RATE_KINDS; k++) {
        const rate one = rates_measure((enum rate_kind)k, 1), all = rates_measure((enum rate_kind)k, b->threads);
        const char *unit = k == RATE_READ ? "GB/s" : "GF/s";
        printf("%-6s one core %7.1f %s (%.1f by its CPU time), %d at once %7.1f %s\n", rate_names[k], 1e-9 * one.wall,
               unit, 1e-9 * one.cpu, b->threads, 1e-9 * all.wall, unit);
        if (csv)
            fprintf(csv, "# %s %s: one %.6g, of CPU time %.6g, %d at once %.6g\n", rate_names[k], unit, 1e-9 * one.wall,
                    1e-9 * one.cpu, b->threads, 1e-9 * all.wall);
    }
}

/* --- main ----------------------------------------------------------------------------------------------------------- */

static int chosen(const options *o, const bench *b, const phase *p)
{
    if (!(p->runs & o->runs) || (o->only && !strstr(p->name, o->only))) return 0;
    return p->run != phase_statistics || b->corpus;
}

static double load_now(void)
{
    double load = 0;
    return getloadavg(&load, 1) == 1 ? load : -1;
}

static int run(bench *b, const options *o, FILE *csv, er_err *err)
{
    static row rows[PHASES];
    const double load = load_now();
    printf("errata %s, %s kernels, %d threads, %d rounds, load %.1f\n", o->version, er_kernels_name(), b->threads,
           o->rounds, load);
    if (csv)
        fprintf(csv, "# errata %s, %s kernels, %d threads, median of %d rounds, load %.1f at the start\n", o->version,
                er_kernels_name(), b->threads, o->rounds, load);
    print_rates(b, csv);
    if (!b->corpus) printf("no corpus: statistics are left out\n");
    fflush(stdout);
    ER_TRY(bench_open(b, err));
    for (int r = 0; r < o->rounds; r++)
        for (int i = 0; i < PHASES; i++) {
            if (!chosen(o, b, &phases[i])) continue;
            if (isatty(2)) fprintf(stderr, "\r\033[Kround %d: %s", r + 1, phases[i].name);
            ER_TRY(measure(b, &phases[i], &rows[i].round[r], err));
            rows[i].count = r + 1;
        }
    if (isatty(2)) fprintf(stderr, "\r\033[K");
    printf("%-18s %-38s %9s %9s %10s %8s %11s %8s %6s %6s %7s %8s\n", "phase", "size", "seconds", "CPU s", "GF needed",
           "GF/s", "against", "G/s", "share", "of CPU", "GB/s", "peak MiB");
    if (csv)
        fprintf(csv, "phase,size,seconds,cpu_seconds,gflop_needed,gflop_per_s,against,against_g_per_s,share,"
                     "share_of_cpu,gb_per_s,peak_mib,gflop_apart\n");
    for (int i = 0; i < PHASES; i++) {
        if (!rows[i].count) continue;
        const measured m = median(&rows[i]);
        print_row(&phases[i], &m);
        if (csv) csv_row(csv, &phases[i], &m);
    }
    printf("load %.1f at the end\n", load_now());
    if (csv) fprintf(csv, "# load %.1f at the end\n", load_now());
    return 0;
}

static int read_options(bench *b, options *o, int argc, char **argv)
{
    const struct {
        const char *name, **to;
    } texts[] = {{"--model", &b->model_path}, {"--facts", &b->facts},     {"--templates", &b->templates},
                 {"--corpus", &b->corpus},    {"--csv", &o->csv},         {"--version", &o->version},
                 {"--only", &o->only}};
    for (int i = 1; i < argc; i++) {
        size_t k = 0;
        if (strcmp(argv[i], "--quick") == 0) {
            o->runs = RUN_QUICK;
        } else if (strcmp(argv[i], "--long") == 0) {
            o->runs = RUN_LONG;
        } else if (i + 1 == argc) {
            return -1;
        } else if (strcmp(argv[i], "--rounds") == 0) {
            o->rounds = atoi(argv[++i]);
        } else {
            while (k < sizeof texts / sizeof texts[0] && strcmp(argv[i], texts[k].name) != 0) k++;
            if (k == sizeof texts / sizeof texts[0]) return -1;
            *texts[k].to = argv[++i];
        }
    }
    return o->rounds < 1 || o->rounds > MOST_ROUNDS ? -1 : 0;
}

int main(int argc, char **argv)
{
    er_err err = ER_ERR_INIT;
    bench b = {.model_path = "cache/SmolLM2-135M-Instruct.Q4_1.gguf", .facts = "jobs/facts/quickstart.json",
               .templates = "tests/fixtures/tiny-templates.json"};
    options o = {RUN_FULL, 3, NULL, "?", NULL};
    rates_choose_blas(argv);
    if (argc > 2 && strcmp(argv[1], "child") == 0) return phase_child(argc - 2, argv + 2);
    if (read_options(&b, &o, argc, argv))
        return fprintf(stderr, "usage: see the head of bench_phases.c; rounds are 1 to %d\n", MOST_ROUNDS), 2;
    if (er_kernels_start(NULL)) return fprintf(stderr, "bench_phases: no kernels for this CPU\n"), 1;
    b.threads = omp_get_max_threads();
    if (rates_start(b.threads)) return perror("bench_phases: helpers"), 1;
    FILE *csv = o.csv ? fopen(o.csv, "w") : NULL;
    if (o.csv && !csv) return perror(o.csv), 1;
    int code = run(&b, &o, csv, &err);
    if (code) fprintf(stderr, "bench_phases: %s\n", err.text);
    if (csv && fclose(csv) && !code) perror(o.csv), code = 1;
    bench_close(&b);
    rates_stop();
    er_kernels_stop();
    return code ? 1 : 0;
}
