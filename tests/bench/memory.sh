#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# memory.sh [--quick] [--keep]: peak memory of one rank editing SmolLM2 with alphaedit, memit (batches of 100) and rome, with
# fp32 and bf16 weights, against the plan and against weights + eigenpairs + run.memory + 100 MB. Two steps per target and no
# scores: what a step needs is there from the second on. --quick: batches of 8. --keep: as CSV into results/MACHINE/.
set -eu
cd "$(dirname "$(readlink -f "$0")")/../.."
. tools/setup.sh
. tests/bench/lib.sh
keep=no count=100 rome=20
for argument; do
    case $argument in
    --quick) count=8 rome=4 ;;
    --keep) keep=yes ;;
    *) die "memory.sh [--quick] [--keep]" ;;
    esac
done
bench_model
bench_build errata
make_corpus || die "the statistics need a corpus"
export OMP_WAIT_POLICY=passive OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(nproc)}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
facts "$work/facts.json" 5

# figure FILE KEY: a number of the plan's JSON
figure() { sed -n "s/^ *\"$2\": \([0-9.e+]*\),*\$/\1/p" "$1" | head -n 1; }

machine_line
csv=/dev/null
[ $keep = no ] || csv=$(results_file memory-)
echo "# $(machine_line), batches of $count" >"$csv"
echo "method,weights,edits,batch,peak_bytes,planned_bytes,bound_bytes,peak_of_planned,peak_of_bound" >>"$csv"
printf '%-10s %-7s %6s %6s %9s %11s %7s %9s %9s\n' method weights edits batch "peak MB" "planned MB" ratio "bound MB" "of bound"
# measure METHOD LAYERS EDITS BATCH WEIGHTS
measure() {
    local job=$work/$1.yaml peak planned weights eigen
    bench_job "$job" "$work/facts.json" "$1" "$2" 2 "$4"
    local sets=(--set "data.count=$3" --set "precision.weights=$5" --set "out=$work/$1-$5")
    # measuring moments is another phase with a peak of its own
    "$build/errata" stats "$job" --force --set "precision.weights=$5" >/dev/null 2>"$work/log" &&
        "$build/errata" run "$job" "${sets[@]}" >/dev/null 2>"$work/log" &&
        "$build/errata" plan "$job" "${sets[@]}" --speed 100 --output json >"$work/plan.json" 2>"$work/log" ||
        { cat "$work/log" >&2; exit 1; }
    peak=$(sed -n 's/.*"peak_bytes":\([0-9]*\).*/\1/p' "$work/$1-$5"/*/timings.jsonl)
    planned=$(figure "$work/plan.json" "rank0_$5_bytes")
    weights=$(figure "$work/plan.json" "weights_$5_bytes")
    eigen=$(awk -v one="$(figure "$work/plan.json" eigenpairs_bytes)" -v n="$(echo "$2" | tr ',' '\n' | wc -l)" 'BEGIN { print one * n }')
    awk -v m="$1" -v w="$5" -v n="$3" -v b="$4" -v peak="$peak" -v planned="$planned" -v weights="$weights" -v eigen="$eigen" -v csv="$csv" 'BEGIN {
        bound = weights + eigen + 256e6 + 100e6
        printf "%-10s %-7s %6d %6d %9.1f %11.1f %7.3f %9.1f %7.1f %%\n", m, w, n, b, peak / 1e6, planned / 1e6, peak / planned, bound / 1e6, 100 * peak / bound
        printf "%s,%s,%d,%d,%.0f,%.0f,%.0f,%.4f,%.4f\n", m, w, n, b, peak, planned, bound, peak / planned, peak / bound >>csv
    }'
}
for weights in fp32 bf16; do
    measure alphaedit "4, 5, 6, 7, 8" "$count" "$count" $weights
    measure memit "4, 5, 6, 7, 8" "$count" "$count" $weights
    measure rome 5 "$rome" 1 $weights
done
[ $keep = no ] || echo "kept in $csv"
