#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sweeps: every point has the bytes of the same job run alone, for 1, 2 and 3 ranks; what is done stays done, a failed
# point stops nothing, two processes share the points, and a killed sweep is continued by the same command.
. "$(dirname "$0")/common.sh"
job=$work/job.yaml
sweep=$work/sweep.yaml
out=$work/sweep
point() { grep -l -- "\"$1\": \"$2\"" "$out"/points/*/point.json; } # files of the points with that value
work_of() { grep -oE "\"$2\": [0-9]+" "$1" | grep -oE '[0-9]+$'; }  # a counter of a point
# same_point_runs SWEEP WHAT: every point's run has the bytes that it has there
same_point_runs() {
    local p
    for p in "$1"/points/*/; do
        same_runs "$p/run" "$out/points/$(basename "$p")/run" || fail "$2: point $(basename "$p") differs"
    done
    checks=$((checks + 1))
}
state_of() { grep -oE '"state": "[a-z]+"' "$1" | cut -d'"' -f4; }

tiny_job "$job" 6 2
cat >"$sweep" <<END
base: job.yaml
grid:
  editor.nullspace_threshold: [0.01, 0.02]
  editor.clamp_norm_factor: [0.5, 4]
out: sweep
objective: at_end.rewrite.magnitude
END

# --- the same jobs alone
for t in 0.01 0.02; do
    for c in 0.5 4; do
        expect 0 run "$job" --set editor.nullspace_threshold=$t --set editor.clamp_norm_factor=$c --set "out=$work/alone/$t-$c"
    done
done

# --- 1, 2 and 3 ranks: the bytes of the jobs alone
same_points() {
    local t c p
    for t in 0.01 0.02; do
        for c in 0.5 4; do
            p=$(comm -12 <(point editor.nullspace_threshold $t) <(point editor.clamp_norm_factor $c))
            same_runs "$work/alone/$t-$c" "$(dirname "$p")/run" || fail "$1: threshold $t, clamp $c differ from the job alone"
            checks=$((checks + 1))
        done
    done
}
for n in 1 2 3; do
    rm -rf "$out"
    if [ $n = 1 ]; then run sweep "$sweep"; else mpi $n "$ERRATA" sweep "$sweep" >"$work/out" 2>"$work/err"; fi
    [ $? = 0 ] || { cat "$work/out" "$work/err"; fail "the sweep on $n ranks"; }
    same_points "$n ranks"
done
[ "$(wc -l <"$out/points.csv")" = 5 ] || fail "points.csv has no line for each point"
[ "$(grep -c ',done,' "$out/points.csv")" = 4 ] || fail "points.csv: not all are done"

# --- two and three points at a time, on groups of one or two ranks
for n in 2 3; do
    rm -rf "$out"
    mpi 3 "$ERRATA" sweep "$sweep" --parallel $n >"$work/out" 2>"$work/err" || { cat "$work/out" "$work/err"; fail "$n at a time"; }
    same_points "$n points at a time"
done
[ "$(cat "$out"/points/*/point.json | grep -oE '"targets": [0-9]+' | grep -oE '[0-9]+$' | paste -sd+ | bc)" -le 22 ] ||
    fail "points at a time share no targets" # 20, or 22 where two groups had nothing else to do
rm -rf "$out"
{ echo "base: job.yaml"; echo "grid: {precision.weights: [fp32, bf16, fp16]}"; echo "out: sweep"; echo "parallel: 2"; } >"$sweep.2"
mpi 2 "$ERRATA" sweep "$sweep.2" >"$work/out" 2>"$work/err" || { cat "$work/out" "$work/err"; fail "groups with models of their own"; }
for t in fp32 bf16; do
    expect 0 run "$job" --set precision.weights=$t --set "out=$work/alone/$t"
    same_runs "$work/alone/$t" "$(dirname "$(point precision.weights $t)")/run" || fail "groups with models of their own: $t differs"
