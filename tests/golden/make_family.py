"""usage: make_family.py [--seed N] [--family NAME] [--golden DIR] [--keep] OUT_DIR

Tiny random models of every family that errata learns, as save_pretrained of transformers writes them, one folder each in OUT_DIR. They
are small but awkward on purpose: odd head counts, one or several queries per key, widths that are never equal, windows shorter than the
texts, gains that are not one, biases and shifts that are not nought, files in fp32, fp16 and bf16, in shards, in pytorch_model.bin.

    --seed N        another draw of all weights and texts (default 1: what is committed in tests/fixtures/families)
    --family NAME   only models whose name starts with NAME: "opt", "gemma3_text", "llama-linear"
    --golden DIR    also write DIR/<model>.json: what torch computes on each (one file per model, and a list of them, models.json)
    --keep          make no model, use those that stand in OUT_DIR

A fresh model shows whether errata computes what transformers does, with numbers that nobody has seen before:

    make_family.py --seed 77 --family gemma2 /tmp/fresh && check_family.py --errata build/errata /tmp/fresh/*

PyPI: torch 2.5.1, transformers 4.57.1. Models marked `old` in the table were saved by transformers 4.46.3, so that both ways of writing a
config.json are there: run with that version and --family, then with 4.57.1 and --keep --golden. With the newer version all are made in
its own way.
"""
import argparse, json, math, os, shutil
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
from torchlib import blocks_of, heard, num, open_folder, program

EOS = "<|endoftext|>"
MERGES = "t h|i n|e r|a n|th e|Ġ t|o n|r e|Ġ a|e s|e n|Ġ the|o r|i s|Ġ s|in g|Ġ o|e d|Ġo f|an d".split("|")
COMMON = dict(bos_token_id=0, eos_token_id=0, torch_dtype="float32")


def own(d, heads, kv, f, layers, **more):
    """The names that most families share."""
    return dict(hidden_size=d, num_attention_heads=heads, num_key_value_heads=kv, intermediate_size=f, num_hidden_layers=layers,
                max_position_embeddings=128, **more)


