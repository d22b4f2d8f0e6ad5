# SPDX-License-Identifier: Apache-2.0
"""usage: tokenizer_reference.py NAME=TOKENIZER.json... [--text TEXT] > tests/golden/tokenizer.json
       tokenizer_reference.py TOKENIZER.json TEXT

The ids that Hugging Face's `tokenizers` gives (PyPI: tokenizers, xxhash), as hashes that tests/unit/test_tokenizer*.c compare
with ours. With NAME=FILE arguments it writes the whole golden file: small tokenizers made up here, one for every component and
flag ("cases", with their ids), and figures for the named files. The second form prints the figures of one file.

Figures of a tokenizer: number and hash (XXH3-128 of the ids as little-endian int32) of the text as a whole, of the text line by
line, of 4000 random strings, and of every code point between fixed neighbours; where there are many texts each one's number of
ids stands before its ids. SmolLM2's file is what `AutoTokenizer.from_pretrained(FOLDER, gguf_file=...)` saves.
"""
import json, os, re, struct, sys, time
import tokenizers, xxhash
from tokenizers import Tokenizer

ATOMS = [" ", " ", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "the", "The", " of", "ing", "Paris", "'s", "'S", "'\u017f", "'re", "'LL", "'d",
         "'", "\u2019s", "1", "42", "1984", "\u00bd", "\u2167", "\u0663", "!", "?!", "...", " -", "--", "(", ")]", "{}", "\u00e9", "e\u0301", "\u00c5", "A\u030a", "\u00df",
         "\u0416", "\u0448\u0435", "\u03b1\u03b2", "\u4f60\u597d", "\u3053\u3093", "\ud55c\uad6d", "\u1112\u1161\u11ab", "\u0627\u0644", "\u0915\u094d\u0937", "\u0e01\u0e33", "\U0001f600",
         "\U0001f469\u200d\U0001f680", "\u200b", "\u00a0", "\u0085", "\u180e", "\u2028", "\u3000", "\ufeff", "\u00ad", "\u2581", "<s>", "</s>", "<|endoftext|>", "<|im_start|>",
         "<|begin_of_text|>", "<think>", "<0x0A>", "_", "a_b", "http://", "\x00", "\x7f"]
SEED, STRINGS = 1, 4000


def random_texts():
    """The same strings as in tests/unit/test_tokenizer_golden.c."""
    state = SEED

    def below(n):
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (state >> 33) % n

    for _ in range(STRINGS):
        parts = []
        for _ in range(below(24)):
            kind = below(8)
            if kind < 6:
                parts.append(ATOMS[below(len(ATOMS))])
            elif kind == 6:
                point = below(0x110000)
                parts.append(chr(0xFFFD if 0xD800 <= point < 0xE000 else point))
            else:
                parts.append(chr(0x20 + below(95)))
        yield "".join(parts)


def point_texts():
    for point in range(1, 0x110000):
        if not 0xD800 <= point < 0xE000:
            x = chr(point)
            yield f"a{x}b {x}1{x}{x}! {x}  {x}\n{x}'s e{x}"


def open_tokenizer(path):
    t = Tokenizer.from_file(path)
    t.no_truncation()
    t.no_padding()
    return t


def many(t, texts):
    h, count, batch = xxhash.xxh3_128(), 0, []

    def flush():
        nonlocal count
        for e in t.encode_batch(batch, add_special_tokens=False):
            count += len(e.ids)
            h.update(struct.pack(f"<{len(e.ids) + 1}i", len(e.ids), *e.ids))
        batch.clear()

    for text in texts:
        batch.append(text)
        if len(batch) == 10000:
            flush()
    flush()
    return {"ids": count, "hash": h.hexdigest()}


def read_text(path):
    with open(path, encoding="utf-8", newline="") as f:
        return f.read()


def whole(t, text):
    ids = t.encode(text, add_special_tokens=False).ids
    return {"ids": len(ids), "hash": xxhash.xxh3_128_hexdigest(struct.pack(f"<{len(ids)}i", *ids))}


