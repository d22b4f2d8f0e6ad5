#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# growth.sh [--quick] [--keep]: what an AlphaEdit edit costs behind 0 to 1,900 others (SmolLM2, batches of 100, the history
# filled in), and the solve at f = 14336 behind up to 10,000 (6 GiB). --quick: one edit's targets, and f = 1792.
set -eu
cd "$(dirname "$(readlink -f "$0")")/../.."
. tools/setup.sh
. tests/bench/lib.sh
keep=no args=()
for argument; do
    case $argument in
    --keep) keep=yes ;;
    --quick) args+=(--quick) ;;
    *) die "growth.sh [--quick] [--keep]" ;;
    esac
done
bench_model
bench_build bench_growth
export OMP_WAIT_POLICY=passive OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(nproc)}"
machine_line
if [ $keep = yes ]; then
    csv=$(results_file growth-)
    echo "# $(machine_line), $OMP_NUM_THREADS threads" >"$csv"
    args+=(--csv "$csv")
fi
"$build/tests/bench_growth" --model "$cache/$model_name" ${args+"${args[@]}"}
[ $keep = no ] || echo "kept in $csv"
