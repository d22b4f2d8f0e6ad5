/* SPDX-License-Identifier: Apache-2.0 */
#include "editors/editor.h"

#include "base/memory.h"
#include "base/text.h"
#include "editors/alphaedit.h"
#include "editors/emmet.h"
#include "editors/evoedit.h"
#include "editors/ft.h"
#include "editors/lora.h"
#include "editors/memit.h"
#include "editors/memit_seq.h"
#include "editors/nse.h"
#include "editors/pmet.h"
#include "editors/r_rome.h"
#include "editors/rome.h"
#include "editors/stabilised.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const er_editor *const editors[] = {&er_editor_rome, &er_editor_r_rome, &er_editor_memit, &er_editor_memit_seq,
                                           &er_editor_pmet, &er_editor_emmet, &er_editor_alphaedit, &er_editor_ft,
                                           &er_editor_ft_m, &er_editor_lora, &er_editor_encore, &er_editor_rect,
                                           &er_editor_prune, &er_editor_sphere, &er_editor_evoedit, &er_editor_nse};
enum { EDITORS = sizeof editors / sizeof *editors };

const er_editor *er_editor_at(int64_t index) { return index >= 0 && index < EDITORS ? editors[index] : NULL; }

enum er_target_rule er_editor_rule(const er_editor *editor, const er_config *config)
{
    const int gpt = strstr(config->family, "gpt") != NULL;
    return editor->rule == ER_RULE_PMET && !gpt ? ER_RULE_BARE : editor->rule;
}

const er_face_preset *er_editor_preset(const er_editor *editor, enum er_parity parity, int64_t index)
{
    for (const er_face_preset *p = editor->presets; p && p->key; p++)
        if (p->parity == parity && index-- == 0) return p;
    return NULL;
}

/* Case does not count: hyperparameter files write ROME and AlphaEdit. */
int er_editor_find(const er_editor **out, const char *name, er_err *err)
{
    const char *names[EDITORS];
    for (int i = 0; i < EDITORS; i++) {
        names[i] = editors[i]->name;
        if (!strcasecmp(name, names[i])) {
            *out = editors[i];
            return 0;
        }
    }
    const char *near = er_nearest(name, names, EDITORS);
    if (near) return er_fail(err, ER_E_INPUT, "unknown method '%s', did you mean '%s'?", name, near);
    er_fail(err, ER_E_INPUT, "unknown method '%s'; there are", name);
    for (int i = 0; err && i < EDITORS; i++) {
        size_t at = strlen(err->text);
        snprintf(err->text + at, sizeof err->text - at, "%s%s", i ? i + 1 < EDITORS ? ", " : " and " : " ", names[i]);
    }
    return ER_E_INPUT;
}

int er_editor_edited(er_edited **out, int64_t *count, const er_editor *editor, const er_hyper *hyper,
                     const er_config *config, er_err *err)
{
    er_edited *list = NULL;
    const int64_t n = editor->edited ? editor->edited(NULL, hyper, config) : hyper->layers.count;
    if (n < 1) return er_fail(err, ER_E_INPUT, "%s: no matrix is edited", editor->name);
    ER_TRY(er_alloc(&list, (size_t)n, err));
    if (editor->edited) editor->edited(list, hyper, config);
    for (int64_t i = 0; !editor->edited && i < n; i++) list[i] = (er_edited){hyper->layers.at[i], ER_MATRIX_DOWN};
    *out = list;
    *count = n;
    return 0;
}

int er_editor_hash_target(er_hasher *h, const er_editor *editor, const er_option_table *rows, const er_hyper *hyper,
                          er_err *err)
{
    int shared = editor->target == er_memit_target; /* one optimisation for several methods */
    er_option *kept = NULL;
    er_option_table table = *rows;
    ER_TRY(er_alloc(&kept, rows->count, err));
    table.rows = kept;
    table.count = 0;
    for (size_t i = 0; i < rows->count; i++) {
        const er_option *row = &rows->rows[i];
        if (row->flags & ER_OPT_SOLVE) continue;
        if (shared && row->type == ER_OPT_INT_LIST && !strcmp(row->key, "layers")) continue;
        kept[table.count++] = *row;
    }
    er_hasher_text(h, shared ? "memit" : editor->name);
    er_hasher_number(h, shared ? hyper->layers.at[hyper->layers.count - 1] : -1);
    er_options_hash(h, &table, 1, 0);
    if (hyper->use_nas) er_hasher_add(h, &hyper->nas_anchor, sizeof hyper->nas_anchor);
    er_free(kept);
    return 0;
}
