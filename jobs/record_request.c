/* SPDX-License-Identifier: Apache-2.0 */
/* One record of each format as an edit request. */
#include "base/json.h"
#include "base/text.h"
#include "jobs/records.h"

#include <string.h>

enum { GROUPS_MOST = 3 };

/* One record being read. */
typedef struct record {
    const er_records *file;
    int64_t i, case_id;
    er_arena *arena;
    er_err *err;
} record;

#define BAD(r, ...) er_record_fail((r)->file, (r)->i, (r)->case_id, (r)->err, __VA_ARGS__)

static int keep(const char **out, const record *r, const char *text)
{
    *out = er_arena_strdup(r->arena, text, r->err);
    return *out ? 0 : ER_E_MEMORY;
}

static int is_blank(const char *text) { return text[strspn(text, " \t\r\n")] == 0; }

/* A text that is there and not blank. */
static int text_of(const char **out, const record *r, const json_t *value, const char *name)
{
    if (!value) return BAD(r, "field '%s' is missing", name);
    if (!json_is_string(value)) return BAD(r, "field '%s' is %s, expected a text", name, er_json_kind(value));
    if (is_blank(json_string_value(value))) return BAD(r, "field '%s' is empty, expected a text", name);
    return keep(out, r, json_string_value(value));
}

static int is_absent(const json_t *value) { return !value || json_is_null(value); }

static int optional_text(const char **out, const record *r, const json_t *value, const char *name)
{
    return is_absent(value) ? 0 : text_of(out, r, value, name);
}

/* A list of texts, or one text; absent: none. */
static int texts_of(const char ***out, int64_t *count, const record *r, const json_t *value, const char *name)
{
    *count = 0;
    if (is_absent(value)) return 0;
    int single = json_is_string(value);
    if (!single && !json_is_array(value))
        return BAD(r, "field '%s' is %s, expected a list of texts", name, er_json_kind(value));
    size_t n = single ? 1 : json_array_size(value);
    ER_TRY(er_arena_take(r->arena, out, n, r->err));
    for (size_t k = 0; k < n; k++) {
        const json_t *item = single ? value : json_array_get(value, k);
        if (!json_is_string(item))
            return BAD(r, "field '%s', entry %zu is %s, expected a text", name, k + 1, er_json_kind(item));
        if (is_blank(json_string_value(item))) return BAD(r, "field '%s', entry %zu is empty", name, k + 1);
        ER_TRY(keep(&(*out)[k], r, json_string_value(item)));
    }
    *count = (int64_t)n;
    return 0;
}

static int64_t occurrences(const char *text, const char *part, size_t step)
{
    int64_t n = 0;
    for (const char *at = text; (at = strstr(at, part)); at += step) n++;
    return n;
}

/* text with its first `part` replaced. */
static int replaced(const char **out, const record *r, const char *text, const char *part, const char *by)
{
    const char *at = strstr(text, part);
    size_t before = (size_t)(at - text), n = strlen(by), rest = strlen(at + strlen(part)) + 1;
    char *result = NULL;
    ER_TRY(er_arena_take(r->arena, &result, before + n + rest, r->err));
    memcpy(result, text, before);
    memcpy(result + before, by, n);
    memcpy(result + before + n, at + strlen(part), rest);
    *out = result;
    return 0;
}

static int add_group(er_request *q, const char *name, const char **prompts, const char **answers, int64_t count)
{
    if (count) q->groups[q->group_count++] = (er_prompt_group){name, count, prompts, answers};
    return 0;
}

/* Needs subject and prompt; makes room for all groups and writes the first. */
static int add_rewrite(er_request *q, const record *r)
{
    int64_t n = occurrences(q->prompt, "{}", 2);
    if (n != 1)
        return BAD(r, "the prompt '%.120s' holds %lld times {}, expected exactly one", q->prompt, (long long)n);
    const char **prompt = NULL;
    ER_TRY(er_arena_take(r->arena, &q->groups, GROUPS_MOST, r->err));
    ER_TRY(er_arena_take(r->arena, &prompt, 1, r->err));
    ER_TRY(replaced(prompt, r, q->prompt, "{}", q->subject));
    q->group_count = 0;
    return add_group(q, "rewrite", prompt, NULL, 1);
}

