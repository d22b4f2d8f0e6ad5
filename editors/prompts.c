/* SPDX-License-Identifier: Apache-2.0 */
#include "editors/prompts.h"

#include "base/text.h"
#include "editors/texts.h"

#include <inttypes.h>
#include <string.h>

/* Buffers of one er_prompt_make, reused from row to row. */
typedef struct scratch {
    const er_tokenizer *t;
    er_text text, target, decoded;
    er_ids part, whole, target_ids;
} scratch;

static void scratch_free(scratch *s)
{
    er_text_free(&s->text);
    er_text_free(&s->target);
    er_text_free(&s->decoded);
    er_ids_free(&s->part);
    er_ids_free(&s->whole);
    er_ids_free(&s->target_ids);
}

static void text_empty(er_text *t)
{
    t->length = 0;
    if (t->at) t->at[0] = 0;
}

/* ids of the first n bytes of text, as a text of its own. */
static int encode(const er_tokenizer *t, er_ids *ids, const char *text, size_t n, int special, er_err *err)
{
    ids->count = 0;
    return er_encode(t, ids, text, n, special, err);
}

/* How many ids of `whole` belong to the prompt, its first `bytes` bytes. When the prompt's own ids are no prefix, a
 * token crosses the border: the first token that reaches behind it starts the target. */
static int split_ids(const er_tokenizer *t, const er_ids *prompt, const er_ids *whole, size_t bytes, er_text *decoded,
                     int64_t *split, int *inside, er_err *err)
{
    if (prompt->count <= whole->count &&
        (!prompt->count || !memcmp(prompt->at, whole->at, (size_t)prompt->count * sizeof *prompt->at))) {
        *split = prompt->count;
        return 0;
    }
    er_ids lead = {0}; /* what the template puts in front has no bytes in the text */
    int code = er_encode(t, &lead, "", 0, 1, err);
    int64_t i = lead.count < whole->count ? lead.count : whole->count;
    er_ids_free(&lead);
    if (code) return code;
    for (size_t end = 0; i < whole->count; i++) {
        text_empty(decoded);
        ER_TRY(er_decode(t, decoded, whole->at + i, 1, 0, err));
        end += decoded->length;
        if (end > bytes) break;
    }
    *split = i;
    *inside = 1;
    return 0;
}

static int copy_ids(int32_t **out, const int32_t *ids, int64_t count, er_arena *arena, er_err *err)
{
    ER_TRY(er_arena_take(arena, out, (size_t)(count > 0 ? count : 1), err));
    if (count > 0) memcpy(*out, ids, (size_t)count * sizeof **out);
    return 0;
}

/* text = template with the prompt in its hole and the subject in the prompt's; returns the bytes up to the end of the
 * subject in *subject_end. */
static int fill(er_text *text, const char *template, const char *prompt, const char *subject, size_t *subject_end,
                er_err *err)
{
    const char *outer = strstr(template, "{}"), *inner = strstr(prompt, "{}");
    text_empty(text);
    ER_TRY(er_text_bytes(text, template, (size_t)(outer - template), err));
    ER_TRY(er_text_bytes(text, prompt, (size_t)(inner - prompt), err));
    ER_TRY(er_text_add(text, subject, err));
    *subject_end = text->length;
    ER_TRY(er_text_add(text, inner + 2, err));
    return er_text_add(text, outer + 2, err);
}

/* Index of the subject's last token: the text up to the subject is encoded on its own (spec 3.2, subject_last). */
static int subject_index(scratch *s, size_t subject_end, int64_t *index, er_err *err)
{
    ER_TRY(encode(s->t, &s->whole, s->text.at, subject_end, 1, err));
    *index = s->whole.count - 1;
    return 0;
}

static int bad(er_err *err, const er_request *request, const char *what)
{
    return er_fail(err, ER_E_INPUT, "case %" PRId64 " (record %" PRId64 "): %s", request->case_id, request->index,
                   what);
}

static int check_request(const er_request *r, const er_templates *templates, er_err *err)
{
    if (!r->subject || !r->subject[0]) return bad(err, r, "subject is empty, it has no tokens");
    if (!r->target_new || !r->target_new[0]) return bad(err, r, "target_new is empty, it has no tokens");
    if (!r->prompt || er_text_holes(r->prompt) != 1) return bad(err, r, "prompt must hold \"{}\" exactly once");
    if (templates->count < 1 || strcmp(templates->text[0], "{}"))
        return er_fail(err, ER_E_INTERNAL, "the first context template is not \"{}\"");
    return 0;
}

