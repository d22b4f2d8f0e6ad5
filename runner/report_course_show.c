/* SPDX-License-Identifier: Apache-2.0 */
/* The courses of several runs as lines, as a table and as CSV. */
#include "runner/report_course.h"

#include <math.h>
#include <string.h>

/* Column of the CSV, heading of the table; digits behind the point of per cents, 0: significant digits of the value. */
static const struct {
    const char *name, *title;
    int percent, digits;
} figures[ER_COURSE_FIGURES] = {
    {"eff", "Eff", 1, 1},           {"gen", "Gen", 1, 1},           {"spe", "Spe", 1, 1},
    {"eff_acc", "EffAcc", 1, 1},    {"gen_acc", "GenAcc", 1, 1},    {"spe_acc", "SpeAcc", 1, 1},
    {"same", "Same", 1, 1},
    {"perplexity", "perplexity", 0, 4}, {"agreement", "answers that stay", 1, 1}, {"kl", "divergence", 0, 3},
    {"update_norm", "update", 1, 1}, {"total_norm", "all updates", 1, 1}, {"capacity", "capacity used", 1, 1},
    {"eff_newest", "Eff, newest", 1, 1}, {"eff_oldest", "Eff, oldest", 1, 1},
};

static const char *method_of(const er_course *c)
{
    const char *method = json_string_value(json_object_get(c->r->summary, "method"));
    return method ? method : "?";
}

/* --- lines ------------------------------------------------------------------------------------------------------- */

static void say_break(er_pen *p, const er_course *c)
{
    const er_course_row *last = NULL;
    const double start = c->count ? c->rows[0].value[ER_COURSE_PERPLEXITY] : (double)NAN;
    if (c->broken > 0) {
        const er_course_row *now = &c->rows[c->broken], *then = now - 1;
        const double x = now->value[ER_COURSE_PERPLEXITY];
        while (!then->drift) then--; /* the first row has it */
        er_pen_say(p, "breaks at edit %lld: ", (long long)now->edits);
        if (isfinite(x))
            er_pen_say(p, "perplexity %.4g, %.3g times the %.4g of the unedited model", x, x / start, start);
        else
            er_pen_say(p, "perplexity is no number, the unedited model's is %.4g", start);
        er_pen_say(p, " (%.4g at %lld, the moment before)", then->value[ER_COURSE_PERPLEXITY], (long long)then->edits);
        return;
    }
    for (int64_t i = 0; i < c->count; i++)
        if (isfinite(c->rows[i].value[ER_COURSE_PERPLEXITY])) last = &c->rows[i];
    if (last && last->edits)
        er_pen_say(p, "does not break in %lld edits: perplexity %.4g, %.3g times the %.4g of the unedited model",
                   (long long)last->edits, last->value[ER_COURSE_PERPLEXITY], last->value[ER_COURSE_PERPLEXITY] / start,
                   start);
    else if (c->guard && !last)
        er_pen_say(p, "breaks at edit %lld by its first guard: perplexity was not measured", (long long)c->guard_edit);
    else
        er_pen_say(p, last ? "perplexity is known of the unedited model alone" : "perplexity was not measured");
}

static void say_guard(er_pen *p, const er_course *c)
{
    if (!c->guard) {
        er_pen_say(p, "; no guard was beyond its limit");
        return;
    }
    er_pen_say(p, "; first guard: %s at edit %lld (%.3g, limit %.3g)", c->guard, (long long)c->guard_edit,
               c->guard_value, c->guard_limit);
    if (c->broken < 0) return;
    const long long before = (long long)(c->rows[c->broken].edits - c->guard_edit);
    if (before > 0) er_pen_say(p, ", %lld edit%s before", before, before == 1 ? "" : "s");
    else er_pen_say(p, ", not before");
}

void er_course_say(er_pen *p, const er_course *c, int64_t number)
{
    er_pen_say(p, "%lld, %s: ", (long long)number, method_of(c));
    say_break(p, c);
    say_guard(p, c);
}

/* --- the table --------------------------------------------------------------------------------------------------- */

static void cell(er_doc *d, const er_course_row *row, int f)
{
    const double x = row->value[f], error = f < ER_REPORT_GROUPS ? row->error[f] : (double)NAN;
    if (!isfinite(x)) er_doc_cell(d, "–");
    else if (isfinite(error)) er_doc_cell(d, "%.*f ± %.1f", figures[f].digits, 100 * x, 100 * error);
    else if (figures[f].percent) er_doc_cell(d, "%.*f", figures[f].digits, 100 * x);
    else er_doc_cell(d, "%.*g", figures[f].digits, x);
}

