#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a user meets: a signal and the same command again, a larger count, failed edits, a full disk, a read-only folder,
# a second run of the same job, other scores later, refusals and their exit codes.
. "$(dirname "$0")/common.sh"
job=$work/job.yaml

# --- a larger count extends a run, and ends with the bytes of a run that had it from the start
tiny_job "$job" 6 2 "score: {every: 2}"
expect 0 run "$job"
mv "$work/now" "$work/wanted"
expect 0 run "$job" --set data.count=4
expect 0 run "$job"
says "2 of 3 batches are in the ledger"
same_runs "$work/wanted" "$work/now" || fail "extended from 4 edits to 6"
fresh
expect 0 run "$job" --set data.count=3
expect 0 run "$job"
says "was partial"
same_runs "$work/wanted" "$work/now" || fail "extended from 3 edits to 6, over a partial batch"
expect 2 run "$job" --set data.count=2
says "a run only grows"

# --- a pilot is the start of the run that it lets go on
fresh
expect 4 run "$job" --pilot 3 --pilot-min 0.5
says "pilot of 4 edits: rewrite.success is 0, below 0.5: not continued"
expect 0 run "$job" --pilot 3 --pilot-min rewrite.success=0 --pilot-min neighborhood.success=0.9
says "neighborhood.success is 1, at least 0.9: passed"
says "2 of 3 batches are in the ledger"
same_runs "$work/wanted" "$work/now" || fail "continued from a pilot"
expect 0 run "$job" --pilot 3 --pilot-min 0.5; says "more than 4 edits are in the ledger"
expect 2 run "$job" --pilot 3 --pilot-min rewrite.beauty=0.5x; says "expected a number"
expect 2 run "$job" --pilot-min 0.5; says "without --pilot"
expect 2 run "$job" --set edit.mode=batch --set score.every=0 --pilot 3; says "nothing can be continued"
fresh
expect 2 run "$job" --pilot 3 --pilot-min rewrite.beauty=0.5; says "has no rewrite.beauty"

# --- scores asked for later are added without editing again
fresh
expect 0 run "$job" --set score.every=0 --set score.before=false
expect 0 run "$job"
same_runs "$work/wanted" "$work/now" || fail "scores added later"

# --- verbs on a finished run
run_folder=$(folder)
expect 0 status "$run_folder"; says "finished"
expect 0 verify "$run_folder"; says "every hash holds"
expect 0 diff "$run_folder" "$run_folder"; says "no difference"
expect 0 eval "$run_folder" --at 4; says "after_4"
expect 2 eval "$run_folder" --at 3; says "inside a batch"
expect 2 ask "$run_folder" "Zora speaks" --at 99; says "holds 6 edits"
expect 0 ask "$run_folder" "Zora speaks"; says "before: Zora speaks"
expect 0 export "$run_folder" --to "$work/hf"
expect 0 score "$work/hf" --text "Zora speaks Spanish"
cp "$work/out" "$work/first"
expect 0 score "$run_folder" --text "Zora speaks Spanish"
cmp "$work/first" "$work/out" || fail "the exported folder scores otherwise than the run"
expect 0 plan "$job" --show 1; says "subject"
expect 0 plan "$job" --explain; says "W += "; says "parameters"
expect 0 run "$job" --explain --set parity=easyedit; says "W += "; says "parity easyedit"; says "encoded alone"; says "phases"