/* The target with the space that parts it from the prompt. */
static int target_text(er_text *out, const char *target, enum er_parity parity, enum er_target_rule rule, er_err *err)
{
    int space = target[0] != ' ';
    /* EasyEdit's ROME compares the whole string with a space, so that " Paris" gets a second one (spec B8); its PMET
     * looks at the model's name (B7) */
    if (parity == ER_PARITY_EASYEDIT && rule == ER_RULE_ROME) space = strcmp(target, " ") != 0;
    if (parity == ER_PARITY_EASYEDIT && rule == ER_RULE_BARE) space = 0;
    text_empty(out);
    if (space) ER_TRY(er_text_add(out, " ", err));
    return er_text_add(out, target, err);
}

/* Our rule: prompt and target are encoded as one text and cut where the prompt ends. */
static int row_joint(er_prompt *out, scratch *s, int64_t c, er_arena *arena, er_err *err)
{
    er_text_row *row = &out->rows[c];
    size_t bytes = s->text.length;
    int64_t split;
    ER_TRY(er_text_bytes(&s->text, s->target.at, s->target.length, err));
    ER_TRY(encode(s->t, &s->whole, s->text.at, s->text.length, 1, err));
    ER_TRY(split_ids(s->t, &s->part, &s->whole, bytes, &s->decoded, &split, &out->split_inside, err));
    if (c == 0) { /* the plain prompt decides the target's ids */
        out->target_count = s->whole.count - split;
        ER_TRY(copy_ids(&out->target, s->whole.at + split, out->target_count, arena, err));
    }
    int64_t tail = out->target_count > 0 ? out->target_count - 1 : 0;
    ER_TRY(er_arena_take(arena, &row->ids, (size_t)(split + tail + 1), err));
    if (split) memcpy(row->ids, s->whole.at, (size_t)split * sizeof *row->ids);
    if (tail) memcpy(row->ids + split, out->target, (size_t)tail * sizeof *row->ids);
    row->count = split + tail;
    return 0;
}

/* The published rule: the target is encoded alone, all but its last id are decoded, put behind the prompt as text, and
 * the whole is encoded again (spec 3.4). */
static int target_alone(er_prompt *out, scratch *s, enum er_target_rule rule, er_arena *arena, er_err *err)
{
    const er_ids *ids = &s->target_ids;
    ER_TRY(encode(s->t, &s->target_ids, s->target.at, s->target.length, 0, err));
    int32_t first = ids->count > 0 ? ids->at[0] : -2;
    int64_t drop = rule == ER_RULE_FAMILY && (first == er_tokenizer_bos(s->t) || first == er_tokenizer_unk(s->t));
    out->target_count = ids->count - drop;
    ER_TRY(copy_ids(&out->target, ids->at + drop, out->target_count, arena, err));
    text_empty(&s->target);
    return out->target_count > 1 ? er_decode_text(s->t, &s->target, out->target, out->target_count - 1, 0, err) : 0;
}

static int row_again(er_prompt *out, scratch *s, int64_t c, er_arena *arena, er_err *err)
{
    er_text_row *row = &out->rows[c];
    ER_TRY(er_text_bytes(&s->text, s->target.at ? s->target.at : "", s->target.length, err));
    ER_TRY(encode(s->t, &s->whole, s->text.at, s->text.length, 1, err));
    row->count = s->whole.count;
    return copy_ids(&row->ids, s->whole.at, row->count, arena, err);
}

