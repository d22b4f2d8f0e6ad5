#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Data sets of others and tables of one's own, edited and scored by each protocol: the same bytes for 1, 2 and 3 ranks,
# scores of the unedited model shared between runs, protocols that do not take each other's scores.
. "$(dirname "$0")/common.sh"
job=$work/job.yaml
# number KEY: a value of summary.json
number() { sed -n "s/.*\"$1\": \([0-9.]*\).*/\1/p" "$(folder)/summary.json" | head -n 1; }

# data_job DATA PROTOCOL [LINE...]
data_job() {
    local data=$1 protocol=$2
    shift 2
    tiny_job "$job" 3 2 "score: {protocol: $protocol, every: 2}" "$@"
    sed -i "s|^data: .*|data: {$data, count: 0}|" "$job"
}

same_on_all_ranks() {
    local n
    fresh
    expect 0 run "$job"
    rm -rf "$work/wanted"
    cp -r "$work/now" "$work/wanted"
    for n in 2 3; do
        fresh
        mpi $n "$ERRATA" run "$job" --set run.unit=1 >"$work/out" 2>&1 || { cat "$work/out"; fail "$1 with $n ranks"; }
        same_runs "$work/wanted" "$work/now" || fail "$1: $n ranks"
        checks=$((checks + 1))
    done
    expect 0 run "$job"
    says "$2"
    same_runs "$work/wanted" "$work/now" || fail "$1: run again"
    expect 0 verify "$(folder)"
}

# --- zsRE: without a target there is no experiment; two targets are two runs
data_job "format: zsre, path: $fixtures/zsre-tiny.json" zsre
expect 2 run "$job"; says "data.target"; says "expected answers (published tables) or alt (EasyEdit)"
data_job "format: zsre, path: $fixtures/zsre-tiny.json, target: alt" zsre
same_on_all_ranks "zsre" "EffAcc"
[ "$(number left_out_without_target)" = 1 ] || fail "the empty alternative is not counted"
grep -q '"scorer":"zsre"' "$(folder)/cases.jsonl" || fail "cases.jsonl does not name the protocol"
grep -q '"scored": "token by token"' "$(folder)/summary.json" || fail "summary.json does not say how"
first=$(folder)
expect 0 run "$job" --set score.protocol=easyedit; says "rephrase_acc"
[ "$(folder)" = "$first" ] || fail "a protocol made another run"
grep -q '"locality":{"answers"' "$first/cases.jsonl" || fail "no locality by protocol easyedit"
expect 0 run "$job"
same_runs "$work/wanted" "$work/now" || fail "back to protocol zsre"
expect 0 plan "$job" --show 1; says "subject"
fresh
expect 0 run "$job" --set data.target=answers
[ "$(basename "$(folder)")" != "$(basename "$first")" ] || fail "two targets, one run"
[ "$(number requested)" = 4 ] || fail "with answers no record is left out"

# --- KnowEdit: kinds of portability and locality, and what all kinds have together
data_job "format: knowedit, path: $fixtures/knowedit-tiny.json" easyedit
same_on_all_ranks "knowedit" "portability_acc"
for group in portability portability.Reasoning portability.Subject_Aliasing locality locality.Forgetfulness; do
    grep -q "^at_end,$group,accuracy," "$(folder)/summary.csv" || fail "summary.csv has no $group"
    checks=$((checks + 1))
done
for face in easyedit authors; do
    fresh
    expect 0 run "$job" --set parity=$face
done

# --- tables: CSV and YAML are one run's data
data_job "format: facts, path: $fixtures/facts-tiny.csv" counterfact
same_on_all_ranks "facts" "Eff"

# --- continuations and texts: asked for later they are added, and no rank changes them
judge="snippets: $fixtures/judge/snippets.json, tfidf_vocab: $fixtures/judge/vocab.json, tfidf_idf: $fixtures/judge/idf.npy"
tiny_job "$job" 4 2 "score: {greedy: 4, generate: 3, every: 2}"
same_on_all_ranks "generated" "Flu"
grep -q '"generation":{"seed":1,"fluency":[0-9.]*,"consistency":null,"texts":\["' "$(folder)/cases.jsonl" || fail "no texts"
[ "$(grep -c '"generation":{' "$(folder)/cases.jsonl")" = 14 ] || fail "texts of other cases than the first three"
grep -q '^at_end,rewrite,greedy_exact,' "$(folder)/summary.csv" || fail "summary.csv has no greedy_exact"
fresh
expect 0 run "$job" --set score.generate=0 --set score.greedy=0
cp "$(folder)/cases.jsonl" "$work/plain"
expect 0 run "$job" --set score.generate=1
expect 0 run "$job"
same_runs "$work/wanted" "$work/now" || fail "texts asked for later"
expect 0 run "$job" --set score.generate=0 --set score.greedy=0
cmp "$work/plain" "$(folder)/cases.jsonl" || fail "texts not asked for any more"
for rest in snippets tfidf_vocab tfidf_idf; do
    tiny_job "$job" 4 2 "score: {generate: 3, $(echo "$judge" | sed "s/$rest: [^,]*,* *//; s/, *\$//")}"
    expect 2 run "$job"; says "key 'score.$rest' is missing"
done
tiny_job "$job" 4 2 "score: {$judge}"
expect 2 run "$job"; says "without score.generate"
# tiny-facts with ids of its own relation and target, as the references have them
sed 's/"relation_id": "R1"/"relation_id": "P19"/; s/"target_new": {/"target_new": {"id": "Q1",/' "$fixtures/tiny-facts.json" >"$work/facts.json"
tiny_job "$job" 2 2 "score: {generate: 2, $judge}"
sed -i "s|path: $fixtures/tiny-facts.json|path: $work/facts.json|" "$job"
fresh
expect 0 run "$job"; says "Con"
grep -q '"references": {"snippets": "' "$(folder)/inputs.json" || fail "inputs.json names no references"
grep -q '^at_end,generation,consistency,' "$(folder)/summary.csv" || fail "no consistency"

# --- scores of the unedited model are kept once, per protocol
data_job "format: knowedit, path: $fixtures/knowedit-tiny.json" easyedit "run: {cache: $work/cache}"
fresh
expect 0 run "$job"
fresh
expect 0 run "$job" --set seed=2
reused=$(sed -n 's/.*"scores_reused": *\([0-9]*\).*/\1/p' "$(folder)/timings.jsonl" | tail -n 1)
[ "${reused:-0}" = 2 ] || { cat "$(folder)/timings.jsonl"; fail "scores of the unedited model: ${reused:-none} reused, expected 2"; }
fresh
expect 0 run "$job" --set seed=2 --set score.protocol=counterfact
reused=$(sed -n 's/.*"scores_reused": *\([0-9]*\).*/\1/p' "$(folder)/timings.jsonl" | tail -n 1)
[ "${reused:-0}" = 0 ] || fail "another protocol took scores over"
echo "RESULT run_data: $checks checks"