# --- a plan needs config.json alone, and reads weights only to name a run
plan_number() { sed -n "s/^ *\"$1\": \([0-9]*\),\{0,1\}\$/\1/p" "$work/out" | head -n 1; }
expect 0 plan "$job" --folder; says "run folder $run_folder"
expect 0 plan "$job" -o json --speed 1
counted=$(plan_number edit_flop)
mkdir -p "$work/bare"
cp "$fixtures/tiny-llama/config.json" "$work/bare"
expect 0 plan "$work/bare" -o json
[ "$(plan_number all)" = 205376 ] || fail "parameters of the tiny model: $(plan_number all)"
cp "$work/out" "$work/first"
expect 0 plan "$work/bare/config.json" -o json
cmp "$work/first" "$work/out" || fail "a folder and its config.json are planned differently"
expect 0 plan "$job" --set "model.path=$work/bare"; says "texts are not counted"; says "assumed"
cp "$fixtures/tiny-llama/tokenizer.json" "$work/bare"
expect 0 plan "$job" --set "model.path=$work/bare" -o json --speed 1
[ -n "$counted" ] && [ "$(plan_number edit_flop)" = "$counted" ] || fail "without weights the plan is another"
expect 1 plan "$job" --set "model.path=$work/bare" --folder; says "model.safetensors"
expect 0 plan "$work/bare" --method rome --layers 2 --tokens 9,4,2; says "as given"
expect 2 plan "$work/bare" --layers 7; says "the model has 0 to 3"
expect 2 plan "$work/bare" --method rome --batch 5; says "rome"
expect 2 plan "$work/bare" --show 1; says "is a model"
expect 2 plan "$job" --layers 1; says "--set"
expect 2 plan "$work/bare" --tokens 4,9,2; says "P >= S"
for model in jobs/models/*.json "$fixtures"/families/*; do expect 0 plan "$model"; done
for published in jobs/published/*.yaml; do expect 0 plan "$published" --speed 50; done # neither model nor data is there
sed 's/"llama"/"mamba"/' "$fixtures/tiny-llama/config.json" >"$work/bare/config.json"
expect 1 plan "$work/bare"; says "model_type 'mamba' is not supported"
expect 0 stats "$job" --check; says "sound"
for f in report.html report.md; do [ -s "$run_folder/$f" ] || fail "$f is missing"; done

# --- damage is found
cp -r "$run_folder" "$work/damaged"
printf 'X' | dd of="$work/damaged/ledger/000001.h5" bs=1 seek=$(($(stat -c %s "$work/damaged/ledger/000001.h5") / 2)) conv=notrunc 2>/dev/null
expect 5 verify "$work/damaged"; says "000001.h5"
rm -rf "$work/damaged"

# --- refusals
expect 2 rnu "$job"; says "did you mean 'run'?"
expect 2 run "$job" --set editor.layer=3; says "did you mean 'editor.layers'?"
expect 2 run "$job" --force=1; says "takes no value"
expect 1 run "$work/absent.yaml"; says "No such file"
expect 2 run "$job" --set edit.mode=single --set edit.batch=1
says "mode single"

# --- a second process on the same run is refused and says who holds it
lock=$(dirname "$run_folder")/.$(basename "$run_folder").lock
flock "$lock" sleep 20 &
holder=$!
sleep 0.3
expect 1 run "$job"; says "held by"
kill $holder; wait $holder 2>/dev/null

# --- a batch whose solve fails is rolled back and is data: exit code 3, recorded and scored like all others
fresh
expect 3 run "$job" --set editor.L2=1e-300
says "edits failed"
grep -q '"status":"failed","reason":"' "$(folder)/cases.jsonl" || fail "cases.jsonl names no failed edit"
grep -q '"guard":"' "$(folder)/summary.json" || fail "summary.json names no guard"
expect 0 verify "$(folder)"

# --- a signal: 75, and the same command ends with the same bytes
fresh
tiny_job "$job" 6 2 "score: {every: 2}" "run: {unit: 1}"
for n in 1 2; do
    fresh
    if [ $n = 1 ]; then "$ERRATA" run "$job" >"$work/out" 2>&1 & else mpirun -n 2 "$ERRATA" run "$job" >"$work/out" 2>&1 </dev/null & fi
    pid=$!
    for ((t = 0; t < 400; t++)); do ls "$work"/now/job-*/batch.journal >/dev/null 2>&1 && break; sleep 0.01; done
    kill -USR1 $pid
    wait $pid
    code=$?
    [ $code = 75 ] || [ $code = 0 ] || { cat "$work/out"; fail "USR1 with $n ranks: exit code $code"; }
    [ $code = 75 ] && echo "NOTE USR1 with $n ranks: exit code 75"
    expect 0 run "$job"
    same_runs "$work/wanted" "$work/now" || fail "continued after USR1 with $n ranks"
