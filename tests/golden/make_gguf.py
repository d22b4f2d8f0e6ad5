# SPDX-License-Identifier: Apache-2.0
"""usage: make_gguf.py FOLDER OUT.gguf [TYPE]
       make_gguf.py fixtures OUT [NAME]
       make_gguf.py seeds FIXTURES OUT         (PyPI: gguf, torch, transformers 4.57.1, sentencepiece, protobuf)

The first form writes a Hugging Face folder as GGUF, the way the usual converter does: its names and metadata, Q and K of LLaMA by pairs,
Gemma's gains with one added, GPT-2's matrices turned, factors of LLaMA 3.1's rotation as a tensor. TYPE is that of the matrices: F32 (the
default), F16, BF16 or a block type that gguf.quants can write. What GGUF cannot say (another width of scores than the family's, two kinds
of rotation) ends the script with the reason.

The second form writes tests/fixtures/gguf: tiny models as folder and as GGUF (NAME alone, if given), and blocks.gguf, a model of random
blocks of every block type with blocks.json, the FNV-1a hash of each tensor's fp32 values in Hugging Face's order.
"""
import json, math, os, shutil, sys
import numpy as np
import torch
import gguf
from gguf.constants import GGMLQuantizationType as T
from gguf.quants import dequantize, quantize

ARCHITECTURES = {
    "llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "smollm3": "smollm3", "olmo2": "olmo2", "phi": "phi2",
    "phi3": "phi3", "gpt2": "gpt2", "gpt_neox": "gptneox", "gemma": "gemma", "gemma2": "gemma2", "gemma3_text": "gemma3",
}
PERMUTED = ("llama", "mistral", "smollm3")


class Unsaid(SystemExit):
    pass


def need(condition, what):
    if not condition:
        raise Unsaid(f"GGUF cannot say this: {what}")


# --- metadata -------------------------------------------------------------------------------------------------------------------------

def get(config, *keys, default=None):
    for key in keys:
        if config.get(key) is not None:
            return config[key]
    return default


