# SPDX-License-Identifier: Apache-2.0
"""usage: tokenizer_folders.py > tests/golden/tokenizer_folders.json

Folders without tokenizer.json as Hugging Face's AutoTokenizer opens them (PyPI: transformers 4.57.1, sentencepiece,
protobuf): the files, the added tokens with their flags, and ids of some texts. tests/unit/test_tokenizer_folder.c writes
the same files and compares.
"""
import io, json, os, tempfile
import sentencepiece, transformers
from transformers import AutoTokenizer
import tokenizer_reference as reference

transformers.logging.set_verbosity_error()
TEXTS = ["", "hello world", " hello  world 123", "<|endoftext|>hello", "hello<|endoftext|> ab", "ab</s>ab", "<pad> ab<unk>", "é e\u0301", "it's 12 123", "<m> ab <m>", "ab<n>\n<n>", "a\nb\n\n", "hello ab hello", "  ab", "ab </s>  ab <m>  ab", "<n> a b", "\t\ta", "hello<start_of_turn>ab  \n\n<mask>", "日本 \u2581\u2581\u2581a"]


def token(content, **flags):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": True, **flags}


def typed(content, **flags):
    return {"__type": "AddedToken", **token(content, **flags)}


def plain_merges(head="#version: 0.2\n", end="\n", line="\n"):
    return head + line.join(" ".join(m) for m in reference.BYTES["merges"]) + end


