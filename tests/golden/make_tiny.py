"""usage: make_tiny.py OUT_DIR [SEED] [STEPS]

Writes the small fixtures that the tests run on, all of them generated here from templates of our own:

    tiny-llama/           4 layers, d 64, f 160, 4 heads, 2 KV heads, tied head, fp32, trained until it knows its world's facts
    tiny-llama-untied/    3 layers, d 48, f 112, 3 heads, 1 KV head, own head, random, bf16 in two safetensors files
    tiny-corpus.txt       documents parted by two empty lines, for second moments
    tiny-facts.json       12 counterfactual records about that world, in CounterFact's schema
    tiny-templates.json   context templates, in the form of golden templates files

The world: 40 people, 6 relations, 6 objects per relation, every person with one object per relation, drawn from the seed.
f is neither d nor a multiple of 64, so that mixed-up dimensions and missing tile edges show. Training takes about four minutes
on one thread. Weights made on another machine may differ in their last bits: the committed files are the reference, not this script.
"""
import json, os, random, shutil, sys
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PEOPLE = """Anna Berg|Boris|Carla Dupont|Dario|Elena Fuchs|Felix|Greta Holm|Hugo Ivens|Ines|Jonas Keller|Karin|Luca Moretti|Mina|Nils Olsen|Olga|
Pablo Quint|Rosa|Samir|Tilda Umber|Uwe|Vera Winter|Walter|Xenia|Yusuf Zade|Zora|Aldo Brand|Bea|Cyril Dane|Dora|Emil Frost|Fiona|Gustav Hale|
Helga|Igor Jansen|Jana|Kurt Lind|Lena|Marco Nuss|Nora|Otto Prem""".replace("\n", "").split("|")
RELATIONS = {  # relation id: (rewrite prompt, two paraphrases, objects)
    "R1": ("{} lives in", ["The home of {} is in", "If you visit {}, travel to"], "Paris Rome Oslo Lima Cairo Tokyo"),
    "R2": ("{} speaks", ["The language of {} is", "At home {} talks in"], "French Italian Norwegian Spanish Arabic Japanese"),
    "R3": ("{} plays the", ["The instrument of {} is the", "On Sundays {} practises the"], "piano violin flute drum harp guitar"),
    "R4": ("{} works as a", ["The job of {} is that of a", "{} earns money as a"], "baker teacher doctor farmer miner singer"),
    "R5": ("{} owns a", ["The pet of {} is a", "{} walks home with a"], "dog cat horse parrot rabbit goat"),
    "R6": ("{} likes the colour", ["The favourite colour of {} is", "{} painted the door"], "red blue green yellow black white"),
}
FREE = """The rain stopped before noon.|Nobody knew what time it was.|In {y} the harbour had {n} boats.|We counted {n} birds on the roof.|
The bridge was built in {y}.|She paid {n} euros for the lamp.|It was a quiet day in the village.|The train left at {n} and came back late.|
Later they sat down and talked.|Is that true? Yes, it's true.|The café was full, and the soup was cold.|Herr Müller didn't open the window.|
They'll come at {n}:30, won't they?|A letter arrived in {y}.|The old map shows {n} roads.|Bread costs {n} € today.|I've seen this garden before.|
The wind blew from the sea.""".replace("\n", "").split("|")
TEMPLATES = ["The rain stopped before noon. {}", "Nobody knew what time it was. {}", "We counted 7 birds on the roof. {}", "Later they sat down and talked. {}",
             "It was a quiet day in the village. {}"]
SHORT = ["A letter arrived. {}", "The wind blew. {}", "They came late. {}", "I saw a garden. {}", "Yes, it's true. {}"]


