/* SPDX-License-Identifier: Apache-2.0 */
#include "model/pickle_machine.h"

#include "base/memory.h"
#include "model/pickle_names.h"
#include "model/tensor.h"

#include <stdio.h>
#include <string.h>

enum { PUSHES_MOST = 1 << 22, PROTOCOL_LEAST = 2, PROTOCOL_MOST = 5, SHOWN_MOST = 160, KEY_MOST = 64 };
enum { PARAMETER_ARGUMENTS = 3, TENSOR_ARGUMENTS = 6, STORAGE_PARTS = 5 };

/* --- values ------------------------------------------------------------------------------------------------------- */

static size_t place(const er_pickle *p) { return (size_t)(p->at - p->begin); }

static int malformed(const er_pickle *p, const char *what, er_err *err)
{
    return er_fail(err, ER_E_FORMAT, "%s: byte %zu of the pickle: %s", p->path, place(p), what);
}

static int push(er_pickle *p, uint32_t value, er_err *err)
{
    if (p->pushes >= PUSHES_MOST) return malformed(p, "more values than a checkpoint has", err);
    ER_TRY(er_grow(&p->stack, &p->stack_capacity, p->depth + 1, err));
    p->stack[p->depth++] = value;
    p->pushes++;
    return 0;
}

static int push_new(er_pickle *p, const er_pickle_value *v, er_err *err)
{
    ER_TRY(push(p, (uint32_t)p->value_count, err));
    ER_TRY(er_grow(&p->values, &p->value_capacity, p->value_count + 1, err));
    p->values[p->value_count++] = *v;
    return 0;
}

static int push_int(er_pickle *p, int64_t x, er_err *err)
{
    return push_new(p, &(er_pickle_value){.kind = ER_PICKLE_INT, .integer = x}, err);
}

static int push_kind(er_pickle *p, enum er_pickle_kind kind, er_err *err)
{
    return push_new(p, &(er_pickle_value){.kind = kind}, err);
}

/* What lies above the topmost mark. */
static size_t above_mark(const er_pickle *p) { return p->depth - (p->mark_count ? p->marks[p->mark_count - 1] : 0); }

static int pop(er_pickle *p, uint32_t *out, er_err *err)
{
    if (!above_mark(p)) return malformed(p, "the stack is empty", err);
    *out = p->stack[--p->depth];
    return 0;
}

/* Of the value on top, which stays. */
static int top(er_pickle *p, er_pickle_value **out, enum er_pickle_kind kind, const char *what, er_err *err)
{
    if (!above_mark(p)) return malformed(p, "the stack is empty", err);
    *out = &p->values[p->stack[p->depth - 1]];
    return (*out)->kind == kind ? 0 : malformed(p, what, err);
}

static int add_item(er_pickle *p, er_pickle_value *container, uint32_t item, er_err *err)
{
    if (!p->cell_count) p->cell_count = 1; /* 0 ends a chain */
    ER_TRY(er_grow(&p->cells, &p->cell_capacity, p->cell_count + 1, err));
    uint32_t cell = (uint32_t)p->cell_count++;
    p->cells[cell] = (er_pickle_cell){item, 0};
    if (container->first) {
        p->cells[container->last].next = cell;
    } else {
        container->first = cell;
    }
    container->last = cell;
    container->items++;
    return 0;
}

/* Moves the n topmost values into a container, in the order in which they were pushed. */
static int move_items(er_pickle *p, er_pickle_value *container, size_t n, er_err *err)
{
    for (size_t i = 0; i < n; i++) ER_TRY(add_item(p, container, p->stack[p->depth - n + i], err));
    p->depth -= n;
    return 0;
}

uint32_t er_pickle_item(const er_pickle *p, uint32_t container, uint32_t i)
{
    uint32_t cell = p->values[container].first;
    while (i--) cell = p->cells[cell].next;
    return p->cells[cell].value;
}

int er_pickle_is_text(const er_pickle_value *v, const char *text)
{
    return v->kind == ER_PICKLE_TEXT && v->length == strlen(text) && memcmp(v->text, text, v->length) == 0;
}

