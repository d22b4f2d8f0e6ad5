/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/explain.h"

#include "editors/stabilise.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Every line goes through here; the first failure stays. */
typedef struct voice {
    er_text *out;
    er_err *err;
    int code;
} voice;

static void say(voice *v, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(voice *v, const char *format, ...)
{
    char line[8192]; /* a path or two */
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (!v->code) v->code = er_text_add(v->out, line, v->err);
}

/* --- formula and values ------------------------------------------------------------------------------------------- */

static void formula(voice *v, const er_editor *e, const er_hyper *hyper)
{
    er_text more = ER_TEXT_INIT;
    say(v, "%s\n  %s\n", e->name, e->formula);
    if (!v->code) v->code = er_stabilise_formula(&more, hyper, v->err);
    for (const char *at = more.at; at && *at;) { /* "; A: ...; B: ..." */
        size_t n = strcspn(at + 2, ";");
        say(v, "    with %.*s\n", (int)n, at + 2);
        at += n + 2;
    }
    er_text_free(&more);
    for (const char *line = e->symbols; line && *line;) {
        size_t n = strcspn(line, "\n"), symbol = strcspn(line, ":");
        if (symbol > n) symbol = n;
        const char *text = symbol < n ? line + symbol + 2 : line + n;
        say(v, "    %-8.*s %.*s\n", (int)symbol, line, (int)(line + n - text), text);
        line += n + (line[n] == '\n');
    }
}

static void values(voice *v, const er_setup *s)
{
    const er_option_table *t = &s->job.tables[1];
    say(v, "\nvalues\n");
    for (size_t i = 0; i < t->count && !v->code; i++) {
        er_text value = ER_TEXT_INIT;
        char key[160];
        v->code = er_option_print(&value, &t->rows[i], t->target, v->err);
        snprintf(key, sizeof key, "%s%s", t->prefix, t->rows[i].key);
        const char *place = er_job_place_of(&s->job, key), *slash = place ? strrchr(place, '/') : NULL;
        if (slash && strncmp(place, "--", 2) != 0) place = slash + 1; /* the file's name says enough */
        say(v, "  %-32s %-18s %s%s%s%s\n", t->rows[i].key, value.at ? value.at : "", t->rows[i].help,
            place ? " [" : "", place ? place : "", place ? "]" : "");
        er_text_free(&value);
    }
}

/* --- statistics ---------------------------------------------------------------------------------------------------- */

static void layers(voice *v, const er_int_list *list)
{
    for (int64_t i = 0; i < list->count; i++) say(v, "%s%lld", i ? ", " : "", (long long)list->at[i]);
}

static void kept(voice *v, const er_setup *s)
{
    er_keep keep;
    if (!s->editor->keep || v->code) return;
    v->code = s->editor->keep(&keep, &s->hyper, v->err);
    if (v->code) return;
    if (keep.by == ER_KEEP_THRESHOLD) say(v, "  P keeps eigenvectors with an eigenvalue below %g\n", keep.value);
    if (keep.by == ER_KEEP_RANK) say(v, "  P keeps the %.0f eigenvectors with the smallest eigenvalues\n", keep.value);
    if (keep.by == ER_KEEP_ENERGY) say(v, "  P keeps the smallest eigenvalues up to %g of their sum\n", keep.value);
}

static void statistics(voice *v, const er_setup *s)
{
    const er_job *j = &s->job;
    say(v, "\nstatistics\n");
    if (!(s->needs & ER_NEEDS_EIGEN)) {
        say(v, "  none: with these values the method needs no second moments\n");
        return;
    }
    say(v, "  second moments of the down projection's inputs and their eigenpairs, layers ");
    layers(v, &s->hyper.layers);
    if (j->stats.imported) {
        say(v, "\n  imported into %s as %s\n", j->stats.store, j->stats.imported);
        kept(v, s);
        return;
    }
    if (j->stats.corpus == ER_JOB_CORPUS_FILE)
        say(v, "\n  measured on %s, ", j->stats.file.path);
    else
        say(v, "\n  measured on %lld tokens that the model writes (seed %lld)\n", (long long)j->stats.sample.tokens,
            (long long)j->stats.sample.seed);
    if (j->stats.corpus == ER_JOB_CORPUS_FILE) {
        if (j->stats.file.documents) say(v, "the first %lld documents", (long long)j->stats.file.documents);
        else say(v, "all documents");
        say(v, " of at most %lld tokens\n", (long long)j->stats.file.max_tokens);
    }
    say(v, "  kept in %s, found there by model, tokenizer and corpus\n", j->stats.store);
    kept(v, s);
}

/* --- parity -------------------------------------------------------------------------------------------------------- */

/* docs/parity.md has the reasons. */
static const struct {
    const char *fault;
    int easyedit, authors;
    const char *method; /* "": that of er_target_rule ROME; NULL: all */
} faults[] = {
    {"B8: a target that begins with a space gets a second one", 1, 0, ""},
    {"target ids: the target is encoded alone with its space, a leading start token dropped", 1, 1, NULL},
    {"B7: a lone word mark of SentencePiece tokenizers counts as a target token (so says the rule above)", 1, 1, NULL},
    {"B7: models of no GPT family get no space before the target", 1, 0, "pmet"},
    {"B15: rows hold decoded target ids that are encoded again", 1, 1, NULL},
    {"emmet_lambda is left out for a batch of one fact", 0, 1, "emmet"},
    {"prob_cutoff counts five tokens in all, and not the plain prompt's", 0, 1, "encore"},
    {"lora_type adalora: rank 12 whatever the job says", 1, 0, "lora"},
};

static int concerns(const char *method, const er_editor *e)
{
    if (!method) return 1;
    return *method ? !strcmp(method, e->name) : e->rule == ER_RULE_ROME;
}

static void parity(voice *v, const er_setup *s)
{
    static const char *const names[] = {"none", "easyedit", "authors"};
    const int which = s->job.parity;
    const er_face_preset *p;
    say(v, "\nparity %s: faults of that program which are on\n", names[which]);
    int any = 0;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        int on = which == ER_JOB_PARITY_EASYEDIT ? faults[i].easyedit : which == ER_JOB_PARITY_AUTHORS && faults[i].authors;
        if (!on || !concerns(faults[i].method, s->editor)) continue;
        say(v, "  %s\n", faults[i].fault);
        any = 1;
    }
    if (!any) say(v, "  none\n");
    for (int64_t i = 0; (p = er_editor_preset(s->editor, (enum er_parity)which, i)) != NULL; i++)
        say(v, "  presets %s: %s, where neither job nor file says otherwise\n", p->key, p->value);
}