def figures(path, text, points=True):
    t = open_tokenizer(path)
    out = {}
    if text is not None:
        out["whole"] = whole(t, text)
        out["lines"] = many(t, re.findall(r"[^\n]*\n|[^\n]+", text))
    out["random"] = many(t, random_texts())
    if points:
        out["points"] = many(t, point_texts())
    return out


# --- small tokenizers: one component or flag each --------------------------------------------------------------------


def byte_alphabet():
    shown = [b for b in range(256) if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or 0xAE <= b]
    rest = iter(range(256))
    return [chr(b) if b in shown else chr(0x100 + next(rest)) for b in range(256)]


def model(tokens, merges, **more):
    tokens = tokens + [a + b for a, b in merges if a + b not in tokens]
    return {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": {x: i for i, x in enumerate(tokens)},
            "merges": [[a, b] for a, b in merges], **more}


# merges that would join across almost any cut, so that ids show where the cuts are
BYTES = model(byte_alphabet(), [tuple(x) for x in """h e|l l|he ll|hell o|Ġ w|Ġ Ġ|Ċ Ċ|1 2|2 3|a 1|1 a|a Ġ|Ġ a|- a|a -|- -|' s|o r|w or|Ġ wor|a b|b a|ab ab|Ġ -|- Ġ|Ã ©|
                                      A a|a A|Ġ 1|12 3|Ċ a|ĠĠ ĠĠ|x y|xy z|y z|s Ġ""".replace("\n", "").replace("  ", "").split("|") for x in [x.strip().split(" ")]])
CHARS = model(["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + list("▁abcehlort12.,é"),
              [tuple(x.split(" ")) for x in "▁ a|h e|l l|he ll|hell o|▁ hello|▁ ▁|a b|▁ ab|▁▁ ▁▁|e r".split("|")], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
TOKENS = ["hello world", "hello  world 123 a1a 12a", "a-a--a -a", "--a-", "-", " - a", "ab abab\n\naba\n", "'s it's a's", "  lead and trail  ", "aAaA Aa", "café é", "12 3 1234",
          "", " ", "\n", "xyz xyzz", "a\ta\u00a0a\u3000a", "½Ⅷ٣ a1", "漢字aか", "\u180ea\u200ba"]
BYTE_DECODER = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


def byte_level(prefix=False, regex=True):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def split(pattern, behavior, invert=False, regex=False):
    return {"type": "Split", "pattern": {"Regex" if regex else "String": pattern}, "behavior": behavior, "invert": invert}


def added(id, content, **flags):
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True, **flags}


def template(before, after, tokens):
    one = lambda name, kind: {"SpecialToken": {"id": name, "type_id": kind}}
    side = lambda letter, kind: [one(x, kind) for x in before] + [{"Sequence": {"id": letter, "type_id": kind}}] + [one(x, kind) for x in after]
    return {"type": "TemplateProcessing", "single": side("A", 0), "pair": side("A", 0) + side("B", 1),
            "special_tokens": {x: {"id": x, "ids": [i], "tokens": [x]} for x, i in tokens.items()}}


def sentencepiece():
    return {"normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
            "pre_tokenizer": None,
            "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
                                                        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}}


