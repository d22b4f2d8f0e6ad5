"""usage: moments.py MODEL_DIR TEXT DOCUMENTS MAX_TOKENS OUT.pt [DIGEST.json [MODULE]]
Second moments of every down projection's input, all layers in one pass, and a digest of them small enough to ship."""
import json, os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import peerlib, torch
from transformers import AutoModelForCausalLM, AutoTokenizer

model_dir, text, count, max_tokens, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
digest = sys.argv[6] if len(sys.argv) > 6 else None
module = sys.argv[7] if len(sys.argv) > 7 else "model.layers.{}.mlp.down_proj"
EDITED = range(4, 9)


def num(x):
    return float(f"{float(x):.9g}")


def layer(l, m):
    """Eigenvalues in fp64; for the edited layers also the rank that EasyEdit's own fp32 singular values give its projection."""
    e, f = torch.linalg.eigvalsh(m), m.shape[0]
    row = dict(layer=l, trace=num(m.trace()), frobenius=num(m.norm()), min=num(e[0]), median=num(e[f // 2]), max=[num(v) for v in e[-3:]],
               below={str(t): int((e < t).sum()) for t in (0.001, 0.005, 0.01, 0.02, 0.05, 0.1)},
               entries={f"{i},{j}": num(m[i, j]) for i, j in ((0, 0), (0, 1), (7, f // 3 - 12), (f // 2, f // 2), (f - 1, 3), (f - 1, f - 1))})
    if l in EDITED:
        row["easyedit_projection_rank_at_0.02"] = int((torch.linalg.svd(m.float(), full_matrices=False)[1] < 2e-2).sum())
    return row


tok = AutoTokenizer.from_pretrained(model_dir)
model = AutoModelForCausalLM.from_pretrained(model_dir, torch_dtype=torch.float32).eval()
moments, tokens = peerlib.second_moments(model, tok, module, range(model.config.num_hidden_layers), peerlib.documents(text, count), max_tokens)
torch.save(dict(mom2=moments, count=tokens), out)
print(tokens, "tokens")
if digest:
    head = dict(corpus=f"{os.path.basename(text)}, first {count} documents (parted by two empty lines), at most {max_tokens} tokens each", tokens=tokens,
                module="input of " + module.split("{}.")[-1])
    with open(digest, "w") as f:
        f.write(json.dumps(head, separators=(",", ":"))[:-1] + ',"layers":[')
        f.write(",\n".join(json.dumps(layer(l, m), separators=(",", ":")) for l, m in moments.items()) + "]}\n")
