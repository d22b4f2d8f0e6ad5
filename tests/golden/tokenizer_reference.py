# SPDX-License-Identifier: Apache-2.0
"""usage: tokenizer_reference.py NAME=TOKENIZER.json... [--text TEXT] [--counterfact FOLDER] > tests/golden/tokenizer.json
       tokenizer_reference.py TOKENIZER.json TEXT
       tokenizer_reference.py --exports FOLDER NAME=TOKENIZER.json...

The ids that Hugging Face's `tokenizers` gives (PyPI: tokenizers, xxhash), as hashes that tests/unit/test_tokenizer*.c compare
with ours. The first form writes the whole golden file: small tokenizers made up here, one for every component and flag and one
for every family of models ("cases", with their ids and a hash over random strings), and figures for the named files. The second
prints the figures of one file. The third compares what the test wrote (ERRATA_TOKENIZER_EXPORTS=FOLDER test_tokenizer_golden)
with the tokenizers it was written from, both read by the library.

Figures of a tokenizer: number and hash (XXH3-128 of the ids as little-endian int32) of the text as a whole, of the text line by
line, of 4000 random strings, and of every code point between fixed neighbours; where there are many texts each one's number of
ids stands before its ids. "strings" and "prompts" have a hash (64 bits shown) for every 1000 texts, so that a difference is found
again: of 200000 random strings with ids and decoded texts, and of CounterFact's prompts, alone and with a space and each of the two
targets behind them, without and with special tokens. SmolLM2's file is what `AutoTokenizer.from_pretrained(FOLDER, gguf_file=...)`
saves, with the published pre-tokenizer (Digits one by one, ByteLevel), which transformers 4.46's conversion leaves out.
"""
import itertools, json, os, re, struct, sys, time
import tokenizers, xxhash
from tokenizers import Tokenizer
import tokenizer_cases, tokenizer_strings

SEED, STRINGS, MANY, BLOCK, FEW = 1, 4000, 200000, 1000, 500


def random_texts():
    return tokenizer_strings.random_texts(SEED, STRINGS)


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


def blocks(texts):
    texts = iter(texts)
    while block := list(itertools.islice(texts, BLOCK)):
        yield block


def with_length(b):
    return struct.pack("<i", len(b)) + b


def round_trip(h, t, texts, special):
    """ids, then what they decode to without and with special tokens."""
    for e in t.encode_batch(texts, add_special_tokens=special):
        h.update(struct.pack(f"<{len(e.ids) + 1}i", len(e.ids), *e.ids))
        for skip in (False, True):
            h.update(with_length(t.decode(e.ids, skip_special_tokens=skip).encode() if e.ids else b""))


def string_blocks(t, count=MANY):
    out = []
    for block in blocks(tokenizer_strings.strings(SEED, count)):
        h = xxhash.xxh3_128()
        round_trip(h, t, block, True)
        out.append(h.hexdigest()[:16])
    return out


def counterfact(folder):
    """(prompt with {}, subject, targets) of every record, in order."""
    with open(os.path.join(folder, "counterfact-edit.json"), encoding="utf-8") as f:
        for r in json.load(f):
            yield r["prompt"].replace(r["subject"], "{}", 1), r["subject"], (r["target_new"], r["ground_truth"])
    with open(os.path.join(folder, "counterfact_500_rome_format.json"), encoding="utf-8") as f:
        for r in json.load(f):
            w = r["requested_rewrite"]
            yield w["prompt"], w["subject"], (w["target_new"]["str"], w["target_true"]["str"])


def prompts(folder):
    for prompt, subject, targets in counterfact(folder):
        text = prompt.replace("{}", subject, 1)
        yield text
        for target in targets:
            yield text + " " + target


def prompt_blocks(t, folder):
    out = []
    for block in blocks(prompts(folder)):
        h = xxhash.xxh3_128()
        for special in (False, True):
            round_trip(h, t, block, special)
        out.append(h.hexdigest()[:16])
    return out


