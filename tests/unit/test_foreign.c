/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics in the Python tools' files: what numpy and torch wrote is read, what we write is read back (and by numpy and
 * torch themselves where a python3 has them: $ERRATA_PYTHON or python3), damage is an error. */
#define _GNU_SOURCE
#include "tests/support.h"

#include "base/file.h"
#include "editors/history.h"
#include "model/kernels.h"
#include "model/zip.h"
#include "model/zip_write.h"
#include "stats/foreign.h"
#include "stats/npy.h"

#include <math.h>

enum { N = 4, TOKENS = 23 };
static char folder[] = "/tmp/errata-foreign-XXXXXX";
static const char npz[] = "tests/fixtures/foreign/model.layers.1.mlp.down_proj_float32_mom2_3.npz";
static const char pt[] = "tests/fixtures/foreign/P.pt";

static const char *in_folder(const char *name)
{
    static char path[2][200];
    static int turn;
    char *p = path[turn++ & 1];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

/* The keys of tests/golden/make_foreign.py. */
static double key(int64_t t, int64_t i) { return (double)((7 * t + 3 * i + t * i) % 11 - 5) / 4; }

static double direct_sum(int64_t i, int64_t j)
{
    double sum = 0;
    for (int64_t t = 0; t < TOKENS; t++) sum += key(t, i) * key(t, j);
    return sum;
}

static void check_sums(const er_moment *m)
{
    assert_int_equal(m->n, N);
    assert_int_equal(m->tokens, TOKENS);
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = i; j < N; j++) assert_true(er_moment_sum_at(m, i, j) == direct_sum(i, j));
}

static void numpys_moments_are_read(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    er_moment m;
    er_hash hash, again;
    int64_t samples = 0;
    OK(er_npz_moment_read(&m, &samples, &hash, npz, N, &err));
    check_sums(&m);
    assert_int_equal(samples, 3);
    OK(er_hash_file(&again, npz, &err));
    assert_true(er_hash_equal(&hash, &again));
    er_moment_free(&m);
    OK(er_npz_moment_read(&m, &samples, &hash, "tests/fixtures/foreign/float64.npz", N, &err));
    check_sums(&m);
    assert_int_equal(samples, -1);
    er_moment_free(&m);
    assert_int_equal(er_npz_moment_read(&m, &samples, &hash, npz, N + 1, &err), ER_E_FORMAT);
    assert_non_null(strstr(err.text, "moments of 4 dimensions, the matrix has 5 inputs: of another model"));
    assert_int_equal(er_npz_moment_read(&m, &samples, &hash, pt, N, &err), ER_E_FORMAT);
    assert_non_null(strstr(err.text, "holds no mom2.mom2"));
}

static int python(const char *code)
{
    const char *program = getenv("ERRATA_PYTHON");
    char command[1500];
    snprintf(command, sizeof command, "%s -c \"%s\" >/dev/null 2>&1", program && *program ? program : "python3", code);
    return system(command);
}

static er_moment made_moment(void)
{
    er_err err = ER_ERR_INIT;
    er_moment m;
    double gram[N * N];
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j < N; j++) gram[i * N + j] = direct_sum(i, j);
    OK(er_moment_new(&m, N, &err));
    OK(er_moment_add(&m, gram, TOKENS, &err));
    return m;
}

/* What is read as the number of documents where `samples` was written; the sums are those that were written. */
static int64_t written_and_read(const char *path, int64_t samples)
{
    er_err err = ER_ERR_INIT;
    er_moment m = made_moment(), back;
    er_hash hash;
    OK(er_npz_moment_write(path, &m, samples, &err));
    OK(er_npz_moment_read(&back, &samples, &hash, path, N, &err));
    check_sums(&back);
    er_moment_free(&back);
    er_moment_free(&m);
    return samples;
}

static void fewer_documents_than_none_are_unknown(void **state)
{
    (void)state;
    assert_int_equal(written_and_read(in_folder("below.npz"), INT64_MIN), -1);
}