int er_pickle_find(uint32_t *out, const er_pickle *p, uint32_t dict, const char *key)
{
    int found = 0;
    for (uint32_t c = p->values[dict].first; c;) {
        uint32_t value = p->cells[c].next;
        if (er_pickle_is_text(&p->values[p->cells[c].value], key)) {
            *out = p->cells[value].value;
            found = 1;
        }
        c = p->cells[value].next;
    }
    return found;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

static int take(er_pickle *p, const uint8_t **out, uint64_t n, er_err *err)
{
    if (n > p->left)
        return er_fail(err, ER_E_FORMAT, "%s: byte %zu of the pickle: %llu bytes wanted where %zu are left", p->path,
                       place(p), (unsigned long long)n, p->left);
    *out = p->at;
    p->at += n;
    p->left -= (size_t)n;
    return 0;
}

/* n bytes, little-endian, unsigned. */
static int take_number(er_pickle *p, uint64_t *out, size_t n, er_err *err)
{
    const uint8_t *bytes = NULL;
    uint64_t x = 0;
    ER_TRY(take(p, &bytes, n, err));
    memcpy(&x, bytes, n);
    *out = x;
    return 0;
}

static int take_line(er_pickle *p, const uint8_t **out, size_t *length, er_err *err)
{
    const uint8_t *end = p->left ? memchr(p->at, '\n', p->left) : NULL;
    if (!end) return malformed(p, "a name without an end", err);
    *length = (size_t)(end - p->at);
    return take(p, out, *length + 1, err);
}

/* A text, or an integer of more than 64 bits, whose length stands in the next `width` bytes. */
static int push_span(er_pickle *p, enum er_pickle_kind kind, size_t width, er_err *err)
{
    er_pickle_value v = {.kind = kind};
    uint64_t length = 0;
    ER_TRY(take_number(p, &length, width, err));
    ER_TRY(take(p, &v.text, length, err));
    v.length = (size_t)length;
    if (kind == ER_PICKLE_LONG && length <= sizeof v.integer) {
        v.kind = ER_PICKLE_INT;
        uint64_t x = length && v.text[length - 1] & 0x80 ? UINT64_MAX : 0; /* two's complement of any width */
        memcpy(&x, v.text, v.length);
        memcpy(&v.integer, &x, sizeof x);
    }
    return push_new(p, &v, err);
}

/* --- what a pickle asks for --------------------------------------------------------------------------------------- */

static const char *shown(char *text, size_t at, const uint8_t *name, size_t length)
{
    for (size_t i = 0; i < length && at < SHOWN_MOST - 1; i++, at++)
        text[at] = name[i] > ' ' && name[i] <= '~' ? (char)name[i] : '?';
    text[at] = 0;
    return text;
}

static int push_global(er_pickle *p, size_t at, const uint8_t *module, size_t module_length, const uint8_t *name,
                       size_t name_length, er_err *err)
{
    int which = er_pickle_global(module, module_length, name, name_length);
    if (which >= 0) return push_new(p, &(er_pickle_value){.kind = ER_PICKLE_GLOBAL, .integer = which}, err);
    char text[SHOWN_MOST];
    shown(text, 0, module, module_length);
    size_t n = strlen(text);
    if (n < SHOWN_MOST - 1) text[n++] = '.';
    shown(text, n, name, name_length);
    return er_fail(err, ER_E_UNSUPPORTED,
                   "%s: byte %zu of the pickle asks for %s: refused, nothing was executed; save a state_dict, or "
                   "better a safetensors file", p->path, at, text);
}

static int op_global(er_pickle *p, size_t at, er_err *err)
{
    const uint8_t *module = NULL, *name = NULL;
    size_t module_length = 0, name_length = 0;
    ER_TRY(take_line(p, &module, &module_length, err));
    ER_TRY(take_line(p, &name, &name_length, err));
    return push_global(p, at, module, module_length, name, name_length, err);
}

static int op_stack_global(er_pickle *p, size_t at, er_err *err)
{
    uint32_t name = 0, module = 0;
    ER_TRY(pop(p, &name, err));
    ER_TRY(pop(p, &module, err));
    const er_pickle_value *m = &p->values[module], *n = &p->values[name];
    if (m->kind != ER_PICKLE_TEXT || n->kind != ER_PICKLE_TEXT)
        return malformed(p, "the name of a global is no text", err);
    return push_global(p, at, m->text, m->length, n->text, n->length, err);
}

/* A dictionary, a tensor, or a parameter, which stands for its tensor. */
static int op_reduce(er_pickle *p, er_err *err)
{
    uint32_t args = 0, what = 0;
    ER_TRY(pop(p, &args, err));
    ER_TRY(pop(p, &what, err));
    er_pickle_value a = p->values[args], f = p->values[what];
    if (a.kind != ER_PICKLE_TUPLE || f.kind != ER_PICKLE_GLOBAL)
        return malformed(p, "REDUCE of something that is no global with a tuple", err);
    if (f.integer == ER_PICKLE_ORDERED_DICT) {
        if (a.items) return er_fail(err, ER_E_UNSUPPORTED, "%s: byte %zu of the pickle: an OrderedDict made of a list",
                                    p->path, place(p));
        return push_new(p, &(er_pickle_value){.kind = ER_PICKLE_DICT, .type = 1}, err);
    }
    if (f.integer == ER_PICKLE_REBUILD_TENSOR) {
        if (a.items != TENSOR_ARGUMENTS && a.items != TENSOR_ARGUMENTS + 1)
            return malformed(p, "a tensor without its six arguments", err);
        a.kind = ER_PICKLE_TENSOR;
        return push_new(p, &a, err);
    }
    if (f.integer == ER_PICKLE_REBUILD_PARAMETER) {
        uint32_t tensor = a.items == PARAMETER_ARGUMENTS ? er_pickle_item(p, args, 0) : args;
        if (p->values[tensor].kind != ER_PICKLE_TENSOR) return malformed(p, "a parameter without its tensor", err);
        return push(p, tensor, err);
    }
    return er_fail(err, ER_E_UNSUPPORTED, "%s: byte %zu of the pickle makes a torch.%s of its own", p->path, place(p),
                   er_pickle_type_at((int)f.integer)->storage);
}

/* An OrderedDict may have attributes (_metadata with versions of modules), which say nothing about tensors. */
static int op_build(er_pickle *p, er_err *err)
{
    uint32_t state = 0;
    er_pickle_value *dict = NULL;
    ER_TRY(pop(p, &state, err));
    ER_TRY(top(p, &dict, ER_PICKLE_DICT, "BUILD of something that is no OrderedDict", err));
    if (!dict->type || p->values[state].kind != ER_PICKLE_DICT)
        return malformed(p, "BUILD of something that is no OrderedDict with attributes", err);
    return 0;
}

/* ("storage", torch.FloatStorage, key, place, elements) and, in legacy files, None: a storage that is no view of
 * another. The place ("cpu", "cuda:0") does not matter here. */
static int op_persid(er_pickle *p, er_err *err)
{
    uint32_t id = 0, part[STORAGE_PARTS + 1];
    ER_TRY(pop(p, &id, err));
    uint32_t n = p->values[id].kind == ER_PICKLE_TUPLE ? p->values[id].items : 0;
    if (n != STORAGE_PARTS && n != STORAGE_PARTS + 1) return malformed(p, "a storage without its five parts", err);
    for (uint32_t i = 0; i < n; i++) part[i] = er_pickle_item(p, id, i);
    const er_pickle_value *type = &p->values[part[1]], *key = &p->values[part[2]], *count = &p->values[part[4]];
    if (!er_pickle_is_text(&p->values[part[0]], "storage") || type->kind != ER_PICKLE_GLOBAL ||
        !er_pickle_type_at((int)type->integer) || key->kind != ER_PICKLE_TEXT || count->kind != ER_PICKLE_INT)
        return malformed(p, "a storage without type, key or length", err);
    if (key->length > KEY_MOST) return malformed(p, "a storage with an endless key", err);
    if (count->integer < 0) return malformed(p, "a storage of fewer than no elements", err);
    if (n > STORAGE_PARTS && p->values[part[STORAGE_PARTS]].kind != ER_PICKLE_NONE)
        return er_fail(err, ER_E_UNSUPPORTED, "%s: byte %zu of the pickle: a storage that is a view of another",
                       p->path, place(p));
    return push_new(p, &(er_pickle_value){.kind = ER_PICKLE_STORAGE, .type = (int)type->integer,
                                          .integer = count->integer, .text = key->text, .length = key->length}, err);
}

/* --- opcodes ------------------------------------------------------------------------------------------------------ */

static int pop_mark(er_pickle *p, size_t *above, er_err *err)
{
    if (!p->mark_count) return malformed(p, "no mark on the stack", err);
    *above = above_mark(p);
    p->mark_count--;
    return 0;
}

/* A tuple of the n topmost values. */
static int push_tuple(er_pickle *p, size_t n, er_err *err)
{
    er_pickle_value v = {.kind = ER_PICKLE_TUPLE};
    if (above_mark(p) < n) return malformed(p, "the stack is empty", err);
    ER_TRY(move_items(p, &v, n, err));
    return push_new(p, &v, err);
}

/* The n topmost values into the list or dict below them. */
static int fill(er_pickle *p, enum er_pickle_kind kind, size_t n, er_err *err)
{
    er_pickle_value *v = NULL;
    if (above_mark(p) < n + 1) return malformed(p, "the stack is empty", err);
    p->depth -= n;
    ER_TRY(top(p, &v, kind, kind == ER_PICKLE_DICT ? "items for something that is no dict"
                                                   : "items for something that is no list", err));
    p->depth += n;
    if (kind == ER_PICKLE_DICT && n % 2) return malformed(p, "a key without its value", err);
    return move_items(p, v, n, err);
}

static int op_protocol(er_pickle *p, er_err *err)
{
    uint64_t x = 0;
    ER_TRY(take_number(p, &x, 1, err));
    if (x >= PROTOCOL_LEAST && x <= PROTOCOL_MOST) return 0;
    return er_fail(err, ER_E_UNSUPPORTED, "%s: a pickle of protocol %llu", p->path, (unsigned long long)x);
}

/* Frames only help readers of streams. */
static int op_frame(er_pickle *p, er_err *err)
{
    uint64_t n = 0;
    ER_TRY(take_number(p, &n, 8, err));
    return n <= p->left ? 0 : malformed(p, "a frame that is longer than the file", err);
}

static int op_put(er_pickle *p, size_t width, er_err *err)
{
    uint64_t i = p->memo_count;
    if (width) ER_TRY(take_number(p, &i, width, err));
    if (i > p->memo_count) return malformed(p, "the memo has a gap", err); /* writers number in order */
    if (!above_mark(p)) return malformed(p, "the stack is empty", err);
    if (i == p->memo_count) {
        if (i >= PUSHES_MOST) return malformed(p, "more in the memo than a checkpoint has", err);
        ER_TRY(er_grow(&p->memo, &p->memo_capacity, p->memo_count + 1, err));
        p->memo_count++;
    }
    p->memo[i] = p->stack[p->depth - 1];
    return 0;
}

static int op_get(er_pickle *p, size_t width, er_err *err)
{
    uint64_t i = 0;
    ER_TRY(take_number(p, &i, width, err));
    if (i >= p->memo_count) return malformed(p, "nothing in the memo at this number", err);
    return push(p, p->memo[i], err);
}

static int op_mark(er_pickle *p, er_err *err)
{
    if (p->mark_count >= PUSHES_MOST) return malformed(p, "more marks than a checkpoint has", err);
    ER_TRY(er_grow(&p->marks, &p->mark_capacity, p->mark_count + 1, err));
    p->marks[p->mark_count++] = (uint32_t)p->depth;
    return 0;
}

static int op_int(er_pickle *p, size_t width, er_err *err)
{
    uint64_t x = 0;
    ER_TRY(take_number(p, &x, width, err));
    int64_t high = (int64_t)1 << 31;
    return push_int(p, width == 4 ? ((int64_t)x ^ high) - high : (int64_t)x, err); /* only four bytes have a sign */
}

static int op_real(er_pickle *p, er_err *err)
{
    const uint8_t *bytes = NULL;
    ER_TRY(take(p, &bytes, 8, err));
    return push_kind(p, ER_PICKLE_REAL, err);
}

/* From the topmost mark: a tuple, or the contents of a list or a dict. */
static int op_from_mark(er_pickle *p, enum er_pickle_kind kind, er_err *err)
{
    size_t n = 0;
    ER_TRY(pop_mark(p, &n, err));
    return kind == ER_PICKLE_TUPLE ? push_tuple(p, n, err) : fill(p, kind, n, err);
}

static int step(er_pickle *p, uint8_t op, size_t at, er_err *err)
{
    switch (op) {
    case 0x80: return op_protocol(p, err);
    case 0x95: return op_frame(p, err);
    case '(': return op_mark(p, err);
    case 'N': return push_kind(p, ER_PICKLE_NONE, err);
    case 0x88: return push_new(p, &(er_pickle_value){.kind = ER_PICKLE_BOOL, .integer = 1}, err);
    case 0x89: return push_kind(p, ER_PICKLE_BOOL, err);
    case 'K': return op_int(p, 1, err);
    case 'M': return op_int(p, 2, err);
    case 'J': return op_int(p, 4, err);
    case 0x8a: return push_span(p, ER_PICKLE_LONG, 1, err);
    case 'G': return op_real(p, err);
    case 'X': return push_span(p, ER_PICKLE_TEXT, 4, err);
    case 0x8c: return push_span(p, ER_PICKLE_TEXT, 1, err);
    case '}': return push_kind(p, ER_PICKLE_DICT, err);
    case ']': return push_kind(p, ER_PICKLE_LIST, err);
    case ')': return push_kind(p, ER_PICKLE_TUPLE, err);
    case 0x85: return push_tuple(p, 1, err);
    case 0x86: return push_tuple(p, 2, err);
    case 0x87: return push_tuple(p, 3, err);
    case 't': return op_from_mark(p, ER_PICKLE_TUPLE, err);
    case 's': return fill(p, ER_PICKLE_DICT, 2, err);
    case 'u': return op_from_mark(p, ER_PICKLE_DICT, err);
    case 'a': return fill(p, ER_PICKLE_LIST, 1, err);
    case 'e': return op_from_mark(p, ER_PICKLE_LIST, err);
    case 'q': return op_put(p, 1, err);
    case 'r': return op_put(p, 4, err);
    case 0x94: return op_put(p, 0, err);
    case 'h': return op_get(p, 1, err);
    case 'j': return op_get(p, 4, err);
    case 'c': return op_global(p, at, err);
    case 0x93: return op_stack_global(p, at, err);
    case 'R': return op_reduce(p, err);
    case 'b': return op_build(p, err);
    case 'Q': return op_persid(p, err);
    default:
        return er_fail(err, ER_E_UNSUPPORTED, "%s: byte %zu of the pickle: opcode 0x%02x%s, which no dictionary of "
                       "tensors needs: refused, nothing was executed", p->path, at, op, er_pickle_opcode(op));
    }
}

void er_pickle_begin(er_pickle *p, const uint8_t *bytes, size_t size, const char *path)
{
    p->begin = p->at = bytes;
    p->left = size;
    p->path = path;
}

int er_pickle_run(er_pickle *p, uint32_t *out, er_err *err)
{
    p->depth = p->mark_count = p->memo_count = 0;
    if (!p->left || *p->at != 0x80) return malformed(p, "no pickle begins here", err);
    for (;;) {
        size_t at = place(p);
        uint64_t op = 0;
        if (!p->left) return malformed(p, "the file ends inside the pickle", err);
        ER_TRY(take_number(p, &op, 1, err));
        if (op == '.') break;
        ER_TRY(step(p, (uint8_t)op, at, err));
    }
    if (p->depth != 1 || p->mark_count) return malformed(p, "the pickle ends with more or less than one value", err);
    *out = p->stack[0];
    return 0;
}

void er_pickle_end(er_pickle *p)
{
    ER_FREE(p->values);
    ER_FREE(p->cells);
    ER_FREE(p->stack);
    ER_FREE(p->marks);
    ER_FREE(p->memo);
}
