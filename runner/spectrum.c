/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/spectrum.h"

#include "stats/store.h"

enum { POINTS = 200 };

static int spectrum_line(er_text *out, const er_setup *s, int64_t layer, const er_eigen *e, er_err *err)
{
    er_projection p = {e, e->n};
    er_keep keep;
    ER_TRY(er_text_format(out, err, "{\"event\":\"spectrum\",\"layer\":%lld,\"dimension\":%lld,\"kept\":",
                          (long long)layer, (long long)e->n));
    if (s->editor->keep) {
        ER_TRY(s->editor->keep(&keep, &s->hyper, err));
        ER_TRY(er_projection_make(&p, e, &keep, err));
        ER_TRY(er_text_format(out, err, "%lld", (long long)p.rank));
    } else {
        ER_TRY(er_text_add(out, "null", err));
    }
    ER_TRY(er_text_add(out, ",\"points\":[", err));
    int64_t points = e->n < POINTS ? e->n : POINTS;
    for (int64_t i = 0; i < points; i++) {
        int64_t at = points > 1 ? i * (e->n - 1) / (points - 1) : 0;
        ER_TRY(er_text_format(out, err, "%s[%lld,", i ? "," : "", (long long)at));
        ER_TRY(er_text_float(out, e->values[at], err));
        ER_TRY(er_text_add(out, "]", err));
    }
    return er_text_add(out, "]}\n", err);
}

int er_spectrum_events(er_text *out, const er_setup *s, er_err *err)
{
    er_store *store = NULL;
    if (!(s->needs & ER_NEEDS_EIGEN)) return 0;
    ER_TRY(er_store_open(&store, s->job.stats.store, err));
    int code = 0;
    for (int64_t i = 0; !code && i < s->hyper.layers.count; i++) {
        er_stats_key key = er_setup_stats_key(s, s->hyper.layers.at[i]);
        er_eigen e = {0};
        int found = 0;
        code = er_store_eigen(store, &key, &e, &found, err);
        if (!code && found) code = spectrum_line(out, s, key.layer, &e, err);
        er_eigen_free(&e);
    }
    er_store_close(store);
    return code;
}