static int make_row(er_prompt *out, scratch *s, const er_request *request, const char *template, int64_t c, int again,
                    er_arena *arena, er_err *err)
{
    er_text_row *row = &out->rows[c], *key = &out->keys[c];
    size_t subject_end;
    int64_t subject;
    ER_TRY(fill(&s->text, template, request->prompt, request->subject, &subject_end, err));
    ER_TRY(subject_index(s, subject_end, &subject, err));
    ER_TRY(encode(s->t, &s->part, s->text.at, s->text.length, 1, err));
    if (subject < 0 || subject >= s->part.count) return bad(err, request, "the subject has no token of its own");
    *key = (er_text_row){NULL, subject + 1, subject, -1};
    ER_TRY(copy_ids(&key->ids, s->part.at, key->count, arena, err));
    ER_TRY(again ? row_again(out, s, c, arena, err) : row_joint(out, s, c, arena, err));
    if (out->target_count < 1) return bad(err, request, "target_new has no tokens");
    row->subject = subject;
    row->answer = row->count - out->target_count;
    if (row->answer < 0 || subject >= row->count)
        return bad(err, request, "the prompt's last token joins the target: nothing is left that could predict it");
    return 0;
}

static int make_kl(er_prompt *out, scratch *s, const er_request *request, er_arena *arena, er_err *err)
{
    size_t subject_end;
    int64_t subject;
    ER_TRY(fill(&s->text, "{}", "{} is a", request->subject, &subject_end, err));
    ER_TRY(subject_index(s, subject_end, &subject, err));
    ER_TRY(encode(s->t, &s->part, s->text.at, s->text.length, 1, err));
    if (subject < 0 || subject >= s->part.count) return bad(err, request, "the subject has no token of its own");
    out->kl = (er_text_row){NULL, subject + 1, subject, -1};
    return copy_ids(&out->kl.ids, s->part.at, out->kl.count, arena, err);
}

static int make_all(er_prompt *out, scratch *s, const er_request *request, const er_templates *templates, int again,
                    enum er_target_rule rule, er_arena *arena, er_err *err)
{
    ER_TRY(er_arena_take(arena, &out->rows, (size_t)templates->count, err));
    ER_TRY(er_arena_take(arena, &out->keys, (size_t)templates->count, err));
    if (again) ER_TRY(target_alone(out, s, rule, arena, err));
    for (int64_t c = 0; c < templates->count; c++)
        ER_TRY(make_row(out, s, request, templates->text[c], c, again, arena, err));
    return make_kl(out, s, request, arena, err);
}

int er_prompt_make(er_prompt *out, const er_tokenizer *t, const er_request *request, const er_templates *templates,
                   enum er_parity parity, enum er_target_rule rule, er_arena *arena, er_err *err)
{
    scratch s = {.t = t};
    er_prompt prompt = {.templates = templates->count};
    ER_TRY(check_request(request, templates, err));
    int code = target_text(&s.target, request->target_new, parity, rule, err);
    if (!code) code = make_all(&prompt, &s, request, templates, parity != ER_PARITY_NONE, rule, arena, err);
    scratch_free(&s);
    if (!code) *out = prompt;
    return code;
}

static int make_scored(er_scored_row *out, scratch *s, const char *prompt, const char *answer, er_arena *arena,
                       er_err *err)
{
    size_t bytes = strlen(prompt);
    int64_t split;
    int inside = 0;
    ER_TRY(target_text(&s->target, answer, ER_PARITY_NONE, ER_RULE_FAMILY, err));
    ER_TRY(er_text_bytes(&s->text, prompt, bytes, err));
    ER_TRY(encode(s->t, &s->part, s->text.at, bytes, 1, err));
    ER_TRY(er_text_bytes(&s->text, s->target.at, s->target.length, err));
    ER_TRY(encode(s->t, &s->whole, s->text.at, s->text.length, 1, err));
    ER_TRY(split_ids(s->t, &s->part, &s->whole, bytes, &s->decoded, &split, &inside, err));
    if (split >= s->whole.count) return er_fail(err, ER_E_INPUT, "answer \"%s\" has no tokens", answer);
    if (split < 1) return er_fail(err, ER_E_INPUT, "prompt \"%s\" has no tokens", prompt);
    out->count = s->whole.count;
    out->answer_start = split;
    return copy_ids(&out->ids, s->whole.at, out->count, arena, err);
}

int er_scored_row_make(er_scored_row *out, const er_tokenizer *t, const char *prompt, const char *answer,
                       er_arena *arena, er_err *err)
{
    scratch s = {.t = t};
    er_scored_row row = {0};
    if (!answer[0]) return er_fail(err, ER_E_INPUT, "the answer to \"%s\" is empty", prompt);
    int code = make_scored(&row, &s, prompt, answer, arena, err);
    scratch_free(&s);
    if (!code) *out = row;
    return code;
}
