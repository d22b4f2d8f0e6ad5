"""What the torch scripts of this folder share: scores, greedy text and gradients, one row at a time, fp32, one thread."""
import hashlib, json, os, platform
import torch, transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer


def load(folder):
    torch.set_num_threads(1)
    tok = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32, attn_implementation="eager").eval()
    model.requires_grad_(False)
    return model, tok


def open_folder(folder):
    """Any folder of save_pretrained in fp32 with eager attention. transformers 4.57 refuses pytorch_model.bin under torch 2.5, so these are
    loaded here."""
    if os.path.exists(f"{folder}/pytorch_model.bin") or os.path.exists(f"{folder}/pytorch_model.bin.index.json"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), torch_dtype=torch.float32, attn_implementation="eager")
        state = {}
        for name in sorted(os.listdir(folder)):
            if name.startswith("pytorch_model") and name.endswith(".bin"):
                state.update(torch.load(f"{folder}/{name}", weights_only=True))
        own, prefix = model.state_dict(), model.base_model_prefix + "."
        state = {k if k in own else prefix + k: v for k, v in state.items()}
        missing, _ = model.load_state_dict(state, strict=False)
        if set(missing) - set(model._tied_weights_keys or []):
            raise SystemExit(f"{folder}: no {', '.join(missing)}")
        model.tie_weights()
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32, attn_implementation="eager")
    model.requires_grad_(False)
    return model.eval()


def blocks_of(model):
    """The list of blocks, whatever the family calls it."""
    base = getattr(model, "model", model.base_model)
    base = getattr(base, "decoder", base)
    return base.layers if hasattr(base, "layers") else base.h


def heard(block, i, stream):
    """Keeps in stream[i + 1] what block i hands on and in stream[0] what block 0 gets, with their gradients after backward."""
    def before(_module, args, kwargs):
        x = (args[0] if args else kwargs["hidden_states"]).detach().requires_grad_()
        x.retain_grad()
        stream[0] = x
        return ((x,) + tuple(args[1:]), kwargs) if args else (args, dict(kwargs, hidden_states=x))

    def after(_module, _inputs, output):
        x = output[0] if isinstance(output, tuple) else output
        x.retain_grad()
        stream[i + 1] = x
    handles = stream.setdefault("handles", [])
    if i == 0:
        handles.append(block.register_forward_pre_hook(before, with_kwargs=True))
    handles.append(block.register_forward_hook(after))


def num(x, digits=9):
    """A float as %.{digits}g would print it."""
    return float(f"{x:.{digits}g}")


def program():
    return f"torch {torch.__version__.split('+')[0]} CPU fp32 eager attention, 1 thread, transformers {transformers.__version__}, Python {platform.python_version()}"


def sha256(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        for part in iter(lambda: f.read(1 << 20), b""):
            h.update(part)
    return h.hexdigest()


@torch.no_grad()
def logprobs(model, ids, digits=9):
    """Log-probability of each id after its predecessors; None for the first, which has none."""
    logp = model(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    return [None] + [num(float(logp[i, t]), digits) for i, t in enumerate(ids[1:])]


@torch.no_grad()
def greedy(model, ids, count):
    """New ids without sampling, each from a full forward (no cache), and how far the two best logits are apart:
    where the gap is about the rounding error, another program may rightly choose the second."""
    ids, new, gaps = list(ids), [], []
    for _ in range(count):
        best = model(input_ids=torch.tensor([ids])).logits[0, -1].topk(2)
        new.append(int(best.indices[0]))
        gaps.append(num(float(best.values[0] - best.values[1]), 4))
        ids.append(new[-1])
    return new, gaps


def gradients(model, ids, tail, layers):
    """Mean nll of the last `tail` ids and its gradient with respect to the output of each block in `layers`, [tokens, d] each."""
    kept, hooks = {}, []

    def watch(l):
        def hook(_module, _inputs, output):
            h = output[0].detach().clone().requires_grad_() if not kept else output[0]
            h.retain_grad()
            kept[l] = h
            return (h,) + tuple(output[1:])
        return hook
    for l in sorted(layers):
        hooks.append(model.model.layers[l].register_forward_hook(watch(l)))
    logp = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1].log_softmax(-1)
    loss = -logp[range(len(ids) - 1 - tail, len(ids) - 1), ids[-tail:]].mean()
    loss.backward()
    for h in hooks:
        h.remove()
    return float(loss), {l: h.grad[0] for l, h in kept.items()}


def write(path, result):
    """JSON with one line per entry of each list of objects, so that a change shows as a small diff."""
    def line(v):
        return json.dumps(v, ensure_ascii=False, separators=(", ", ": "))
    parts = []
    for key, value in result.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = "[\n  " + ",\n  ".join(map(line, value)) + "]"
        else:
            value = line(value)
        parts.append(f"{line(key)}: {value}")
    with open(path, "w", encoding="utf-8") as f:
        f.write("{" + ",\n".join(parts) + "}\n")