static int add_list(er_request *q, const record *r, const char *group, const json_t *value, const char *field)
{
    const char **prompts = NULL;
    int64_t count = 0;
    ER_TRY(texts_of(&prompts, &count, r, value, field));
    return add_group(q, group, prompts, NULL, count);
}

/* {"str": ..., "id": ...}, or the text itself. */
static int target_of(const char **out, const record *r, const json_t *value, const char *name, const char *name_str)
{
    if (!json_is_object(value)) return text_of(out, r, value, name);
    return text_of(out, r, json_object_get(value, "str"), name_str);
}

static int read_counterfact(er_request *q, const record *r, const json_t *o)
{
    const json_t *w = json_object_get(o, "requested_rewrite");
    if (!w) return BAD(r, "field 'requested_rewrite' is missing");
    if (!json_is_object(w)) return BAD(r, "field 'requested_rewrite' is %s, expected an object", er_json_kind(w));
    const json_t *truth = json_object_get(w, "target_true");
    ER_TRY(text_of(&q->subject, r, json_object_get(w, "subject"), "requested_rewrite.subject"));
    ER_TRY(text_of(&q->prompt, r, json_object_get(w, "prompt"), "requested_rewrite.prompt"));
    ER_TRY(target_of(&q->target_new, r, json_object_get(w, "target_new"), "requested_rewrite.target_new",
                     "requested_rewrite.target_new.str"));
    if (!is_absent(truth))
        ER_TRY(target_of(&q->target_true, r, truth, "requested_rewrite.target_true",
                         "requested_rewrite.target_true.str"));
    ER_TRY(optional_text(&q->relation, r, json_object_get(w, "relation_id"), "requested_rewrite.relation_id"));
    ER_TRY(add_rewrite(q, r));
    ER_TRY(add_list(q, r, "paraphrase", json_object_get(o, "paraphrase_prompts"), "paraphrase_prompts"));
    return add_list(q, r, "neighborhood", json_object_get(o, "neighborhood_prompts"), "neighborhood_prompts");
}

/* A sentence that holds the subject once, or one {}. */
static int flat_prompt(er_request *q, const record *r)
{
    if (strstr(q->prompt, "{}")) return 0;
    int64_t n = occurrences(q->prompt, q->subject, 1);
    if (n == 0) return BAD(r, "subject '%.80s' does not occur in the prompt '%.120s'", q->subject, q->prompt);
    if (n > 1)
        return BAD(r, "subject '%.80s' occurs %lld times in the prompt '%.120s', expected once or a {}", q->subject,
                   (long long)n, q->prompt);
    return replaced(&q->prompt, r, q->prompt, q->subject, "{}");
}

/* EasyEdit writes "" where a record has no such prompt. */
static const json_t *unless_blank(const json_t *value)
{
    return json_is_string(value) && is_blank(json_string_value(value)) ? NULL : value;
}

static int read_easyedit(er_request *q, const record *r, const json_t *o)
{
    const char **prompts = NULL, **answers = NULL;
    int64_t count = 0, answer_count = 0;
    ER_TRY(text_of(&q->subject, r, json_object_get(o, "subject"), "subject"));
    ER_TRY(text_of(&q->prompt, r, json_object_get(o, "prompt"), "prompt"));
    ER_TRY(text_of(&q->target_new, r, json_object_get(o, "target_new"), "target_new"));
    ER_TRY(optional_text(&q->target_true, r, unless_blank(json_object_get(o, "ground_truth")), "ground_truth"));
    ER_TRY(flat_prompt(q, r));
    ER_TRY(add_rewrite(q, r));
    ER_TRY(add_list(q, r, "paraphrase", unless_blank(json_object_get(o, "rephrase_prompt")), "rephrase_prompt"));
    const json_t *locality = unless_blank(json_object_get(o, "locality_prompt"));
    if (is_absent(locality)) return 0;
    ER_TRY(texts_of(&prompts, &count, r, locality, "locality_prompt"));
    ER_TRY(texts_of(&answers, &answer_count, r, json_object_get(o, "locality_ground_truth"), "locality_ground_truth"));
    if (count != answer_count)
        return BAD(r, "field 'locality_ground_truth' holds %lld texts, expected %lld, one for each locality_prompt",
                   (long long)answer_count, (long long)count);
    return add_group(q, "locality", prompts, answers, count);
}

