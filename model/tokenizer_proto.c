/* SPDX-License-Identifier: Apache-2.0 */
#include "model/tokenizer_proto.h"

#include "base/memory.h"

#include <string.h>

/* --- the wire format ---------------------------------------------------------------------------------------------- */

enum { WIRE_NUMBER = 0, WIRE_8 = 1, WIRE_BYTES = 2, WIRE_4 = 5 };

typedef struct message {
    const char *at, *end;
} message;

typedef struct field {
    uint32_t number, wire;
    uint64_t value;  /* WIRE_NUMBER */
    message content; /* the others */
} field;

static int broken(er_err *err) { return er_fail(err, ER_E_FORMAT, "no SentencePiece model: its bytes end too early"); }

static int read_number(uint64_t *out, message *m, er_err *err)
{
    *out = 0;
    for (int shift = 0; shift < 64 && m->at < m->end; shift += 7) {
        uint8_t byte = (uint8_t)*m->at++;
        *out |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) return 0;
    }
    return broken(err);
}

static int read_field(field *f, message *m, er_err *err)
{
    uint64_t key, length = 0;
    ER_TRY(read_number(&key, m, err));
    f->number = (uint32_t)(key >> 3);
    f->wire = (uint32_t)(key & 7);
    switch (f->wire) {
    case WIRE_NUMBER: return read_number(&f->value, m, err);
    case WIRE_8: length = 8; break;
    case WIRE_4: length = 4; break;
    case WIRE_BYTES: ER_TRY(read_number(&length, m, err)); break;
    default: return er_fail(err, ER_E_FORMAT, "no SentencePiece model: a field of kind %u", f->wire);
    }
    if (length > (uint64_t)(m->end - m->at)) return broken(err);
    f->content = (message){m->at, m->at + length};
    m->at += length;
    return 0;
}

static float read_float(const field *f)
{
    uint32_t bits = 0;
    float value;
    for (int i = 0; i < 4; i++) bits |= (uint32_t)(uint8_t)f->content.at[i] << (8 * i);
    memcpy(&value, &bits, sizeof value);
    return value;
}

static er_slice slice_of(const message *m) { return (er_slice){m->at, (size_t)(m->end - m->at)}; }

/* --- the model ---------------------------------------------------------------------------------------------------- */

enum { MODEL_PIECE = 1, MODEL_TRAINER = 2 };
enum { PIECE_TEXT = 1, PIECE_SCORE = 2, PIECE_TYPE = 3 };
enum { TRAINER_KIND = 3, TRAINER_UNKNOWN = 45, KIND_BPE = 2 };

static int read_piece(er_pieces *p, message m, er_err *err)
{
    er_piece piece = {.type = ER_PIECE_NORMAL};
    field f;
    while (m.at < m.end) {
        ER_TRY(read_field(&f, &m, err));
        if (f.number == PIECE_TEXT && f.wire == WIRE_BYTES) piece.text = slice_of(&f.content);
        if (f.number == PIECE_SCORE && f.wire == WIRE_4) piece.score = read_float(&f);
        if (f.number == PIECE_TYPE && f.wire == WIRE_NUMBER) piece.type = f.value < 7 ? (int)f.value : 0;
    }
    const er_slice *t = &piece.text;
    if (!t->at || !t->length || memchr(t->at, 0, t->length) || er_utf8_valid(t->at, t->length) != t->length)
        return er_fail(err, ER_E_FORMAT, "piece %zu is no text", p->count);
    ER_TRY(er_grow(&p->at, &p->capacity, p->count + 1, err));
    p->at[p->count++] = piece;
    return 0;
}

static int read_trainer(er_pieces *p, message m, er_err *err)
{
    field f;
    while (m.at < m.end) {
        ER_TRY(read_field(&f, &m, err));
        if (f.number == TRAINER_KIND && f.wire == WIRE_NUMBER) p->is_bpe = f.value == KIND_BPE;
        if (f.number == TRAINER_UNKNOWN && f.wire == WIRE_BYTES) p->unknown = slice_of(&f.content);
    }
    return 0;
}

int er_pieces_read(er_pieces *out, const char *bytes, size_t n, er_err *err)
{
    message m = {bytes, bytes + n};
    field f;
    *out = (er_pieces){.unknown = {"<unk>", 5}};
    while (m.at < m.end) {
        ER_TRY(read_field(&f, &m, err));
        if (f.number == MODEL_PIECE && f.wire == WIRE_BYTES) ER_TRY(read_piece(out, f.content, err));
        if (f.number == MODEL_TRAINER && f.wire == WIRE_BYTES) ER_TRY(read_trainer(out, f.content, err));
    }
    return 0;
}

void er_pieces_free(er_pieces *pieces)
{
    er_free(pieces->at);
    pieces->at = NULL;
    pieces->count = 0;
}