def case_list():
    n = len(BYTES["vocab"])
    bytes_case = lambda name, change, texts=(): (name, "bytes", change, TOKENS + list(texts))
    yield bytes_case("plain", {})
    yield bytes_case("prefix space", {"pre_tokenizer": byte_level(True)})
    yield bytes_case("no pattern", {"pre_tokenizer": byte_level(False, False)})
    yield bytes_case("digits one by one", {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": True}, byte_level(True))})
    yield bytes_case("digits together", {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": False}, byte_level(False, False))})
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            yield bytes_case(f"split string {behavior} {invert}", {"pre_tokenizer": sequence(split("-", behavior, invert), byte_level(False, False))})
            yield bytes_case(f"split regex {behavior} {invert}", {"pre_tokenizer": sequence(split(r"\d+|[aA]", behavior, invert, True), byte_level(False, False))})
    for pattern in (r"\s*", r"\w*", r"a?", r"\w+|[^\w\s]+", r"[^\s\S]|\S+", r"\s+$", r"^a", r"\p{Han}|\p{^L}", r"[\u4e00-\u9fff\x20]+", r"(?i)a(?=A)|(?<=a)1", r"a{1,2}|\.", r"(?>a|ab)b|[\-a]++",
                    r"\p{N}{1,3}|\p{Lu}?\p{Ll}+|\W", r"[\r\n\t]+|\D"):
        yield bytes_case(f"pattern {pattern}", {"pre_tokenizer": sequence(split(pattern, "Isolated", regex=True), byte_level(False, False))})
    yield bytes_case("sequence in sequence", {"pre_tokenizer": sequence(sequence(split("l", "MergedWithPrevious"), split("a", "Contiguous")), byte_level())})
    marks = ["x <m> y", "<m>a", "a<m>", "<m><m>  <m>", "a<m>b", "a <m>b", "é<m>", "_<m>", "ⓐ<m>", "  <m>\n<n> <mm> ", "<n>\u3000<m>a", "<n", "<mm<m>", "-<m>-", "½<m>", "\u200d<m>"]
    for flag in ("lstrip", "rstrip", "single_word", "normalized", "special"):
        yield bytes_case(f"added {flag}", {"added_tokens": [added(n, "<m>", **{flag: flag != "special"}), added(n + 1, "<n>", rstrip=True), added(n + 2, "<mm>", special=False)]}, marks)
    yield bytes_case("added in the vocabulary", {"added_tokens": [added(BYTES["vocab"]["hello"], "hello"), added(n, "a b", special=False)]}, ["a b", "othello a b"])
    yield bytes_case("added and normalized", {"normalizer": {"type": "NFC"}, "added_tokens": [added(n, "é!", normalized=True), added(n + 1, "é?", normalized=False), added(n + 2, "<m>", normalized=True)]},
                     ["é! é?", "e\u0301! e\u0301?", "a<m>e\u0301"])
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        yield bytes_case(f"normalizer {form}", {"normalizer": {"type": form}}, ["e\u0301 \ufb01 Å \uac00 \u1100\u1161 ﬆ ① \u0344 \u2126 \u0958 q\u0307\u0323"])
    yield bytes_case("normalizer chain", {"normalizer": {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "ab"}, "content": "b"}, {"type": "Prepend", "prepend": "-"}, {"type": "NFD"}]}},
                     ["aab", "abab"])
    both = {"added_tokens": [added(n, "<s>"), added(n + 1, "</s>")]}
    yield bytes_case("template", {**both, "post_processor": template(["<s>"], ["</s>", "<s>"], {"<s>": n, "</s>": n + 1})}, ["<s>a</s>"])
    yield bytes_case("template in a sequence", {**both, "post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
                     template(["<s>"], [], {"<s>": n})]}})
    odd = {"model": {"ignore_merges": True, "vocab": {**BYTES["vocab"], "Ġworld": n, "123": BYTES["vocab"]["123"]}}}
    yield bytes_case("ignore merges", odd)
    yield bytes_case("vocabulary beyond the merges", {"model": {"vocab": {**BYTES["vocab"], "Ġworld": n, "cafÃ©": n + 1}}})
    yield bytes_case("merge twice", {"model": {"merges": BYTES["merges"] + [["h", "e"], ["a", "1"]]}})
    yield bytes_case("missing byte", {"model": {"vocab": {k: v for k, v in BYTES["vocab"].items() if k not in "z©"}, "merges": [m for m in BYTES["merges"] if m[0] + m[1] not in ("xyz", "yz", "Ã©")]}})
    yield bytes_case("missing byte, unknown token", {"model": {"unk_token": "<u>", "vocab": {**{k: v for k, v in BYTES["vocab"].items() if k not in "z©"}, "<u>": n},
                     "merges": [m for m in BYTES["merges"] if m[0] + m[1] not in ("xyz", "yz", "Ã©")]}})
    chars = ["hello hello", " ab  ab    ab", "zz qq", "z漢é \U0001f600", "", " ", "a<s>b </s> hello", "▁a ▁", "hellohello er", "a\nb", "<0x41>z", "abzzab" * 20, "hello ab " * 12]
    three = [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")]
    yield ("sentencepiece", "chars", sentencepiece(), chars)
    yield ("sentencepiece with its tokens", "chars", {**sentencepiece(), "added_tokens": three, "post_processor": template(["<s>"], [], {"<s>": 1})}, chars)
    for fuse in (False, True):
        yield (f"unknown characters, fused {fuse}", "chars", {**sentencepiece(), "model": {"fuse_unk": fuse, "byte_fallback": False}}, chars)
        some = {k: v for k, v in CHARS["vocab"].items() if k not in ("<0xE6>", "<0x71>")}
        yield (f"some byte tokens missing, fused {fuse}", "chars", {**sentencepiece(), "model": {"fuse_unk": fuse, "vocab": some}}, chars)
    yield ("no unknown token", "chars", {**sentencepiece(), "model": {"unk_token": None, "byte_fallback": False}}, chars)
    yield ("a merge across words", "chars", {**sentencepiece(), "model": {"vocab": {**CHARS["vocab"], "b▁": 400}, "merges": [["b", "▁"]] + CHARS["merges"]}}, chars)
    yield ("characters and a split", "chars", {**sentencepiece(), "pre_tokenizer": split("l", "MergedWithNext")}, chars)
    yield ("strip at both ends", "chars", {**sentencepiece(), "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "Fuse"},
           {"type": "Strip", "content": " ", "start": 2, "stop": 1}]}}, ["a  ", "hello", "  ab ab   ", "a"]) # an empty text makes the reference panic


