#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# beside.sh EASYEDIT_CHECKOUT PYTHON [MODEL_FOLDER]: EasyEdit and errata on the same job, in turns: a batch of EDITS (2)
# AlphaEdit edits, one ROME edit, scores, statistics of 16 documents; all cores each. Seconds of both and their ratio, the
# median of TURNS (3) turns. THEIRS (EDITS): EasyEdit gets only so many of the batch, which it optimises one by one.
# MODEL_FOLDER: SmolLM2-135M as a Hugging Face folder (made from the GGUF in the cache where absent).
# PYTHON needs what tests/golden/peer/README.md lists. BUILD=FOLDER: where errata is built (build-bench).
set -eu
[ $# -ge 2 ] || { sed -n '3,8s/^# //p' "$0" >&2; exit 2; }
easyedit=$(readlink -f "$1") python=$2
cd "$(dirname "$(readlink -f "$0")")/../.."
. tools/setup.sh
quiet_mpi
theirs=${THEIRS:-${EDITS:-2}}
build=${BUILD:-build-bench} turns=${TURNS:-3} edits=${EDITS:-2} documents=16 most=400
model=${3:-$cache/smollm2-hf}
[ -d "$easyedit/easyeditor/models/alphaedit" ] || die "$easyedit is no checkout of EasyEdit with AlphaEdit"
[ -f "$model/config.json" ] || { fetch_model && "$python" tests/golden/peer/smollm2.py "$cache/$model_name" "$model"; }
make_corpus
[ -d "$build" ] || cmake -S . -B "$build" -G Ninja >/dev/null
cmake --build "$build" --target errata >/dev/null
export TOKENIZERS_PARALLELISM=false OMP_WAIT_POLICY=passive GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-2000}" OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(nproc)}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
facts=$PWD/jobs/facts/quickstart.json templates=$PWD/tests/fixtures/tiny-templates.json corpus=$(readlink -f "$cache/wordnet.txt")

# job METHOD COUNT MORE: a job of EasyEdit's settings
job() {
    cat >"$work/$1.yaml" <<EOF
model: {path: $(readlink -f "$model")}
editor: {method: $1, $3}
data: {format: counterfact, path: $facts, count: $2}
edit: {mode: sequential, batch: $2}
stats: {store: $work/store, corpus: {path: $corpus, documents: $documents, max_tokens: $most}}
templates: {file: $templates}
score: {before: true, at_edit: false, at_end: false}
out: $work/runs
EOF
}
job alphaedit $edits "layers: [4, 5, 6, 7, 8], nullspace_threshold: 0.02, L2: 1"
job rome 1 "layers: [5]"

errata_turn() {
    rm -rf "$work/store" "$work/runs"
    for method in alphaedit rome; do
        "$build/errata" run "$work/$method.yaml" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
        cat "$work"/runs/$method-*/timings.jsonl >"$work/errata-$method-$1"
    done
}

echo "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $OMP_NUM_THREADS threads each, $turns turns, batches of $edits (EasyEdit: $theirs), $(date -u +%F), load $(cut -d' ' -f1 /proc/loadavg)"
for turn in $(seq "$turns"); do
    "$python" tests/bench/easyedit_side.py --easyedit "$easyedit" --model "$model" --facts "$facts" --templates "$templates" \
        --corpus "$corpus" --alphaedit "$theirs" --rome 1 --documents $documents --max-tokens $most --threads "$OMP_NUM_THREADS" \
        >"$work/easyedit-$turn" 2>"$work/log" || { cat "$work/log" >&2; die "EasyEdit's side failed"; }
    errata_turn "$turn"
done
"$python" tests/bench/beside_table.py "$work" "$turns" "$edits"
echo "load $(cut -d' ' -f1 /proc/loadavg) at the end"