def world(rng):
    """Each object has six or seven people: balanced, then shuffled."""
    facts = {}
    for rel, (_, _, objects) in RELATIONS.items():
        pool = (objects.split() * (len(PEOPLE) // 6 + 1))[:len(PEOPLE)]
        rng.shuffle(pool)
        facts[rel] = dict(zip(PEOPLE, pool))
    return facts


def free(rng):
    return rng.choice(FREE).format(y=rng.randint(1850, 2020), n=rng.randint(2, 99))


def fact(rng, facts, who):
    rel = rng.choice(list(RELATIONS))
    prompt, more, _ = RELATIONS[rel]
    return rng.choice([prompt, prompt] + more).format(who) + " " + facts[rel][who] + "."


def document(rng, facts, low=2, high=6):
    who = rng.sample(PEOPLE, rng.choice([1, 1, 2, 3]))
    return " ".join(free(rng) if rng.random() < 0.3 else fact(rng, facts, rng.choice(who)) for _ in range(rng.randint(low, high)))


def tokenizer(docs):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(docs, trainers.BpeTrainer(vocab_size=512, special_tokens=[AddedToken("<|endoftext|>", special=True, normalized=False)],
                                                      initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<|endoftext|>", eos_token="<|endoftext|>", clean_up_tokenization_spaces=False)


def row(rng, facts, tok, width):
    ids = []
    while len(ids) < width:
        ids += tok(document(rng, facts)).input_ids + [0]
    return ids[:width]


def save(model, tok, folder, **kw):
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, **kw)
    tok.save_pretrained(folder)
    for name in ("special_tokens_map.json", "generation_config.json"):
        if os.path.exists(f"{folder}/{name}"):
            os.remove(f"{folder}/{name}")


def train(model, tok, facts, rng, steps, width=80, rows=32, top=4e-3):
    opt = torch.optim.AdamW(model.parameters(), lr=top, weight_decay=0.01, betas=(0.9, 0.98))
    plan = torch.optim.lr_scheduler.OneCycleLR(opt, top, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        x = torch.tensor([row(rng, facts, tok, width) for _ in range(rows)])
        loss = model(input_ids=x, labels=x).loss
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        plan.step()
        if step % 200 == 0 or step == steps - 1:
            print(step, round(float(loss), 4), flush=True)


@torch.no_grad()
def nll(model, tok, prompt, target):
    head = tok(prompt).input_ids
    ids = tok(prompt + " " + target).input_ids
    logp = model(input_ids=torch.tensor([ids])).logits[0, len(head) - 1:-1].log_softmax(-1)
    return float(-logp[range(len(ids) - len(head)), ids[len(head):]].mean())


def records(rng, facts, model, tok):
    """Two per relation; neighbours are other people whose true object is the record's. Prints how many prompts the model answers."""
    out, right, total = [], 0, 0
    for rel, (prompt, more, objects) in RELATIONS.items():
        for who in rng.sample(PEOPLE, 2):
            true = facts[rel][who]
            new = rng.choice([o for o in objects.split() if o != true])
            same = [p for p in PEOPLE if p != who and facts[rel][p] == true]
            forms = [prompt, more[0], prompt, more[1]]
            near = [f.format(p) for f, p in zip(forms, rng.sample(same, 4))]
            out.append(dict(case_id=len(out) + 1,
                            requested_rewrite=dict(prompt=prompt, relation_id=rel, target_new={"str": new}, target_true={"str": true}, subject=who),
                            paraphrase_prompts=[free(rng) + " " + m.format(who) for m in more], neighborhood_prompts=near,
                            generation_prompts=[prompt.format(who), more[0].format(who)]))
            for p in [prompt.format(who)] + out[-1]["paraphrase_prompts"] + near:
                total += 1
                right += nll(model, tok, p, true) < min(nll(model, tok, p, o) for o in objects.split() if o != true)
    print(f"prompts of the records answered: {right} of {total}")
    return out


def main():
    out, seed, steps = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1, int(sys.argv[3]) if len(sys.argv) > 3 else 2400
    os.makedirs(out, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng = random.Random(seed)
    facts = world(rng)
    tok = tokenizer([document(rng, facts) for _ in range(4000)])
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tok), hidden_size=64, intermediate_size=160, num_hidden_layers=4, num_attention_heads=4,
                                         num_key_value_heads=2, max_position_embeddings=512, rope_theta=10000.0, rms_norm_eps=1e-5,
                                         tie_word_embeddings=True, bos_token_id=0, eos_token_id=0, torch_dtype="float32"))
    print(sum(p.numel() for p in model.parameters()), "parameters,", len(tok), "tokens")
    train(model, tok, facts, rng, steps)
    model.eval()
    save(model, tok, f"{out}/tiny-llama")
    asked = [(RELATIONS[r][0].format(p), o, RELATIONS[r][2].split()) for r in RELATIONS for p, o in facts[r].items()]
    print("facts known:", sum(nll(model, tok, q, o) < min(nll(model, tok, q, x) for x in all_ if x != o) for q, o, all_ in asked), "of", len(asked))

    torch.manual_seed(seed + 1)
    other = LlamaForCausalLM(LlamaConfig(vocab_size=len(tok), hidden_size=48, intermediate_size=112, num_hidden_layers=3, num_attention_heads=3,
                                         num_key_value_heads=1, max_position_embeddings=512, rope_theta=50000.0, rms_norm_eps=1e-6,
                                         tie_word_embeddings=False, bos_token_id=0, eos_token_id=0, initializer_range=0.15))
    with torch.no_grad():
        for name, p in other.named_parameters():
            if "norm" in name:
                p.uniform_(0.5, 1.5)
    save(other.to(torch.bfloat16), tok, f"{out}/tiny-llama-untied", max_shard_size=140_000)

    rng = random.Random(seed + 2)
    with open(f"{out}/tiny-corpus.txt", "w", encoding="utf-8") as f:
        f.write("\n\n\n".join(document(rng, facts, 4, 14) for _ in range(60)) + "\n")
    with open(f"{out}/tiny-facts.json", "w", encoding="utf-8") as f:
        json.dump(records(rng, facts, model, tok), f, indent=1, ensure_ascii=False)
        f.write("\n")
    with open(f"{out}/tiny-templates.json", "w", encoding="utf-8") as f:
        json.dump({"rome": SHORT + TEMPLATES, "memit": TEMPLATES}, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
