/* SPDX-License-Identifier: Apache-2.0 */
/* PyTorch checkpoints: what torch wrote, and what nobody should have written. */
#define _GNU_SOURCE
#include "pickle_common.h"

#define FIXTURES "tests/fixtures/pickle/"

static int parse_file(parsed *p, const char *name)
{
    char path[256], *bytes = NULL;
    size_t size = 0;
    snprintf(path, sizeof path, FIXTURES "%s", name);
    if (er_file_read(&bytes, &size, path, NULL)) fail_msg("%s is missing", path);
    int code = parse_bytes(p, bytes, size);
    p->bytes = bytes;
    p->size = size;
    return code;
}

/* --- files that torch wrote --------------------------------------------------------------------------------------- */

static void assert_tensor(const char *file, const er_tensor *t, const json_t *wanted, const parsed *p)
{
    const char *type = json_string_value(json_object_get(wanted, "type"));
    const char *hex = json_string_value(json_object_get(wanted, "hex"));
    const json_t *shape = json_object_get(wanted, "shape");
    int dtype = !strcmp(type, "float32") ? ER_F32 : !strcmp(type, "float16") ? ER_F16
                : !strcmp(type, "bfloat16") ? ER_BF16 : -1;
    int64_t elements = 1;
    if (strcmp(t->type, type) != 0 || t->dtype != dtype) fail_msg("%s: %s is %s", file, t->name, t->type);
    assert_int_equal(t->dims, json_array_size(shape));
    for (int i = 0; i < t->dims; i++) {
        assert_int_equal(t->shape[i], json_integer_value(json_array_get(shape, (size_t)i)));
        elements *= t->shape[i];
    }
    assert_int_equal(t->elements, elements);
    assert_int_equal(t->bytes * 2, strlen(hex));
    assert_true(t->data >= (const uint8_t *)p->bytes && t->data + t->bytes <= (const uint8_t *)p->bytes + p->size);
    for (size_t i = 0; i < t->bytes; i++) {
        char two[3];
        snprintf(two, sizeof two, "%02x", t->data[i]);
        if (memcmp(two, hex + 2 * i, 2) != 0) fail_msg("%s: byte %zu of %s", file, i, t->name);
    }
}

static void torch_files_read_right(void **state)
{
    (void)state;
    const char *file, *name;
    json_t *all = test_json(FIXTURES "expected.json"), *tensors, *wanted;
    assert_int_equal(json_object_size(all), 11);
    json_object_foreach(all, file, tensors)
    {
        parsed p;
        int64_t live = er_memory_live();
        if (parse_file(&p, file)) fail_msg("%s: %s", file, p.err.text);
        assert_int_equal(p.list.count, json_object_size(tensors));
        json_object_foreach(tensors, name, wanted)
        {
            const er_tensor *t = er_tensors_find(&p.list, name);
            if (!t) fail_msg("%s: %s is missing", file, name);
            assert_string_equal(t->path, "FILE");
            assert_tensor(file, t, wanted, &p);
        }
        parse_free(&p);
        assert_int_equal(er_memory_live(), live);
    }
    json_decref(all);
}

static void tied_tensors_share_their_bytes(void **state)
{
    (void)state;
    static const char *const files[] = {"f32.bin", "bf16.bin", "legacy.bin", "parameters.bin"};
    parsed p;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        assert_int_equal(parse_file(&p, files[i]), 0);
        assert_ptr_equal(er_tensors_find(&p.list, "embed.weight")->data, er_tensors_find(&p.list, "head.weight")->data);
        parse_free(&p);
    }
    assert_int_equal(parse_file(&p, "types.bin"), 0);
    const er_tensor *whole = er_tensors_find(&p.list, "whole"), *slice = er_tensors_find(&p.list, "slice");
    assert_ptr_equal(whole->data + 16, slice->data);
    parse_free(&p);
}