static void our_moments_are_read_back_and_by_numpy(void **state)
{
    (void)state;
    char code[1200];
    const char *path = in_folder("ours.npz");
    assert_int_equal(written_and_read(path, 7), 7);
    if (python("import numpy")) {
        printf("SKIP (in part): no python with numpy\n");
        return;
    }
    snprintf(code, sizeof code,
             "import numpy; a = numpy.load('%s'); b = numpy.load('%s'); "
             "assert a['mom2.mom2'].dtype == numpy.float32 and (a['mom2.mom2'] == b['mom2.mom2']).all(); "
             "assert int(a['mom2.count']) == 23 and a['sample_size'] == 7 and a['sample_size'].shape == (); "
             "assert str(a['mom2.constructor']) == str(b['mom2.constructor'])", path, npz);
    assert_int_equal(python(code), 0);
}

static void expect_bad(const void *bytes, size_t size, const char *say)
{
    er_moment m;
    er_err err = ER_ERR_INIT;
    int64_t samples;
    assert_int_not_equal(er_npz_moment_parse(&m, &samples, bytes, size, N, "x", &err), 0);
    if (say && !strstr(err.text, say)) fail_msg("'%s' does not say '%s'", err.text, say);
}

static void damaged_moments_are_errors(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    char *whole = NULL;
    size_t size = 0;
    OK(er_file_read(&whole, &size, npz, &err));
    for (size_t n = 0; n < size; n++) { /* a copy of just that size: a sanitizer sees what is read beyond */
        char *part = malloc(n ? n : 1);
        memcpy(part, whole, n);
        expect_bad(part, n, NULL);
        free(part);
    }
    er_npy a;
    const float nan = NAN, wrong = 100;
    er_zip_entry *entries = NULL;
    size_t count = 0;
    OK(er_zip_read(&entries, &count, (const uint8_t *)whole, size, npz, &err));
    for (size_t i = 0; i < count; i++) {
        if (entries[i].length != strlen("mom2.mom2.npy") || memcmp(entries[i].name, "mom2.mom2", 9)) continue;
        OK(er_npy_read(&a, entries[i].data, entries[i].size, "x", &err));
    }
    char *data = whole + (a.data - (const uint8_t *)whole), kept[4];
    memcpy(kept, data, 4);
    memcpy(data, &nan, 4);
    expect_bad(whole, size, "diagonal element 0 is nan");
    memcpy(data, kept, 4);
    memcpy(data + 4, &wrong, 4);
    expect_bad(whole, size, "expected a symmetric matrix");
    er_free(entries);
    er_free(whole);
}

static void numpys_headers_are_read_and_others_refused(void **state)
{
    (void)state;
    static const struct {
        const char *dictionary;
        int code;
    } cases[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 0},
        {"{\"shape\": (6,), 'fortran_order': True, 'descr': '<f4'}", 0},
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3), }", ER_E_UNSUPPORTED},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (), }", ER_E_UNSUPPORTED},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,), }", ER_E_UNSUPPORTED},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4), }", ER_E_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999), }", ER_E_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", ER_E_FORMAT},
        {"{'descr': '<f4', 'fortran_order': 0, 'shape': (6,), }", ER_E_FORMAT},
        {"{'descr': '<f4', 'shape': (6,), }", ER_E_FORMAT},
        {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (6,), }", ER_E_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (6,), 'more': 1}", ER_E_FORMAT},
        {"__import__('os').system('true')", ER_E_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t bytes[256] = "\x93NUMPY\x01";
        er_err err = ER_ERR_INIT;
        er_npy a;
        size_t n = strlen(cases[i].dictionary);
        bytes[8] = (uint8_t)(n + 1);
        memcpy(bytes + 10, cases[i].dictionary, n);
        bytes[10 + n] = '\n';
        float values[6] = {1, 2, 3, 4, 5, 6};
        memcpy(bytes + 11 + n, values, sizeof values);
        int code = er_npy_read(&a, bytes, 11 + n + sizeof values, "x", &err);
        if (code != cases[i].code) fail_msg("%s: %d, %s", cases[i].dictionary, code, err.text);
        if (!code) assert_true(a.elements == 6 && er_npy_real(&a, 5) == 6);
    }
}

/* --- zip ---------------------------------------------------------------------------------------------------------- */

