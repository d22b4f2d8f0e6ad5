#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every method beside alphaedit (run_bits, run_kill): a small run with other ranks, threads and units has the same bytes, and
# so has one that was killed at points spread over it and continued. The second table holds those whose ranks, threads and
# units run_bits varies: they are killed alone. Kills need a build with ER_FAULTS.
#   ERRATA_METHODS="rome emmet"   only these
#   ERRATA_METHOD_KILLS=k         so many kills per method (default 3)
. "$(dirname "$0")/common.sh"

# METHOD BATCH KEYS...: keys of the editor beside its method
table='
rome      1 layers: [1]
r-rome    1 layers: [1]
memit     2 layers: [1, 2], mom2_update_weight: 20
memit-seq 2 layers: [1, 2], mom2_update_weight: 20
pmet      2 layers: [1, 2], mom2_update_weight: 20, clamp_norm_factor: 2
emmet     2 layers: [1], mom2_update_weight: 500
'
trained='layers: [1], num_steps: 4, batch_size: 2, lr: 5.0e-3'
killed_alone="
encore  2 layers: [1, 2], mom2_update_weight: 10
rect    2 layers: [1, 2]
prune   2 layers: [1, 2], mom2_update_weight: 10
sphere  2 layers: [1, 2]
evoedit 2 layers: [1, 2]
nse     2 layers: [1, 2], mom2_update_weight: 10, alpha: 0.5, upper_bound: 100
ft      2 $trained
ft-m    2 $trained
lora    2 ${trained/1]/]}, target_modules: [q_proj, v_proj], rank: 3
"
runs=0 kills=0
job=$work/job.yaml log=$work/points

# go RANKS THREADS UNIT
go() { OMP_NUM_THREADS=$2 mpi "$1" "$ERRATA" run "$job" --set run.unit="$3" >"$work/out" 2>&1; }

same_bytes() { # METHOD HOW
    same_runs "$work/wanted" "$work/now" || fail "$1, $2: files differ"
    no_temporaries "$work/now" || fail "$1, $2: temporary files are left"
    rm -rf "$work/now"
    runs=$((runs + 1))
}

# killed METHOD POINTS: kill -9 at points spread over the run, which then continues with other ranks
killed() {
    local method=$1 points=$2 k n code
    for ((k = 1; k <= ${ERRATA_METHOD_KILLS:-3}; k++)); do
        n=$((points * (2 * k - 1) / (2 * ${ERRATA_METHOD_KILLS:-3}) + 1))
        ERRATA_FAULT=$n ERRATA_FAULT_LOG=$log "$ERRATA" run "$job" >"$work/out" 2>&1
        code=$?
        [ $code = 137 ] || { cat "$work/out"; fail "$method, point $n: the run was not killed (code $code)"; }
        go $((k % 2 + 1)) 1 1 || { cat "$work/out"; fail "$method, point $n: cannot be continued"; }
        same_bytes "$method" "killed at point $n of $points ($(tail -n 1 "$log"))"
        kills=$((kills + 1))
        rm -f "$log"
    done
}

# method NAME BATCH KEYS HOW...: HOW is ranks, threads and unit of one more run
method() {
    local method=$1 batch=$2 keys=$3 points how code
    shift 3
    [[ " ${ERRATA_METHODS:-$method} " == *" $method "* ]] || return 0
    tiny_editor="method: $method, $keys"
    tiny_job "$job" 4 "$batch"
    rm -rf "$work/now" "$work/wanted" "$log"
    ERRATA_FAULT_LOG=$log "$ERRATA" run "$job" >"$work/out" 2>&1 || { cat "$work/out"; fail "$method: one rank"; }
    mv "$work/now" "$work/wanted"
    for how; do
        # shellcheck disable=SC2086
        go $how || { code=$?; cat "$work/out"; fail "$method: ranks, threads, unit $how: code $code"; }
        same_bytes "$method" "ranks, threads, unit $how"
    done
    if [ -s "$log" ]; then
        points=$(wc -l <"$log")
        rm -f "$log"
        killed "$method" "$points"
    fi
    echo "NOTE $method: $(compared "$work/wanted" | wc -l) files are the same"
}

while read -r name batch keys; do
    [ -z "$name" ] || method "$name" "$batch" "v_num_grad_steps: 6, v_lr: 0.5, $keys" "2 2 1" "3 1 3"
done <<<"$table"
ERRATA_METHOD_KILLS=${ERRATA_METHOD_KILLS:-2}
while read -r name batch keys; do
    [ -n "$name" ] || continue
    [[ $keys == *num_steps* ]] || keys="v_num_grad_steps: 6, v_lr: 0.5, $keys"
    method "$name" "$batch" "$keys"
done <<<"$killed_alone"
echo "RESULT run_methods: $runs runs compared, $kills of them killed and continued"
