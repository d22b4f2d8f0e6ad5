"""usage: check_family.py [--errata PROGRAM] [--text TEXT]... [--file FILE]... [--tokens N] [--limit X] [--exports] FOLDER...

Holds `errata score` against transformers on any Hugging Face folder: a fixture, a fresh draw of make_family.py, what `errata export`
wrote, a model of your own. transformers opens the folder in fp32 with eager attention and scores the ids that errata says it scored, so
tokenizers play no part. One line per folder: the class, how many tokens, the worst and the mean difference of a log-probability. Exit code 1
when one is above --limit (default 1e-3) or errata fails. Without --text and --file three short texts of our own are scored, up to 40 tokens each.

--exports also writes each folder with `errata export` in fp32, bf16 and fp16 and has transformers open what was written: the same class, no
tensor missing, left over or of another shape, every weight the same bits (narrowed by torch for bf16 and fp16), and the same bits of logits.

PyPI: torch 2.5.1, transformers 4.57.1.
"""
import argparse, json, os, subprocess, sys, tempfile
import torch, transformers

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
from transformers import AutoModelForCausalLM, AutoTokenizer
from torchlib import logprobs, open_folder

TEXTS = ["The rain stopped before noon, and nobody in the village knew what time it was.",
         "In 1912 the harbour had 37 boats; the café near it sold soup, bread and strong tea for 5 €.",
         "def area(r):\n    return 3.14159 * r * r\n\nprint(area(2.0))  # the other one was too large"]


def scored(program, folder, args):
    """What errata makes of all texts: one record {ids, logprobs} each."""
    command = [program, "score", folder]
    own = not args.text and not args.file
    for text in TEXTS if own else args.text:
        command += ["--text", text]
    for path in args.file:
        command += ["--file", path]
    if args.tokens or own:
        command += ["--tokens", str(args.tokens or 40)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"{program} ended with {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def compare(program, folder, args):
    records = scored(program, folder, args)
    model = open_folder(folder)
    apart = [abs(a - b) for r in records for a, b in zip(logprobs(model, r["ids"])[1:], r["logprobs"][1:])]
    if not apart or any(x != x for x in apart):
        raise RuntimeError("nothing scored, or not a number")
    good = max(apart) <= args.limit
    if args.exports:
        good = check_exports(program, folder, records[0]["ids"]) and good
    print(f"{folder}: {type(model).__name__}, {len(apart)} log-probabilities, worst {max(apart):.2e}, mean {sum(apart) / len(apart):.2e}"
          + ("" if not args.exports else ", exports the same" if good else ", see above"), flush=True)
    return good


def export_faults(program, folder, model, ids, kind, dtype):
    """What is wrong with an export of a folder that is open as `model`."""
    with tempfile.TemporaryDirectory() as out:
        done = subprocess.run([program, "export", folder, "--to", out, "--dtype", kind], capture_output=True, text=True)
        if done.returncode:
            return [f"export {kind}: {done.stderr.strip()}"]
        other, info = AutoModelForCausalLM.from_pretrained(out, torch_dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
        AutoTokenizer.from_pretrained(out)
        faults = [f"export {kind}: {k}: {sorted(v)[:3]}" for k, v in info.items() if v]
        if type(other) is not type(model):
            faults.append(f"export {kind} opens as {type(other).__name__}")
        theirs = other.state_dict()
        narrow = {k: v.to(dtype).float() if v.is_floating_point() else v for k, v in model.state_dict().items()}
        faults += [f"export {kind}: {k} differs" for k, v in narrow.items() if k not in theirs or not torch.equal(v, theirs[k])]
        model.load_state_dict(narrow)
        with torch.no_grad():
            if not torch.equal(model.eval()(input_ids=ids).logits, other.eval()(input_ids=ids).logits):
                faults.append(f"export {kind}: other logits")
        return faults


def check_exports(program, folder, ids):
    faults = []
    for kind, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        faults += export_faults(program, folder, open_folder(folder), torch.tensor([ids]), kind, dtype)
    for fault in faults:
        print(f"{folder}: {fault}", flush=True)
    return not faults


def main():
    ask = argparse.ArgumentParser()
    ask.add_argument("--errata", default="build/errata")
    ask.add_argument("--text", action="append", default=[])
    ask.add_argument("--file", action="append", default=[])
    ask.add_argument("--tokens", type=int)
    ask.add_argument("--limit", type=float, default=1e-3)
    ask.add_argument("--exports", action="store_true")
    ask.add_argument("folders", nargs="+", metavar="FOLDER")
    args = ask.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    good = True
    for folder in args.folders:
        try:
            good = compare(args.errata, folder, args) and good
        except Exception as e:  # the next folder is worth a try whatever this one has
            print(f"{folder}: {e}", flush=True)
            good = False
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