def subject_indices(t, records, special):
    """Of every record the index of the subject's last token: the text up to the subject's end encoded on its own."""
    return [len(t.encode(prompt[:prompt.index("{}")] + subject, add_special_tokens=special).ids) - 1 for prompt, subject in records]


def subject_records(folder):
    """Every fifth record of the first file, all 500 of the second, if the prompt has the subject."""
    records = list(counterfact(folder))
    return [(p, s) for p, s, _ in records[:10000:5] + records[10000:] if "{}" in p][:2000]


def subject_figures(t, folder):
    out = {}
    for special in (False, True):
        indices = subject_indices(t, subject_records(folder), special)
        out["special" if special else "plain"] = {"sum": sum(indices), "hash": xxhash.xxh3_128_hexdigest(struct.pack(f"<{len(indices)}i", *indices))}
    return out


def figures(path, text, points=True, folder=None):
    t = open_tokenizer(path)
    out = {}
    if text is not None:
        out["whole"] = whole(t, text)
        out["lines"] = many(t, re.findall(r"[^\n]*\n|[^\n]+", text))
    out["random"] = many(t, random_texts())
    if points:
        out["points"] = many(t, point_texts())
    out["strings"] = string_blocks(t)
    if folder:
        out["prompts"] = prompt_blocks(t, folder)
        out["subjects"] = subject_figures(t, folder)
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


def case_file(base, change):
    whole_file = {**bases()[base], **{k: v for k, v in change.items() if k != "model"}}
    whole_file["model"] = {**bases()[base]["model"], **change.get("model", {})}
    return json.dumps(whole_file)


def all_cases():
    yield from case_list()
    tools = {f.__name__: f for f in (added, template, split, sequence, byte_level)}
    for name, base, change, texts in tokenizer_cases.families(BYTES["vocab"], CHARS["vocab"], tools):
        yield name, base, change, TOKENS + texts


def decoded(t, ids, skip):
    """Strip at the start of an empty text makes the library panic."""
    try:
        return t.decode(ids, skip_special_tokens=skip)
    except BaseException:
        return None


def odd_ids(t, d):
    """Lists of ids that no text has: what a decoder makes of halves of characters."""
    return [[d.below(t.get_vocab_size()) for _ in range(d.below(16))] for _ in range(8)]


def few_strings(t):
    h = xxhash.xxh3_128()
    for block in blocks(tokenizer_strings.strings(SEED + 1, FEW)):
        for special in (False, True):
            for e in t.encode_batch(block, add_special_tokens=special):
                h.update(struct.pack(f"<{len(e.ids) + 1}i", len(e.ids), *e.ids))
    return h.hexdigest()


def cases():
    for number, (name, base, change, texts) in enumerate(all_cases()):
        t = Tokenizer.from_str(case_file(base, change))
        ids = [t.encode(x).ids for x in texts]
        odd = odd_ids(t, tokenizer_strings.Draws(number))
        yield {"name": name, "base": base, "change": change, "texts": texts, "ids": ids, "decoded": [decoded(t, x, False) for x in ids], "skipped": [decoded(t, x, True) for x in ids],
               "odd": odd, "odd_decoded": [decoded(t, x, False) for x in odd], "odd_skipped": [decoded(t, x, True) for x in odd], "strings": few_strings(t)}


# Prompts of which no part need be in anybody's data: borders of scripts, spaces and quotes around the subject.
SUBJECTS = ["Danielle Darrieux", "S\u00e3o Paulo", "\u6771\u4eac", "iPhone 5", "O'Neill", "\u041c\u043e\u0441\u043a\u0432\u0430", "AT&T", "C++", "Jean-Luc", "e\u0301clair"]
PROMPTS = ["{} is a", "The mother tongue of {} is", "\"{}\", it is said,", "Where is {}? In", "{}'s capital is"]
SMALL = ["LLaMA-2, Mistral v0.1", "LLaMA-2 as converted now, first False", "Gemma", "OPT", "LLaMA-3, SmolLM3"]