def head_dim(config):
    d, heads = get(config, "hidden_size", "n_embd"), get(config, "num_attention_heads", "n_head")
    return get(config, "head_dim", default=d // heads)


def windowed(config):
    """Per layer, as transformers has it, and how wide."""
    family, layers = config["model_type"], get(config, "num_hidden_layers", "n_layer")
    width = config.get("sliding_window")
    if family in ("qwen2", "qwen3", "smollm3") and not config.get("use_sliding_window"):
        width = None
    types = config.get("layer_types")
    if types:
        return [t == "sliding_attention" for t in types], width
    every = {"gemma2": 2, "gemma3_text": config.get("sliding_window_pattern", config.get("_sliding_window_pattern", 6))}.get(family)
    return [bool(width) and (every is None or (l + 1) % every != 0) for l in range(layers)], width


def rope_of(config):
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return rope, rope.get("rope_type", rope.get("type", "default"))


def metadata(w, config):
    family, layers = config["model_type"], get(config, "num_hidden_layers", "n_layer")
    d, heads, dim = get(config, "hidden_size", "n_embd"), get(config, "num_attention_heads", "n_head"), head_dim(config)
    w.add_block_count(layers)
    w.add_context_length(get(config, "max_position_embeddings", "n_positions"))
    w.add_embedding_length(d)
    w.add_feed_forward_length(get(config, "intermediate_size", "n_inner", default=4 * d))
    w.add_head_count(heads)
    if family not in ("gpt2", "gpt_neox"):
        w.add_head_count_kv(get(config, "num_key_value_heads", default=heads))
    if "rms_norm_eps" in config:
        w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    else:
        w.add_layer_norm_eps(get(config, "layer_norm_eps", "layer_norm_epsilon"))
    if config.get("head_dim"):
        w.add_key_length(dim)
        w.add_value_length(dim)
    need(get(config, "hidden_act", "hidden_activation", "activation_function") not in ("mish",), "activation")
    share = {"phi": get(config, "partial_rotary_factor", default=0.5), "phi3": get(config, "partial_rotary_factor", default=1.0),
             "gpt_neox": get(config, "rotary_pct", default=0.25)}.get(family, 1.0)
    if family in ("llama", "mistral", "smollm3", "phi", "phi3", "gpt_neox"):
        w.add_rope_dimension_count(int(dim * share))
    if family == "gpt_neox":
        w.add_parallel_residual(config.get("use_parallel_residual", True))
        need(get(config, "rotary_emb_base", "rope_theta", default=10000) == 10000, "rotary_emb_base")
    rotation(w, config)
    windows(w, config)
    scores(w, config)
    if family == "smollm3":
        need(config["no_rope_layers"] == [int((l + 1) % 4 != 0) for l in range(layers)], "no_rope_layers")
    if family == "llama":
        w.add_vocab_size(config["vocab_size"])


def rotation(w, config):
    if config.get("rope_theta") and config["model_type"] not in ("gemma", "gemma2"):
        w.add_rope_freq_base(config["rope_theta"])
    elif config["model_type"] in ("gemma", "gemma2"):
        need(config.get("rope_theta", 10000.0) == 10000.0, "rope_theta")
    if config.get("rope_local_base_freq", 10000.0) != 10000.0:
        w.add_float32("gemma3.rope.freq_base_swa", config["rope_local_base_freq"])
    rope, kind = rope_of(config)
    need(kind in ("default", "linear", "llama3"), f"rope_type {kind}")
    if kind == "linear":
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(rope["factor"])


def windows(w, config):
    family, (layers, width) = config["model_type"], windowed(config)
    if family in ("gemma2", "gemma3_text"):
        period = {"gemma2": 2, "gemma3_text": 6}[family]
        w.add_sliding_window(width)
        if layers != [(l + 1) % period != 0 for l in range(len(layers))]:
            w.add_array(f"{ARCHITECTURES[family]}.attention.sliding_window_pattern", layers)
    elif family == "phi3":
        w.add_sliding_window(width or 0)
    else:
        need(not any(layers), "sliding_window")


def scores(w, config):
    family = config["model_type"]
    if family in ("gemma2", "gemma3_text"):
        need(config["query_pre_attn_scalar"] == head_dim(config), "query_pre_attn_scalar")
    if family == "gemma2":
        w.add_attn_logit_softcapping(config["attn_logit_softcapping"] or 0.0)
        w.add_final_logit_softcapping(config["final_logit_softcapping"] or 0.0)


# --- tokenizer ------------------------------------------------------------------------------------------------------------------------

def vocabulary(w, folder, config):
    with open(os.path.join(folder, "tokenizer.json")) as f:
        tok = json.load(f)
    with open(os.path.join(folder, "tokenizer_config.json")) as f:
        said = json.load(f)
    added = {t["id"]: t for t in tok["added_tokens"]}
    if os.path.exists(os.path.join(folder, "tokenizer.model")):
        pieces(w, folder, config, added, said)
    else:
        need(tok["model"]["type"] == "BPE", tok["model"]["type"])
        names = {i: t for t, i in tok["model"]["vocab"].items()} | {i: t["content"] for i, t in added.items()}
        names = [names.get(i, f"[PAD{i}]") for i in range(config["vocab_size"])]
        w.add_tokenizer_model("gpt2")
        w.add_tokenizer_pre("gpt-2")
        w.add_token_list(names)
        kinds = [gguf.TokenType.CONTROL if i in added else gguf.TokenType.UNUSED if t == f"[PAD{i}]" else gguf.TokenType.NORMAL
                 for i, t in enumerate(names)]
        w.add_token_types(kinds)
        w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tok["model"]["merges"]])
    for key, add in (("bos_token_id", w.add_bos_token_id), ("eos_token_id", w.add_eos_token_id)):
        if config.get(key) is not None:
            add(config[key])


