#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# figures.sh [BUILD]: what docs/performance.md states. sgemm's rate on this machine, then the quickstart's job from nothing on
# two ranks: seconds per edit, per scored record and moment, per 1,000 tokens of statistics, peak memory of a rank.
set -eu
cd "$(dirname "$(readlink -f "$0")")/../.."
build=${1:-build-check}
. tools/setup.sh
quiet_mpi
export OMP_NUM_THREADS=1
make_corpus
cmake --build "$build" --target errata bench_kernels >/dev/null
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "cpu: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg)"
"$build/tests/bench_kernels" 2>/dev/null | head -n 40
mpirun -n 2 "$build/errata" run jobs/quickstart.yaml --set stats.store="$work/store" --set out="$work/runs" >"$work/table" 2>"$work/log" &
pid=$!
peak=0
while kill -0 $pid 2>/dev/null; do
    for p in $(pgrep -f "errata run jobs/quickstart.yaml --set stats.store=$work" || true); do
        now=$(sed -n 's/^VmHWM: *\([0-9]*\).*/\1/p' "/proc/$p/status" 2>/dev/null || true)
        [ "${now:-0}" -le "$peak" ] || peak=$now
    done
    sleep 0.3
done
wait $pid
cat "$work/table"
awk -F'[:,"}]+' '
{ for (i = 1; i < NF; i++) { if ($i == "phase") phase = $(i + 1); if ($i == "seconds") sum[phase] += $(i + 1) } }
END {
    printf "targets %.2f s per edit, keys %.2f, solves %.3f (20 edits, two ranks)\n", sum["targets"] / 20, sum["keys"] / 20, sum["solve"] / 20
    printf "scores %.3f s per record and moment\n", (sum["before"] + sum["at_edit"] + sum["at_end"]) / 60
    printf "statistics with eigenpairs %.3f s per 1,000 tokens (79,003 tokens, layers 4 to 8)\n", sum["statistics"] / 79.003
    printf "all %.1f s\n", sum["all"]
}' "$work"/runs/*/timings.jsonl
echo "peak memory of a rank: $((peak / 1024)) MiB"