def small_subjects(tiny):
    pairs = [(p, s) for p in PROMPTS for s in SUBJECTS]
    known = {name: Tokenizer.from_str(case_file(base, change)) for name, base, change, _ in all_cases() if name in SMALL}
    known["tiny"] = open_tokenizer(tiny)
    return {"pairs": pairs, "indices": {name: {"plain": subject_indices(t, pairs, False), "special": subject_indices(t, pairs, True)} for name, t in known.items()}}


def same(a, b, what):
    """Both tokenizers on the same strings; prints the first that differs."""
    for texts in blocks(tokenizer_strings.strings(SEED + 2, 2000)):
        for special in (False, True):
            for text, x, y in zip(texts, a.encode_batch(texts, add_special_tokens=special), b.encode_batch(texts, add_special_tokens=special)):
                if x.ids != y.ids or decoded(a, x.ids, special) != decoded(b, x.ids, special):
                    print(f"{what}: {text!r}: {x.ids} and {y.ids}")
                    return False
    return True


def compare_exports(folder, names):
    originals = {f"case-{i}": Tokenizer.from_str(case_file(base, change)) for i, (_, base, change, _) in enumerate(all_cases())}
    originals.update({name: open_tokenizer(path) for name, path in names})
    bad = sum(not same(t, open_tokenizer(os.path.join(folder, name + ".json")), name) for name, t in originals.items())
    print(f"{len(originals)} exported tokenizers, {bad} differ")
    return 1 if bad else 0


def option(name):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else None


def main():
    names = [a.split("=", 1) for a in sys.argv[1:] if "=" in a]
    if option("--exports"):
        sys.exit(compare_exports(option("--exports"), names))
    if not names:
        path, text = sys.argv[1], read_text(sys.argv[2])
        start = time.time()
        print(json.dumps(figures(path, text, points=False)))
        print(f"{time.time() - start:.1f} s", file=sys.stderr)
        return
    text_path, folder = option("--text"), option("--counterfact")
    text = read_text(text_path) if text_path else None
    hash_of = lambda texts: xxhash.xxh3_128_hexdigest("".join(texts).encode())
    lines = [f'"made_by": {json.dumps("tests/golden/tokenizer_reference.py with tokenizers " + tokenizers.__version__)}']
    if text:
        lines.append(f'"text": {json.dumps({"file": os.path.basename(text_path), "hash": xxhash.xxh3_128_hexdigest(text.encode())})}')
    lines.append(f'"random": {json.dumps({"seed": SEED, "strings": STRINGS, "hash": hash_of(random_texts())})}')
    lines.append(f'"strings": {json.dumps({"seed": SEED, "strings": MANY, "block": BLOCK, "hash": hash_of(tokenizer_strings.strings(SEED, MANY)), "few": FEW})}')
    if folder:
        lines.append(f'"prompts": {json.dumps({"count": sum(1 for _ in prompts(folder)), "hash": hash_of(prompts(folder)), "subjects": len(subject_records(folder))})}')
    rows = [f'  {json.dumps(n)}: {json.dumps(figures(p, text, n in ("smollm2", "qwen3"), folder))}' for n, p in names]
    lines.append('"tokenizers": {\n' + ",\n".join(rows) + "\n}")
    lines.append(f'"subjects": {json.dumps(small_subjects(dict(names)["tiny"]), ensure_ascii=False)}')
    lines.append('"bases": {\n' + ",\n".join(f'  "{k}": {json.dumps(v, ensure_ascii=False)}' for k, v in bases().items()) + "\n}")
    lines.append('"cases": [\n' + ",\n".join("  " + json.dumps(c, ensure_ascii=False) for c in cases()) + "\n]")
    print("{\n" + ",\n".join(lines) + "\n}")


if __name__ == "__main__":
    main()