static void torch_files_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        int code;
        const char *said;
    } rows[] = {
        {"evil-system.bin", ER_E_UNSUPPORTED, "pickle asks for posix.system: refused, nothing was executed"},
        {"evil-eval.bin", ER_E_UNSUPPORTED, "pickle asks for builtins.eval: refused, nothing was executed"},
        {"evil-legacy.bin", ER_E_UNSUPPORTED, "pickle asks for posix.system: refused, nothing was executed"},
        {"evil-plain.bin", ER_E_UNSUPPORTED, "pickle asks for posix.system: refused, nothing was executed"},
        {"module.bin", ER_E_UNSUPPORTED, "pickle asks for torch.nn.modules.linear.Linear: refused"},
        {"complex.bin", ER_E_UNSUPPORTED, "pickle asks for torch.ComplexFloatStorage: refused"},
        {"compressed.bin", ER_E_UNSUPPORTED, "zip entry 'f32/data.pkl' is compressed"},
        {"transposed.bin", ER_E_UNSUPPORTED, "tensor 'turned' is a strided view"},
        {"expanded.bin", ER_E_UNSUPPORTED, "tensor 'wide' is a strided view"},
        {"five.bin", ER_E_UNSUPPORTED, "tensor 'deep' has more than four dimensions"},
        {"number.bin", ER_E_UNSUPPORTED, "tensor 'count' is no tensor"},
        {"list.bin", ER_E_UNSUPPORTED, "holds no dictionary of tensors"},
        {"expected.json", ER_E_FORMAT, "neither a zip archive nor the older format of torch.save"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        parsed p;
        int64_t live = er_memory_live();
        int code = parse_file(&p, rows[i].file);
        assert_refused(rows[i].file, &p, code, rows[i].code, rows[i].said);
        parse_free(&p);
        assert_int_equal(er_memory_live(), live);
    }
}

/* Every cut is noticed; no changed byte leads out of the file (the sanitizers watch), whatever it makes of it. */
static void broken_files_are_harmless(void **state)
{
    (void)state;
    static const char *const files[] = {"f32.bin", "legacy.bin", "protocol4.bin"};
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        parsed whole, p;
        int read = 0;
        assert_int_equal(parse_file(&whole, files[f]), 0);
        for (size_t cut = 0; cut < whole.size; cut++) {
            char *exact = malloc(cut ? cut : 1); /* a sanitizer sees where it ends */
            assert_non_null(exact);
            memcpy(exact, whole.bytes, cut);
            int code = parse_bytes(&p, exact, cut);
            assert_refused(files[f], &p, code, ER_E_FORMAT, "");
            parse_free(&p);
            free(exact);
        }
        for (size_t i = 0; i < whole.size * 3; i++) {
            static const uint8_t flips[] = {1, 0x80, 0xff};
            uint8_t *at = (uint8_t *)whole.bytes + i / 3;
            *at ^= flips[i % 3];
            int code = parse_bytes(&p, whole.bytes, whole.size);
            assert_true(code == 0 || code == ER_E_FORMAT || code == ER_E_UNSUPPORTED);
            for (size_t t = 0; t < p.list.count; t++) {
                const er_tensor *x = &p.list.at[t];
                assert_true(x->data >= (const uint8_t *)whole.bytes &&
                            x->bytes <= (size_t)((const uint8_t *)whole.bytes + whole.size - x->data));
            }
            read += code == 0;
            parse_free(&p);
            *at ^= flips[i % 3];
        }
        assert_true(read > 0); /* those in values and padding */
        parse_free(&whole);
    }
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    static const char *const files[] = {"f32.bin", "legacy.bin"};
    int64_t live = er_memory_live();
    for (int f = 0; f < 2; f++) {
        parsed p, q;
        assert_int_equal(parse_file(&p, files[f]), 0);
        int code = -1, failures = 0;
        for (int64_t n = 1; code; n++) {
            er_memory_fail_at(n);
            code = parse_bytes(&q, p.bytes, p.size);
            er_memory_fail_at(0);
            if (code) assert_int_equal(code, ER_E_MEMORY);
            failures += code != 0;
            parse_free(&q);
        }
        assert_true(failures > 8);
        parse_free(&p);
    }
    assert_int_equal(er_memory_live(), live);
}

/* --- pickles that nobody should write ----------------------------------------------------------------------------- */

