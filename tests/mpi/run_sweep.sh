#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sweeps: every point has the bytes of the same job run alone, for 1, 2 and 3 ranks; what is done stays done, a failed
# point stops nothing, two processes share the points, and a killed sweep is continued by the same command.
. "$(dirname "$0")/common.sh"
job=$work/job.yaml
sweep=$work/sweep.yaml
out=$work/sweep
checks=0
run() { "$ERRATA" "$@" >"$work/out" 2>"$work/err"; }
expect() {
    local want=$1 got
    shift
    run "$@"
    got=$?
    [ $got = "$want" ] || { cat "$work/out" "$work/err"; fail "errata $*: exit code $got, expected $want"; }
    checks=$((checks + 1))
}
says() { grep -qF -- "$1" "$work/out" "$work/err" || { cat "$work/out" "$work/err"; fail "not said: $1"; }; checks=$((checks + 1)); }
point() { grep -l -- "\"$1\": \"$2\"" "$out"/points/*/point.json; } # files of the points with that value
work_of() { grep -oE "\"$2\": [0-9]+" "$1" | grep -oE '[0-9]+$'; }  # a counter of a point
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

# --- given again: nothing runs; a point more keeps the others
find "$out/points" -name point.json -exec stat -c '%n %Y %i' {} + | sort >"$work/before"
expect 0 sweep "$sweep"; says "4 of 4 points done"
sed -i 's/\[0.01, 0.02\]/[0.01, 0.02, 0.05]/' "$sweep"
expect 0 sweep "$sweep" --points 6; says "5 of 6 points done"
find "$out/points" -name point.json -exec stat -c '%n %Y %i' {} + | sort >"$work/after"
[ "$(comm -23 "$work/before" "$work/after" | wc -l)" = 0 ] || fail "done points were touched"
expect 0 sweep "$sweep" --task 5/6; says "6 of 6 points done"

# --- a failed point: 3 at the end, the others are done; only --retry takes it again
rm -rf "$out"
{ echo "base: job.yaml"; echo "list: [{stats.corpus.documents: 1}, {seed: 2}]"; echo "out: sweep"; } >"$sweep"
expect 3 sweep "$sweep"; says "1 of 2 points done, 1 failed"; says "tokens"
expect 3 sweep "$sweep"
[ "$(grep -c ' starts:' "$work/err")" = 0 ] || fail "a failed point was tried again"
expect 3 sweep "$sweep" --retry
[ "$(grep -c ' starts:' "$work/err")" = 1 ] || fail "--retry"

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
    local p
    for p in "$work"/undisturbed/points/*/; do
        same_runs "$p/run" "$out/points/$(basename "$p")/run" || fail "$1: point $(basename "$p") differs"
    done
    no_temporaries "$out" || fail "$1: temporary files are left: $(find "$out" -name '*.tmp')"
    checks=$((checks + 1))
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
setsid mpirun -n 2 "$ERRATA" sweep "$sweep" >"$work/out" 2>&1 </dev/null &
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
