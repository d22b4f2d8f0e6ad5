#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Statistics in several jobs: shards of the corpus measured by processes of their own with different numbers of ranks,
# merged in any order, must give the store of one job, byte by byte; missing, doubled and foreign shards are refused; kills
# on the way lose nothing.
. "$(dirname "$0")/common.sh"
job=$work/job.yaml
tiny_job "$job" 4 2
# expect CODE RANKS ARGUMENT...: the exit code (RANKS 0: without mpirun)
expect() {
    local want=$1 n=$2 got
    shift 2
    if [ "$n" = 0 ]; then "$ERRATA" stats "$@" >"$work/out" 2>"$work/err"; else mpi "$n" "$ERRATA" stats "$@" >"$work/out" 2>"$work/err"; fi
    got=$?
    [ $got = "$want" ] || { cat "$work/out" "$work/err"; fail "stats $* on $n ranks: exit code $got, expected $want"; }
    checks=$((checks + 1))
}
# same_store FOLDER: the objects of the whole pass and nothing else
same_store() {
    local f
    diff <(cd "$work/wanted" && ls ./*.h5) <(cd "$1" && ls ./*.h5) || fail "$1: other objects"
    for f in "$work"/wanted/*.h5; do cmp "$f" "$1/${f##*/}" || fail "$1: ${f##*/} differs"; done
    no_temporaries "$1" || fail "$1: temporary files are left"
    checks=$((checks + 1))
}

expect 0 0 "$job" --store "$work/wanted"

# --- three jobs, three numbers of ranks, three folders; every order of merging
for i in 1 2 3; do expect 0 $((i % 3)) "$job" --shard $i/3 --store "$work/part$i"; says "shard $i/3"; done
[ "$(find "$work" -name 'moment-*' -path '*part*' | wc -l)" = 0 ] || fail "a shard stored a moment"
turn=0
for order in "1 2 3" "2 3 1" "3 1 2" "3 2 1"; do
    paths=()
    for i in $order; do paths+=("$work/part$i"); done
    expect 0 $((turn++ % 4)) "$job" --merge "${paths[@]}" --store "$work/merged"
    same_store "$work/merged"
    rm -rf "$work/merged"
done
expect 0 0 "$job" --merge "$work"/part?/*.h5 --store "$work/merged" # files instead of folders
same_store "$work/merged"
expect 0 0 "$job" --merge --store "$work/merged"; says "nothing is merged"
expect 0 0 "$job" --shard 2/3 --store "$work/merged"; says "is not needed"
same_store "$work/merged"
rm -rf "$work/merged"

# --- in one store; a shard measured twice is measured once; the shards go when the moments are there
expect 0 2 "$job" --shard 2/2 --store "$work/one"
expect 0 0 "$job" --shard 1/2 --store "$work/one"
before=$(stat -c %Y%i "$work"/one/*shard-1of2.h5)
expect 0 0 "$job" --shard 1/2 --store "$work/one"
[ "$before" = "$(stat -c %Y%i "$work"/one/*shard-1of2.h5)" ] || fail "a shard that was there was measured again"
cp -r "$work/one" "$work/run"
expect 0 3 "$job" --merge --store "$work/one"
same_store "$work/one"
expect 0 0 "$job" --store "$work/run" # without --merge: continued behind the shards
same_store "$work/run"
rm -rf "$work/one" "$work/run"

# --- what does not fit
expect 2 0 "$job" --merge "$work/part1" "$work/part3" --store "$work/merged"; says "(shard 2/3)"; says "1, 4"
mkdir "$work/again"
cp "$work"/part1/*.h5 "$work/again"
expect 2 2 "$job" --merge "$work"/part? "$work/again" --store "$work/merged"; says "stand twice"; says "again/partial-"
expect 0 0 "$job" --shard 2/3 --store "$work/other" --set stats.corpus.documents=30
expect 5 2 "$job" --merge "$work/part1" "$work/other" "$work/part3" --store "$work/merged"; says "another corpus"
expect 5 0 "$job" --layers 1 --merge "$work"/part? --store "$work/merged"; says "its layers are 1 2, not 1"
rm -rf "$work/other"
cp -r "$fixtures/tiny-llama" "$work/model"
size=$(stat -c %s "$work/model/model.safetensors")
printf 'X' | dd of="$work/model/model.safetensors" bs=1 seek=$((size - 5)) conv=notrunc 2>/dev/null
expect 0 0 "$job" --shard 2/3 --store "$work/other" --set "model.path=$work/model"
expect 5 0 "$job" --merge "$work/part1" "$work/other" "$work/part3" --store "$work/merged"; says "weights differ"
[ -z "$(find "$work/merged" -name '*.h5')" ] || fail "a refused merge left something"
# in the job's own store they may lie beside
mkdir -p "$work/merged"
cp "$work"/other/*.h5 "$work/merged"
expect 0 0 "$job" --merge "$work"/part? --store "$work/merged"; says "left out"; says "weights differ"
rm -rf "$work/merged"
expect 2 0 "$job" --shard 4/3; says "--shard 4/3"
expect 2 0 "$job" --shard 1/3x; says "I/N"
expect 2 0 "$job" --shard 1/2 --merge; says "neither"
expect 2 0 "$job" "$work/part1"; says "more than one JOB"
expect 1 0 "$job" --merge "$work/absent" --store "$work/merged"; says "absent"
rm -rf "$work/merged"

# --- kills, where this build has fault points: of a shard, and of the merge
kills=0
ERRATA_FAULT_LOG=$work/points expect 0 0 "$job" --merge "$work"/part? --store "$work/merged"
if [ -s "$work/points" ]; then
    points=$(wc -l <"$work/points")
    for ((n = 1; n <= points; n++)); do
        rm -rf "$work/merged"
        mkdir "$work/merged"
        cp "$work"/part2/*.h5 "$work/merged"
        ERRATA_FAULT=$n expect 137 0 "$job" --merge "$work/part1" "$work/part3" --store "$work/merged"
        expect 0 $((n % 3)) "$job" --merge "$work/part1" "$work/part3" --store "$work/merged"
        same_store "$work/merged"
        kills=$((kills + 1))
    done
    rm -rf "$work/points" "$work/cut"
    ERRATA_FAULT_LOG=$work/points expect 0 0 "$job" --shard 1/3 --store "$work/cut"
    points=$(wc -l <"$work/points")
    for ((n = 1; n <= points; n += 2)); do
        rm -rf "$work/cut"
        ERRATA_FAULT=$n expect 137 0 "$job" --shard 1/3 --store "$work/cut"
        expect 0 $((n % 3)) "$job" --shard 1/3 --store "$work/cut"
        cmp "$work"/cut/*.h5 "$work"/part1/*.h5 || fail "a shard continued after point $n differs"
        no_temporaries "$work/cut" || fail "temporary files after point $n of a shard"
        kills=$((kills + 1))
    done
else
    echo "NOTE no fault points in this build: kills are not tried"
fi
echo "RESULT run_stats: $checks checks, $kills kills"