# name: (dtype, how it is saved, config). How: shards=BYTES, bin, bare (names without the prefix of the base model), buffers (of old files), old
TABLE = {
    "llama-plain": ("float32", {}, own(24, 3, 3, 40, 2, rope_theta=1000.0, rms_norm_eps=1e-3, tie_word_embeddings=False)),
    "llama-llama3": ("bfloat16", {}, own(36, 3, 1, 64, 3, tie_word_embeddings=True, rope_theta=500.0, rope_scaling=dict(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32))),
    "llama-linear": ("float16", dict(old=1), own(30, 6, 2, 52, 2, head_dim=8, attention_bias=True, mlp_bias=True, rope_theta=300.0,
                                                 tie_word_embeddings=False, rope_scaling=dict(type="linear", factor=2.5))),
    "mistral-window": ("bfloat16", dict(shards=30_000), own(32, 5, 1, 56, 3, head_dim=8, sliding_window=7, rope_theta=2000.0)),
    "mistral-null": ("float32", dict(old=1), own(28, 6, 3, 44, 2, head_dim=6, sliding_window=None, rms_norm_eps=1e-4, tie_word_embeddings=True)),
    "qwen2-window": ("float16", {}, own(36, 9, 3, 60, 2, use_sliding_window=True, sliding_window=6, max_window_layers=1, rope_theta=5000.0)),
    "qwen2-plain": ("bfloat16", dict(old=1), own(42, 3, 1, 76, 2, use_sliding_window=False, tie_word_embeddings=True, rms_norm_eps=1e-4)),
    "qwen3-tied": ("bfloat16", {}, own(32, 3, 1, 48, 3, head_dim=16, tie_word_embeddings=True, rms_norm_eps=1e-3, rope_theta=3000.0)),
    "qwen3-bias": ("bfloat16", dict(shards=20_000), own(26, 4, 2, 42, 3, head_dim=8, attention_bias=True, use_sliding_window=True,
                                                       sliding_window=5, max_window_layers=2)),
    "gpt2-tied": ("float32", dict(bare=1, buffers=1, old=1), dict(n_embd=24, n_head=3, n_layer=2, n_positions=64)),
    "gpt2-inner": ("float16", {}, dict(n_embd=40, n_head=5, n_layer=2, n_positions=48, n_inner=72, tie_word_embeddings=False,
                                       activation_function="gelu", layer_norm_epsilon=1e-3)),
    "gptj-half": ("float16", dict(bin=1, buffers=1, old=1), dict(n_embd=36, n_head=3, n_layer=2, n_positions=64, rotary_dim=6, n_inner=52)),
    "gptj-tied": ("bfloat16", {}, dict(n_embd=40, n_head=5, n_layer=2, n_positions=64, rotary_dim=4, tie_word_embeddings=True,
                                       layer_norm_epsilon=1e-3)),
    "opt-pre": ("float16", dict(bin=1), dict(hidden_size=36, num_attention_heads=3, ffn_dim=64, num_hidden_layers=2,
                                             max_position_embeddings=64, pad_token_id=1)),
    "opt-post": ("float32", dict(bin=1, shards=40_000, bare=1, old=1), dict(
        hidden_size=30, num_attention_heads=5, ffn_dim=48, num_hidden_layers=2, max_position_embeddings=48, word_embed_proj_dim=18,
        do_layer_norm_before=False, pad_token_id=1)),
    "opt-nobias": ("bfloat16", {}, dict(hidden_size=32, num_attention_heads=4, ffn_dim=56, num_hidden_layers=2, max_position_embeddings=40,
                                        enable_bias=False, activation_function="gelu", tie_word_embeddings=False, pad_token_id=1)),
    "gemma-one": ("bfloat16", dict(old=1), own(36, 3, 1, 64, 3, head_dim=16, rope_theta=1000.0, pad_token_id=0, hidden_act="gelu_pytorch_tanh",
                                               hidden_activation="gelu_pytorch_tanh")),
    "gemma-many": ("float32", {}, own(28, 4, 4, 44, 2, head_dim=8, rms_norm_eps=1e-3, pad_token_id=0, hidden_act="gelu_pytorch_tanh")),
    "gemma2-caps": ("float32", {}, own(24, 3, 1, 40, 3, head_dim=12, sliding_window=6, query_pre_attn_scalar=20, attn_logit_softcapping=3.0,
                                       final_logit_softcapping=7.0, pad_token_id=0)),
    "gemma2-nocap": ("bfloat16", dict(old=1), own(32, 4, 2, 60, 3, head_dim=10, sliding_window=9, query_pre_attn_scalar=8, rms_norm_eps=1e-3,
                                                  attn_logit_softcapping=None, final_logit_softcapping=10.0, pad_token_id=0)),
    "gemma3_text-types": ("bfloat16", {}, own(32, 4, 1, 56, 4, head_dim=12, sliding_window=6, query_pre_attn_scalar=10, rope_theta=20000.0,
                                              rope_local_base_freq=300.0, pad_token_id=0, layer_types=(
        "sliding_attention full_attention sliding_attention sliding_attention".split()))),
    "gemma3_text-pattern": ("float32", dict(pattern=2), own(24, 3, 3, 42, 3, head_dim=8, sliding_window=7, query_pre_attn_scalar=8,
                                                            rope_theta=5000.0, rope_local_base_freq=100.0, pad_token_id=0, rms_norm_eps=1e-3,
                                                            rope_scaling=dict(rope_type="linear", factor=4.0))),
    "phi-half": ("float16", dict(old=1), own(40, 5, 5, 64, 2, partial_rotary_factor=0.5, rope_theta=1000.0)),
    "phi-grouped": ("float32", {}, own(24, 3, 1, 40, 3, partial_rotary_factor=0.5, layer_norm_eps=1e-3, tie_word_embeddings=True)),
    "phi3-plain": ("bfloat16", dict(old=1), own(36, 3, 3, 56, 2, original_max_position_embeddings=128, sliding_window=8, pad_token_id=0)),
    "phi3-partial": ("float32", dict(shards=30_000), own(32, 4, 2, 44, 2, original_max_position_embeddings=128, sliding_window=None,
                                                         partial_rotary_factor=0.75, tie_word_embeddings=True, pad_token_id=0, rms_norm_eps=1e-3)),
    "olmo2-rows": ("bfloat16", {}, own(40, 5, 1, 64, 2, rope_theta=4000.0, pad_token_id=0)),
    "olmo2-bias": ("float32", {}, own(28, 7, 7, 46, 2, attention_bias=True, rms_norm_eps=1e-3, tie_word_embeddings=True, pad_token_id=0)),
    "smollm3-unrotated": ("bfloat16", {}, own(30, 3, 1, 52, 4, no_rope_layers=[1, 0, 1, 0], rope_theta=1000.0, tie_word_embeddings=True, pad_token_id=0)),
    "smollm3-window": ("float16", dict(shards=30_000), own(32, 4, 2, 52, 3, no_rope_layer_interval=3, attention_bias=True, mlp_bias=True,
                                                           use_sliding_window=True, sliding_window=6, tie_word_embeddings=False, pad_token_id=0)),
    "gpt_neox-parallel": ("float16", dict(bin=1, buffers=1, old=1), dict(
        hidden_size=36, num_attention_heads=3, intermediate_size=64, num_hidden_layers=3, max_position_embeddings=64, rotary_pct=0.34,
        rotary_emb_base=1000, use_parallel_residual=True)),
    "gpt_neox-sequential": ("bfloat16", {}, dict(
        hidden_size=40, num_attention_heads=5, intermediate_size=52, num_hidden_layers=2, max_position_embeddings=64, rotary_pct=0.25,
        use_parallel_residual=False, attention_bias=False, tie_word_embeddings=True, hidden_act="gelu_new", layer_norm_eps=1e-3)),
}


