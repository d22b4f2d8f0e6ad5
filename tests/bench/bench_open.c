/* SPDX-License-Identifier: Apache-2.0 */
/* bench_open make CONFIG.json FOLDER [SHARDS]: writes a Hugging Face folder of that shape with random bf16 weights in
 *     SHARDS (4) safetensors files. The tokenizer is that of tests/fixtures/tiny-llama.
 * bench_open open MODEL [bf16|fp16|fp32]: opens it and prints seconds, bytes of the files, and what the process holds:
 *     anonymous memory (copied) and pages of files (mapped, shared with everybody). Beside it the rate at which the same
 *     bytes are read alone, in the same state of the page cache (drop it before both for the disk's rate). */
#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/text.h"
#include "base/tick.h"
#include "model/families.h"
#include "model/quant.h"
#include "model/safetensors.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { CHUNK = 1 << 20 };

static void check(int code, const er_err *err)
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

static int64_t shard_of(int64_t index, int64_t count, int64_t shards) { return index * shards / count; }

/* bf16 values of about 0.02, from a counter: fast, and no two tensors alike. */
static void write_values(FILE *f, int64_t values, uint32_t tensor)
{
    static uint16_t bits[CHUNK];
    uint64_t state = 0x9e3779b97f4a7c15u * (tensor + 1u);
    for (int64_t at = 0; at < values; at += CHUNK) {
        int64_t n = values - at < CHUNK ? values - at : CHUNK;
        for (int64_t i = 0; i < n; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            bits[i] = (uint16_t)((state >> 63) << 15 | 0x3c00u | (state >> 40 & 0xffu)); /* +- 0.0078 .. 0.0234 */
        }
        if (fwrite(bits, sizeof *bits, (size_t)n, f) != (size_t)n) perror("write"), exit(1);
    }
}

static void write_shard(const er_config *c, const char *folder, int64_t shard, int64_t shards, er_text *map)
{
    er_err err = ER_ERR_INIT;
    er_text header = ER_TEXT_INIT;
    char path[4096], name[ER_TENSOR_NAME];
    int64_t count = er_slot_count(c), begin = 0;
    snprintf(path, sizeof path, "%s/model-%05d-of-%05d.safetensors", folder, (int)shard + 1, (int)shards);
    check(er_text_add(&header, "{\"__metadata__\":{\"format\":\"pt\"}", &err), &err);
    for (int64_t i = 0; i < count; i++) {
        er_slot s = er_slot_at(c, i);
        if (shard_of(i, count, shards) != shard) continue;
        er_slot_name(name, c, &s, 0);
        check(er_text_format(&header, &err, ",\"%s\":{\"dtype\":\"BF16\",\"shape\":[", name), &err);
        if (s.dims == 2) check(er_text_format(&header, &err, "%lld,", (long long)s.rows), &err);
        check(er_text_format(&header, &err, "%lld],\"data_offsets\":[%lld,%lld]}", (long long)s.cols, (long long)begin,
                             (long long)(begin + 2 * s.rows * s.cols)), &err);
        begin += 2 * s.rows * s.cols;
        check(er_text_format(map, &err, "%s\"%s\":\"model-%05d-of-%05d.safetensors\"", i ? "," : "", name,
                             (int)shard + 1, (int)shards), &err);
    }
    check(er_text_add(&header, "}", &err), &err);
    while (header.length % 8) check(er_text_add(&header, " ", &err), &err);
    FILE *f = fopen(path, "wb");
    uint64_t length = header.length;
    if (!f || fwrite(&length, sizeof length, 1, f) != 1 || fwrite(header.at, 1, header.length, f) != header.length)
        perror(path), exit(1);
    for (int64_t i = 0; i < count; i++) {
        er_slot s = er_slot_at(c, i);
        if (shard_of(i, count, shards) == shard) write_values(f, s.rows * s.cols, (uint32_t)i);
    }
    if (fclose(f)) perror(path), exit(1);
    er_text_free(&header);
    printf("%s\n", path);
}