static void bad_programs_are_refused(void **state)
{
    (void)state;
#define ROW(bytes, code, said) {bytes, sizeof(bytes) - 1, code, said}
    static const struct {
        const char *bytes;
        size_t n;
        int code;
        const char *said;
    } rows[] = {
        ROW("", ER_E_FORMAT, "no pickle begins here"),
        ROW("}.", ER_E_FORMAT, "byte 0 of the pickle: no pickle begins here"),
        ROW("\x80\x01}.", ER_E_UNSUPPORTED, "a pickle of protocol 1"),
        ROW("\x80\x06}.", ER_E_UNSUPPORTED, "a pickle of protocol 6"),
        ROW("\x80\x02", ER_E_FORMAT, "byte 2 of the pickle: the file ends inside the pickle"),
        ROW("\x80\x02}", ER_E_FORMAT, "the file ends inside the pickle"),
        ROW("\x80\x02.", ER_E_FORMAT, "more or less than one value"),
        ROW("\x80\x02}}.", ER_E_FORMAT, "more or less than one value"),
        ROW("\x80\x02}(.", ER_E_FORMAT, "more or less than one value"),
        ROW("\x80\x02}..", ER_E_FORMAT, "1 bytes behind the pickle"),
        ROW("\x80\x02X\xff\xff\xff\xff" "abc.", ER_E_FORMAT, "4294967295 bytes wanted where 4 are left"),
        ROW("\x80\x02X\xff\xff\xff\x7f.", ER_E_FORMAT, "2147483647 bytes wanted where 1 are left"),
        ROW("\x80\x04\x8c\xff.", ER_E_FORMAT, "255 bytes wanted where 1 are left"),
        ROW("\x80\x02\x8a\xff.", ER_E_FORMAT, "255 bytes wanted where 1 are left"),
        ROW("\x80\x02J\1\2", ER_E_FORMAT, "4 bytes wanted where 2 are left"),
        ROW("\x80\x02G\1\2", ER_E_FORMAT, "8 bytes wanted where 2 are left"),
        ROW("\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff}.", ER_E_FORMAT, "a frame that is longer than the file"),
        ROW("\x80\x02" "cposix", ER_E_FORMAT, "a name without an end"),
        ROW("\x80\x02" "cposix\nsystem", ER_E_FORMAT, "a name without an end"),
        ROW("\x80\x02" "cposix\nsystem\n.", ER_E_UNSUPPORTED, "byte 2 of the pickle asks for posix.system: refused"),
        ROW("\x80\x02" "ctorch\nload\n.", ER_E_UNSUPPORTED, "asks for torch.load: refused"),
        ROW("\x80\x02" "ctorch\nFloatStorage2\n.", ER_E_UNSUPPORTED, "asks for torch.FloatStorage2: refused"),
        ROW("\x80\x02" "ctorch.storage\n_load_from_bytes\n.", ER_E_UNSUPPORTED, "torch.storage._load_from_bytes"),
        ROW("\x80\x02" "cos\x1b[31m\n\x07\n.", ER_E_UNSUPPORTED, "asks for os?[31m.?: refused"),
        ROW("\x80\x04K\1K\2\x93.", ER_E_FORMAT, "the name of a global is no text"),
        ROW("\x80\x04\x8c\x02os\x8c\x06system\x93.", ER_E_UNSUPPORTED, "asks for os.system: refused"),
        ROW("\x80\x02(S'x'\nios\nsystem\n.", ER_E_UNSUPPORTED, "opcode 0x53 (STRING)"),
        ROW("\x80\x02(ios\nsystem\n.", ER_E_UNSUPPORTED, "byte 3 of the pickle: opcode 0x69 (INST)"),
        ROW("\x80\x02)o.", ER_E_UNSUPPORTED, "opcode 0x6f (OBJ)"),
        ROW("\x80\x02" "ccollections\nOrderedDict\n)\x81.", ER_E_UNSUPPORTED, "opcode 0x81 (NEWOBJ)"),
        ROW("\x80\x04})}\x92.", ER_E_UNSUPPORTED, "opcode 0x92 (NEWOBJ_EX)"),
        ROW("\x80\x02\x82\x01.", ER_E_UNSUPPORTED, "opcode 0x82 (EXT1), which no dictionary of tensors needs"),
        ROW("\x80\x02P0\n.", ER_E_UNSUPPORTED, "opcode 0x50 (PERSID)"),
        ROW("\x80\x02\xfe.", ER_E_UNSUPPORTED, "opcode 0xfe, which no dictionary"),
        ROW("\x80\x02R.", ER_E_FORMAT, "the stack is empty"),
        ROW("\x80\x02)R.", ER_E_FORMAT, "the stack is empty"),
        ROW("\x80\x02})R.", ER_E_FORMAT, "REDUCE of something that is no global"),
        ROW("\x80\x02" "ccollections\nOrderedDict\n}R.", ER_E_FORMAT, "REDUCE of something that is no global"),
        ROW("\x80\x02" "ccollections\nOrderedDict\n]\x85R.", ER_E_UNSUPPORTED, "an OrderedDict made of a list"),
        ROW("\x80\x02" "ctorch\nByteStorage\n)R.", ER_E_UNSUPPORTED, "makes a torch.ByteStorage of its own"),
        ROW("\x80\x02" "ctorch._utils\n_rebuild_tensor_v2\n)R.", ER_E_FORMAT, "a tensor without its six arguments"),
        ROW("\x80\x02" "ctorch._utils\n_rebuild_parameter\n)R.", ER_E_FORMAT, "a parameter without its tensor"),
        ROW("\x80\x02" "ctorch._utils\n_rebuild_parameter\n}}}\x87R.", ER_E_FORMAT, "a parameter without its tensor"),
        ROW("\x80\x02}}b.", ER_E_FORMAT, "BUILD of something that is no OrderedDict with attributes"),
        ROW("\x80\x02K\1}b.", ER_E_FORMAT, "BUILD of something that is no OrderedDict"),
        ROW("\x80\x02" "ccollections\nOrderedDict\n)RK\1b.", ER_E_FORMAT, "no OrderedDict with attributes"),
        ROW("\x80\x02Q.", ER_E_FORMAT, "the stack is empty"),
        ROW("\x80\x02K\1Q.", ER_E_FORMAT, "a storage without its five parts"),
        ROW("\x80\x02(NNNNNtQ.", ER_E_FORMAT, "a storage without type, key or length"),
        ROW("\x80\x02(X\7\0\0\0storagectorch\nByteStorage\nX\1\0\0\0000NJ\xff\xff\xff\xfftQ.", ER_E_FORMAT,
            "a storage of fewer than no elements"),
        ROW("\x80\x02(X\7\0\0\0storagectorch\nByteStorage\nX\1\0\0\0000NK\1NNtQ.", ER_E_FORMAT,
            "a storage without its five parts"),
        ROW("\x80\x02(X\7\0\0\0storagectorch\nByteStorage\nX\1\0\0\0000NK\1)tQ.", ER_E_UNSUPPORTED,
            "a storage that is a view of another"),
        ROW("\x80\x02(X\7\0\0\0storageccollections\nOrderedDict\nX\1\0\0\0000NK\1tQ.", ER_E_FORMAT,
            "a storage without type, key or length"),
        ROW("\x80\x02q\0.", ER_E_FORMAT, "the stack is empty"),
        ROW("\x80\x02}q\1.", ER_E_FORMAT, "the memo has a gap"),
        ROW("\x80\x02}r\xff\xff\xff\xff.", ER_E_FORMAT, "the memo has a gap"),
        ROW("\x80\x02h\0.", ER_E_FORMAT, "nothing in the memo at this number"),
        ROW("\x80\x02}q\0j\1\0\0\0.", ER_E_FORMAT, "nothing in the memo at this number"),
        ROW("\x80\x02t.", ER_E_FORMAT, "no mark on the stack"),
        ROW("\x80\x02}u.", ER_E_FORMAT, "no mark on the stack"),
        ROW("\x80\x02(NNu.", ER_E_FORMAT, "the stack is empty"),
        ROW("\x80\x02}(Nu.", ER_E_FORMAT, "a key without its value"),
        ROW("\x80\x02](NNu.", ER_E_FORMAT, "items for something that is no dict"),
        ROW("\x80\x02}(NNe.", ER_E_FORMAT, "items for something that is no list"),
        ROW("\x80\x02}Na.", ER_E_FORMAT, "items for something that is no list"),
        ROW("\x80\x02}(\x85.", ER_E_FORMAT, "the stack is empty"),
        ROW("\x80\x02}(s.", ER_E_FORMAT, "the stack is empty"),
        ROW("\x80\x02N\x86.", ER_E_FORMAT, "the stack is empty"),
        ROW("\x80\x02NNs.", ER_E_FORMAT, "the stack is empty"),
        ROW("\x80\x02]q\0h\0a.", ER_E_UNSUPPORTED, "holds no dictionary of tensors"), /* a list that holds itself */
        ROW("\x80\x02}q\0X\1\0\0\0ah\0s.", ER_E_UNSUPPORTED, "tensor 'a' is no tensor"), /* a dict, too */
        ROW("\x80\x02}q\0X\5\0\0\0modelh\0s.", ER_E_UNSUPPORTED, "tensor 'model' is no tensor"),
        ROW("\x80\x02}q\0(X\5\0\0\0modelh\0X\1\0\0\0bK\1u.", ER_E_UNSUPPORTED, "tensor 'model' is no tensor"),
        ROW("\x80\x02}K\1K\2s.", ER_E_UNSUPPORTED, "a tensor without a name"),
        ROW("\x80\x02}X\2\0\0\0a\0Ns.", ER_E_FORMAT, "a tensor's name holds a control character"),
        ROW("\x80\x02}X\2\0\0\0\x1b[Ns.", ER_E_FORMAT, "a tensor's name holds a control character"),
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        parsed p;
        archive a;
        char what[32];
        int64_t live = er_memory_live();
        snprintf(what, sizeof what, "program %zu", i);
        int code = parse_pickle(&p, &a, rows[i].bytes, rows[i].n);
        assert_refused(what, &p, code, rows[i].code, rows[i].said);
        parse_free(&p);
        archive_free(&a);
        assert_int_equal(er_memory_live(), live);
    }
}

