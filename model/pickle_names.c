/* SPDX-License-Identifier: Apache-2.0 */
#include "model/pickle_names.h"

#include "model/pickle_machine.h"
#include "model/tensor.h"

#include <string.h>

static const er_pickle_type types[] = {
    {"FloatStorage", "float32", 4, ER_F32}, {"HalfStorage", "float16", 2, ER_F16},
    {"BFloat16Storage", "bfloat16", 2, ER_BF16}, {"DoubleStorage", "float64", 8, -1},
    {"LongStorage", "int64", 8, -1}, {"IntStorage", "int32", 4, -1}, {"ShortStorage", "int16", 2, -1},
    {"CharStorage", "int8", 1, -1}, {"ByteStorage", "uint8", 1, -1}, {"BoolStorage", "bool", 1, -1},
};

enum { TYPES = sizeof types / sizeof *types };

static const struct {
    const char *module, *name;
    int number;
} globals[] = {
    {"collections", "OrderedDict", ER_PICKLE_ORDERED_DICT},
    {"torch._utils", "_rebuild_tensor_v2", ER_PICKLE_REBUILD_TENSOR},
    {"torch._utils", "_rebuild_parameter", ER_PICKLE_REBUILD_PARAMETER},
};

/* Those of Python's pickle that the machine does not know. */
static const struct {
    uint8_t op;
    const char *name;
} opcodes[] = {
    {'0', " (POP)"}, {'1', " (POP_MARK)"}, {'2', " (DUP)"}, {'F', " (FLOAT)"}, {'I', " (INT)"}, {'L', " (LONG)"},
    {'P', " (PERSID)"}, {'S', " (STRING)"}, {'T', " (BINSTRING)"}, {'U', " (SHORT_BINSTRING)"}, {'V', " (UNICODE)"},
    {'d', " (DICT)"}, {'g', " (GET)"}, {'i', " (INST)"}, {'l', " (LIST)"}, {'o', " (OBJ)"}, {'p', " (PUT)"},
    {'B', " (BINBYTES)"}, {'C', " (SHORT_BINBYTES)"}, {0x81, " (NEWOBJ)"}, {0x82, " (EXT1)"}, {0x83, " (EXT2)"},
    {0x84, " (EXT4)"}, {0x8b, " (LONG4)"}, {0x8d, " (BINUNICODE8)"}, {0x8e, " (BINBYTES8)"}, {0x8f, " (EMPTY_SET)"},
    {0x90, " (ADDITEMS)"}, {0x91, " (FROZENSET)"}, {0x92, " (NEWOBJ_EX)"}, {0x96, " (BYTEARRAY8)"},
    {0x97, " (NEXT_BUFFER)"}, {0x98, " (READONLY_BUFFER)"},
};

static int equal(const uint8_t *text, size_t length, const char *name)
{
    return length == strlen(name) && memcmp(text, name, length) == 0;
}

const er_pickle_type *er_pickle_type_at(int type) { return type >= 0 && type < TYPES ? &types[type] : NULL; }

int er_pickle_global(const uint8_t *module, size_t module_length, const uint8_t *name, size_t name_length)
{
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++)
        if (equal(module, module_length, globals[i].module) && equal(name, name_length, globals[i].name))
            return globals[i].number;
    for (int i = 0; i < TYPES && equal(module, module_length, "torch"); i++)
        if (equal(name, name_length, types[i].storage)) return i;
    return -1;
}

const char *er_pickle_opcode(uint8_t op)
{
    for (size_t i = 0; i < sizeof opcodes / sizeof *opcodes; i++)
        if (opcodes[i].op == op) return opcodes[i].name;
    return "";
}
