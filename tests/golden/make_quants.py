# SPDX-License-Identifier: Apache-2.0
"""usage: make_quants.py OUT    (PyPI: gguf, numpy)

Writes OUT/quants.gguf, random blocks of every block type that is read, one tensor of 24 rows per type, and
OUT/quants.json, the FNV-1a hash of the fp32 values that gguf.quants.dequantize makes of each tensor. The scales of the
first rows are the ends of what fp16 holds: zeros, subnormal, smallest normal and largest values, of both signs. Infinite
and NaN scales are left out: which NaN comes out of them depends on the machine.
"""
import json, os, sys
import numpy as np
import gguf
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize

SCALES = {  # byte offsets of a block's fp16 numbers
    T.Q8_0: [0], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2],
    T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
}
ENDS = [0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x83ff, 0x0400, 0x8400, 0x7bff, 0xfbff, 0x3c00, 0xbc00]
ROWS, COLS = 24, 256


def random_blocks(rng, kind, rows, cols, ends=False):
    """Valid blocks: any bits for the small numbers, finite scales (with `ends` the first ones from ENDS)."""
    block, size = GGML_QUANT_SIZES[kind]
    data = rng.integers(0, 256, (rows * cols // block, size), dtype=np.uint8)
    for k, at in enumerate(SCALES[kind]):
        scale = rng.uniform(-0.01, 0.01, len(data)).astype(np.float16).view(np.uint16)
        if ends:
            half = len(data) // 2
            scale[:half] = [ENDS[i * (6 * k + 1) % len(ENDS)] for i in range(half)]
        data[:, at:at + 2] = scale.view(np.uint8).reshape(-1, 2)
    return data.reshape(rows, -1)


def fnv1a(values):
    h = 0xcbf29ce484222325
    for byte in np.ascontiguousarray(values, "<f4").tobytes():
        h = (h ^ byte) * 0x100000001b3 & 0xffffffffffffffff
    return f"{h:016x}"


def main():
    out = sys.argv[1]
    rng = np.random.default_rng(20250601)
    writer = gguf.GGUFWriter(os.path.join(out, "quants.gguf"), "none")
    hashes = {}
    for kind in SCALES:
        data = random_blocks(rng, kind, ROWS, COLS, ends=True)
        values = dequantize(data, kind)
        assert values.shape == (ROWS, COLS) and np.isfinite(values).all()
        writer.add_tensor(kind.name, data, raw_dtype=kind)
        hashes[kind.name] = fnv1a(values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with open(os.path.join(out, "quants.json"), "w") as f:
        json.dump(hashes, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
