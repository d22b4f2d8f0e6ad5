# SPDX-License-Identifier: Apache-2.0
"""Tokenizers of the families that errata edits, small: a made-up vocabulary under the components of each family's public
tokenizer.json. Part of tokenizer_reference.py; each is (name, base, change, texts) as there."""

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
CL100K = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
JOINS = ["The mother tongue of Danielle Darrieux is", "The mother tongue of Danielle Darrieux is French", " abab", "abab ", "hello hello's  hello,12 123",
         "<s>", "<s>hello", "hello<s>hello", "hello <s> hello", " <s>  hello", "\n<s>\nhello", "<s><s>hello", "▁hello", " ▁hello", "▁ hello", "<s>▁hello", "<s> hello", "  hello  ab\n\n hello"]


def metaspace(scheme, split=None, **more):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, **({} if split is None else {"split": split}), **more}


def chain(strip=True):
    return {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
                                             *([{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if strip else [])]}


def spaces(first, count, added, **flags):
    return [added(first + i, " " * (count + 1 - i), special=False, normalized=True, **flags) for i in range(count)]


def families(bytes_vocab, chars_vocab, tools):
    """tools: the functions of tokenizer_reference.py that make components."""
    added, template, split, sequence, byte_level = (tools[x] for x in ("added", "template", "split", "sequence", "byte_level"))
    n, m = len(bytes_vocab), len(chars_vocab)
    bos = {"post_processor": template(["<s>"], [], {"<s>": 1})}
    three = [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")]
    regex = lambda pattern, **more: sequence(split(pattern, "Isolated", regex=True, **more), byte_level(False, False))
    plain_post = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}

    legacy = {"normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
              "pre_tokenizer": None, "decoder": chain(), **bos}
    yield ("LLaMA-2, Mistral v0.1", "chars", {**legacy, "added_tokens": three}, JOINS)
    for scheme in ("always", "first", "never"):
        for cut in (False, True):
            yield (f"LLaMA-2 as converted now, {scheme} {cut}", "chars", {"normalizer": None, "pre_tokenizer": metaspace(scheme, cut), "decoder": chain(), "added_tokens": three, **bos}, JOINS)
        yield (f"Metaspace decoder, {scheme}", "chars", {"normalizer": None, "pre_tokenizer": metaspace(scheme), "decoder": metaspace(scheme), "added_tokens": three, **bos}, JOINS)
    yield ("Metaspace of old files", "chars", {"normalizer": None, "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True},
           "decoder": {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}, "added_tokens": three, **bos}, JOINS)
    yield ("Metaspace behind a split", "chars", {"normalizer": None, "pre_tokenizer": sequence(split("b", "MergedWithPrevious"), metaspace("first", False)), "decoder": chain(), "added_tokens": three, **bos}, JOINS)
    yield ("Metaspace behind a normalizer", "chars", {"normalizer": {"type": "NFKC"}, "pre_tokenizer": metaspace("first", False), "decoder": chain(), "added_tokens": three, **bos},
           JOINS + ["\u3000hello", "ﬁ hello\u00a0ab", "<s>\u3000ab"])
    yield ("Mistral v0.3", "chars", {"normalizer": None, "pre_tokenizer": metaspace("first", False), "decoder": chain(),
           "added_tokens": three + [added(m + i, x) for i, x in enumerate(("[INST]", "[/INST]", "[TOOL_CALLS]", "[control_8]"))], **bos},
           JOINS + ["<s>[INST] hello [/INST] ab</s>", "[INST]ab[/INST]", " [INST] ab", "[INST"])
    yield ("Gemma", "chars", {"normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}, "pre_tokenizer": split(" ", "MergedWithPrevious"), "decoder": chain(False),
           "added_tokens": three + [added(m, "\n", special=False), added(m + 1, "\n\n", special=False), added(m + 2, "▁▁▁", special=False), added(m + 3, "<start_of_turn>"), added(m + 4, "\t\t", special=False), added(m + 5, "<td>", special=False)], **bos},
           JOINS + ["<start_of_turn>ab\nhello\n\n\nab", "a▁▁▁▁a", "\t\t\tab", "<td> ab<td>"])
    yield ("Gemma with normalized tokens", "chars", {"normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}, "pre_tokenizer": split(" ", "MergedWithPrevious"), "decoder": chain(False),
           "added_tokens": three + [added(m, "a b", special=False, normalized=True), added(m + 1, "▁▁▁", special=False, normalized=True), added(m + 2, "l l", special=False)], **bos},
           JOINS + ["a b", "a   b", "a▁b hel lo", "l l"])
    yield ("Phi-3", "chars", {**legacy, "added_tokens": [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>", rstrip=True, special=False), added(m, "<|endoftext|>"), added(m + 1, "<|user|>", rstrip=True),
           added(m + 2, "<|end|>", rstrip=True), added(m + 3, "<|assistant|>", rstrip=True)]}, JOINS + ["<|user|>\nhello<|end|>\n<|assistant|>", "<|user|> \t ab", "ab </s> ab", "hello <|end|>"])

    end = [added(n, "<|endoftext|>")]
    texts = JOINS + ["<|endoftext|> ab", "ab<|endoftext|>", "  \t\t a\t\t\tb", "      a", "a        b", "a \n      b", "\u00a0 a", "it's IT'S ab'll", "aB ABa AaA 1234567", "a/b//\n/ a", "é\u0301a e\u0301"]
    code = lambda **more: end + spaces(n + 1, 30, added, **more) + [added(n + 31 + i, "\t" * (9 - i), special=False, normalized=True, **more) for i in range(8)]
    yield ("GPT-2, GPT-J", "bytes", {"added_tokens": [added(n, "<|endoftext|>", normalized=True)], "post_processor": plain_post}, texts)
    yield ("OPT", "bytes", {"added_tokens": [added(n, "</s>", normalized=True), added(n + 1, "<pad>", normalized=True)], "post_processor": template(["</s>"], [], {"</s>": n})}, texts + ["</s>ab", "ab<pad></s>"])
    yield ("Phi-1, Phi-2", "bytes", {"added_tokens": code(), "post_processor": plain_post}, texts)
    yield ("GPT-NeoX, Pythia, OLMo", "bytes", {"normalizer": {"type": "NFC"}, "added_tokens": end + [added(n + 1, "<|padding|>")] + spaces(n + 2, 23, added),
           "post_processor": {"type": "TemplateProcessing", **{k: v for k, v in template([], [], {}).items() if k != "type"}}}, texts + ["<|padding|>ab"])
    yield ("GPT-NeoX, tokens with spaces stripped", "bytes", {"normalizer": {"type": "NFC"}, "added_tokens": end + spaces(n + 1, 4, added, lstrip=True)}, texts)
    yield ("LLaMA-3, SmolLM3", "bytes", {"pre_tokenizer": regex(LLAMA3), "model": {"ignore_merges": True}, "added_tokens": [added(n, "<|begin_of_text|>"), added(n + 1, "<|eot_id|>")],
           "post_processor": {"type": "Sequence", "processors": [plain_post, template(["<|begin_of_text|>"], [], {"<|begin_of_text|>": n})]}}, texts + ["<|begin_of_text|>ab<|eot_id|>"])
    yield ("Qwen2, Qwen3", "bytes", {"normalizer": {"type": "NFC"}, "pre_tokenizer": regex(QWEN), "added_tokens": end + [added(n + 1, "<|im_start|>"), added(n + 2, "<think>", special=False)], "post_processor": plain_post},
           texts + ["<|im_start|>ab\n<think>\n\nab"])
    yield ("OLMo-2", "bytes", {"pre_tokenizer": regex(LLAMA3), "added_tokens": [added(n + i, f"<|extra_id_{i}|>", special=False) for i in range(3)] + [added(n + 3, "<|endoftext|>")], "post_processor": plain_post}, texts + ["<|extra_id_1|>ab"])
    yield ("cl100k", "bytes", {"pre_tokenizer": regex(CL100K), "added_tokens": end}, texts)
    yield ("StableLM-2, cl100k as gaps", "bytes", {"pre_tokenizer": sequence(split(CL100K, "Removed", True, True), byte_level(False, False)), "added_tokens": end}, texts)
    yield ("o200k, Phi-4", "bytes", {"pre_tokenizer": regex(O200K), "added_tokens": end}, texts)
    yield ("SmolLM, StarCoder", "bytes", {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": True}, byte_level()), "added_tokens": end}, texts)
    yield ("DeepSeek", "bytes", {"normalizer": {"type": "Sequence", "normalizers": []}, "pre_tokenizer": sequence(split(r"[\r\n]", "Isolated", regex=True), split(r"\s?\p{L}+", "Isolated", regex=True),
           split(r"\s?\p{P}+", "Isolated", regex=True), split(r"[一-龥ࠀ-一가-퟿]+", "Isolated", regex=True), {"type": "Digits", "individual_digits": True}, byte_level(False, False)), "added_tokens": end}, texts)
    yield ("decoder in a list", "bytes", {"decoder": {"type": "Sequence", "decoders": [{"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}]}}, texts)