def byte_folders():
    """name, files beside vocab.json, how merges.txt is written"""
    vocab = reference.BYTES["vocab"]
    n = len(vocab)
    config = lambda **more: {"tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer", "model_max_length": 1000000000000000019884624838656, **more}}
    yield "GPT-2", config(), {}
    yield "GPT-2, the class named fast", config(tokenizer_class="GPT2TokenizerFast"), {}
    yield "GPT-2 with a space in front", config(add_prefix_space=True), {}
    yield "GPT-2 with BOS", config(add_bos_token=True), {}
    yield "GPT-2, other special tokens", config(bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"), {}
    yield "GPT-2, a token of the vocabulary", config(bos_token="hello", unk_token="Ġw"), {}
    yield "GPT-2 without unknown token", config(unk_token=None, pad_token="<pad>"), {}
    yield "GPT-2 with separators", config(sep_token="<m>", cls_token="<n>", mask_token=typed("<unk>", lstrip=True)), {}
    yield "GPT-2 with additional tokens", config(additional_special_tokens=["<m>", "<n>"]), {}
    yield "OPT", {**config(add_bos_token=True, add_prefix_space=False, errors="replace", unk_token=typed("</s>"), bos_token=typed("</s>"), eos_token=typed("</s>"), pad_token=typed("<pad>")),
                  "special_tokens_map.json": {k: token("</s>") for k in ("bos_token", "eos_token", "unk_token")} | {"pad_token": token("<pad>")}}, {}
    yield "a map of special tokens", {**config(), "special_tokens_map.json": {"bos_token": "<s>", "eos_token": token("</s>", normalized=False), "unk_token": token("<unk>", rstrip=True), "pad_token": "<pad>",
                                                                                 "additional_special_tokens": ["<m>", token("<n>", lstrip=True)]}}, {}
    yield "a map beside the configuration", {**config(bos_token="<n>", eos_token="<|endoftext|>", pad_token="<m>"), "special_tokens_map.json": {"bos_token": "<s>"}}, {}
    yield "added tokens of old files", {**config(pad_token="<pad>"), "added_tokens.json": {"<m>": n + 1, "<pad>": n + 2, "<n>": n}}, {}
    yield "added tokens and a map", {**config(), "added_tokens.json": {"<m>": n, "<|endoftext|>": n + 1, "<pad>": n + 2}, "special_tokens_map.json": {"pad_token": "<pad>", "bos_token": "<m>"}}, {}
    decoder = {str(n): token("<|endoftext|>", special=True), str(n + 1): token("<m>", lstrip=True, special=False), str(n + 2): token("<n>", normalized=False, special=True), str(n + 3): token("a b", special=False)}
    yield "added tokens with flags", config(added_tokens_decoder=decoder, bos_token="<|endoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>"), {}
    yield "added tokens with flags, map not read", {**config(added_tokens_decoder=decoder, pad_token="<n>"), "special_tokens_map.json": {"pad_token": "<pad>"}, "added_tokens.json": {"<unk>": n + 9}}, {}
    yield "ids that do not follow", config(added_tokens_decoder={str(n + 5): token("<m>", special=True), str(n + 2): token("<n>", special=False)}), {}
    yield "CodeGen", config(tokenizer_class="CodeGenTokenizer", added_tokens_decoder={str(n): token("<|endoftext|>", special=True, normalized=False), **{str(n + 1 + i): token(" " * (5 - i), special=False) for i in range(4)}}), {}
    yield "CodeGen, nothing said", config(tokenizer_class="CodeGenTokenizer", pad_token="<pad>"), {}
    yield "Qwen2", config(tokenizer_class="Qwen2Tokenizer", added_tokens_decoder={str(n): token("<|endoftext|>", special=True, normalized=False), str(n + 1): token("<m>", special=True, normalized=False), str(n + 2): token("<n>", special=False, normalized=False)},
                          eos_token="<m>", pad_token="<|endoftext|>", bos_token=None, unk_token=None, add_prefix_space=False, add_bos_token=False, additional_special_tokens=["<m>"]), {}
    yield "Qwen2, nothing said", config(tokenizer_class="Qwen2Tokenizer"), {}
    yield "merges without a last line end", config(), {"end": ""}
    yield "merges with CRLF", config(), {"head": "#version: 0.2\r\n", "end": "\r\n", "line": "\r\n"}
    yield "merges without a version", config(), {"head": ""}
    yield "Qwen2, merges without a version and line end", config(tokenizer_class="Qwen2Tokenizer"), {"head": "", "end": ""}
    yield "Qwen2, empty lines", config(tokenizer_class="Qwen2Tokenizer"), {"line": "\n\n", "end": " \n\n"}
    yield "merges twice", config(), {"end": "\nh e\nĠ w\n"}


def texts_of(files):
    return {name: json.dumps(value) for name, value in files.items()}


def write(folder, files):
    for name, value in files.items():
        with open(os.path.join(folder, name), "wb") as f:
            f.write(value if isinstance(value, bytes) else value.encode())


def opened(files):
    with tempfile.TemporaryDirectory() as folder:
        write(folder, files)
        return AutoTokenizer.from_pretrained(folder, use_fast=True)


def results(t):
    added = sorted(t.added_tokens_decoder.items())
    ids = [t(x)["input_ids"] for x in TEXTS]
    return {"class": type(t).__name__, "size": len(t), "added": [[i, a.content, a.special, a.normalized, a.lstrip, a.rstrip, a.single_word] for i, a in added],
            "named": {k: getattr(t, k + "_token_id") for k in ("bos", "eos", "unk", "pad")}, "ids": ids, "plain": [t(x, add_special_tokens=False)["input_ids"] for x in TEXTS],
            "decoded": [t.backend_tokenizer.decode(x, skip_special_tokens=False) if x else "" for x in ids], "skipped": [t.backend_tokenizer.decode(x, skip_special_tokens=True) if x else "" for x in ids]}


def byte_cases():
    vocab = {"vocab.json": json.dumps(reference.BYTES["vocab"])}
    for name, files, how in byte_folders():
        files = texts_of(files)
        t = opened({**vocab, "merges.txt": plain_merges(**how), **files})
        yield {"name": name, "files": files, "merges": how, **results(t)}


# --- SentencePiece ------------------------------------------------------------------------------------------------


def corpus():
    with open(os.path.join(os.path.dirname(__file__), "../fixtures/tiny-corpus.txt"), encoding="utf-8") as f:
        lines = f.read().split("\n")
    return lines + ["hello world hello ab ab hello"] * 20 + ["  it's   12 123\ta a"] * 5


def trained(**options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(corpus()), model_writer=model, model_type="bpe", vocab_size=520, byte_fallback=True, split_digits=True, num_threads=1,
                                             normalization_rule_name="identity", remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, character_coverage=0.999, minloglevel=2, **options)
    return model.getvalue()


def models():
    return {"llama": trained(), "users": trained(user_defined_symbols=["<m>", "a b", "\u2581\u2581\u2581", "\n\n"], control_symbols=["<n>"]),
            "gemma": trained(pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", bos_piece="<bos>", eos_piece="<eos>", add_dummy_prefix=False,
                             user_defined_symbols=["<mask>", "\n", "\n\n", "\u2581\u2581", "<start_of_turn>", "<end_of_turn>"])}


def piece_folders():
    """name, model, files beside it"""
    llama = lambda **more: {"tokenizer_config.json": {"tokenizer_class": "LlamaTokenizer", "model_max_length": 1000000000000000019884624838656, **more}}
    gemma = lambda **more: {"tokenizer_config.json": {"tokenizer_class": "GemmaTokenizer", **more}}
    three = {str(i): token(x, special=True, normalized=False) for i, x in enumerate(("<unk>", "<s>", "</s>"))}
    for model in ("llama", "users"):
        yield f"LLaMA, legacy, {model}", model, llama(legacy=True)
        yield f"LLaMA, {model}", model, llama(legacy=False, add_eos_token=True)
    yield "LLaMA, nothing said", "llama", llama()
    yield "LLaMA without space in front", "llama", llama(add_prefix_space=False)
    yield "LLaMA without space in front, not legacy", "llama", llama(add_prefix_space=False, legacy=False)
    yield "LLaMA without BOS", "llama", llama(add_bos_token=False, pad_token="<pad>")
    yield "LLaMA-2", "llama", llama(legacy=True, added_tokens_decoder=three, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token=None, add_bos_token=True, add_eos_token=False)
    yield "LLaMA with a map", "llama", {**llama(), "special_tokens_map.json": {"bos_token": token("<s>"), "eos_token": token("</s>"), "unk_token": token("<unk>"), "pad_token": "<unk>"}}
    yield "LLaMA with added tokens", "llama", {**llama(), "added_tokens.json": {"<pad>": 520, "<m>": 521}, "special_tokens_map.json": {"pad_token": "<pad>"}}
    yield "Phi-3", "llama", llama(legacy=False, added_tokens_decoder={**three, "2": token("</s>", rstrip=True, normalized=False), "520": token("<|endoftext|>", special=True, normalized=False), "521": token("<m>", special=True, normalized=False, rstrip=True)},
                                  eos_token="<|endoftext|>", pad_token="<|endoftext|>", bos_token="<s>", unk_token="<unk>", add_bos_token=False)
    yield "Gemma", "gemma", gemma()
    yield "Gemma, all said", "gemma", gemma(bos_token="<bos>", eos_token="<eos>", unk_token="<unk>", pad_token="<pad>", add_bos_token=True, add_eos_token=False, additional_special_tokens=["<start_of_turn>"])


def piece_cases(made):
    for name, model, files in piece_folders():
        files = texts_of(files)
        yield {"name": name, "files": files, "model": model, **results(opened({"tokenizer.model": made[model], **files}))}


def main():
    made = models()
    lines = [f'"made_by": {json.dumps("tests/golden/tokenizer_folders.py with transformers " + transformers.__version__)}', f'"texts": {json.dumps(TEXTS, ensure_ascii=False)}',
             f'"vocab": {json.dumps(reference.BYTES["vocab"], ensure_ascii=False)}', f'"merges": {json.dumps([" ".join(m) for m in reference.BYTES["merges"]], ensure_ascii=False)}',
             '"models": {\n' + ",\n".join(f'  "{name}": "{model.hex()}"' for name, model in made.items()) + "\n}",
             '"cases": [\n' + ",\n".join("  " + json.dumps(c, ensure_ascii=False) for c in [*byte_cases(), *piece_cases(made)]) + "\n]"]
    print("{\n" + ",\n".join(lines) + "\n}")


if __name__ == "__main__":
    main()
