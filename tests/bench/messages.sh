#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# messages.sh [RANKS]: messages and bytes of one batch of 40 AlphaEdit edits of the test model, counted through MPI's profiling
# interface (a job of two batches less one of one), beside what the plan says.
set -eu
cd "$(dirname "$(readlink -f "$0")")/../.."
. tools/setup.sh
. tests/bench/lib.sh
ranks=${1:-2} batch=40
bench_build errata
make_corpus || die "the statistics need a corpus"
quiet_mpi
export OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mpicc -shared -fPIC -O1 -o "$work/count.so" tests/bench/count_messages.c
facts "$work/facts.json" 4
job_model=$PWD/tests/fixtures/tiny-llama bench_job "$work/job.yaml" "$work/facts.json" alphaedit "0, 1" 5 $batch
"$build/errata" stats "$work/job.yaml" --force >/dev/null 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
# counted EDITS: sends and their bytes of all ranks, collectives and their bytes of rank 0
counted() {
    rm -rf "$work/runs"
    mpirun -n "$ranks" -x LD_PRELOAD="$work/count.so" "$build/errata" run "$work/job.yaml" --set data.count="$1" >/dev/null 2>"$work/log" ||
        { cat "$work/log" >&2; exit 1; }
    awk '/^MESSAGES/ { sends += $3; bytes += $4; if ($2 == 0) { c = $5; cb = $6 } } END { print sends, bytes, c, cb }' "$work/log"
}
read -r a b c d <<<"$(counted $batch)"
read -r e f g h <<<"$(counted $((2 * batch)))"
"$build/errata" plan "$work/job.yaml" --nodes "$ranks" --speed 100 --output json >"$work/plan.json" 2>/dev/null
figure() { sed -n "/\"messages\"/,\$ s/^ *\"$1\": \([0-9.e+]*\),*\$/\1/p" "$work/plan.json" | head -n 1; }
echo "a batch of $batch edits, two layers, $ranks ranks: counted, planned"
echo "numbers and results of units   $((e - a)) $(figure units)"
echo "their bytes                    $((f - b)) $(figure units_bytes)"
echo "collectives                    $((g - c)) $(figure collectives)"
echo "their bytes at a rank          $((h - d)) $(figure collectives_bytes)"