def byte_letters():
    """GPT-2's visible letter for each byte, by the byte."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(b if b in seen else next(spare)) for b in range(256)]


def tokenizer():
    """Every byte, a few pairs, one special token."""
    vocab = {EOS: 0}
    for token in byte_letters() + [m.replace(" ", "") for m in MERGES]:
        vocab[token] = len(vocab)
    tok = Tokenizer(models.BPE(vocab=vocab, merges=[tuple(m.split(" ")) for m in MERGES]))
    tok.add_special_tokens([AddedToken(EOS, special=True, normalized=False)])
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    return tok, len(vocab)


@torch.no_grad()
def fill(model, draw):
    """Weights under which every part of a block moves the logits: sums of about one, scores of attention of about two, logits too."""
    config, plus_one = model.config, model.config.model_type.startswith("gemma")
    tied, said = config.tie_word_embeddings, set()
    for name, p in model.named_parameters():
        if p.data_ptr() in said:
            continue
        said.add(p.data_ptr())
        noise = torch.randn(p.shape, generator=draw)
        norm = "norm" in name or ".ln_" in name
        if p.dim() == 1:
            gain = norm and name.endswith("weight")
            value = 0.3 * noise.clamp(-2, 2) + 1 if gain else 0.25 * noise
            if gain and tied and not any(part.isdigit() for part in name.split(".")):
                value *= torch.randint(0, 2, p.shape, generator=draw) * 2 - 1  # else a tied head would answer the last id for ever
            p.copy_(value - 1 if gain and plus_one else value)
        elif "wpe" in name or "embed_positions" in name:
            p.copy_(0.5 * noise)
        elif "wte" in name or "embed_tokens" in name or "embed_in" in name:
            p.copy_((0.35 if tied else 0.8) * noise)
        elif "lm_head" in name or "embed_out" in name:
            p.copy_(2.2 / math.sqrt(p.shape[1]) * noise)
        else:
            inputs = p.shape[0] if config.model_type == "gpt2" else p.shape[1]
            p.copy_(1.5 / math.sqrt(inputs) * noise)


def old_buffers(config):
    """What files of earlier versions hold beside weights: masks, a constant, frequencies. Readers pass them over."""
    t = config.model_type
    n, at = config.max_position_embeddings, {"gpt2": "h.{}.attn.", "gptj": "transformer.h.{}.attn.", "gpt_neox": "gpt_neox.layers.{}.attention."}[t]
    for i in range(config.num_hidden_layers):
        mask = torch.tril(torch.ones(n, n)).view(1, 1, n, n)
        yield at.format(i) + "bias", mask.to(torch.bool if t == "gpt_neox" else torch.uint8)[:, :, :8, :8].clone()
        yield at.format(i) + "masked_bias", torch.tensor(-1e9 if t != "gptj" else -6e4)
        if t == "gpt_neox":
            yield at.format(i) + "rotary_emb.inv_freq", torch.ones(2, dtype=torch.float16)


def save(model, tok, folder, dtype, how):
    shutil.rmtree(folder, ignore_errors=True)
    model = model.to(getattr(torch, dtype))
    model.config.torch_dtype = dtype
    whole = model
    if how.get("bare"):
        whole = model.base_model
        whole.config.architectures = [type(model).__name__]
    state = {k: v.contiguous() for k, v in whole.state_dict().items()}
    if how.get("buffers"):
        state.update(old_buffers(model.config))
    whole.save_pretrained(folder, state_dict=state, safe_serialization=not how.get("bin"), max_shard_size=how.get("shards", "5GB"))
    if how.get("buffers") and not how.get("bin"):  # save_pretrained drops what the class does not know
        from safetensors.torch import save_file
        save_file(state, f"{folder}/model.safetensors", metadata={"format": "pt"})
    if how.get("bin") and not how.get("shards"):
        torch.save(state, f"{folder}/pytorch_model.bin")
    if os.path.exists(f"{folder}/generation_config.json"):
        os.remove(f"{folder}/generation_config.json")
    path = f"{folder}/config.json"
    config = json.load(open(path, encoding="utf-8"))
    config.pop("_name_or_path", None)
    config["architectures"] = [type(model).__name__]
    if how.get("pattern"):  # as the first versions wrote it
        del config["layer_types"]
        config["sliding_window_pattern"] = config.pop("_sliding_window_pattern", None) and how["pattern"]
    with open(path, "w", encoding="utf-8") as f:
        json.dump(config, f, indent=1)
        f.write("\n")
    with open(f"{folder}/tokenizer.json", "w", encoding="utf-8") as f:
        json.dump(json.loads(tok.to_str()), f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")
    with open(f"{folder}/tokenizer_config.json", "w", encoding="utf-8") as f:
        json.dump(dict(tokenizer_class="PreTrainedTokenizerFast", bos_token=EOS, eos_token=EOS, clean_up_tokenization_spaces=False), f)
        f.write("\n")


def make(name, seed, folder):
    dtype, how, fields = TABLE[name]
    draw = torch.Generator().manual_seed(1000 * seed + list(TABLE).index(name))
    torch.manual_seed(seed)
    tok, tokens = tokenizer()
    extra = {} if not how.get("pattern") else dict(sliding_window_pattern=how["pattern"])
    # a few rows that no token has, as real embeddings do
    config = AutoConfig.for_model(name.split("-")[0], **COMMON, vocab_size=tokens + list(TABLE).index(name) % 4, **fields, **extra)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    fill(model, draw)
    save(model, tok, folder, dtype, how)


def digits(t, n):
    """Nested lists of a tensor with n significant digits."""
    return num(float(t), n) if t.dim() == 0 else [digits(x, n) for x in t]


def text_record(model, ids, which, after):
    """What the engine is held against on one text: log-probabilities, logits of the ids `which` after some positions, what block 0 gets
    and each block hands on there, gradients of the mean nll of the last four ids with respect to the same: after block 0 at every
    second position, or of what block 0 gets (after = -1) at every third, and the norms of all."""
    stream = {}
    for i, block in enumerate(blocks_of(model)):
        heard(block, i, stream)
    logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    logp = logits[:-1].log_softmax(-1)
    loss = -logp[range(len(ids) - 5, len(ids) - 1), ids[-4:]].mean()
    loss.backward()
    for handle in stream.pop("handles"):
        handle.remove()
    rows = [0, len(ids) // 2, len(ids) - 1]
    return dict(ids=ids, logprobs=[None] + digits(logp[range(len(ids) - 1), ids[1:]].detach(), 7), spread=num(float(logits.std()), 6),
                rows=rows, logits=digits(logits[rows][:, which].detach(), 7),
                hidden=digits(torch.stack([stream[i][0, rows[1:]] for i in sorted(stream)]), 7), loss=num(float(loss), 7),
                gradient_block=after, gradient=digits(stream[after + 1].grad[0, ::2 if after == 0 else 3], 7),
                gradient_norms=[num(float(stream[i].grad.norm()), 6) for i in sorted(stream)])


@torch.no_grad()
def greedy_record(model, draw, vocab, count=12):
    """A prompt whose continuation leaves no doubt: two best logits never closer than a hundredth. The cache of transformers must agree
    with whole passes."""
    model.generation_config.eos_token_id = None
    for _ in range(200):
        prompt = torch.randint(1, vocab, (1, 8), generator=draw)
        out = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=count, do_sample=False, use_cache=True, pad_token_id=0)
        best = model(input_ids=out, use_cache=False).logits[0, 7:-1].topk(2).values
        gaps = best[:, 0] - best[:, 1]
        if float(gaps.min()) > 0.01 and len(set(out[0, 8:].tolist())) > 3:
            assert bool((model(input_ids=out, use_cache=False).logits[0, 7:-1].argmax(-1) == out[0, 8:]).all()), "cache and whole pass differ"
            return dict(prompt=prompt[0].tolist(), greedy=out[0, 8:].tolist(), greedy_gap=digits(gaps, 4))
    raise SystemExit("no prompt with a clear continuation")


def golden(name, seed, folder):
    model = open_folder(folder)
    config = model.config
    vocab, which = config.vocab_size, list(range(3, config.vocab_size, 7))
    draw = torch.Generator().manual_seed(5000 * seed + list(TABLE).index(name))
    record = dict(model=name, family=config.model_type, made_by=program(), layers=config.num_hidden_layers, columns=which)
    texts = []
    for t in range(3):
        ids = torch.randint(1, vocab, (24,), generator=draw)
        ids[12:15] = ids[3:6]  # something to attend to
        texts.append(text_record(model, ids.tolist(), which, -1 if t == 1 else 0))
    record.update(greedy_record(model, draw, vocab))
    return record, texts


def write(path, record, texts):
    """One line per member, so that a change shows as a small diff."""
    def lines(x, inner):
        return (",\n" + inner).join(f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in x.items())
    with open(path, "w", encoding="utf-8") as f:
        f.write("{" + lines(record, "") + ',\n"texts": [\n {' + "},\n {".join(lines(t, "  ") for t in texts) + "}\n]}\n")


def main():
    ask = argparse.ArgumentParser()
    ask.add_argument("--seed", type=int, default=1)
    ask.add_argument("--family", default="")
    ask.add_argument("--golden")
    ask.add_argument("--keep", action="store_true")
    ask.add_argument("out")
    args = ask.parse_args()
    torch.set_num_threads(1)
    names = [n for n in TABLE if n.startswith(args.family)]
    for name in names:
        folder = f"{args.out}/{name}"
        if not args.keep:
            make(name, args.seed, folder)
        if args.golden:
            os.makedirs(args.golden, exist_ok=True)
            record, texts = golden(name, args.seed, folder)
            write(f"{args.golden}/{name}.json", record, texts)
        print(name, sum(os.path.getsize(f"{folder}/{f}") for f in os.listdir(folder)), "bytes", flush=True)
    if args.golden and not args.family:
        with open(f"{args.golden}/models.json", "w", encoding="utf-8") as f:
            json.dump(names, f, indent=1)
            f.write("\n")


if __name__ == "__main__":
    main()