done

# --- a full disk and a folder that cannot be written (root may write everywhere: then only the first)
fresh
expect 0 run "$job"
if mkdir "$work/small" && mount -t tmpfs -o size=72k errata-test "$work/small" 2>/dev/null; then
    mv "$work/now" "$work/ref"
    ln -s "$work/small" "$work/now"
    cp -r "$work/ref/store" "$work/ref-store"
    run run "$job" --set stats.store="$work/ref-store"
    code=$?
    [ $code = 1 ] || { cat "$work/out" "$work/err"; umount "$work/small"; fail "full disk: exit code $code"; }
    grep -q 'No space left' "$work/err" || { cat "$work/err"; umount "$work/small"; fail "a full disk is not named"; }
    mount -o remount,size=64m "$work/small"
    expect 0 run "$job" --set stats.store="$work/ref-store"
    no_temporaries "$work/small" || fail "temporary files after a full disk"
    mount -o remount,ro "$work/small"
    run run "$job" --set stats.store="$work/ref-store"
    code=$?
    umount "$work/small" 2>/dev/null || umount -l "$work/small"
    [ $code = 1 ] || { cat "$work/err"; fail "read-only folder: exit code $code"; }
    says "Read-only"
    rm "$work/now"
else
    echo "NOTE no right to mount a small disk: full and read-only disks are not tried"
fi
# --- a job file that is changed under a half-finished run, a store with another model's statistics, a store that cannot be
# written, a wall clock that jumps
fresh
expect 0 run "$job"
rm -rf "$work/ref-store"
cp -r "$work/now/store" "$work/ref-store"
mv "$work/now" "$work/wanted-clock"
fresh
"$ERRATA" run "$job" >"$work/out" 2>&1 &
pid=$!
for ((t = 0; t < 400; t++)); do ls "$work"/now/job-*/batch.journal >/dev/null 2>&1 && break; sleep 0.01; done
kill -USR1 $pid
wait $pid
if [ $? = 75 ]; then
    expect 0 run "$job" --set editor.v_lr=0.4
    says 'is unfinished, and this job is another run: editor.v_lr 0.5 there, 0.4 now'
fi
fresh
expect 0 run "$job" --set stats.store="$work/ref-store" --set "model.path=$fixtures/families/llama-plain" --set "editor.layers=[1]" --set editor.nullspace_threshold=1
says 'statistics: not in'; says 'weights differ'
if mkdir "$work/fixed" && mount -t tmpfs -o size=10m errata-test "$work/fixed" 2>/dev/null; then
    cp -r "$work/ref-store" "$work/fixed/store"
    mount -o remount,ro "$work/fixed"
    fresh
    expect 0 run "$job" --set stats.store="$work/fixed/store" # holds all that is needed
    expect 1 run "$job" --set stats.store="$work/fixed/store" --set "editor.layers=[0, 2]"
    says "$work/fixed/store"; says "Read-only"
    umount "$work/fixed" 2>/dev/null || umount -l "$work/fixed"
fi
fresh
if [ -n "${JUMP_CLOCK:-}" ] && ! ldd "$ERRATA" | grep -q asan; then
    LD_PRELOAD=$JUMP_CLOCK mpirun -n 2 "$ERRATA" run "$job" --set run.timeout=60 >"$work/out" 2>&1 </dev/null || { cat "$work/out"; fail "a clock that jumps"; }
    same_runs "$work/wanted-clock" "$work/now" || fail "a clock that jumps changes files"
    grep -qE 'no progress|min left|h [0-9]+ min' "$work/out" && { cat "$work/out"; fail "a clock that jumps shows"; }
    echo "NOTE a wall clock that jumps by days at every reading changes nothing"
fi
echo "RESULT run_cases: $checks checks"