static void archives_are_read_back_narrow_and_wide(void **state)
{
    (void)state;
    for (int wide = 0; wide < 2; wide++) {
        er_err err = ER_ERR_INIT;
        er_zip_out z;
        er_zip_entry *entries = NULL;
        er_map map;
        size_t count = 0;
        const char *path = in_folder("a.zip");
        OK(er_zip_create(&z, path, &err));
        if (wide) z.narrow_most = 20;
        OK(er_zip_add(&z, "b/data", "0123456789012345678901234567890", 31, 64, &err));
        OK(er_zip_add(&z, "a", "xyz", 3, 1, &err));
        OK(er_zip_add(&z, "empty", "", 0, 64, &err));
        OK(er_zip_finish(&z, &err));
        OK(er_map_open(&map, path, &err));
        OK(er_zip_read(&entries, &count, map.data, map.size, path, &err));
        assert_int_equal(count, 3);
        assert_memory_equal(entries[0].data, "xyz", 3);
        assert_int_equal(entries[1].size, 31);
        assert_memory_equal(entries[1].data, "0123456789012345678901234567890", 31);
        assert_int_equal((entries[1].data - map.data) % 64, 0);
        er_free(entries);
        er_map_close(&map);
        char code[400];
        snprintf(code, sizeof code, "import zipfile; z = zipfile.ZipFile('%s'); assert z.testzip() is None; "
                 "assert z.read('a') == b'xyz' and len(z.read('b/data')) == 31", path);
        if (!python("import zipfile")) assert_int_equal(python(code), 0);
    }
}

/* --- projections -------------------------------------------------------------------------------------------------- */

static er_eigen made_eigen(int64_t n)
{
    er_err err = ER_ERR_INIT;
    er_eigen e;
    double *c;
    OK(er_alloc(&c, (size_t)(n * n), &err));
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = i == j ? 1e-3 : 0;
            for (int64_t t = 0; t < 3 * n; t++)
                sum += sin((double)(t * n + i * 7 + 1)) * sin((double)(t * n + j * 7 + 1)) / (double)((i + 1) * (j + 1));
            c[i * n + j] = sum;
        }
    OK(er_eigen_solve(&e, c, n, &err));
    er_free(c);
    return e;
}

static void torchs_projections_are_read(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    er_projections p;
    er_hash hash;
    OK(er_projections_open(&p, &hash, pt, &err));
    assert_int_equal(p.layers, 2);
    assert_int_equal(p.n, N);
    for (int64_t layer = 0; layer < 2; layer++) {
        er_eigen e;
        OK(er_projections_eigen(&e, &p, layer, pt, &err));
        for (int64_t i = 0; i < N; i++) assert_true(e.values[i] == (i < 2 + layer ? 0 : 1));
        er_eigen_free(&e);
    }
    er_projections_close(&p);
    assert_int_equal(er_projections_open(&p, &hash, npz, &err), ER_E_FORMAT);
}

static void write_projections(const char *path, const er_eigen *e, const er_keep *keep, int64_t layers)
{
    er_err err = ER_ERR_INIT;
    er_projections_out *out;
    er_projection p;
    OK(er_projection_make(&p, e, keep, &err));
    OK(er_projections_begin(&out, path, layers, e->n, &err));
    for (int64_t i = 0; i < layers; i++) OK(er_projections_put(out, &p, &err));
    OK(er_projections_end(out, &err));
}