/* At least n times the same opcodes, then an end. */
static void assert_flood(const char *begin, size_t begin_length, const char *op, size_t length, size_t n, int wanted,
                         const char *said)
{
    parsed p;
    archive a;
    er_text t = ER_TEXT_INIT, many = ER_TEXT_INIT;
    for (int i = 0; i < 1024; i++) put(&many, op, length);
    put(&t, begin, begin_length);
    for (size_t i = 0; i < n; i += 1024) put(&t, many.at, many.length);
    put(&t, ".", 1);
    int code = parse_pickle(&p, &a, t.at, t.length);
    assert_refused(said, &p, code, wanted, said);
    parse_free(&p);
    archive_free(&a);
    er_text_free(&t);
    er_text_free(&many);
}

static void floods_end(void **state)
{
    (void)state;
    enum { MANY = (1 << 22) + 10 };
    assert_flood("\x80\x02", 2, "N", 1, MANY, ER_E_FORMAT, "more values than a checkpoint has");
    assert_flood("\x80\x02}q\0", 5, "h\0", 2, MANY, ER_E_FORMAT, "more values than a checkpoint has");
    assert_flood("\x80\x02}", 3, "(", 1, MANY, ER_E_FORMAT, "more marks than a checkpoint has");
    assert_flood("\x80\x04}", 3, "\x94", 1, MANY, ER_E_FORMAT, "more in the memo than a checkpoint has");
    assert_flood("\x80\x02)", 3, "\x85", 1, 1 << 20, ER_E_UNSUPPORTED,
                 "holds no dictionary of tensors"); /* tuples in tuples */
}

