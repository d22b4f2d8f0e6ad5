"""usage: make_pickle.py OUT_DIR

Writes tests/fixtures/pickle: small PyTorch checkpoints of every kind that errata reads or refuses, and expected.json with the
type, shape and bytes (hex) of every tensor of those that it reads. Needs PyPI torch. Keys of storages in the older format
are addresses, so that a new run gives other files with the same tensors. The hostile files execute nothing unless they
are given to an unrestricted unpickler; what they would do there is print a line.
"""
import collections, json, os, pickle, sys, zipfile
import torch

OUT = sys.argv[1]
os.makedirs(OUT, exist_ok=True)
torch.manual_seed(1)
expected = {}


def save(name, what, tensors=None, **how):
    torch.save(what, os.path.join(OUT, name), **how)
    if tensors is not None:
        expected[name] = {k: {"type": str(t.dtype).removeprefix("torch."), "shape": list(t.shape),
                              "hex": t.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes().hex()}
                          for k, t in tensors.items()}


class Tied(torch.nn.Module):
    """An embedding tied to a head, a mask like GPT-2's and a count like batch norm's."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(5, 3)
        self.norm = torch.nn.LayerNorm(3)
        self.head = torch.nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("mask", torch.ones(2, 2, dtype=torch.bool).tril().view(1, 1, 2, 2))
        self.register_buffer("seen", torch.tensor([7, -1, 2**40]))


model = Tied()
state = model.state_dict()
save("f32.bin", state, state)
save("protocol4.bin", state, state, pickle_protocol=4)
save("legacy.bin", state, state, _use_new_zipfile_serialization=False)
save("legacy4.bin", state, state, _use_new_zipfile_serialization=False, pickle_protocol=4)
for name, dtype in ("f16", torch.float16), ("bf16", torch.bfloat16):
    half = Tied().to(dtype).state_dict()
    save(name + ".bin", half, half)
parameters = dict(model.named_parameters(remove_duplicate=False))
save("parameters.bin", parameters, parameters)
row = torch.arange(12, dtype=torch.float32)
types = {"double": row.double(), "int": row.int(), "short": -row.short(), "char": -row.char(), "byte": row.byte(), "scalar": torch.tensor(2.5),
         "none": torch.zeros(0, 4), "whole": row.view(3, 4), "slice": row[4:8], "one": row.view(3, 4)[1:2, 1:3], "rows": row.view(3, 4)[1:]}
save("types.bin", types, types)
rest = {"epoch": 3, "rate": 1e-3, "best": None, "ids": [1, 2**40, -3], "done": True, "optimizer": {"state": {0: {"step": torch.tensor(9.0)}}}}
save("wrapped.bin", rest | {"state_dict": state}, state)
save("wrapped-model.bin", rest | {"model": state}, state)
save("wrapped-legacy.bin", rest | {"state_dict": state}, state, _use_new_zipfile_serialization=False)

save("transposed.bin", {"fine": row, "turned": row.view(3, 4).t()})
save("expanded.bin", {"wide": row[:3].view(3, 1).expand(3, 4)})
save("five.bin", {"deep": row.view(1, 1, 3, 2, 2)})
save("complex.bin", {"z": torch.zeros(2, dtype=torch.complex64)})
save("number.bin", {"fine": row, "count": 7})
save("list.bin", [row])
save("module.bin", torch.nn.Linear(2, 2))


class Call:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def archive(name, obj, method=zipfile.ZIP_STORED, protocol=2):
    with zipfile.ZipFile(os.path.join(OUT, name), "w", method) as z:
        z.writestr("archive/data.pkl", pickle.dumps(obj, protocol))
        z.writestr("archive/version", "3\n")


archive("evil-system.bin", {"weight": Call(os.system, "echo errata executed a pickle")})
archive("evil-eval.bin", collections.OrderedDict(weight=Call(eval, "print('errata executed a pickle')")), protocol=4)
with open(os.path.join(OUT, "evil-legacy.bin"), "wb") as f:
    for part in 0x1950a86a20f9469cfc6c, 1001, {"protocol_version": 1001, "little_endian": True}, Call(os.system, "echo errata executed a pickle"), []:
        pickle.dump(part, f, 2)
with open(os.path.join(OUT, "evil-plain.bin"), "wb") as f:
    pickle.dump(Call(os.system, "echo errata executed a pickle"), f, 2)
with zipfile.ZipFile(os.path.join(OUT, "f32.bin")) as z, zipfile.ZipFile(os.path.join(OUT, "compressed.bin"), "w", zipfile.ZIP_DEFLATED) as out:
    for entry in z.infolist():
        out.writestr(entry.filename, z.read(entry))
with open(os.path.join(OUT, "expected.json"), "w") as f:
    json.dump(expected, f, indent=1)
    f.write("\n")