/* --- phases -------------------------------------------------------------------------------------------------------- */

static void edits(voice *v, const er_setup *s)
{
    const er_job *j = &s->job;
    const int64_t count = s->data.count ? s->data.count : j->data.count;
    char many[32] = "all";
    if (count) snprintf(many, sizeof many, "%lld", (long long)count);
    if (j->edit.mode == ER_JOB_BATCH) say(v, "  %s facts in one batch:\n", many);
    else
        say(v, "  %s facts in batches of %lld, %s:\n", many, (long long)j->edit.batch,
            j->edit.mode == ER_JOB_SINGLE ? "weights and history restored after each" : "on one evolving model");
    if (s->editor->train) {
        say(v, "    the matrices are trained on the batch: at most %lld epochs over it, %lld facts a step, in its order\n",
            (long long)s->hyper.num_steps, (long long)s->hyper.batch_size);
    } else {
        say(v, "    targets: Adam on the value of each fact, at most %lld losses, done below %g\n",
            (long long)s->hyper.v_num_grad_steps, s->hyper.early_stop);
        say(v, "    per layer ");
        layers(v, &s->hyper.layers);
        say(v, ": keys on the model as it stands, one solve in fp64, the update rounded once into the weights\n");
    }
    if (s->editor->history_new) say(v, "    history: the batch's keys are spared by later batches\n");
    say(v, "    a record of the batch joins the ledger\n");
}

static void phases(voice *v, const er_setup *s)
{
    const er_job *j = &s->job;
    say(v, "\nphases\n");
    if (j->templates.source == ER_JOB_TEMPLATES_FILE) say(v, "  templates: read from %s\n", j->templates.file);
    else say(v, "  templates: written by the model, seed %lld\n", (long long)j->templates.seed);
    if (s->needs & ER_NEEDS_EIGEN) say(v, "  statistics: found in the store, or measured into it\n");
    if (j->score.before) say(v, "  scores on the unedited model\n");
    edits(v, s);
    if (j->score.at_edit) say(v, "    scores of the batch's facts right after it\n");
    if (j->score.every) say(v, "    scores after every %lld edits\n", (long long)j->score.every);
    if (j->score.at_end) say(v, "  scores of every fact after the last batch\n");
    say(v, "  report, summary.json, cases.jsonl, events.jsonl in %s\n", j->out);
}

int er_explain_text(er_text *out, const er_setup *s, er_err *err)
{
    voice v = {out, err, 0};
    formula(&v, s->editor, &s->hyper);
    values(&v, s);
    statistics(&v, s);
    parity(&v, s);
    phases(&v, s);
    return v.code;
}

int er_explain(const er_setup *s, er_err *err)
{
    er_text text = ER_TEXT_INIT;
    int code = er_explain_text(&text, s, err);
    if (!code) printf("%s\n", text.at);
    er_text_free(&text);
    return code;
}