/* The rows that AlphaEdit's solve gives over two batches, with the eigenpairs and with what comes back of their P. */
static void an_exported_projection_gives_the_same_solve(void **state)
{
    (void)state;
    enum { F = 24, BATCH = 5 };
    er_err err = ER_ERR_INIT;
    const er_keep keep = {ER_KEEP_RANK, 15}, all = {ER_KEEP_THRESHOLD, 0.02};
    er_eigen e = made_eigen(F), back;
    er_projections p;
    er_hash hash;
    er_history *h[2];
    float keys[2][BATCH * F];
    const char *path = in_folder("p.pt");
    write_projections(path, &e, &keep, 3);
    OK(er_projections_open(&p, &hash, path, &err));
    assert_int_equal(p.layers, 3);
    OK(er_projections_eigen(&back, &p, 2, path, &err));
    OK(er_history_make(&h[0], &e, &keep, 1, F, &err));
    OK(er_history_make(&h[1], &back, &all, 1, F, &err));
    for (int b = 0; b < 2; b++)
        for (int i = 0; i < BATCH * F; i++) keys[b][i] = (float)cos((double)(b * 1000 + i * i));
    for (int b = 0; b < 2; b++) {
        double v[2][BATCH * F], condition, worst = 0, scale = 0;
        for (int k = 0; k < 2; k++) {
            OK(er_history_solve(h[k], keys[b], BATCH, v[k], &condition, &err));
            OK(er_history_join(h[k], keys[b], BATCH, &err));
        }
        for (int i = 0; i < BATCH * F; i++) {
            worst = fmax(worst, fabs(v[0][i] - v[1][i]));
            scale = fmax(scale, fabs(v[0][i]));
        }
        print_message("batch %d: rows differ by %.2g of their largest\n", b, worst / scale);
        assert_true(worst < 1e-6 * scale);
    }
    er_history_drop(h[0]);
    er_history_drop(h[1]);
    er_projections_close(&p);
    er_eigen_free(&e);
    er_eigen_free(&back);
    char code[1200];
    snprintf(code, sizeof code, "import torch; p = torch.load('%s'); assert p.shape == (3, 24, 24) and p.dtype == "
             "torch.float32; assert (p @ p - p).abs().max() < 1e-5 and (p[0] == p[2]).all(); "
             "assert int(p[1].trace().round()) == 15", path);
    if (python("import torch")) printf("SKIP (in part): no python with torch\n");
    else assert_int_equal(python(code), 0);
}

/* Bytes that torch 2.5.1 was seen to load. */
static void the_file_of_projections_has_fixed_bytes(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    char *ours = NULL, *fixture = NULL;
    size_t size[2] = {0, 0};
    double values[3] = {0, 0.5, 1}, vectors[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
    const er_eigen e = {3, values, vectors};
    const er_keep keep = {ER_KEEP_RANK, 2};
    write_projections(in_folder("q.pt"), &e, &keep, 2);
    OK(er_file_read(&ours, &size[0], in_folder("q.pt"), &err));
    OK(er_file_read(&fixture, &size[1], "tests/fixtures/foreign/ours.pt", &err));
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(ours, fixture, size[0]);
    er_free(ours);
    er_free(fixture);
}

static void what_is_no_projection_is_refused(void **state)
{
    (void)state;
    er_err err = ER_ERR_INIT;
    char *whole = NULL;
    size_t size = 0;
    er_projections p;
    er_hash hash;
    er_eigen e;
    OK(er_file_read(&whole, &size, "tests/fixtures/foreign/ours.pt", &err));
    const uint8_t one[4] = {0, 0, 0x80, 0x3f}; /* 1.0: the first element of the data */
    char *at = memmem(whole, size, one, 4);
    assert_non_null(at);
    const float values[2] = {0.5f, NAN};
    static const char *const says[2] = {"no orthogonal projection", "expected a symmetric matrix"};
    for (int i = 0; i < 2; i++) {
        const char *path = in_folder("r.pt");
        memcpy(at, &values[i], 4);
        OK(er_save_bytes(path, whole, size, &err));
        OK(er_projections_open(&p, &hash, path, &err));
        assert_int_equal(er_projections_eigen(&e, &p, 0, path, &err), ER_E_FORMAT);
        if (!strstr(err.text, says[i])) fail_msg("'%s'", err.text);
        er_projections_close(&p);
    }
    er_free(whole);
}

int main(void)
{
    if (er_kernels_start(NULL) || !mkdtemp(folder)) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numpys_moments_are_read),
        cmocka_unit_test(fewer_documents_than_none_are_unknown),
        cmocka_unit_test(our_moments_are_read_back_and_by_numpy),
        cmocka_unit_test(damaged_moments_are_errors),
        cmocka_unit_test(numpys_headers_are_read_and_others_refused),
        cmocka_unit_test(archives_are_read_back_narrow_and_wide),
        cmocka_unit_test(torchs_projections_are_read),
        cmocka_unit_test(an_exported_projection_gives_the_same_solve),
        cmocka_unit_test(the_file_of_projections_has_fixed_bytes),
        cmocka_unit_test(what_is_no_projection_is_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_remove_folder(folder);
    return failed;
}