static void copy_file(const char *from, const char *folder, const char *name)
{
    er_err err = ER_ERR_INIT;
    char *text = NULL, *to = NULL;
    size_t size = 0;
    check(er_file_read(&text, &size, from, &err), &err);
    check(er_path_join(&to, folder, name, &err), &err);
    check(er_save_bytes(to, text, size, &err), &err);
    er_free(text);
    er_free(to);
}

static void make(const char *config, const char *folder, int64_t shards)
{
    er_err err = ER_ERR_INIT;
    er_config c;
    er_text map = ER_TEXT_INIT;
    check(er_config_open(&c, config, &err), &err);
    check(er_make_folders(folder, &err), &err);
    check(er_text_add(&map, "{\"metadata\":{},\"weight_map\":{", &err), &err);
    for (int64_t s = 0; s < shards; s++) write_shard(&c, folder, s, shards, &map);
    check(er_text_add(&map, "}}\n", &err), &err);
    char *index = NULL;
    check(er_path_join(&index, folder, "model.safetensors.index.json", &err), &err);
    check(er_save_bytes(index, map.at, map.length, &err), &err);
    copy_file("tests/fixtures/tiny-llama/tokenizer.json", folder, "tokenizer.json");
    copy_file(config, folder, "config.json");
    er_free(index);
    er_text_free(&map);
}

static double status(const char *key)
{
    char line[256];
    double kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0) kib = atof(line + strlen(key) + 1);
    if (f) fclose(f);
    return kib * 1024e-9;
}

/* Reads the weights files of a folder as a plain program would; their bytes. */
static double read_alone(const char *folder)
{
    static char buffer[1 << 22];
    double bytes = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[4096];
        size_t got = 0;
        if (!strstr(e->d_name, ".safetensors") || strstr(e->d_name, ".json")) continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        FILE *f = fopen(path, "rb");
        if (f) setvbuf(f, NULL, _IONBF, 0);
        while (f && (got = fread(buffer, 1, sizeof buffer, f))) bytes += (double)got;
        if (f) fclose(f);
    }
    if (d) closedir(d);
    return bytes;
}

static void open_model(const char *folder, int weights)
{
    er_err err = ER_ERR_INIT;
    er_model *m;
    char hash[ER_HASH_TEXT];
    double start = now();
    check(er_model_open(&m, folder, weights, &err), &err);
    double seconds = now() - start;
    double parameters = (double)er_config_parameters(&m->config), anonymous = status("RssAnon"), mapped = status("RssFile");
    er_hash_text(hash, &m->weights);
    start = now();
    double bytes = read_alone(folder), alone = now() - start;
    printf("%.3g parameters, %.3f GB of files, opened as %s in %.2f s: %.2f GB/s\n", parameters, bytes * 1e-9,
           er_dtype_name(weights), seconds, bytes * 1e-9 / seconds);
    printf("read alone, afterwards: %.2f s: %.2f GB/s\n", alone, bytes * 1e-9 / alone);
    printf("anonymous memory %.3f GB, pages of files %.3f GB, peak resident %.3f GB\nhash %s\n", anonymous, mapped,
           status("VmHWM"), hash);
    er_model_close(m);
}

int main(int argc, char **argv)
{
    if (argc > 3 && strcmp(argv[1], "make") == 0) return make(argv[2], argv[3], argc > 4 ? atoll(argv[4]) : 4), 0;
    if (argc > 2 && strcmp(argv[1], "open") == 0) {
        const char *type = argc > 3 ? argv[3] : "bf16";
        return open_model(argv[2], strcmp(type, "fp32") == 0 ? ER_F32 : strcmp(type, "fp16") == 0 ? ER_F16 : ER_BF16), 0;
    }
    return fprintf(stderr, "usage: %s make CONFIG.json FOLDER [SHARDS] | open MODEL [bf16|fp16|fp32]\n", argv[0]), 2;
}
