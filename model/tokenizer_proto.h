/* SPDX-License-Identifier: Apache-2.0 */
/* SentencePiece's tokenizer.model: a protocol-buffer message of pieces and of how they were trained. Private to the
 * tokenizer. */
#ifndef ER_MODEL_TOKENIZER_PROTO_H
#define ER_MODEL_TOKENIZER_PROTO_H

#include "base/error.h"
#include "model/bpe.h"

enum er_piece_type { /* 0: one that is not known */
    ER_PIECE_NORMAL = 1,
    ER_PIECE_UNKNOWN,
    ER_PIECE_CONTROL,
    ER_PIECE_USER,
    ER_PIECE_UNUSED,
    ER_PIECE_BYTE
};

typedef struct er_piece {
    er_slice text; /* in the file's bytes, UTF-8 without NUL, not empty */
    float score;
    int type;
} er_piece;

typedef struct er_pieces {
    er_piece *at;
    size_t count, capacity;
    int is_bpe;
    er_slice unknown; /* what the unknown piece is called */
} er_pieces;

/* Pieces point into bytes. Free with er_pieces_free, also after a failure. ER_E_FORMAT where a length leaves its
 * message or a piece is no text. */
int er_pieces_read(er_pieces *out, const char *bytes, size_t n, er_err *err);
void er_pieces_free(er_pieces *pieces);

#endif