static int known_fields(const record *r, const json_t *o)
{
    static const char *const fields[] = {"subject",     "prompt",       "target_new", "target_true",
                                         "paraphrases", "neighborhood", "relation",   "case_id"};
    enum { FIELDS = sizeof fields / sizeof *fields };
    json_t *fact = (json_t *)(uintptr_t)o; /* the iterator wants it writable and does not write */
    for (void *at = json_object_iter(fact); at; at = json_object_iter_next(fact, at)) {
        const char *key = json_object_iter_key(at);
        int known = 0;
        for (int k = 0; k < FIELDS && !known; k++) known = strcmp(fields[k], key) == 0;
        if (known) continue;
        const char *near = er_nearest(key, fields, FIELDS);
        return BAD(r, "unknown field '%.80s'%s%s%s", key, near ? ", did you mean '" : "", near ? near : "",
                   near ? "'?" : "");
    }
    return 0;
}

static int read_facts(er_request *q, const record *r, const json_t *o)
{
    ER_TRY(known_fields(r, o));
    ER_TRY(text_of(&q->subject, r, json_object_get(o, "subject"), "subject"));
    ER_TRY(text_of(&q->prompt, r, json_object_get(o, "prompt"), "prompt"));
    ER_TRY(text_of(&q->target_new, r, json_object_get(o, "target_new"), "target_new"));
    ER_TRY(optional_text(&q->target_true, r, json_object_get(o, "target_true"), "target_true"));
    ER_TRY(optional_text(&q->relation, r, json_object_get(o, "relation"), "relation"));
    ER_TRY(add_rewrite(q, r));
    ER_TRY(add_list(q, r, "paraphrase", json_object_get(o, "paraphrases"), "paraphrases"));
    return add_list(q, r, "neighborhood", json_object_get(o, "neighborhood"), "neighborhood");
}

int er_record_case(int64_t *out, const er_records *records, int64_t i, er_err *err)
{
    const json_t *o = json_array_get(records->list, (size_t)i);
    if (!json_is_object(o))
        return er_record_fail(records, i, -1, err, "%s, expected an object", er_json_kind(o));
    const json_t *value = json_object_get(o, "case_id");
    int64_t id = i;
    if (!value && records->format == ER_JOB_COUNTERFACT)
        return er_record_fail(records, i, -1, err, "field 'case_id' is missing");
    if (value && json_is_integer(value))
        id = json_integer_value(value);
    else if (value && (!json_is_string(value) || er_parse_int(&id, json_string_value(value))))
        return er_record_fail(records, i, -1, err, "field 'case_id' is %s, expected a whole number",
                              er_json_kind(value));
    /* random draws are keyed by 32 bits of it */
    if (id < 0 || id > UINT32_MAX)
        return er_record_fail(records, i, -1, err, "case_id is %lld, expected 0 to 4294967295", (long long)id);
    *out = id;
    return 0;
}

static int same_target(const er_request *q)
{
    if (!q->target_true) return 0;
    return strcmp(q->target_new + strspn(q->target_new, " "), q->target_true + strspn(q->target_true, " ")) == 0;
}

int er_record_request(er_request *out, const er_records *records, int64_t i, er_arena *arena, er_err *err)
{
    er_request q = {.line = records->lines[i]};
    ER_TRY(er_record_case(&q.case_id, records, i, err));
    const record r = {records, i, q.case_id, arena, err};
    const json_t *o = json_array_get(records->list, (size_t)i);
    int code = records->format == ER_JOB_COUNTERFACT ? read_counterfact(&q, &r, o)
               : records->format == ER_JOB_EASYEDIT  ? read_easyedit(&q, &r, o)
                                                     : read_facts(&q, &r, o);
    if (code) return code;
    if (same_target(&q)) q.flags |= ER_REQUEST_SAME_TARGET;
    *out = q;
    return 0;
}