def pieces(w, folder, config, added, said):
    from sentencepiece import SentencePieceProcessor
    sp = SentencePieceProcessor()
    sp.LoadFromFile(os.path.join(folder, "tokenizer.model"))
    tokens, values, kinds = [], [], []
    for i in range(config["vocab_size"]):
        if i >= sp.vocab_size():
            tokens.append(added[i]["content"] if i in added else f"[PAD{i}]")
            values.append(-1000.0)
            special = i in added and added[i]["special"]
            kinds.append(gguf.TokenType.CONTROL if special else gguf.TokenType.USER_DEFINED if i in added else gguf.TokenType.UNUSED)
            continue
        tokens.append(sp.IdToPiece(i))
        values.append(sp.GetScore(i))
        kinds.append(gguf.TokenType.UNKNOWN if sp.IsUnknown(i) else gguf.TokenType.CONTROL if sp.IsControl(i) else
                     gguf.TokenType.BYTE if sp.IsByte(i) else gguf.TokenType.NORMAL)
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    w.add_token_list(tokens)
    w.add_token_scores(values)
    w.add_token_types(kinds)
    w.add_unk_token_id(sp.unk_id())
    w.add_add_bos_token(said.get("add_bos_token", True))
    w.add_add_eos_token(said.get("add_eos_token", False))
    if config["model_type"].startswith("gemma"):
        w.add_add_space_prefix(False)
    elif said.get("add_prefix_space") is not None:
        w.add_add_space_prefix(said["add_prefix_space"])


# --- tensors --------------------------------------------------------------------------------------------------------------------------

