#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Statistics from elsewhere: what is exported is imported, under a name that jobs use or do not use, and a run says so by its
# own folder; a projection needs trust and takes no threshold.
. "$(dirname "$0")/common.sh"
job=$work/job.yaml
tiny_job "$job" 4 2
runs() { find "$work/now" -mindepth 1 -maxdepth 1 -type d -name 'job-*' | wc -l; }

expect 0 stats "$job" --export "$work/npz" --export-projection "$work/P.pt" --spectrum "$work/s.svg"
says "mom2_n_samples: "; says "energy"; says "P keeps "
grep -q "</svg>" "$work/s.svg" || fail "no drawing"
npz=$work/npz/tiny-llama/wikipedia_stats
first=$(find "$npz" -name '*.npz' | sort | head -n 1)

# --- moments
expect 0 stats "$job" --import "$npz" --as elsewhere; says "stats: {imported: elsewhere}"
expect 0 stats "$job" --import "$npz" --as elsewhere; says "stored already"
cp "$first" "$work/renamed.npz"
expect 2 stats "$job" --import "$work/renamed.npz"; says "--layer must say"
expect 2 stats "$job" --import "$first" --layer 3; says "but the name says layer"
expect 0 stats "$job" --import "$work/renamed.npz" --layer 0 --as partly
expect 2 run "$job" --set stats.imported=partly; says "no statistics of that name for layer 1"
expect 2 stats "$job" --import "$npz/.." ; says "no file of layer"
expect 2 stats "$job" --as x; says "goes with --import"
expect 0 run "$job"
[ "$(runs)" = 1 ] || fail "not one run"
measured=$(find "$work/now" -maxdepth 1 -name 'job-*')
expect 0 run "$job" --set stats.imported=elsewhere
[ "$(runs)" = 2 ] || fail "imported statistics do not name a run"
for r in "$work"/now/job-*; do expect 0 verify "$r"; done
expect 0 plan "$job" --set stats.imported=elsewhere; says "none to measure: imported as elsewhere"
expect 0 run "$job" --explain --set stats.imported=elsewhere; says "imported into"
expect 0 stats "$job" --check --set stats.imported=elsewhere; says "sound"; says "no held-out keys"
expect 2 stats "$job" --shard 1/2 --set stats.imported=elsewhere; says "nothing to measure"

# --- projections: the job without a threshold of its own
sed 's/nullspace_threshold: 0.02, //' "$job" >"$work/bare.yaml"
expect 2 stats "$job" --import "$work/P.pt" --as P; says "--trust"
expect 0 stats "$job" --import "$work/P.pt" --as P --trust; says "threshold and model are not known"
expect 2 stats "$job" --import "$work/P.pt" --as elsewhere --trust; says "another name"
expect 2 stats "$job" --import "$work/P.pt" --as Q --trust --layers 1; says "2 projections, but 1 layers are edited"
expect 0 run "$work/bare.yaml" --set stats.imported=P
expect 0 verify "$work"/now/bare-*
expect 0 bundle "$work"/now/bare-* --to "$work/b.tar" --with-data --with-corpus --with-stats
tar -tf "$work/b.tar" >"$work/list" || fail "tar cannot read the bundle"
[ "$(grep -c store/eigen- "$work/list")" = 2 ] || fail "the bundle lacks eigenpairs"
grep -q 'store/moment-\|inputs/corpus' "$work/list" && fail "the bundle holds what an imported projection does not have"
expect 0 verify "$work/b.tar"
printf 'base: job.yaml\ngrid: {editor.L2: [1, 2]}\nset: {stats.imported: elsewhere}\nout: sweep\n' >"$work/sweep.yaml"
expect 0 sweep "$work/sweep.yaml"
expect 2 run "$work/bare.yaml" --set stats.imported=P --set "model.path=$fixtures/families/llama-plain" --set "editor.layers=[1]"
says "no statistics of that name for layer 1 of this model" # another model's P (docs/parity.md, B5)
expect 2 run "$work/bare.yaml" --set stats.imported=P --set "editor.layers=[0, 2]"; says "no statistics of that name for layer 0"
expect 2 run "$job" --set stats.imported=P; says "its threshold was chosen where it was made"
expect 2 run "$work/bare.yaml" --set stats.imported=P --set editor.nullspace_rank=9; says "none can be given here"
sed -e 's/alphaedit/memit/' -e 's/, L2: 1//' "$work/bare.yaml" >"$work/memit.yaml"
expect 2 run "$work/memit.yaml" --set stats.imported=P; says "memit needs second moments"
expect 0 run "$work/memit.yaml" --set stats.imported=elsewhere

# the same solve up to the rounding of P to fp32
norms() { python3 - "$1" <<'PY'
import json, sys
for line in open(sys.argv[1] + "/events.jsonl"):
    e = json.loads(line)
    if "update_norm" in e: print("%.4f" % e["update_norm"])
PY
}
if command -v python3 >/dev/null; then
    norms "$measured" >"$work/first"
    [ -s "$work/first" ] || fail "no norms"
    diff "$work/first" <(norms "$(find "$work/now" -name 'bare-*')") || fail "an imported projection gives other updates"
    checks=$((checks + 1))
fi
echo "run_exchange: $checks checks"