static void rows_of(er_doc *d, const er_course *c, const int *shown)
{
    int64_t scored = 0;
    for (int64_t i = 0; i < c->count; i++) scored += c->rows[i].cases > 0;
    for (int64_t i = 0; i < c->count; i++) {
        const er_course_row *row = &c->rows[i];
        if (scored && !row->cases && i != c->broken) continue;
        er_doc_cell(d, "%s", method_of(c));
        er_doc_cell(d, "%s", row->moment);
        er_doc_cell(d, "%lld", (long long)row->edits);
        if (row->cases) er_doc_cell(d, "%lld", (long long)row->cases);
        else er_doc_cell(d, "–");
        for (int f = 0; f < ER_COURSE_FIGURES; f++)
            if (shown[f]) cell(d, row, f);
    }
}

static void table(er_doc *d, const er_course *courses, int64_t count)
{
    int shown[ER_COURSE_FIGURES] = {0};
    char align[ER_COURSE_FIGURES + 5] = "llrr";
    for (int f = 0; f < ER_COURSE_FIGURES; f++) {
        for (int64_t i = 0; i < count; i++)
            for (int64_t k = 0; k < courses[i].count; k++) shown[f] |= isfinite(courses[i].rows[k].value[f]);
        if (shown[f]) strcat(align, "r");
    }
    er_doc_table(d, align);
    er_doc_cell(d, "method");
    er_doc_cell(d, "moment");
    er_doc_cell(d, "edits");
    er_doc_cell(d, "cases");
    for (int f = 0; f < ER_COURSE_FIGURES; f++)
        if (shown[f]) er_doc_cell(d, "%s", figures[f].title);
    for (int64_t i = 0; i < count; i++) rows_of(d, &courses[i], shown);
    er_doc_table_end(d);
}

void er_course_part(er_doc *d, const er_course *courses, int64_t count)
{
    int any = 0;
    for (int64_t i = 0; i < count; i++) any |= er_course_is_long(&courses[i]);
    if (!any) return;
    er_doc_section(d, "course", "Edit by edit");
    for (int64_t i = 0; i < count; i++) {
        er_pen p = {ER_TEXT_INIT, d->code, d->err};
        er_course_say(&p, &courses[i], i + 1);
        d->code = p.code;
        if (!d->code) er_doc_item(d, "%s", p.text.at);
        er_text_free(&p.text);
    }
    er_doc_say(d, "A run breaks at the first moment at which held-out perplexity is above %.1f times the unedited "
               "model's; moments are as far apart as drift was measured.", ER_COURSE_BREAK);
    er_doc_fold(d, "moments as numbers", 1);
    table(d, courses, count);
    er_doc_fold_end(d);
    er_doc_say(d, "In per cent but for perplexity and divergence (nats). Scores: success and accuracy over the cases "
               "of that moment, with standard errors; Same: first choices on neighbours (else on locality prompts) that "
               "are the unedited model's. Update and all updates: norm against the matrix, the layer with the largest. "
               "Capacity used: keys in the history over the rank of the space they live in, the fullest layer. Newest, "
               "oldest: the youngest and the oldest edits of the moment's sample.");
}

/* --- CSV --------------------------------------------------------------------------------------------------------- */

/* Names come from files: quoted where they need it. */
static int put_text(er_text *out, const char *text, er_err *err)
{
    if (!strpbrk(text, ",\"\r\n")) return er_text_add(out, text, err);
    ER_TRY(er_text_add(out, "\"", err));
    for (const char *c = text; *c; c++) ER_TRY(er_text_add(out, *c == '"' ? "\"\"" : (const char[]){*c, 0}, err));
    return er_text_add(out, "\"", err);
}

static int put_value(er_text *out, double x, er_err *err)
{
    return isfinite(x) ? er_text_format(out, err, ",%.9g", x) : er_text_add(out, ",", err);
}

static int put_row(er_text *out, const er_course *c, const er_course_row *row, er_err *err)
{
    ER_TRY(put_text(out, c->r->name, err));
    ER_TRY(er_text_add(out, ",", err));
    ER_TRY(put_text(out, method_of(c), err));
    ER_TRY(er_text_add(out, ",", err));
    ER_TRY(put_text(out, row->moment, err));
    ER_TRY(er_text_format(out, err, ",%lld,%lld", (long long)row->edits, (long long)row->cases));
    for (int f = 0; f < ER_COURSE_FIGURES; f++) {
        ER_TRY(put_value(out, row->value[f], err));
        if (f < ER_REPORT_GROUPS) ER_TRY(put_value(out, row->error[f], err));
    }
    return er_text_add(out, "\n", err);
}

int er_course_csv(er_text *out, const er_course *courses, int64_t count, er_err *err)
{
    ER_TRY(er_text_add(out, "run,method,moment,edits,cases", err));
    for (int f = 0; f < ER_COURSE_FIGURES; f++) {
        ER_TRY(er_text_format(out, err, ",%s", figures[f].name));
        if (f < ER_REPORT_GROUPS) ER_TRY(er_text_format(out, err, ",%s_stderr", figures[f].name));
    }
    ER_TRY(er_text_add(out, "\n", err));
    for (int64_t i = 0; i < count; i++)
        for (int64_t k = 0; k < courses[i].count; k++) ER_TRY(put_row(out, &courses[i], &courses[i].rows[k], err));
    return 0;
}