static void long_names_are_refused(void **state)
{
    (void)state;
    parsed p;
    archive a;
    er_text t = ER_TEXT_INIT;
    char name[1100];
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = 0;
    PUT(&t, "\x80\x02}");
    op_text(&t, name);
    PUT(&t, "Ns.");
    int code = parse_pickle(&p, &a, t.at, t.length);
    assert_refused("long name", &p, code, ER_E_FORMAT, "a tensor's name of 1099 bytes");
    parse_free(&p);
    archive_free(&a);
    er_text_free(&t);
}

/* --- tensors that do not fit -------------------------------------------------------------------------------------- */

static void bad_tensors_are_refused(void **state)
{
    (void)state;
    const int64_t most = INT64_MAX;
    static const int64_t turned[] = {1, 3}, none[] = {0, 0}, below[] = {-3, 1};
    const struct {
        written w;
        int code;
        const char *said;
    } rows[] = {
        {{FLOATS, "0", 6, 0, 2, {2, 3}, NULL, NULL}, 0, ""},
        {{FLOATS, "0", 6, 0, 2, {2, 3}, NULL, "N"}, 0, ""},
        {{FLOATS, "0", 6, 0, 2, {2, 3}, NULL, "}"}, 0, ""},
        {{FLOATS, "0", 6, 6, 1, {0}, NULL, NULL}, 0, ""},
        {{"torch\nByteStorage\n", "0", 24, 23, 1, {1}, NULL, NULL}, 0, ""},
        {{FLOATS, "0", 6, 0, 2, {1, 3}, none, NULL}, ER_E_UNSUPPORTED, "tensor 't' is a strided view"},
        {{FLOATS, "0", 6, 0, 2, {3, 2}, turned, NULL}, ER_E_UNSUPPORTED, "tensor 't' is a strided view"},
        {{FLOATS, "0", 6, 3, 2, {2, 3}, below, NULL}, ER_E_UNSUPPORTED, "tensor 't' is a strided view"},
        {{FLOATS, "0", 6, 0, 2, {2, 3}, NULL, "}\x8c\3neg\x88s"}, ER_E_UNSUPPORTED, "tensor 't' has metadata"},
        {{FLOATS, "0", 6, 0, 2, {2, 3}, NULL, "NN"}, ER_E_FORMAT, "a tensor without its six arguments"},
        {{FLOATS, "0", 6, 0, 2, {2, 4}, NULL, NULL}, ER_E_FORMAT, "tensor 't' of 8 elements at 0 of a storage of 6"},
        {{FLOATS, "0", 6, 1, 2, {2, 3}, NULL, NULL}, ER_E_FORMAT, "tensor 't' of 6 elements at 1 of a storage of 6"},
        {{FLOATS, "0", 6, 7, 1, {0}, NULL, NULL}, ER_E_FORMAT, "tensor 't' of 0 elements at 7 of a storage of 6"},
        {{FLOATS, "0", 6, -1, 1, {1}, NULL, NULL}, ER_E_FORMAT, "tensor 't' of 1 elements at -1 of a storage of 6"},
        {{FLOATS, "0", 6, most, 1, {1}, NULL, NULL}, ER_E_FORMAT, "of 1 elements at 9223372036854775807 of"},
        {{FLOATS, "0", 6, 1, 1, {most}, NULL, NULL}, ER_E_FORMAT, "of 9223372036854775807 elements at 1"},
        {{FLOATS, "0", 6, 0, 2, {1LL << 32, 1LL << 32}, none, NULL}, ER_E_FORMAT, "'t' has an impossible shape"},
        {{FLOATS, "0", 6, 0, 2, {-2, -3}, NULL, NULL}, ER_E_FORMAT, "tensor 't' has an impossible shape"},
        {{FLOATS, "0", 7, 0, 2, {2, 3}, NULL, NULL}, ER_E_FORMAT,
         "tensor 't' lies in a storage of 7 x float32, but the file holds 24 bytes"},
        {{FLOATS, "0", 1LL << 62, 0, 2, {2, 3}, NULL, NULL}, ER_E_FORMAT,
         "in a storage of 4611686018427387904 x float"},
        {{"torch\nDoubleStorage\n", "0", 6, 0, 2, {2, 3}, NULL, NULL}, ER_E_FORMAT, "of 6 x float64, but"},
        {{FLOATS, "1", 6, 0, 2, {2, 3}, NULL, NULL}, ER_E_FORMAT, "lies in a storage that the file does not hold"},
        {{FLOATS, "../byteorder", 6, 0, 1, {1}, NULL, NULL}, ER_E_FORMAT, "a storage that the file does not hold"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        parsed p;
        archive a;
        er_text t = ER_TEXT_INIT;
        char what[32];
        snprintf(what, sizeof what, "tensor %zu", i);
        op_begin(&t);
        op_text(&t, "t");
        op_tensor(&t, &rows[i].w);
        op_end(&t);
        int code = parse_pickle(&p, &a, t.at, t.length);
        if (rows[i].code) assert_refused(what, &p, code, rows[i].code, rows[i].said);
        else if (code) fail_msg("%s: %s", what, p.err.text);
        parse_free(&p);
        archive_free(&a);
        er_text_free(&t);
    }
}

static void a_name_given_twice_is_refused(void **state)
{
    (void)state;
    const written w = {FLOATS, "0", 6, 0, 2, {2, 3}, NULL, NULL};
    parsed p;
    archive a;
    er_text t = ER_TEXT_INIT;
    op_begin(&t);
    for (int i = 0; i < 2; i++) {
        op_text(&t, "t");
        op_tensor(&t, &w);
    }
    op_end(&t);
    int code = parse_pickle(&p, &a, t.at, t.length);
    assert_refused("twice", &p, code, ER_E_FORMAT, "tensor 't' appears twice");
    parse_free(&p);
    archive_free(&a);
    er_text_free(&t);
}

/* --- the older format --------------------------------------------------------------------------------------------- */

static void bad_legacy_files_are_refused(void **state)
{
    (void)state;
#define MAGIC "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
#define HEAD MAGIC "\x80\x02M\xe9\x03.\x80\x02}X\x0d\0\0\0little_endian\x88s."
#define ONE                                                                                                            \
    "\x80\x02}X\1\0\0\0tctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nShortStorage\nX\1\0\0\0kNK\2NtQ" \
    "K\0K\2\x85K\1\x85\x89NtRs."
#define KEYS "\x80\x02]X\1\0\0\0ka."
    static const struct {
        const char *bytes;
        size_t n;
        int code;
        const char *said;
    } rows[] = {
        ROW(HEAD ONE KEYS "\2\0\0\0\0\0\0\0abcd", 0, ""),
        ROW(MAGIC "\x80\x02M\xea\x03.", ER_E_UNSUPPORTED, "the protocol of this torch file is not 1001"),
        ROW(MAGIC "\x80\x02M\xe9\x03.\x80\x02}.", ER_E_FORMAT, "the file does not say its byte order"),
        ROW(MAGIC "\x80\x02M\xe9\x03.\x80\x02}X\x0d\0\0\0little_endian\x89s.", ER_E_UNSUPPORTED, "order is not little"),
        ROW("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x18.", ER_E_FORMAT, "neither a zip archive nor"),
        ROW("\x80\x02}.", ER_E_FORMAT, "neither a zip archive nor"),
        ROW("\x80", ER_E_FORMAT, "neither a zip archive nor"),
        ROW("version https://git-lfs.github.com/spec/v1\n", ER_E_FORMAT, "neither a zip archive nor"),
        ROW("", ER_E_FORMAT, "the file is empty"),
        ROW(HEAD, ER_E_FORMAT, "no pickle begins here"),
        ROW(HEAD ONE, ER_E_FORMAT, "no pickle begins here"),
        ROW(HEAD ONE "\x80\x02}.", ER_E_FORMAT, "no list of storages behind the pickle"),
        ROW(HEAD ONE "\x80\x02].", ER_E_FORMAT, "tensor 't' lies in a storage that the file does not hold"),
        ROW(HEAD ONE "\x80\x02]K\1a.", ER_E_FORMAT, "the file holds a storage that no tensor has"),
        ROW(HEAD ONE "\x80\x02]X\1\0\0\0la.", ER_E_FORMAT, "the file holds a storage that no tensor has"),
        ROW(HEAD ONE KEYS "\2\0\0\0\0\0\0", ER_E_FORMAT, "the file ends before a storage"),
        ROW(HEAD ONE KEYS "\2\0\0\0\0\0\0\0abc", ER_E_FORMAT, "a storage of 2 elements with 3 bytes left"),
        ROW(HEAD ONE KEYS "\xff\xff\xff\xff\xff\xff\xff\xff" "abcd", ER_E_FORMAT, "with 4 bytes left"),
        ROW(HEAD ONE KEYS "\2\0\0\0\0\0\0\0abcde", ER_E_FORMAT, "1 bytes behind the last storage"),
        ROW(HEAD ONE KEYS "\1\0\0\0\0\0\0\0ab", ER_E_FORMAT, "in a storage of 2 x int16, but the file holds 2 bytes"),
        ROW(HEAD ONE "\x80\x02](X\1\0\0\0kX\1\0\0\0ke.\2\0\0\0\0\0\0\0abcd\2\0\0\0\0\0\0\0abcd", ER_E_FORMAT,
            "two storages have the same key"),
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        parsed p;
        char what[32];
        int64_t live = er_memory_live();
        snprintf(what, sizeof what, "legacy %zu", i);
        int code = parse_bytes(&p, rows[i].bytes, rows[i].n);
        if (rows[i].code) assert_refused(what, &p, code, rows[i].code, rows[i].said);
        else if (code || memcmp(p.list.at[0].data, "abcd", 4) != 0) fail_msg("%s: %s", what, p.err.text);
        parse_free(&p);
        assert_int_equal(er_memory_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(torch_files_read_right),
        cmocka_unit_test(tied_tensors_share_their_bytes),
        cmocka_unit_test(torch_files_are_refused),
        cmocka_unit_test(broken_files_are_harmless),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(bad_programs_are_refused),
        cmocka_unit_test(floods_end),
        cmocka_unit_test(long_names_are_refused),
        cmocka_unit_test(bad_tensors_are_refused),
        cmocka_unit_test(a_name_given_twice_is_refused),
        cmocka_unit_test(bad_legacy_files_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
