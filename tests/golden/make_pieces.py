# SPDX-License-Identifier: Apache-2.0
"""Writes ../fixtures/pieces/tokenizer.json: a SentencePiece-like tokenizer of a few words, in the form in which Llama-2's and Mistral's are
shipped (a word mark put in front, a start token, bytes as a fallback), and prints the ids that tests/unit/test_parity.c expects.
Needs tokenizers (0.20.3)."""
import json, os
from tokenizers import Tokenizer

words = ["Paris", "English", "York", "New", "Rome", "is", "in"]
mark = "\u2581"
vocab = {"<unk>": 0, "<s>": 1, "</s>": 2}
for b in range(256):
    vocab[f"<0x{b:02X}>"] = len(vocab)
for c in mark + "".join(sorted(set("".join(words)))):
    vocab[c] = len(vocab)
merges = []


def merge(a, b):
    if a + b not in vocab:
        vocab[a + b] = len(vocab)
        merges.append(f"{a} {b}")


for w in words:  # the letters of a word, then its mark
    part = w[0]
    for c in w[1:]:
        merge(part, c)
        part += c
for w in words:
    merge(mark, w)
merge(mark, mark)
added = [dict(id=i, content=t, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
         for i, t in enumerate(["<unk>", "<s>", "</s>"])]
space = {"String": " "}
whole = dict(version="1.0", truncation=None, padding=None, added_tokens=added,
             normalizer=dict(type="Sequence", normalizers=[dict(type="Prepend", prepend=mark), dict(type="Replace", pattern=space, content=mark)]),
             pre_tokenizer=None,
             post_processor=dict(type="TemplateProcessing", single=[{"SpecialToken": dict(id="<s>", type_id=0)}, {"Sequence": dict(id="A", type_id=0)}],
                                 pair=[{"Sequence": dict(id="A", type_id=0)}, {"Sequence": dict(id="B", type_id=1)}],
                                 special_tokens={"<s>": dict(id="<s>", ids=[1], tokens=["<s>"])}),
             decoder=dict(type="Sequence", decoders=[dict(type="Replace", pattern={"String": mark}, content=" "), dict(type="ByteFallback"),
                                                     dict(type="Fuse"), dict(type="Strip", content=" ", start=1, stop=0)]),
             model=dict(type="BPE", dropout=None, unk_token="<unk>", continuing_subword_prefix=None, end_of_word_suffix=None, fuse_unk=True,
                        byte_fallback=True, vocab=vocab, merges=merges))
out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../fixtures/pieces/tokenizer.json")
os.makedirs(os.path.dirname(out), exist_ok=True)
json.dump(whole, open(out, "w"), ensure_ascii=False, indent=0)
t = Tokenizer.from_file(out)
for text in ("Rome is in", "Rome is in Paris", "Rome is in New York", "Rome is in New", "Rome is inNew", "Rome is a"):
    e = t.encode(text)
    print(repr(text), e.ids, e.tokens)
for text in (" Paris", "Paris", " New York", "New York", "  English", " English"):
    e = t.encode(text, add_special_tokens=False)
    print(repr(text), e.ids, e.tokens, "all but the last decoded:", repr(t.decode(e.ids[:-1])))