done
rm -rf "$out"
expect 0 sweep "$sweep"

# --- what points share: statistics, scores before, and the first batch's targets where the clamp is equal
sum_of() { cat "$out"/points/*/point.json | grep -oE "\"$1\": [0-9]+" | grep -oE '[0-9]+$' | paste -sd+ | bc; }
counted() { [ "$(sum_of "$1")" = "$2" ] || fail "$1: $(sum_of "$1") over all points, expected $2"; checks=$((checks + 1)); }
counted moments 0 # the store has them from the jobs alone
counted eigenpairs 0
counted targets 20 # of 24: two of two edits
counted targets_reused 4
counted scores_reused 18 # three of six cases
for p in "$out"/points/*/run/*/timings.jsonl; do grep -q '"targets_reused"' "$p" || fail "$p counts nothing"; done

# --- nullspace_threshold and L2 alone: no statistics, no eigenproblem, no target of the first batch, in a batch none
rm -rf "$out"
{ echo "base: job.yaml"; echo "list: [{editor.L2: 1}, {editor.L2: 2}, {editor.nullspace_threshold: 0.03}]"; echo "out: sweep"
  echo "set: {edit.mode: batch, stats.store: sweep/store, run.unit: 1}"; } >"$sweep.2"
expect 0 sweep "$sweep.2"
counted moments 2 # two layers, once
counted eigenpairs 2
counted targets 6
counted targets_reused 12
counted scores_reused 12
rm -rf "$out"
sed 's/, nullspace_threshold: 0.02, L2: 1//; s/v_lr: 0.5/v_lr: 0.5, v_weight_decay: 0.5, clamp_norm_factor: 0.75/' "$job" >"$work/plain.yaml"
{ echo "base: plain.yaml"; echo "list: [{editor.L2: 1}, {editor.L2: 2}, {editor.layers: [2]}, {editor.method: memit}, {editor.v_lr: 0.25}]"
  echo "out: sweep"; echo "set: {edit.mode: batch}"; } >"$sweep.2"
expect 0 sweep "$sweep.2"
counted targets 12 # another v_lr alone is another optimisation; layers before the last and the method's solve are not
counted targets_reused 18
expect 0 run "$work/plain.yaml" --set edit.mode=batch --set editor.layers=[2] --set "out=$work/alone/layers"
same_runs "$work/alone/layers" "$(dirname "$(point editor.layers '\[2\]')")/run" || fail "shared targets: other layers differ"
expect 0 run "$work/plain.yaml" --set edit.mode=batch --set editor.method=memit --set "out=$work/alone/memit"
same_runs "$work/alone/memit" "$(dirname "$(point editor.method memit)")/run" || fail "shared targets: memit differs"
rm -rf "$out"
expect 0 sweep "$sweep"

# --- templates that the model writes: once
rm -rf "$out"
sed 's/^templates:.*/templates: {generate: {seed: 1}}/' "$job" >"$work/drawn.yaml"
{ echo "base: drawn.yaml"; echo "grid: {editor.L2: [1, 2]}"; echo "out: sweep"; } >"$sweep.2"
expect 0 sweep "$sweep.2"
counted templates 1
counted templates_reused 1
for l in 1 2; do
    expect 0 run "$work/drawn.yaml" --set editor.L2=$l --set "out=$work/alone/drawn-$l"
    same_runs "$work/alone/drawn-$l" "$(dirname "$(point editor.L2 $l)")/run" || fail "shared templates: L2 $l differs"
done
rm -rf "$out"
expect 0 sweep "$sweep"

# --- given again: nothing runs; a point more keeps the others
find "$out/points" -name point.json -exec stat -c '%n %Y %i' {} + | sort >"$work/before"
expect 0 sweep "$sweep"; says "4 of 4 points done"
sed -i 's/\[0.01, 0.02\]/[0.01, 0.02, 0.05]/' "$sweep"
expect 0 sweep "$sweep" --points 6; says "5 of 6 points done"
find "$out/points" -name point.json -exec stat -c '%n %Y %i' {} + | sort >"$work/after"
[ "$(comm -23 "$work/before" "$work/after" | wc -l)" = 0 ] || fail "done points were touched"
expect 0 sweep status "$out"; says "6 points: 5 done, 0 failed, 0 running, 1 left"; says "--array=5 with --task"
says "left: --points $(sed -n 6p "$out/points.csv" | cut -d, -f2)"
expect 0 status "$out"; says "5 done"
expect 0 sweep status "$out" -o csv
cmp "$work/out" "$out/points.csv" || fail "status -o csv and points.csv"
expect 0 sweep "$sweep" --task 5/6; says "6 of 6 points done"
expect 0 sweep status "$out" -o json
[ "$(grep -c '"state":"done"' "$work/out")" = 6 ] || fail "status -o json"
expect 2 sweep status "$work"; says "no folder of a sweep"
expect 2 sweep stats "$out"; says "did you mean 'status'?"

# --- the report: heat maps of two keys, the best point
rm "$out"/report.* "$out/points.csv"
expect 0 sweep report "$out"
grep -q 'has the largest at_end.rewrite.magnitude' "$out/report.md" || fail "the report names no best point"
[ "$(wc -l <"$out/points.csv")" = 7 ] || fail "the report writes no table"
grep -q '| EffAcc | p(new) - p(true) | as unedited | failed edits |' "$out/report.md" || fail "the report's table lacks scores"
if command -v gnuplot >/dev/null; then
    [ "$(grep -o '<svg' "$out/report.html" | wc -l)" = 1 ] || fail "the report has no heat map"
    grep -q 'Pictures are missing' "$out/report.md" && fail "the report lacks pictures"
fi

# --- halving on tuning facts: six points on two, the better three on four, the best one on two others
rm -rf "$out"
cat >"$sweep.2" <<END
base: job.yaml
grid: {editor.clamp_norm_factor: [0.5, 2, 8], editor.nullspace_threshold: [0.02, 0.5]}
set: {data.tune: 4, data.count: 2}
halving: {rungs: [2, 4], keep: 1/2}
objective: at_end.rewrite.magnitude
out: sweep
END
expect 0 sweep "$sweep.2"; says "rung 2 of 2: 3 points on 4 tuning facts"
[ "$(grep -c '"requested": 4' "$out"/points/*/run/*/summary.json | grep -c ':1$')" = 3 ] || fail "halving: not three points on four facts"
winner=$(grep -oE '"point": "[0-9a-f]+"' "$out/best/point.json" | cut -d'"' -f4)
best=$out/points/$winner/point.json
clamp=$(grep -oE 'clamp_norm_factor": "[^"]+' "$best" | cut -d'"' -f3)
threshold=$(grep -oE 'nullspace_threshold": "[^"]+' "$best" | cut -d'"' -f3)
alone=(run "$job" --set "editor.clamp_norm_factor=$clamp" --set "editor.nullspace_threshold=$threshold" --set data.count=2)
expect 0 "${alone[@]}" --set data.skip=4 --set "out=$work/alone/best"
same_runs "$work/alone/best" "$out/best/run" || fail "the winner differs from its job alone"
expect 0 "${alone[@]}" --set data.tune=4 --set "out=$work/alone/tuned"
same_runs "$work/alone/best" "$work/alone/tuned" || fail "data.tune is no skip"
expect 0 run "$job" --set "editor.clamp_norm_factor=$clamp" --set "editor.nullspace_threshold=$threshold" --set data.count=4 --set "out=$work/alone/rung"
same_runs "$work/alone/rung" "$out/points/$winner/run" || fail "the winner's tuning run differs from its job alone"
expect 0 sweep "$sweep.2"
[ "$(grep -c ' starts:' "$work/err")" = 0 ] || fail "a finished halving ran again"
expect 2 sweep "$sweep.2" --slurm --dry-run; says "no point is left"
mv "$out/best/point.json" "$work/best.json"
expect 0 sweep status "$out"; says "no winner yet"
mv "$work/best.json" "$out/best/point.json"
mv "$out" "$work/halved"
setsid mpirun -n 2 "$ERRATA" sweep "$sweep.2" --parallel 2 >"$work/out" 2>"$work/err" </dev/null &
pid=$!
for ((t = 0; t < 400; t++)); do grep -qs '"rungs"' "$out"/points/*/point.json && break; sleep 0.02; done
kill -9 -- "-$pid" 2>/dev/null
wait $pid 2>/dev/null
for ((t = 0; t < 40; t++)); do run sweep "$sweep.2" && [ -e "$out/best/point.json" ] && break; sleep 0.3; done
same_halving() {
    same_runs "$work/halved/best/run" "$out/best/run" || fail "$1 ends otherwise"
    same_point_runs "$work/halved" "$1"
}
same_halving "a killed halving"
# killed at its fault points, where the build has them: in the first rung, in the second and in the winner's run
rm -rf "$out"
ERRATA_FAULT_LOG=$work/points.2 expect 0 sweep "$sweep.2"
all=$(cat "$work/points.2" 2>/dev/null | wc -l)
for ((at = all / 8; all && at < all; at += all / 8)); do
    rm -rf "$out"
    ERRATA_FAULT=$at expect 137 sweep "$sweep.2"
    expect 0 sweep "$sweep.2"
    same_halving "a halving killed at point $at of $all"
done
# a point that failed on the second rung takes it up again where it stood; who goes on from the first stays decided
sed -i 's/"state": "done"/"state": "failed"/; /"rungs": \[/{n;s/,$//;n;d}' "$best"
rm -rf "$out/best"
expect 3 sweep "$sweep.2"; says "1 failed"
grep -q "\"point\": \"$winner\"" "$out/best/point.json" && fail "a failed point won"
rm -rf "$out/best"
expect 0 sweep "$sweep.2" --retry
same_halving "a halving with a point tried again"
sed -i 's/rungs: .2, 4./rungs: [2, 5]/' "$sweep.2"
expect 2 sweep "$sweep.2"; says "data.tune keeps 4 facts for tuning"

# --- a failed point: 3 at the end, the others are done; only --retry takes it again
rm -rf "$out"
{ echo "base: job.yaml"; echo "list: [{stats.corpus.documents: 1}, {seed: 2}]"; echo "out: sweep"; } >"$sweep"
expect 3 sweep "$sweep"; says "1 of 2 points done, 1 failed"; says "tokens"
expect 0 sweep status "$out"; says "failed: --array=1 with"
expect 3 sweep "$sweep"
[ "$(grep -c ' starts:' "$work/err")" = 0 ] || fail "a failed point was tried again"
expect 3 sweep "$sweep" --retry
[ "$(grep -c ' starts:' "$work/err")" = 1 ] || fail "--retry"

# --- a Slurm array of what is left: printed, and given to sbatch (one of our own here, which runs the tasks)
expect 0 sweep "$sweep" --slurm --dry-run --retry --sbatch --time=1:00:00 --set "data.ids=null"
says '#SBATCH --array=1'; says '#SBATCH --time=1:00:00'; says "--retry --set 'data.ids=null'"
bash -n "$work/out" || fail "the array's script is no script"
rm -rf "$out"
{ echo "base: job.yaml"; echo "grid: {seed: [1, 2, 3]}"; echo "out: sweep"; } >"$sweep.2"
expect 0 sweep "$sweep.2" --slurm --dry-run; says '#SBATCH --array=1-3'
[ ! -e "$out" ] || fail "a dry run left a folder"
expect 0 sweep "$sweep.2" --dry-run; says "{seed: '3'}"
expect 0 sweep "$sweep.2" --points 2
mkdir -p "$work/bin"
cat >"$work/bin/sbatch" <<'END'
#!/bin/bash
for i in $(grep -oE '^#SBATCH --array=.*' "$1" | cut -d= -f2 | tr ',' ' '); do SLURM_ARRAY_TASK_ID=$i bash "$1" || exit 1; done
END
printf '#!/bin/bash\nshift\nexec "$@"\n' >"$work/bin/srun"
chmod +x "$work/bin/sbatch" "$work/bin/srun"
PATH=$work/bin:$PATH expect 0 sweep "$sweep.2" --slurm
grep -q '^#SBATCH --array=1,3$' "$out/sweep.sbatch" || fail "the array is not of what is left"
[ "$(grep -c ',done,' "$out/points.csv")" = 3 ] || fail "the array's tasks are not all done"
expect 2 sweep "$sweep.2" --slurm; says "no point is left"
rm -rf "$out"

# --- refusals, before anything runs
rm -rf "$out"
{ echo "base: job.yaml"; echo "grid: {editor.L2: [1, 2], editor.nullspace_treshold: [1]}"; echo "out: sweep"; } >"$sweep"
expect 2 sweep "$sweep"; says "sweep.yaml:2:27: unknown key 'editor.nullspace_treshold', did you mean 'editor.nullspace_threshold'?"
[ ! -e "$out" ] || fail "a refused sweep left a folder"
expect 2 sweep "$sweep" --task 3/2; says "expected I/N"

# --- two processes at once: each point once
{ echo "base: job.yaml"; echo "grid: {editor.L2: [1, 2, 3, 4, 5, 6]}"; echo "out: sweep"; } >"$sweep"
"$ERRATA" sweep "$sweep" >"$work/out1" 2>"$work/err1" &
other=$!
expect 0 sweep "$sweep"
wait $other || fail "the second process"
started=$(cat "$work/err" "$work/err1" | grep -c ' starts:')
[ "$started" = 6 ] || fail "two processes ran $started points, not 6"
[ "$(grep -c ',done,' "$out/points.csv")" -ge 5 ] || fail "two processes: points are missing"
mv "$out" "$work/undisturbed"

# --- kill -9 at a random moment and at fault points, the same command again
same_sweep() {
    same_point_runs "$work/undisturbed" "$1"
    no_temporaries "$out" || fail "$1: temporary files are left: $(find "$out" -name '*.tmp')"
}
resume() {
    local tries=0
    while :; do
        run sweep "$sweep" && [ "$(grep -c ",done," "$out/points.csv")" = 6 ] && return 0
        [ $((tries += 1)) -lt 40 ] || { cat "$work/out" "$work/err"; fail "$1: cannot be continued"; }
        sleep 0.3
    done
}
rm -rf "$out"
setsid mpirun -n 3 "$ERRATA" sweep "$sweep" --parallel 2 >"$work/out" 2>&1 </dev/null &
pid=$!
for ((t = 0; t < 400; t++)); do grep -qs '"done"' "$out"/points/*/point.json && break; sleep 0.02; done
kill -9 -- "-$pid" 2>/dev/null
wait $pid 2>/dev/null
resume "killed between points"
same_sweep "killed between points"
rm -rf "$out"
ERRATA_FAULT_LOG=$work/points run sweep "$sweep"
if [ -s "$work/points" ]; then
    points=$(wc -l <"$work/points")
    for at in $((points / 5)) $((points / 3)) $((points / 2 + 3)) $((points - 4)); do
        rm -rf "$out"
        ERRATA_FAULT=$at run sweep "$sweep"
        [ $? = 137 ] || fail "fault point $at did not kill"
        resume "killed at fault point $at"
        same_sweep "killed at fault point $at"
    done
fi
echo "ok: $checks checks"
