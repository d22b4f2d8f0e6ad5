/* SPDX-License-Identifier: Apache-2.0 */
/* bench_tokenizer TOKENIZER.json TEXT: for every line of stdin one pass over the lines of TEXT; prints the number of
 * ids and the seconds of each. tests/bench/bench_tokenizer.py drives it in turns with Hugging Face's library. */
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "model/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void must(int code, const er_err *err)
{
    if (!code) return;
    fprintf(stderr, "%s\n", err->text);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int64_t one_pass(const er_tokenizer *t, const char *text, size_t n)
{
    er_err err = ER_ERR_INIT;
    er_ids ids = {0};
    int64_t count = 0;
    for (size_t at = 0, length; at < n; at += length) {
        const char *end = memchr(text + at, '\n', n - at);
        length = end ? (size_t)(end - text) + 1 - at : n - at;
        ids.count = 0;
        must(er_encode(t, &ids, text + at, length, 0, &err), &err);
        count += ids.count;
    }
    er_ids_free(&ids);
    return count;
}

int main(int argc, char **argv)
{
    er_err err = ER_ERR_INIT;
    er_tokenizer *t = NULL;
    char *text = NULL;
    size_t n;
    if (argc != 3) {
        fprintf(stderr, "usage: bench_tokenizer TOKENIZER.json TEXT\n");
        return 2;
    }
    must(er_tokenizer_open(&t, argv[1], &err), &err);
    must(er_file_read(&text, &n, argv[2], &err), &err);
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        double start = now();
        int64_t count = one_pass(t, text, n);
        printf("%lld %.6f\n", (long long)count, now() - start);
        fflush(stdout);
    }
    er_free(text);
    er_tokenizer_close(t);
    return 0;
}
