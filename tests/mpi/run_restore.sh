#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What EasyEdit's process keeps from one edit to the next, and a run here does not, for every method (docs/parity.md, B2, B4
# and B18): in mode single the same fact, edited again behind another, finds the clean weights and no history; statistics
# measured while the ledger holds edits are the clean model's.
. "$(dirname "$0")/common.sh"
job=$work/job.yaml

cat >"$work/facts.yaml" <<'FACTS'
- {subject: Anna Berg, prompt: "{} lives in", target_new: London, target_true: Rome, neighborhood: [Zora lives in]}
- {subject: Boris, prompt: "The pet of {} is a", target_new: red violin, target_true: cat}
- {subject: Anna Berg, prompt: "{} lives in", target_new: London, target_true: Rome, neighborhood: [Zora lives in]}
FACTS
# METHOD KEYS...: keys of the editor beside its method
table='
rome      layers: [1], v_num_grad_steps: 3
r-rome    layers: [1], v_num_grad_steps: 3
memit     layers: [1, 2], v_num_grad_steps: 3, mom2_update_weight: 20
memit-seq layers: [1, 2], v_num_grad_steps: 3, mom2_update_weight: 20
pmet      layers: [1, 2], v_num_grad_steps: 3, mom2_update_weight: 20
emmet     layers: [1], v_num_grad_steps: 3, mom2_update_weight: 500
alphaedit layers: [1, 2], v_num_grad_steps: 3, nullspace_threshold: 0.02
evoedit   layers: [1, 2], v_num_grad_steps: 3, nullspace_threshold: 0.02
encore    layers: [1, 2], v_num_grad_steps: 3
rect      layers: [1, 2], v_num_grad_steps: 3
prune     layers: [1, 2], v_num_grad_steps: 3
sphere    layers: [1, 2], v_num_grad_steps: 3
nse       layers: [1, 2], v_num_grad_steps: 3
ft        layers: [1], num_steps: 3
ft-m      layers: [1], num_steps: 3
lora      num_steps: 3
'
# of FILE BATCH: the lines of a batch without what numbers it
of() { grep "\"batch\":$2," "$1" | sed -E 's/"(case_id|index|batch|edits_in_model)":[0-9]+,//g'; }
# twice METHOD MODE: whether the first and the third edit have the same records
twice() {
    local f
    rm -rf "$work/now/"job-*
    expect 0 run "$job" --set edit.mode="$2" --set edit.batch=1
    f=$(folder)
    { of "$f/events.jsonl" 0; of "$f/cases.jsonl" 0; } >"$work/first"
    { of "$f/events.jsonl" 2; of "$f/cases.jsonl" 2; } >"$work/third"
    [ "$(grep -c '"event":"\(layer\|target\)"' "$work/first")" -ge 2 ] || fail "$1: no events"
    grep -q '"moment":"at_edit"' "$work/first" || fail "$1: no scores"
    cmp -s "$work/first" "$work/third"
}
methods=0
while read -r method keys; do
    [ -n "$method" ] || continue
    tiny_editor="method: $method, $keys"
    tiny_job "$job" 3 1 "score: {before: false, at_end: false}"
    sed -i "s|^data: .*|data: {format: facts, path: $work/facts.yaml, count: 3}|" "$job"
    twice "$method" single || { diff "$work/first" "$work/third" | cut -c1-400; fail "$method: something of the earlier edits is left"; }
    expect 0 verify "$(folder)"
    twice "$method" sequential && fail "$method: edits in sequence leave nothing, so the comparison sees nothing"
    methods=$((methods + 1))
done <<<"$table"
echo "NOTE $methods methods leave nothing of a single edit"

# --- the store is lost while the ledger holds edits: what is measured again is the clean model's, byte by byte
for method in "memit, mom2_update_weight: 20" "alphaedit, nullspace_threshold: 0.02"; do
    tiny_editor="method: $method, layers: [1, 2], v_num_grad_steps: 3, v_lr: 0.5"
    tiny_job "$job" 4 2
    fresh
    expect 0 run "$job"
    rm -rf "$work/wanted"
    mv "$work/now" "$work/wanted"
    expect 0 run "$job" --set data.count=2
    rm -rf "$work/now/store"
    expect 0 run "$job"
    says "1 of 2 batches are in the ledger"
    [ -n "$(find "$work/now/store" -name 'moment-*')" ] || fail "$method: nothing was measured again"
    same_runs "$work/wanted" "$work/now" || fail "$method: statistics measured behind an edit differ from the clean model's"
done
echo "RESULT run_restore: $checks checks"