def bases():
    empty = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "post_processor": None}
    return {"bytes": {**empty, "pre_tokenizer": byte_level(), "decoder": BYTE_DECODER, "model": BYTES}, "chars": {**empty, "pre_tokenizer": None, "decoder": None, "model": CHARS}}


def cases():
    for name, base, change, texts in case_list():
        whole_file = {**bases()[base], **{k: v for k, v in change.items() if k != "model"}}
        whole_file["model"] = {**bases()[base]["model"], **change.get("model", {})}
        t = Tokenizer.from_str(json.dumps(whole_file))
        ids = [t.encode(x).ids for x in texts]
        yield {"name": name, "base": base, "change": change, "texts": texts, "ids": ids, "decoded": [t.decode(x, skip_special_tokens=False) for x in ids],
               "skipped": [t.decode(x, skip_special_tokens=True) for x in ids]}


def main():
    names = [a.split("=", 1) for a in sys.argv[1:] if "=" in a]
    if not names:
        path, text = sys.argv[1], read_text(sys.argv[2])
        start = time.time()
        print(json.dumps(figures(path, text, points=False)))
        print(f"{time.time() - start:.1f} s", file=sys.stderr)
        return
    text_path = sys.argv[sys.argv.index("--text") + 1] if "--text" in sys.argv else None
    text = read_text(text_path) if text_path else None
    lines = [f'"made_by": {json.dumps("tests/golden/tokenizer_reference.py with tokenizers " + tokenizers.__version__)}']
    if text:
        lines.append(f'"text": {json.dumps({"file": os.path.basename(text_path), "hash": xxhash.xxh3_128_hexdigest(text.encode())})}')
    randoms = "".join(random_texts()).encode()
    lines.append(f'"random": {json.dumps({"seed": SEED, "strings": STRINGS, "hash": xxhash.xxh3_128_hexdigest(randoms)})}')
    rows = [f'  {json.dumps(n)}: {json.dumps(figures(p, text, n in ("smollm2", "qwen3")))}' for n, p in names]
    lines.append('"tokenizers": {\n' + ",\n".join(rows) + "\n}")
    lines.append('"bases": {\n' + ",\n".join(f'  "{k}": {json.dumps(v, ensure_ascii=False)}' for k, v in bases().items()) + "\n}")
    lines.append('"cases": [\n' + ",\n".join("  " + json.dumps(c, ensure_ascii=False) for c in cases()) + "\n]")
    print("{\n" + ",\n".join(lines) + "\n}")


if __name__ == "__main__":
    main()