def pairs(rows, heads):
    """The two halves of each head, one row of each in turn."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def side_by_side(rows, heads):
    """Q, K and V of each head in turn -> all of Q, all of K, all of V."""
    return rows.reshape(heads, 3, -1, *rows.shape[1:]).swapaxes(0, 1).reshape(rows.shape)


def converted(name, x, config):
    family, heads = config["model_type"], get(config, "num_attention_heads", "n_head")
    if family in PERMUTED and "self_attn.q_proj." in name:
        return pairs(x, heads)
    if family in PERMUTED and "self_attn.k_proj." in name:
        return pairs(x, get(config, "num_key_value_heads", default=heads))
    if family.startswith("gemma") and name.endswith("norm.weight"):
        assert np.array_equal((x + np.float32(1)) - np.float32(1), x), f"{name}: gains that GGUF cannot hold"
        return x + np.float32(1)
    if family == "gpt2" and x.ndim == 2 and any(part in name for part in ("c_attn", "c_proj", "c_fc")):
        return x.T
    if family == "gpt_neox" and "query_key_value" in name:
        return side_by_side(x, heads)
    return x


def factors(config):
    """What the usual converter writes for rope_type llama3: it always takes 8192 positions."""
    rope, kind = rope_of(config)
    if kind != "llama3":
        return None
    need(rope["original_max_position_embeddings"] == 8192, "original_max_position_embeddings")
    need(rope["low_freq_factor"] == 1 and rope["high_freq_factor"] == 4, "low_freq_factor, high_freq_factor")
    dim, out = head_dim(config), []
    for frequency in 1.0 / (config["rope_theta"] ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)):
        waves = 8192 / (2 * math.pi / frequency)
        smooth = (waves - 1) / (4 - 1)
        out.append(1.0 if waves > 4 else rope["factor"] if waves < 1 else float(1 / ((1 - smooth) / rope["factor"] + smooth)))
    return np.array(out, np.float32)


def state(folder):
    from safetensors import safe_open
    out = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            with safe_open(os.path.join(folder, name), "pt") as f:
                out |= {k: f.get_tensor(k).float().numpy() for k in f.keys()}
    return out


def convert(folder, out, kind="F32"):
    with open(os.path.join(folder, "config.json")) as f:
        config = json.load(f)
    family = config["model_type"]
    need(family in ARCHITECTURES, family)
    name = ARCHITECTURES[family]
    arch = next(a for a, n in gguf.MODEL_ARCH_NAMES.items() if n == name)
    names = gguf.get_tensor_name_map(arch, get(config, "num_hidden_layers", "n_layer"))
    w = gguf.GGUFWriter(out, name)
    w.add_file_type(0)
    metadata(w, config)
    vocabulary(w, folder, config)
    for key, x in state(folder).items():
        if key.endswith((".attn.bias", ".attn.masked_bias", ".attention.bias", ".rotary_emb.inv_freq")):
            continue
        if key == "lm_head.weight" and family.startswith("gemma"):
            continue
        to = names.get_name(key, try_suffixes=(".weight", ".bias"))
        assert to, key
        x = np.ascontiguousarray(converted(key, x, config), np.float32)
        of = T.F32 if x.ndim == 1 else T[kind]
        w.add_tensor(to, quantize(x, of), raw_dtype=of)
    if (of := factors(config)) is not None:
        w.add_tensor("rope_freqs.weight", of)
    finish(w)


def finish(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


# --- fixtures -------------------------------------------------------------------------------------------------------------------------

def own(d, heads, kv, f, layers, **more):
    return dict(hidden_size=d, num_attention_heads=heads, num_key_value_heads=kv, intermediate_size=f, num_hidden_layers=layers,
                max_position_embeddings=128, initializer_range=0.1, **more)


# name: (type in GGUF, tokenizer, config)
TABLE = {
    "llama-pieces": ("BF16", "pieces", own(24, 6, 2, 40, 2, head_dim=8, rms_norm_eps=1e-5, rope_theta=1000.0, tie_word_embeddings=False)),
    "llama-scaled": ("F16", "bytes", own(32, 2, 1, 40, 2, tie_word_embeddings=True, rope_theta=500000.0, rope_scaling=dict(
        rope_type="llama3", factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192))),
    "llama-linear": ("F32", "bytes", own(20, 5, 5, 28, 2, attention_bias=True, mlp_bias=True, tie_word_embeddings=False,
                                         rope_scaling=dict(rope_type="linear", factor=4.0))),
    "qwen2": ("BF16", "bytes", own(24, 3, 1, 40, 2, tie_word_embeddings=False, rope_theta=1000000.0)),
    "qwen3": ("F16", "bytes", own(24, 4, 2, 40, 2, head_dim=16, tie_word_embeddings=True, rms_norm_eps=1e-5)),
    "smollm3": ("BF16", "bytes", own(24, 3, 1, 32, 5, tie_word_embeddings=True, rope_theta=2000000.0, pad_token_id=0)),
    "olmo2": ("BF16", "bytes", own(28, 7, 7, 36, 2, rms_norm_eps=1e-5, tie_word_embeddings=False, pad_token_id=0)),
    "phi2": ("F16", "bytes", own(24, 3, 3, 96, 2, partial_rotary_factor=0.5, model_type="phi")),
    "phi3": ("BF16", "bytes", own(32, 4, 2, 44, 2, original_max_position_embeddings=128, sliding_window=6, partial_rotary_factor=0.5,
                                  pad_token_id=0)),
    "gpt2": ("F16", "bytes", dict(n_embd=28, n_head=7, n_layer=2, n_positions=48, initializer_range=0.1)),
    "gptneox": ("BF16", "bytes", dict(hidden_size=24, num_attention_heads=3, intermediate_size=40, num_hidden_layers=2, rotary_pct=0.25,
                                      max_position_embeddings=48, initializer_range=0.1, use_parallel_residual=False, model_type="gpt_neox")),
    "gemma": ("BF16", "pieces", own(24, 3, 1, 40, 2, head_dim=10, hidden_act="gelu_pytorch_tanh", hidden_activation="gelu_pytorch_tanh")),
    "gemma2": ("F32", "bytes", own(20, 4, 2, 28, 3, head_dim=6, query_pre_attn_scalar=6, sliding_window=5, attn_logit_softcapping=4.0,
                                   final_logit_softcapping=6.0, pad_token_id=0)),
    "gemma3": ("F16", "bytes", own(16, 2, 1, 24, 7, head_dim=8, query_pre_attn_scalar=8, sliding_window=4, rope_theta=20000.0,
                                   rope_scaling=dict(rope_type="linear", factor=8.0), pad_token_id=0)),
    "gemma3-listed": ("BF16", "bytes", own(16, 4, 2, 20, 3, head_dim=6, query_pre_attn_scalar=6, sliding_window=3, rope_theta=3000.0,
                                           rope_local_base_freq=200.0, pad_token_id=0,
                                           layer_types=["full_attention", "sliding_attention", "sliding_attention"])),
}


def tiny(out, name):
    from transformers import AutoConfig, AutoModelForCausalLM
    kind, tokenizer, fields = TABLE[name]
    family = fields.pop("model_type", name.split("-")[0].replace("gemma3", "gemma3_text"))
    folder = os.path.join(out, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    size, ids = (pieces_tokenizer if tokenizer == "pieces" else bytes_tokenizer)(folder, family)
    config = AutoConfig.for_model(family, vocab_size=size, torch_dtype="float32", **ids, **fields)
    torch.manual_seed(sum(map(ord, name)))
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for key, p in model.named_parameters():
            if p.dim() == 1:
                p += torch.randint(-96, 97, p.shape) / 256  # exact with one added
            elif "embed" in key or "wte" in key:
                p *= 3
            p.copy_(p.to(torch.float16 if kind == "F16" else torch.bfloat16).float())
    model.to(torch.float16 if kind == "F16" else torch.bfloat16).save_pretrained(folder)
    for rest in ("generation_config.json", "special_tokens_map.json"):
        if os.path.exists(os.path.join(folder, rest)):
            os.remove(os.path.join(folder, rest))
    os.chmod(os.path.join(folder, "model.safetensors"), 0o644)
    convert(folder, os.path.join(out, name + ".gguf"), kind)


def bytes_tokenizer(folder, family):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    vocab = {"<end>": 0} | {chr(b if b in seen else next(spare)): b + 1 for b in range(256)}
    merges = [("t", "h"), ("th", "e"), ("a", "n"), ("Ġ", "the"), ("i", "n"), ("Ġ", "b")]
    for a, b in merges:
        vocab[a + b] = len(vocab)
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tok.add_special_tokens([AddedToken("<end>", special=True, normalized=False)])
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<end>", eos_token="<end>", unk_token=None).save_pretrained(folder)
    return len(vocab), dict(bos_token_id=0, eos_token_id=0)


def pieces_tokenizer(folder, family):
    """A SentencePiece BPE with byte fallback, as LLaMA-2 and Gemma have one, and its tokenizer.json as transformers derives it."""
    import sentencepiece
    from transformers import GemmaTokenizerFast, LlamaTokenizerFast
    gemma = family.startswith("gemma")
    text = os.path.join(folder, "text")
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../fixtures/tiny-corpus.txt")) as f:
        lines = f.read().split("\n")[:400]
    with open(text, "w") as f:
        f.write("\n".join(lines))
    ids = dict(pad_id=0, eos_id=1, bos_id=2, unk_id=3) if gemma else dict(unk_id=0, bos_id=1, eos_id=2, pad_id=-1)
    spelt = dict(pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>", unk_piece="<unk>") if gemma else {}
    sentencepiece.SentencePieceTrainer.train(
        input=text, model_prefix=os.path.join(folder, "tokenizer"), vocab_size=340, model_type="bpe", byte_fallback=True,
        character_coverage=0.9995, split_digits=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        add_dummy_prefix=not gemma, allow_whitespace_only_pieces=True, num_threads=1, minloglevel=2, **ids, **spelt)
    os.remove(text)
    os.remove(os.path.join(folder, "tokenizer.vocab"))
    model = os.path.join(folder, "tokenizer.model")
    tok = GemmaTokenizerFast(vocab_file=model) if gemma else LlamaTokenizerFast(vocab_file=model, add_prefix_space=True, legacy=True)
    tok.save_pretrained(folder)
    return len(tok), dict(bos_token_id=ids["bos_id"], eos_token_id=ids["eos_id"]) | (dict(pad_token_id=0) if gemma else {})


def blocks(out):
    """One layer, every block type. Rows of 256 for the types that need them."""
    from make_quants import fnv1a, random_blocks
    d, heads, kv, dim, inner, vocab = 256, 2, 1, 16, 32, 40
    rng = np.random.default_rng(3)
    w = gguf.GGUFWriter(os.path.join(out, "blocks.gguf"), "llama")
    for add, value in ((w.add_block_count, 1), (w.add_context_length, 64), (w.add_embedding_length, d), (w.add_feed_forward_length, inner),
                       (w.add_head_count, heads), (w.add_head_count_kv, kv), (w.add_key_length, dim), (w.add_layer_norm_rms_eps, 1e-5)):
        add(value)
    names = [chr(97 + i) if i < 26 else chr(65 + i - 26) for i in range(vocab - 2)] + ["ab", "<end>"]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(names)
    w.add_token_types([gguf.TokenType.NORMAL] * (vocab - 1) + [gguf.TokenType.CONTROL])
    w.add_token_merges(["a b"])
    w.add_bos_token_id(vocab - 1)
    w.add_eos_token_id(vocab - 1)
    hashes = {}
    layer, hf = "blk.0.", "model.layers.0."
    for to, name, rows, cols, kind, by in (
            ("token_embd", "model.embed_tokens", vocab, d, T.Q4_K, 0), ("output", "lm_head", vocab, d, T.Q6_K, 0),
            (layer + "attn_q", hf + "self_attn.q_proj", heads * dim, d, T.Q5_K, heads),
            (layer + "attn_k", hf + "self_attn.k_proj", kv * dim, d, T.Q2_K, kv),
            (layer + "attn_v", hf + "self_attn.v_proj", kv * dim, d, T.Q3_K, 0),
            (layer + "attn_output", hf + "self_attn.o_proj", d, heads * dim, T.Q5_0, 0),
            (layer + "ffn_gate", hf + "mlp.gate_proj", inner, d, T.Q4_1, 0), (layer + "ffn_up", hf + "mlp.up_proj", inner, d, T.Q8_0, 0),
            (layer + "ffn_down", hf + "mlp.down_proj", d, inner, T.Q5_1, 0)):
        data = random_blocks(rng, kind, rows, cols)
        values = dequantize(data, kind)
        if by:  # back to halves
            values = values.reshape(by, dim // 2, 2, cols).swapaxes(1, 2).reshape(rows, cols)
        w.add_tensor(to + ".weight", data, raw_dtype=kind)
        hashes[name + ".weight"] = fnv1a(values)
    for to in (layer + "attn_norm", layer + "ffn_norm", "output_norm"):
        w.add_tensor(to + ".weight", rng.uniform(0.5, 1.5, d).astype(np.float32))
    finish(w)
    with open(os.path.join(out, "blocks.json"), "w") as f:
        json.dump(hashes, f, indent=1)
        f.write("\n")


def seeds(fixtures, out):
    from make_quants import SCALES, random_blocks
    rng = np.random.default_rng(5)
    for name in sorted(os.listdir(fixtures)):
        if not name.endswith(".gguf") or name[:-5] in ("quants", "blocks"):
            continue
        r = gguf.GGUFReader(os.path.join(fixtures, name))
        w = gguf.GGUFWriter(os.path.join(out, name), r.fields["general.architecture"].contents())
        for key, field in r.fields.items():
            if not key.startswith("GGUF.") and key != "general.architecture":
                w.add_key_value(key, field.contents(), field.types[0], field.types[1] if len(field.types) > 1 else None)
        for t in r.tensors:
            if t.name == "rope_freqs.weight":
                w.add_tensor(t.name, np.array(t.data, np.float32))
            elif t.name == "token_embd.weight":
                w.add_tensor(t.name, np.zeros((len(r.fields["tokenizer.ggml.tokens"].data), 1), np.float32))
            elif t.name.startswith("blk.0.") and t.name.endswith(".bias"):
                w.add_tensor(t.name, np.zeros(1, np.float32))
        for kind in SCALES:
            w.add_tensor(f"x.{kind.name}", random_blocks(rng, kind, 1, 256), raw_dtype=kind)
        finish(w)


def main():
    if len(sys.argv) > 2 and sys.argv[1] == "fixtures":
        sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
        for name in TABLE:
            if len(sys.argv) < 4 or sys.argv[3] == name:
                tiny(sys.argv[2], name)
        if len(sys.argv) < 4 or sys.argv[3] == "blocks":
            blocks(sys.argv[2])
    elif len(sys.argv) == 4 and sys.argv[1] == "seeds":
        sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
        seeds(*sys.argv[2:])
    elif len(sys.argv) in (3, 4):
        convert(*sys.argv[1:])
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
