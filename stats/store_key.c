/* SPDX-License-Identifier: Apache-2.0 */
/* Keys: how they name, head and tell apart the objects of a store. */
#define _POSIX_C_SOURCE 200809L
#include "base/memory.h"
#include "stats/store_parts.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int er_key_hash(er_hash *out, const er_stats_key *keys, int64_t count, er_err *err)
{
    er_hasher *h = NULL;
    ER_TRY(er_hasher_new(&h, err));
    er_hasher_text(h, "errata statistics");
    er_hasher_number(h, ER_STORE_FORMAT);
    er_hasher_number(h, ER_STORE_BITS);
    er_hasher_number(h, count);
    for (int64_t i = 0; i < count; i++) {
        er_hasher_hash(h, &keys[i].weights);
        er_hasher_hash(h, &keys[i].tokenizer);
        er_hasher_hash(h, &keys[i].corpus);
        er_hasher_number(h, keys[i].layer);
        er_hasher_number(h, keys[i].dimension);
        er_hasher_text(h, keys[i].matrix);
    }
    *out = er_hasher_end(h);
    er_hasher_free(h);
    return 0;
}

int er_head_put(const er_h5 *file, const char *kind, const er_stats_key *key, er_err *err)
{
    ER_TRY(er_h5_put_text(file, "kind", kind, err));
    ER_TRY(er_h5_put_number(file, "format", ER_STORE_FORMAT, err));
    ER_TRY(er_h5_put_number(file, "bits", ER_STORE_BITS, err));
    ER_TRY(er_h5_put_hash(file, "weights", &key->weights, err));
    ER_TRY(er_h5_put_hash(file, "tokenizer", &key->tokenizer, err));
    ER_TRY(er_h5_put_hash(file, "corpus", &key->corpus, err));
    ER_TRY(er_h5_put_text(file, "matrix", key->matrix, err));
    ER_TRY(er_h5_put_number(file, "layer", key->layer, err));
    return er_h5_put_number(file, "dimension", key->dimension, err);
}

int er_head_get(const er_h5 *file, er_head *out, er_err *err)
{
    er_head head;
    memset(&head, 0, sizeof head);
    ER_TRY(er_h5_get_text(file, "kind", head.kind, sizeof head.kind, err));
    ER_TRY(er_h5_get_number(file, "format", &head.format, err));
    ER_TRY(er_h5_get_number(file, "bits", &head.bits, err));
    ER_TRY(er_h5_get_hash(file, "weights", &head.key.weights, err));
    ER_TRY(er_h5_get_hash(file, "tokenizer", &head.key.tokenizer, err));
    ER_TRY(er_h5_get_hash(file, "corpus", &head.key.corpus, err));
    ER_TRY(er_h5_get_text(file, "matrix", head.key.matrix, sizeof head.key.matrix, err));
    ER_TRY(er_h5_get_number(file, "layer", &head.key.layer, err));
    ER_TRY(er_h5_get_number(file, "dimension", &head.key.dimension, err));
    *out = head;
    return 0;
}

static int check_text(const er_h5 *file, const char *field, const char *is, const char *wanted, er_err *err)
{
    if (strcmp(is, wanted) == 0) return 0;
    return er_fail(err, ER_E_MISMATCH, "%s: %s is %s, its key says %s", file->path, field, is, wanted);
}

static int check_number(const er_h5 *file, const char *field, int64_t is, int64_t wanted, er_err *err)
{
    if (is == wanted) return 0;
    return er_fail(err, ER_E_MISMATCH, "%s: %s is %lld, its key says %lld", file->path, field, (long long)is,
                   (long long)wanted);
}

static int check_hash(const er_h5 *file, const char *field, const er_hash *is, const er_hash *wanted, er_err *err)
{
    char a[ER_HASH_TEXT], b[ER_HASH_TEXT];
    er_hash_text(a, is);
    er_hash_text(b, wanted);
    return check_text(file, field, a, b, err);
}

int er_head_check(const er_h5 *file, const char *kind, const er_stats_key *key, er_err *err)
{
    er_head head;
    ER_TRY(er_head_get(file, &head, err));
    ER_TRY(check_text(file, "kind", head.kind, kind, err));
    ER_TRY(check_number(file, "format", head.format, ER_STORE_FORMAT, err));
    ER_TRY(check_number(file, "bits", head.bits, ER_STORE_BITS, err));
    ER_TRY(check_hash(file, "weights", &head.key.weights, &key->weights, err));
    ER_TRY(check_hash(file, "tokenizer", &head.key.tokenizer, &key->tokenizer, err));
    ER_TRY(check_hash(file, "corpus", &head.key.corpus, &key->corpus, err));
    ER_TRY(check_text(file, "matrix", head.key.matrix, key->matrix, err));
    ER_TRY(check_number(file, "layer", head.key.layer, key->layer, err));
    return check_number(file, "dimension", head.key.dimension, key->dimension, err);
}

int er_head_differences(const er_head *head, const er_stats_key *key, char *text, size_t size)
{
    const struct {
        int differs;
        const char *words;
    } field[] = {
        {!er_hash_equal(&head->key.weights, &key->weights), "weights differ"},
        {!er_hash_equal(&head->key.tokenizer, &key->tokenizer), "tokenizer differs"},
        {!er_hash_equal(&head->key.corpus, &key->corpus), "another corpus"},
        {strcmp(head->key.matrix, key->matrix) != 0, "another matrix"},
        {head->key.dimension != key->dimension, "another dimension"},
        {head->format != ER_STORE_FORMAT, "another format"},
        {head->bits != ER_STORE_BITS, "another bits version"},
    };
    int count = 0;
    size_t used = 0;
    if (size) *text = 0;
    for (size_t i = 0; i < sizeof field / sizeof *field; i++) {
        if (!field[i].differs) continue;
        if (used < size) used += (size_t)snprintf(text + used, size - used, "%s%s", count ? ", " : "", field[i].words);
        count++;
    }
    return count;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int is_wanted(const char *name, const char *prefix)
{
    size_t n = strlen(name);
    return strncmp(name, prefix, strlen(prefix)) == 0 && n > 3 && strcmp(name + n - 3, ".h5") == 0;
}

int er_names_list(er_names *out, const er_store *s, const char *prefix, er_err *err)
{
    er_names names = {NULL, 0, 0};
    int code = 0;
    DIR *d = opendir(s->folder);
    if (!d) return er_fail(err, ER_E_IO, "%s: %s", s->folder, strerror(errno));
    for (struct dirent *e; !code && (e = readdir(d));) {
        if (!is_wanted(e->d_name, prefix)) continue;
        code = er_grow(&names.at, &names.capacity, names.count + 1, err);
        if (!code) code = er_strdup(&names.at[names.count], e->d_name, err);
        if (!code) names.count++;
    }
    closedir(d);
    if (code) {
        er_names_free(&names);
        return code;
    }
    if (names.count) qsort(names.at, names.count, sizeof *names.at, by_name);
    *out = names;
    return 0;
}

void er_names_free(er_names *names)
{
    for (size_t i = 0; i < names->count; i++) er_free(names->at[i]);
    er_free(names->at);
    *names = (er_names){NULL, 0, 0};
}
