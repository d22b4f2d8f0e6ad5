#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Guards' policies on whole runs: an edit that breaks a limit is skipped, its batch rolled back, the run stopped with exit
# code 4 and continued; every file is the same for 1 and 3 ranks and after kill -9. Runs without guards keep their names.
. "$(dirname "$0")/common.sh"
job=$work/job.yaml
holds() { # FILE TEXT
    grep -qF -- "$2" "$(folder)/$1" || { tail -n 40 "$(folder)/$1"; fail "$1 does not hold: $2"; }
    checks=$((checks + 1))
}
number() { sed -n "s/^.*\"$1\": *\(-\{0,1\}[0-9.e+-]*\).*/\1/p" "$(folder)/summary.json" | head -n 1; }

# equal_bits NAME CODE ARGUMENT...: the run of the job with 1 and 3 ranks
equal_bits() {
    local name=$1 code=$2 n got
    shift 2
    rm -rf "$work/now" "$work/wanted"
    expect "$code" run "$job" "$@"
    mv "$work/now" "$work/wanted"
    for n in 1 3; do
        mpi $n "$ERRATA" run "$job" --set run.unit=1 "$@" >"$work/out" 2>&1
        got=$?
        [ $got = "$code" ] || { cat "$work/out"; fail "$name with $n ranks: exit code $got"; }
        same_runs "$work/wanted" "$work/now" || fail "$name: $n ranks give other files"
        [ $n = 3 ] || rm -rf "$work/now"
        checks=$((checks + 1))
    done
}

# killed NAME ARGUMENT...: killed at some points, continued, the bytes of "$work/wanted"
killed() {
    local name=$1 n points
    shift
    fresh
    rm -f "$work/points"
    ERRATA_FAULT_LOG=$work/points run run "$job" "$@"
    [ -s "$work/points" ] || { echo "NOTE this build has no fault points: nothing is killed"; return; }
    points=$(wc -l <"$work/points")
    for ((n = 7; n < points; n += points / ${ERRATA_GUARD_KILLS:-6} + 1)); do
        fresh
        ERRATA_FAULT=$n run run "$job" "$@"
        run run "$job" "$@"
        same_runs "$work/wanted" "$work/now" || fail "$name: killed at point $n of $points and continued: files differ"
        no_temporaries "$work/now" || fail "$name: temporary files are left"
        checks=$((checks + 1))
    done
}

# --- a run that only warns has the name and the edits of a run without guards
tiny_job "$job" 6 2 "score: {every: 2}"
expect 0 run "$job"
plain=$(basename "$(folder)")
mv "$work/now" "$work/plain"
expect 0 run "$job" --set guards.update_norm.at=0.27 --set guards.verify.do=warn
[ "$(basename "$(folder)")" = "$plain" ] || fail "a limit that warns gives the run another name"
for f in "$work"/plain/job-*/ledger/*.h5; do
    cmp "$f" "$(folder)/ledger/$(basename "$f")" || fail "a guard that warns changes the ledger"
done
holds summary.json '"guard_actions": "warn"'
holds events.jsonl '"guard":"update_norm","batch":0,"layer":1'

# --- skip: the edit with the largest part is left out, the others are solved again
limit=$(sed -n 's/.*"event":"layer".*"update_norm":\([0-9.]*\),"weight_norm":\([0-9.]*\),.*/\1 \2/p' \
    "$work"/plain/job-*/events.jsonl | awk '{print $1 / $2}' | sort -g | tail -n 2 | awk '{s += $1} END {print s / 2}')
equal_bits "update_norm skip" 3 --set guards.update_norm.at="$limit" --set guards.update_norm.do=skip
[ "$(number failed)" -ge 1 ] && [ "$(number failed)" -lt 3 ] || fail "skip: $(number failed) edits have failed"
[ "$(number skipped)" = "$(number failed)" ] || fail "skip: $(number skipped) skipped, $(number failed) failed"
[ "$(number requested)" = 6 ] || fail "skip: an edit has left the denominator"
holds summary.json "\"guard_actions\": \"update_norm skip at $limit\""
holds events.jsonl '"action":"skip"'
holds cases.jsonl ": skipped\""
holds report.md "update_norm skip at"
grep -q '"n": 6' "$(folder)/summary.json" || fail "skip: the edit is not scored"
expect 0 verify "$(folder)"
killed "update_norm skip" --set guards.update_norm.at="$limit" --set guards.update_norm.do=skip

