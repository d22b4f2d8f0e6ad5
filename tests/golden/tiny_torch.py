"""usage: tiny_torch.py FIXTURES_DIR OUT.json
What torch computes on the two tiny models: ids, log-probabilities, greedy text, and gradients at every block's output."""
import sys
import torchlib
from torchlib import num

TEXTS = ["Anna Berg lives in Paris. Anna Berg speaks French.", "The pet of Boris is a", "In 1984 the harbour had 12 boats. Rosa plays the violin.",
         "Herr Müller didn't open the window;  the café — it's 7 € — was full.\n\nNobody\tknew.", "On Sundays Tilda Umber practises the harp. The job of Uwe is that of a",
         "Zora", "Later they sat down and talked. The favourite colour of Emil Frost is blue. It's true."]
WATCHED = TEXTS[2]
fixtures, out = sys.argv[1:3]
result = dict(program=torchlib.program(), texts=TEXTS, gradient_loss="mean nll of the last 3 tokens", gradient_of="output of each block, [layer][token][d]")
for name in ("tiny-llama", "tiny-llama-untied"):
    model, tok = torchlib.load(f"{fixtures}/{name}")
    rows = []
    for text in TEXTS:
        ids = tok(text).input_ids
        assert tok.decode(ids) == text
        new, gaps = torchlib.greedy(model, ids, 12)
        rows.append(dict(text=text, ids=ids, logprobs=torchlib.logprobs(model, ids), greedy=new, greedy_text=tok.decode(new), greedy_gap=gaps))
    ids = tok(WATCHED).input_ids
    loss, grads = torchlib.gradients(model, ids, 3, range(model.config.num_hidden_layers))
    result[name] = rows
    result[name + " gradient"] = [dict(text=WATCHED, loss=num(loss))] + [dict(layer=l, grad=[[num(v) for v in row] for row in g.tolist()]) for l, g in grads.items()]
torchlib.write(out, result)
