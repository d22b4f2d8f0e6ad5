# SPDX-License-Identifier: Apache-2.0
"""EasyEdit's part of beside.sh: its own code on the facts, templates and corpus that errata gets, one JSON line of seconds.

The methods are loaded without the package's __init__, which imports every method it has, and the corpus is handed to
layer_stats in place of the Wikipedia download. Nothing that is timed is ours, except scoring: there each prompt with each
answer is one forward pass, as its own evaluation does."""
import argparse
import contextlib
import dataclasses
import importlib.machinery
import io
import json
import os
import sys
import tempfile
import time
import types

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, logging

LAYERS = [4, 5, 6, 7, 8]


def arguments():
    p = argparse.ArgumentParser()
    for name in ("easyedit", "model", "facts", "templates", "corpus"):
        p.add_argument("--" + name, required=True, type=os.path.abspath)
    p.add_argument("--alphaedit", type=int, default=2, help="edits, in one batch")
    p.add_argument("--rome", type=int, default=1, help="edits, one after another")
    p.add_argument("--documents", type=int, default=16)
    p.add_argument("--max-tokens", type=int, default=400)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    return p.parse_args()


def bare_package(name, folder):
    """A package whose __init__ is not run."""
    module = types.ModuleType(name)
    module.__path__ = [folder]
    sys.modules[name] = module


def texts(path, count, tok, most):
    """The first documents, cut as errata cuts them."""
    with open(path, encoding="utf-8") as f:
        found = [d.strip() for d in f.read().split("\n\n\n") if d.strip()][:count]
    return [{"text": tok.decode(tok(d, truncation=True, max_length=most).input_ids)} for d in found]


class Clock:
    """Seconds spent in named functions of a module."""

    def __init__(self):
        self.seconds = {}

    def watch(self, module, name):
        inner = getattr(module, name)

        def timed(*args, **kw):
            with self.phase(name):
                return inner(*args, **kw)
        setattr(module, name, timed)

    @contextlib.contextmanager
    def phase(self, name):
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0) + time.perf_counter() - start


def settings(cls, folder, **own):
    """The values of errata's presets and beside.sh, as far as the method knows the names."""
    values = dict(device="cpu", model_name="llama-beside", stats_dir=folder, P_loc=os.path.join(folder, "null_space_project.pt"),
                  fact_token="subject_last", v_num_grad_steps=25, v_lr=0.5, v_loss_layer=29, kl_factor=0.0625, mom2_adjustment=True,
                  mom2_update_weight=15000, mom2_dataset="wikipedia", mom2_dtype="float32", layer_selection="all",
                  context_template_length_params=[], rewrite_module_tmp="model.layers.{}.mlp.down_proj",
                  layer_module_tmp="model.layers.{}", mlp_module_tmp="model.layers.{}.mlp", attn_module_tmp="model.layers.{}.self_attn",
                  ln_f_module="model.norm", lm_head_module="lm_head", **own)
    return cls(**{f.name: values[f.name] for f in dataclasses.fields(cls) if f.name in values})


def requests(records):
    """One dictionary per edit; made anew for every call, because the methods write into them."""
    made = []
    for r in records:
        rewrite = r["requested_rewrite"]
        made.append(dict(case_id=r["case_id"], subject=rewrite["subject"], prompt=rewrite["prompt"].format(rewrite["subject"]),
                         target_new=rewrite["target_new"]["str"], ground_truth=rewrite["target_true"]["str"]))
    return made


@torch.no_grad()
def score(model, tok, record):
    rewrite = record["requested_rewrite"]
    prompts = [rewrite["prompt"].format(rewrite["subject"])] + record["paraphrase_prompts"] + record["neighborhood_prompts"]
    found = []
    for prompt in prompts:
        for which in ("target_new", "target_true"):
            start, answer = tok(prompt).input_ids, tok(" " + rewrite[which]["str"]).input_ids
            logits = model(input_ids=torch.tensor([start + answer])).logits[0, len(start) - 1:-1]
            picked = logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])
            found.append((-picked.mean().item(), (logits.argmax(-1) == torch.tensor(answer)).tolist()))
    return found