# --- rollback: all edits of the batch have failed, the weights are as before it
equal_bits "update_norm rollback" 3 --set guards.update_norm.at="$limit" --set guards.update_norm.do=rollback
[ "$(number failed)" -ge 2 ] && [ $(($(number failed) % 2)) = 0 ] || fail "rollback: $(number failed) edits have failed"
[ "$(number rolled_back)" = "$(number failed)" ] || fail "rollback: $(number rolled_back) of $(number failed)"
holds events.jsonl '"action":"rollback"'
holds cases.jsonl ": batch rolled back\""
expect 0 verify "$(folder)"
killed "update_norm rollback" --set guards.update_norm.at="$limit" --set guards.update_norm.do=rollback

# --- stop: exit code 4 before the batch; another policy goes on in the same folder to the bytes of an undisturbed run
for n in 0 3; do
    fresh
    if [ $n = 0 ]; then run run "$job" --set guards.update_norm.at="$limit" --set guards.update_norm.do=stop
    else mpi $n "$ERRATA" run "$job" --set guards.update_norm.at="$limit" --set guards.update_norm.do=stop >"$work/out" 2>"$work/err"; fi
    code=$?
    [ $code = 4 ] || { cat "$work/err"; fail "stop with $n ranks: exit code $code, expected 4"; }
    says 'guard update_norm'
    holds events.jsonl '"action":"stop"'
    [ "$(basename "$(folder)")" = "$plain" ] || fail "a guard that stops gives the run another name"
done
expect 4 run "$job" --set guards.update_norm.at="$limit" --set guards.update_norm.do=stop
edits=$(sed -n 's/.*data.count=\([0-9]*\).*/\1/p' "$work/err" | head -n 1)
expect 0 status "$(folder)"; says '"guard":"update_norm"'
[ -n "$edits" ] && cp -r "$work/now" "$work/stopped"
expect 0 run "$job"
same_runs "$work/plain" "$work/now" || fail "continued after a stop: files differ"
if [ -n "$edits" ]; then # or it ends where it stopped
    fresh
    mv "$work/stopped" "$work/now"
    expect 0 run "$job" --set data.count="$edits"
    [ "$(number requested)" = "$edits" ] || fail "ended where it stopped, with $(number requested) edits"
fi

# --- edits and keys are measured, drift guards see the whole model
tiny_job "$job" 6 2 "score: {every: 2, drift: {tokens: 200, probe: 4, path: $fixtures/tiny-corpus.txt}}" "guards: {measure: all}"
equal_bits "measured" 0
holds events.jsonl '"after":{"nll":'
holds events.jsonl '"keys":[['
holds drift.jsonl '"moment":"before","edits":0'
[ "$(wc -l <"$(folder)/drift.jsonl")" = 4 ] || fail "drift.jsonl has not one line per moment"
holds summary.json '"retention"'
killed "measured"
fresh
expect 0 run "$job" --set score.drift.tokens=0 --set score.drift.probe=0
expect 0 run "$job" # drift asked for later is added without editing again
same_runs "$work/wanted" "$work/now" || fail "drift added later"
kl=$(sed -n 's/.*"moment":"after_4".*"kl":\([0-9.e-]*\),.*/\1/p' "$(folder)/drift.jsonl")
equal_bits "kl rollback" 3 --set guards.kl.at="$kl" --set guards.kl.do=rollback
holds summary.json '"guard_actions": "kl rollback at'
# a key that earlier keys span, and a target that is not there after the batch, are left out
equal_bits "saturation skip" 3 --set guards.saturation.at=0.9 --set guards.saturation.do=skip
holds events.jsonl '"guard":"saturation"'
equal_bits "verify skip" 3 --set guards.verify.at=0.5 --set guards.verify.do=skip
[ "$(number applied)" = 0 ] || fail "verify skip: no edit of this model reaches one half"

# --- a poisoned run of a method of one edit at a time: everything is skipped, the model stays as it was
sed -i 's/^editor:.*/editor: {method: rome, layers: [1], v_num_grad_steps: 8, v_lr: 500, clamp_norm_factor: 1000, mom2_adjustment: false}/
        s/^edit:.*/edit: {mode: sequential, batch: 1}/; s/^score:.*/score: {every: 2}/; /^guards:/d' "$job"
equal_bits "poisoned" 3 --set guards.update_norm.at=0.5 --set guards.update_norm.do=skip
[ "$(number applied)" = 0 ] || fail "poisoned: $(number applied) edits were applied"
grep '"moment":"before"' "$(folder)/cases.jsonl" | sed 's/.*"rewrite"//' >"$work/a"
grep '"moment":"at_end"' "$(folder)/cases.jsonl" | sed 's/.*"rewrite"//' >"$work/b"
cmp "$work/a" "$work/b" || fail "poisoned: the model has changed"

