# SPDX-License-Identifier: Apache-2.0
"""usage: beside_table.py FOLDER TURNS EDITS: what beside.sh's turns left, as a table of medians and ratios per phase."""
import json
import os
import statistics
import sys

folder, turns, edits = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def phases(path):
    """Seconds per phase of one of errata's runs, over its batches."""
    total = {}
    with open(os.path.join(folder, path), encoding="utf-8") as f:
        for entry in (e for e in map(json.loads, f) if "phase" in e):  # others: memory of a rank
            total[entry["phase"]] = total.get(entry["phase"], 0) + entry["seconds"]
    return total


theirs, ours = [], []
for turn in range(1, turns + 1):
    with open(os.path.join(folder, f"easyedit-{turn}"), encoding="utf-8") as f:
        theirs.append(json.load(f))
    alpha, rome = phases(f"errata-alphaedit-{turn}"), phases(f"errata-rome-{turn}")
    ours.append(dict(statistics=alpha["statistics"], score=alpha["before"] / edits, alphaedit_target=alpha["targets"] / edits,
                     alphaedit_rest=(alpha.get("keys", 0) + alpha["solve"]) / edits, rome_target=rome["targets"],
                     rome_rest=rome.get("keys", 0) + rome["solve"]))
for side in theirs + ours:
    for method in ("alphaedit", "rome"):
        side[method] = side[method + "_target"] + side[method + "_rest"]
    side["statistics"] *= 1000 / theirs[0]["tokens"]
rows = [("alphaedit", "AlphaEdit, s per edit"), ("alphaedit_target", "  its target"), ("alphaedit_rest", "  keys, solves, weights"),
        ("rome", "ROME, s per edit"), ("rome_target", "  its target"), ("rome_rest", "  key, solve, weights"),
        ("score", "score, s per record"), ("statistics", "statistics and eigenpairs, s per 1,000 tokens")]
print(f"{'':46} {'EasyEdit':>9} {'errata':>9} {'ratio':>7}   ratio of each turn")
for key, name in rows:
    each = [t[key] / max(o[key], 1e-3) for t, o in zip(theirs, ours)]  # errata's times have milliseconds
    a, b = (statistics.median(side[key] for side in sides) for sides in (theirs, ours))
    print(f"{name:46} {a:9.3f} {b:9.3f} {statistics.median(each):6.1f}x   " + " ".join(f"{r:.1f}" for r in each))
print(f"statistics of {theirs[0]['tokens']} tokens, layers 4 to 8; their decomposition (an SVD, eigenpairs) is in it")
