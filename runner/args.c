/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/args.h"

#include "base/memory.h"
#include "base/options.h"
#include "base/text.h"

#include <string.h>

static const er_flag *find(const er_flag *flags, const char *name, size_t n)
{
    for (; flags->name; flags++)
        if (strlen(flags->name) == n && !strncmp(flags->name, name, n)) return flags;
    return NULL;
}

static int unknown(const er_flag *flags, const char *word, size_t n, er_err *err)
{
    const char *names[64];
    char name[64];
    size_t count = 0;
    for (; flags->name && count < 64; flags++) names[count++] = flags->name;
    if (n >= sizeof name) n = sizeof name - 1;
    memcpy(name, word, n);
    name[n] = 0;
    const char *near = er_nearest(name, names, count);
    return near ? er_fail(err, ER_E_USAGE, "unknown option --%s, did you mean --%s?", name, near)
                : er_fail(err, ER_E_USAGE, "unknown option --%s", name);
}

static int take_flag(er_args *out, int argc, char **argv, int *i, const er_flag *flags, er_err *err)
{
    const char *word = argv[*i] + 2, *equals = strchr(word, '=');
    size_t n = equals ? (size_t)(equals - word) : strlen(word);
    const er_flag *flag = find(flags, word, n);
    if (!flag) return unknown(flags, word, n, err);
    if (equals && !flag->value) return er_fail(err, ER_E_USAGE, "--%s takes no value", flag->name);
    const char *value = equals ? equals + 1 : "";
    if (flag->value && !equals) {
        if (++*i >= argc) return er_fail(err, ER_E_USAGE, "--%s needs a value: %s", flag->name, flag->value);
        value = argv[*i];
    }
    out->flag[out->flag_count] = flag;
    out->value[out->flag_count++] = value;
    return 0;
}

int er_args_parse(er_args *out, int argc, char **argv, const er_flag *flags, er_err *err)
{
    int only_words = 0;
    memset(out, 0, sizeof *out);
    for (int i = 0; i < argc; i++) {
        if (out->count == ER_ARGS_MOST || out->flag_count == ER_ARGS_MOST)
            return er_fail(err, ER_E_USAGE, "more than %d arguments", ER_ARGS_MOST);
        if (!only_words && !strcmp(argv[i], "--")) only_words = 1;
        else if (!only_words && !strncmp(argv[i], "--", 2)) ER_TRY(take_flag(out, argc, argv, &i, flags, err));
        else if (!only_words && argv[i][0] == '-' && argv[i][1] && !(argv[i][1] == 'o' && !argv[i][2]))
            return er_fail(err, ER_E_USAGE, "unknown option %s; options have long names (see --help)", argv[i]);
        else if (!only_words && !strcmp(argv[i], "-o")) {
            char *words[] = {(char *)(uintptr_t)"--output", i + 1 < argc ? argv[i + 1] : NULL};
            int at = 0;
            ER_TRY(take_flag(out, words[1] ? 2 : 1, words, &at, flags, err));
            i += at;
        } else out->at[out->count++] = argv[i];
    }
    return 0;
}

const char *er_args_get(const er_args *a, const char *name)
{
    for (int i = a->flag_count - 1; i >= 0; i--)
        if (!strcmp(a->flag[i]->name, name)) return a->value[i];
    return NULL;
}

int er_args_number(int64_t *out, const er_args *a, const char *name, int64_t preset, int64_t low, er_err *err)
{
    const char *text = er_args_get(a, name);
    *out = preset;
    if (!text) return 0;
    if (er_parse_int(out, text) || *out < low)
        return er_fail(err, ER_E_USAGE, "--%s: '%s' is no whole number of at least %lld", name, text, (long long)low);
    return 0;
}

int er_args_all(const char ***out, size_t *count, const er_args *a, const char *name, er_err *err)
{
    *count = 0;
    ER_TRY(er_alloc(out, (size_t)a->flag_count, err));
    for (int i = 0; i < a->flag_count; i++)
        if (!strcmp(a->flag[i]->name, name)) (*out)[(*count)++] = a->value[i];
    return 0;
}
