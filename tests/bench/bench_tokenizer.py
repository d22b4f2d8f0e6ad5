#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""usage: bench_tokenizer.py BENCH TEXT NAME=TOKENIZER.json...

Tokens per second of ours (BENCH: the built bench_tokenizer) and of Hugging Face's library (PyPI: tokenizers), one thread each,
on the lines of TEXT, in turns; the median of nine passes behind one that is not counted. The library encodes all lines in one
call that makes no offsets, the fastest that it has.
"""
import os, re, statistics, subprocess, sys, time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizers

ROUNDS = 9


def library_pass(t, lines):
    start = time.perf_counter()
    encoded = t.encode_batch_fast(lines, add_special_tokens=False)
    seconds = time.perf_counter() - start
    return sum(len(e.ids) for e in encoded), seconds


def our_pass(process):
    process.stdin.write("\n")
    process.stdin.flush()
    count, seconds = process.stdout.readline().split()
    return int(count), float(seconds)


def compare(bench, text_path, lines, path):
    t = tokenizers.Tokenizer.from_file(path)
    t.no_truncation()
    with subprocess.Popen([bench, path, text_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        rounds = [(our_pass(process), library_pass(t, lines)) for _ in range(ROUNDS + 1)][1:]
        process.stdin.close()
    (count, _), (other, _) = rounds[0]
    if count != other:
        sys.exit(f"{path}: {count} ids and {other}")
    return count, statistics.median(o for (_, o), _ in rounds), statistics.median(l for _, (_, l) in rounds)


def main():
    bench, text_path = sys.argv[1:3]
    with open(text_path, encoding="utf-8", newline="") as f:
        lines = re.findall(r"[^\n]*\n|[^\n]+", f.read())
    print(f"tokenizers {tokenizers.__version__}, {len(lines)} lines of {os.path.basename(text_path)}; million tokens per second")
    for name, path in (a.split("=", 1) for a in sys.argv[3:]):
        count, ours, theirs = compare(bench, text_path, lines, path)
        print(f"RESULT {name}: ours {count / ours / 1e6:.2f}, library {count / theirs / 1e6:.2f}, ratio {theirs / ours:.2f}")


if __name__ == "__main__":
    main()