def main():
    a = arguments()
    logging.set_verbosity_error()
    torch.set_num_threads(a.threads)
    scratch = tempfile.TemporaryDirectory()
    os.chdir(scratch.name)  # where AlphaEdit leaves its projection
    clock = Clock()
    tok = AutoTokenizer.from_pretrained(a.model)
    with clock.phase("load"):
        model = AutoModelForCausalLM.from_pretrained(a.model, torch_dtype=torch.float32).eval()
    model.config._name_or_path = "llama-beside"
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())  # it looks the head up by its own name
    tok.pad_token, tok.padding_side = tok.eos_token, "right"
    with open(a.facts, encoding="utf-8") as f:
        records = json.load(f)[:max(a.alphaedit, a.rome)]
    with open(a.templates, encoding="utf-8") as f:
        templates = json.load(f)
    corpus = texts(a.corpus, a.documents, tok, a.max_tokens)
    tokens = sum(len(tok(d["text"]).input_ids) for d in corpus)

    for part in ("", ".models", ".util"):
        bare_package("easyeditor" + part, os.path.join(a.easyedit, *("easyeditor" + part).split(".")))
    given = types.ModuleType("datasets")
    given.__spec__ = importlib.machinery.ModuleSpec("datasets", None)
    given.load_dataset = lambda *_args, **_kw: {"train": corpus}
    sys.modules["datasets"] = given
    from easyeditor.models.rome import compute_u, rome_main
    from easyeditor.models.rome.layer_stats import layer_stats
    from easyeditor.models.alphaedit import AlphaEdit_main as alpha_main

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        moments = {}
        with clock.phase("statistics"):
            for layer in LAYERS:
                name = f"model.layers.{layer}.mlp.down_proj"
                moments[name] = layer_stats(model, tok, name, scratch.name, "wikipedia", ["mom2"], sample_size=len(corpus),
                                            precision="float32", hparams=types.SimpleNamespace(device="cpu"))
        for module in (compute_u, alpha_main):
            module.layer_stats = lambda _model, _tok, name, *_args, **_kw: moments[name]
        with clock.phase("scores"):
            for r in records:
                score(model, tok, r)
        alpha_main.CONTEXT_TEMPLATES_CACHE = [["{}"], templates["memit"]]
        rome_main.CONTEXT_TEMPLATES_CACHE = ["{}"] + templates["rome"]
        for module, name in ((alpha_main, "get_project"), (alpha_main, "compute_z"), (rome_main, "compute_u"), (rome_main, "compute_v")):
            clock.watch(module, name)
        with clock.phase("alphaedit"):
            h = settings(alpha_main.AlphaEditHyperParams, scratch.name, alg_name="AlphaEdit", layers=LAYERS, v_weight_decay=0.5,
                         clamp_norm_factor=0.75, nullspace_threshold=0.02, L2=1, mom2_n_samples=len(corpus))
            model, kept = alpha_main.apply_AlphaEdit_to_model(model, tok, requests(records[:a.alphaedit]), h, return_orig_weights=True)
        with torch.no_grad():
            for name, weight in kept.items():
                model.get_parameter(name)[...] = weight
        with clock.phase("rome"):
            h = settings(rome_main.ROMEHyperParams, scratch.name, alg_name="ROME", layers=[5], v_weight_decay=1e-3, clamp_norm_factor=4,
                         mom2_n_samples=len(corpus))
            for request in requests(records[:a.rome]):
                model = rome_main.apply_rome_to_model(model, tok, [request], h)[0]
    s = clock.seconds
    print(json.dumps(dict(tokens=tokens, load=s["load"], statistics=s["statistics"] + s["get_project"],
                          score=s["scores"] / len(records), alphaedit_target=s["compute_z"] / a.alphaedit,
                          alphaedit_rest=(s["alphaedit"] - s["compute_z"] - s["get_project"]) / a.alphaedit,
                          rome_target=s["compute_v"] / a.rome, rome_rest=(s["rome"] - s["compute_v"]) / a.rome)))


if __name__ == "__main__":
    main()
