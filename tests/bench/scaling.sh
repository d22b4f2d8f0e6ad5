#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scaling.sh [--quick] [--keep] [--rounds N]: strong and weak scaling of the targets phase over ranks x threads, beside what
# two (or as many as there are cores) processes of sgemm reach in the same minutes; README.md says what the columns mean.
# Every round runs all layouts in turns; the best of each is printed. --keep writes the table to results/MACHINE/.
set -eu
cd "$(dirname "$(readlink -f "$0")")/../.."
. tools/setup.sh
. tests/bench/lib.sh
keep=no rounds=5 steps=6 each=8 cores=$(nproc)
while [ $# -gt 0 ]; do
    case $1 in
    --quick) rounds=1 steps=2 ;;
    --keep) keep=yes ;;
    --rounds) rounds=${2:?--rounds wants a number} && shift ;;
    *) die "scaling.sh [--quick] [--keep] [--rounds N]" ;;
    esac
    shift
done
bench_model
bench_build errata bench_rates
make_corpus || die "the statistics need a corpus"
quiet_mpi
# threads wait as those of errata do (runner/main.c)
export OMP_WAIT_POLICY=passive GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-2000}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The batch of strong scaling gives a unit of `each` to every rank of the layout that has most: units are equal in all.
most=$((cores > 4 ? cores : 4))
strong=$((each * most))
layouts="1x1 1x2 2x1 4x1"
for ((n = 4; n <= cores; n *= 2)); do layouts="$layouts 1x$n"; [ "$n" = 4 ] || layouts="$layouts ${n}x1"; done
weak="1"
for ((n = 2; n < cores; n *= 2)); do weak="$weak $n"; done
for n in $weak $cores; do
    equal_facts "$work/$((n * each)).json" $((n * each))
    bench_job "$work/$((n * each)).yaml" "$work/$((n * each)).json" alphaedit 8 "$steps" $((n * each))
done
[ -e "$work/$strong.yaml" ] || {
    equal_facts "$work/$strong.json" "$strong"
    bench_job "$work/$strong.yaml" "$work/$strong.json" alphaedit 8 "$steps" "$strong"
}
OMP_NUM_THREADS=$cores "$build/errata" stats "$work/$strong.yaml" --force >/dev/null 2>"$work/log" || { cat "$work/log" >&2; exit 1; }

# layout EDITS: seconds of the targets phase and CPU seconds of the whole job, into best and cpu where they are the best
declare -A best cpu
layout() {
    local ranks=${1%x*} threads=${1#*x} seconds spent name=$1-$2
    rm -rf "$work/runs"
    TIMEFORMAT='%U %S'
    { time OMP_NUM_THREADS=$threads mpirun -n "$ranks" "$build/errata" run "$work/$2.yaml" >/dev/null 2>"$work/log"; } 2>"$work/time" ||
        { cat "$work/log" >&2; exit 1; }
    seconds=$(phase_seconds "$work"/runs/* targets)
    spent=$(tail -n 1 "$work/time" | awk '{ print $1 + $2 }')
    if [ -z "${best[$name]:-}" ] || awk "BEGIN { exit !($seconds < ${best[$name]}) }"; then
        best[$name]=$seconds
        cpu[$name]=$spent
    fi
}

one=0 all=0
machine_line
echo "targets of AlphaEdit, layer 8, $steps steps, no early stopping; best of $rounds"
for ((round = 0; round < rounds; round++)); do
    for l in $layouts; do layout "$l" "$strong"; done
    for n in $weak $cores; do [ $((n * each)) = "$strong" ] || layout "${n}x1" $((n * each)); done
    read -r now_one now_all <<<"$("$build/tests/bench_rates" sgemm "$cores" 1)"
    one=$(awk "BEGIN { print ($now_one > $one) ? $now_one : $one }")
    all=$(awk "BEGIN { print ($now_all > $all) ? $now_all : $all }")
done

ratio=$(awk "BEGIN { printf \"%.3f\", $all / $one }")
csv=/dev/null
[ $keep = no ] || csv=$(results_file scaling-)
{
    echo "# $(machine_line), $steps steps, best of $rounds"
    echo "# sgemm GF/s: one $one, $cores at once $all, ratio $ratio"
    echo "kind,ranks,threads,edits,seconds,job_cpu_seconds,speedup,efficiency,efficiency_of_sgemm"
} >"$csv"
echo "sgemm: one process $one GF/s, $cores at once $all: $ratio x"
printf '%-7s %5s %7s %6s %9s %9s %8s %11s %9s\n' scaling ranks threads edits seconds "job CPU s" speedup efficiency "of sgemm"

# row KIND LAYOUT EDITS BASE: BASE: the run of one core, and how many times its work this one does
row() {
    local ranks=${2%x*} threads=${2#*x} used work_ratio
    used=$((ranks * threads < cores ? ranks * threads : cores))
    work_ratio=$(awk "BEGIN { print $3 / ${4#*-} }")
    awk -v kind="$1" -v r="$ranks" -v t="$threads" -v n="$3" -v s="${best[$2-$3]}" -v c="${cpu[$2-$3]}" -v b="${best[$4]}" \
        -v w="$work_ratio" -v used="$used" -v cores="$cores" -v ratio="$ratio" -v csv="$csv" 'BEGIN {
        speedup = w * b / s
        yard = used == 1 ? 1 : 1 + (ratio - 1) * (used - 1) / (cores > 1 ? cores - 1 : 1)
        printf "%-7s %5d %7d %6d %9.3f %9.2f %8.3f %9.1f %% %7.1f %%\n", kind, r, t, n, s, c, speedup, 100 * speedup / used, 100 * speedup / yard
        printf "%s,%d,%d,%d,%.3f,%.2f,%.4f,%.4f,%.4f\n", kind, r, t, n, s, c, speedup, speedup / used, speedup / yard >>csv
    }'
}
for l in $layouts; do row strong "$l" "$strong" "1x1-$strong"; done
for n in $weak; do row weak "${n}x1" $((n * each)) "1x1-$each"; done
[ "$cores" -lt 2 ] || row weak "${cores}x1" $((cores * each)) "1x1-$each"
awk -v two="${best[2x1-$strong]}" -v four="${best[4x1-$strong]}" -v cores="$cores" 'BEGIN {
    if (cores < 4) printf "4 ranks on %d cores: %.3f x the time of 2 ranks (%+.1f %%)\n", cores, four / two, 100 * (four / two - 1) }'
[ $keep = no ] || echo "kept in $csv"
