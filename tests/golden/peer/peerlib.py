"""Loads single EasyEdit methods without the package's own imports, which pull in every model it knows."""
import importlib, importlib.machinery, os, sys, tempfile, types
import torch


def _namespace(name, path):
    mod = types.ModuleType(name)
    mod.__path__ = [path]
    sys.modules[name] = mod


def prepare(root):
    stub = types.ModuleType("datasets")  # only layer_stats wants it; moments are handed in
    stub.load_dataset = None
    stub.__spec__ = importlib.machinery.ModuleSpec("datasets", None)
    sys.modules["datasets"] = stub
    _namespace("easyeditor", f"{root}/easyeditor")
    _namespace("easyeditor.models", f"{root}/easyeditor/models")
    _namespace("easyeditor.util", f"{root}/easyeditor/util")
    for name in ("hparams", "nethook"):
        mod = importlib.import_module(f"easyeditor.util.{name}")
        setattr(sys.modules["easyeditor.util"], name, mod)
        for key, value in vars(mod).items():
            if not key.startswith("_"):
                setattr(sys.modules["easyeditor.util"], key, value)
    global scratch
    scratch = tempfile.TemporaryDirectory()
    os.chdir(scratch.name)  # AlphaEdit leaves its projection in the working directory


def documents(path, count):
    """First `count` documents of a text file in which two empty lines part the documents."""
    with open(path, encoding="utf-8") as f:
        return [d.strip() for d in f.read().split("\n\n\n") if d.strip()][:count]


@torch.no_grad()
def second_moments(model, tok, module, layers, docs, max_tokens, batch=8):
    """Mean of k k^T in fp64 over all tokens, k the input of each named module; equals EasyEdit's layer_stats up to rounding."""
    total = {l: 0.0 for l in layers}
    count, box, hooks, modules = 0, {}, [], dict(model.named_modules())

    def collect(l):
        def hook(_module, inputs, _output):
            x = inputs[0][box["mask"]].double()
            total[l] = total[l] + x.T @ x
        return hook
    for l in layers:
        hooks.append(modules[module.format(l)].register_forward_hook(collect(l)))
    ids = sorted((i for i in (tok(d, truncation=True, max_length=max_tokens).input_ids for d in docs) if i), key=len)
    for s in range(0, len(ids), batch):
        part = ids[s:s + batch]
        width = max(map(len, part))
        x = torch.zeros(len(part), width, dtype=torch.long)
        mask = torch.zeros(len(part), width, dtype=torch.bool)
        for r, i in enumerate(part):
            x[r, :len(i)] = torch.tensor(i)
            mask[r, :len(i)] = True
        box["mask"] = mask
        model(input_ids=x, attention_mask=mask.long())
        count += int(mask.sum())
    for h in hooks:
        h.remove()
    return {l: t / count for l, t in total.items()}, count