# --- methods whose later layers have targets of their own, that act behind the last layer, and that train
tiny_job "$job" 6 3
for editor in "method: memit, layers: [1, 2], v_num_grad_steps: 8, v_lr: 0.5, blue: true" \
    "method: memit, layers: [1, 2], v_num_grad_steps: 8, v_lr: 0.5, prune: published"; do
    sed -i "s/^editor:.*/editor: {$editor}/" "$job"
    equal_bits "${editor##*, }" 3 --set guards.update_norm.at=0.012 --set guards.update_norm.do=skip
    [ "$(number applied)" -gt 0 ] || fail "${editor##*, }: nothing is left"
    expect 0 verify "$(folder)"
done
sed -i "s/^editor:.*/editor: {method: ft, layers: [1]}/" "$job"
for method in ft ft-m lora; do # they have no targets whose optimisation could be rounded
    expect 1 plan "$job" --set editor.method=$method --set precision.optimizer=bf16
    says "precision.optimizer: 'bf16', but $method trains weights"
done
equal_bits "ft" 3 --set guards.target.at=0.2 --set guards.target.do=skip
[ "$(number applied)" -gt 0 ] || fail "ft: nothing is left"

# --- runs beside each other: what differs, and the spread over orders
tiny_job "$job" 4 2 "score: {every: 2, drift: {tokens: 100, path: $fixtures/tiny-corpus.txt}}"
fresh
for seed in 1 2 3; do expect 0 run "$job" --set data.order.shuffle=$seed; done
expect 0 report --to "$work/beside" "$work"/now/job-*
says "## Spread over seeds"
grep -q '| alphaedit | 3 | at_end |' "$work/out" || fail "the spread is not over three runs"
[ -s "$work/beside/compare.html" ] && [ -s "$work/beside/compare.md" ] || fail "no comparison is written"
run diff $(ls -d "$work"/now/job-* | head -n 2); says "job.resolved.yaml: "; says "shuffle: "
run diff $(ls -d "$work"/now/job-* | head -n 1) $(ls -d "$work"/now/job-* | head -n 1); says "no difference"

# --- a run that was killed is reported on as it stands: the moments that are scored have the figures of the whole run
fresh
rm -f "$work/points"
ERRATA_FAULT_LOG=$work/points expect 0 run "$job"
expect 0 report --to "$work/beside" "$(folder)"
row=$(grep '^| alphaedit | after_2 | 2 | 2 |' "$work/beside/compare.md") || fail "the whole run has no row of after_2"
grep -q ',alphaedit,at_end,4,4,' "$work/beside/compare.csv" || fail "the whole run has no line of at_end"
if [ -s "$work/points" ]; then
    fresh
    ERRATA_FAULT=$(($(wc -l <"$work/points") * 3 / 4)) expect 137 run "$job"
    [ -e "$(folder)/scores.journal" ] && [ ! -e "$(folder)/summary.json" ] || fail "the run ended before it was killed"
    expect 0 report --to "$work/beside" "$(folder)"
    [ "$(grep '^| alphaedit | after_2 |' "$work/beside/compare.md")" = "$row" ] || fail "figures of an unfinished run"
    grep -q 'has not ended' "$work/beside/compare.md" || fail "not said that the run has not ended"
    grep -q ',at_end,' "$work/beside/compare.csv" && fail "an unfinished run has an end"
    expect 0 run "$job" # and it goes on
    expect 0 report --to "$work/beside" "$(folder)"
    [ "$(grep '^| alphaedit | after_2 |' "$work/beside/compare.md")" = "$row" ] || fail "figures of the continued run"
fi

# --- spectra of the edited matrices: the norm of the update is that of the events
expect 0 report --spectra "$(folder)"
[ "$(wc -l <"$(folder)/spectra.jsonl")" = 2 ] || fail "spectra.jsonl has not one line per matrix"
grep -q '^## Spectra of the edited matrices' "$(folder)/report.md" || fail "the report has no spectra"
total=$(grep '"event":"layer"' "$(folder)/events.jsonl" | tail -n 1 | sed 's/.*"total_update_norm":\([0-9.]*\).*/\1/')
norm=$(tail -n 1 "$(folder)/spectra.jsonl" | sed 's/.*"update":{"norm":\([0-9.]*\).*/\1/')
awk -v a="$total" -v b="$norm" 'BEGIN {exit !(a > 0 && (a - b) ^ 2 < 1e-10 * a ^ 2)}' || fail "norm of all updates: $norm, events say $total"

# --- refusals
expect 2 run "$job" --set guards.capacity.do=skip; says "expected warn, rollback or stop"
expect 2 run "$job" --set guards.verify.do=stop; says "no limit"
expect 2 run "$job" --set guards.perplexity.at=2 --set score.drift.tokens=0; says "score.drift.tokens"
expect 2 run "$job" --set guards.update_norm.od=skip; says "did you mean"
expect 2 run "$job" --set edit.mode=single --set score.drift.tokens=100 --set score.at_end=false --set score.every=0; says "edit.mode single"
echo "RESULT run_guards: $checks checks"
