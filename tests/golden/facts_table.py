"""usage: facts_table.py MODEL_DIR FACTS.json
What a model thinks of a facts file before any edit: per record the mean nll of the new and the true target on the rewrite prompt, and on how many
paraphrases and neighbours the true target is the likelier one. A fact is worth editing if the model knows it."""
import json, sys
import torch, torchlib

model, tok = torchlib.load(sys.argv[1])


@torch.no_grad()
def nll(prompt, target):
    head, ids = tok(prompt).input_ids, tok(prompt + " " + target).input_ids
    assert ids[:len(head)] == head
    logp = model(input_ids=torch.tensor([ids])).logits[0, len(head) - 1:-1].log_softmax(-1)
    tail = ids[len(head):]
    return float(-logp[range(len(tail)), tail].mean()), bool((logp.argmax(-1) == torch.tensor(tail)).all())


total = [0, 0, 0, 0, 0]
print("case  subject        true -> new                             nll true  nll new  argmax  paraphrase  neighbour")
for r in json.load(open(sys.argv[2], encoding="utf-8")):
    w = r["requested_rewrite"]
    new, true = w["target_new"]["str"], w["target_true"]["str"]
    known = [[nll(p, true)[0] < nll(p, new)[0] for p in ps] for ps in
             ([w["prompt"].format(w["subject"])], r["paraphrase_prompts"], r["neighborhood_prompts"])]
    (a, top), (b, _) = nll(w["prompt"].format(w["subject"]), true), nll(w["prompt"].format(w["subject"]), new)
    print(f"{r['case_id']:4}  {w['subject']:13}  {true + ' -> ' + new:38}  {a:8.3f} {b:8.3f}  {'yes' if top else 'no':6}  {sum(known[1])}/{len(known[1])}         {sum(known[2])}/{len(known[2])}")
    for i, v in enumerate((known[0][0], sum(known[1]), len(known[1]), sum(known[2]), len(known[2]))):
        total[i] += v
print(f"rewrite: true target likelier in {total[0]}; paraphrase {total[1]}/{total[2]}; neighbourhood {total[3]}/{total[4]}")
