#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Signals in every phase: to one rank at each kind of point, through mpirun at random moments, twice. Every stopped run
# says 75, loses at most the units in flight, and ends with the bytes of an undisturbed one when it is given again with
# another number of ranks. Ranks that stop or hang end the job with a line that names them. Two jobs on one folder.
#   ERRATA_KILL_SEED=n   other points and moments (default 7)
. "$(dirname "$0")/common.sh"
RANDOM=${ERRATA_KILL_SEED:-7}
job=$work/job.yaml
tiny_job "$job" 4 2 "run: {unit: 1}"
log=$work/points
stops=0

# start RANKS ARGUMENT...: the job with that many ranks (0: without mpirun), its output in $work/out
start() {
    local n=$1
    shift
    if [ "$n" = 0 ]; then "$ERRATA" run "$job" "$@" >"$work/out" 2>&1; else mpi "$n" "$ERRATA" run "$job" "$@" >"$work/out" 2>&1; fi
}
says() { grep -qE -- "$1" "$work/out" || { cat "$work/out"; fail "not said: $1"; }; }

# finished WHAT RANKS: given again until it ends, it has the wanted bytes
finished() {
    local tries=0
    until start "$2"; do
        grep -q 'held by' "$work/out" && [ $((tries += 1)) -lt 40 ] || { cat "$work/out"; fail "$1: cannot be continued with $2 ranks"; }
        sleep 0.2
    done
    same_runs "$work/wanted" "$work/now" || fail "$1: the continued run differs"
    no_temporaries "$work/now" || fail "$1: temporary files are left: $(find "$work/now" -name '*.tmp')"
    stops=$((stops + 1))
}

ERRATA_FAULT_LOG=$log start 0 || { cat "$work/out"; fail "the undisturbed run"; }
[ -s "$log" ] || { echo "SKIP: this build has no fault points (ER_FAULTS)"; exit 77; }
mv "$work/now" "$work/wanted"
cp "$log" "$work/alone"

# 1. one rank of three, amid the points of each kind and at some others: 75, or 0 when nothing was left to stop
for rank in 0 1; do
    rm -rf "$work/now" "$log"
    ERRATA_FAULT_RANK=$rank ERRATA_FAULT_LOG=$log start 3 || { cat "$work/out"; fail "three ranks"; }
    total=$(wc -l <"$log")
    points=$( (awk '{ n = $1; sub(/^[0-9]+ /, ""); at[$0, ++many[$0]] = n } END { for (k in many) print at[k, int((many[k] + 1) / 2)] }' "$log"
        for ((i = 0; i < 4; i++)); do echo $((1 + RANDOM % total)); done) | sort -n -u)
    i=0
    for at in $points; do
        how=$([ $((i % 2)) = 0 ] && echo USR1 || echo TERM)
        rm -rf "$work/now"
        ERRATA_FAULT_RANK=$rank ERRATA_FAULT=$at ERRATA_FAULT_HOW=$how start 3
        code=$?
        what="$how to rank $rank at its point $at of $total"
        case $code in
        75) says "stopped by signal" ;;
        0) ;;
        *) cat "$work/out"; fail "$what: exit code $code" ;;
        esac
        echo "$code" >>"$work/codes"
        finished "$what" $((i % 4))
        i=$((i + 1))
    done
done

# 2. a run alone loses nothing at all: the unit at work is finished
for ((i = 0; i < 6; i++)); do
    rm -rf "$work/now" "$log"
    at=$((1 + RANDOM % $(wc -l <"$work/alone")))
    ERRATA_FAULT_LOG=$log ERRATA_FAULT=$at ERRATA_FAULT_HOW=INT start 0
    code=$?
    [ $code = 75 ] || [ $code = 0 ] || { cat "$work/out"; fail "INT at point $at: exit code $code"; }
    ERRATA_FAULT_LOG=$log finished "INT at point $at" 0
    repeated=$(($(grep -c 'unit arrived' "$log") - $(grep -c 'unit arrived' "$work/alone")))
    [ $repeated = 0 ] || fail "INT at point $at: $repeated units were done twice"
done

# 3. through mpirun, at random moments after the ranks have begun (before, a signal is the system's): USR1 is passed on and gives 75; TERM leaves two seconds
for ((i = 0; i < 6; i++)); do
    rm -rf "$work/now"
    how=$([ $((i % 3)) = 2 ] && echo TERM || echo USR1)
    mpirun -n 2 "$ERRATA" run "$job" >"$work/out" 2>&1 </dev/null &
    pid=$!
    for ((t = 0; t < 400; t++)); do grep -q 'info  run ' "$work/out" && break; sleep 0.05; done
    sleep "0.$((10 + RANDOM % 40))"
    kill -"$how" $pid 2>/dev/null
    wait $pid
    code=$?
    if [ "$how" = USR1 ]; then
        [ $code = 75 ] || [ $code = 0 ] || { cat "$work/out"; fail "USR1 to mpirun: exit code $code"; }
    fi
    finished "$how to mpirun" $(((i + 1) % 4))
done

# 4. a second signal, and a first one whose time is over, leave at once. The rank hangs: nothing else would end it
for how in second grace; do
    for n in 0 2; do
        rm -rf "$work/now" "$log"
        at=$(awk '/unit arrived/ { n++ } n == 3 { print $1; exit }' "$work/alone")
        export ERRATA_FAULT_RANK=0 ERRATA_FAULT=$at ERRATA_FAULT_HOW=hang ERRATA_FAULT_LOG=$log
        if [ $n = 0 ]; then set -- "$ERRATA"; else set -- mpirun -n $n "$ERRATA"; fi
        grace=$([ $how = grace ] && echo 1 || echo 0)
        "$@" run "$job" --set "run.grace=$grace" >"$work/out" 2>&1 </dev/null &
        pid=$!
        unset ERRATA_FAULT_RANK ERRATA_FAULT ERRATA_FAULT_HOW ERRATA_FAULT_LOG
        for ((t = 0; t < 100; t++)); do [ "$(tail -n 1 "$log" 2>/dev/null | cut -d' ' -f1)" = "$at" ] && break; sleep 0.1; done
        kill -USR1 $pid
        sleep 1.2
        [ $how = grace ] || kill -USR1 $pid
        wait $pid
        code=$?
        [ $code = 75 ] || { cat "$work/out"; fail "$how, $n ranks: exit code $code"; }
        if [ $how = grace ]; then says "run.grace"; else says "a second signal"; fi
        finished "$how, $n ranks" $((2 - n))
    done
done

# 5. ranks that are stopped or hang
for rank in 0 1; do
    for how in STOP hang; do
        rm -rf "$work/now" "$log"
        ERRATA_FAULT_RANK=$rank ERRATA_FAULT_LOG=$log start 3 || fail "three ranks"
        at=$(awk '/unit (arrived|worked)/ { n++ } n == 2 { print $1; exit }' "$log")
        rm -rf "$work/now"
        began=$SECONDS
        ERRATA_FAULT_RANK=$rank ERRATA_FAULT=$at ERRATA_FAULT_HOW=$how start 3 --set run.timeout=1
        code=$?
        [ $code = 1 ] || { cat "$work/out"; fail "rank $rank, $how: exit code $code"; }
        says "rank $rank on $(hostname), pid|rank $rank on $(hostname): nothing heard"
        says "run.timeout.*at (unit|the )|run.timeout.*statistics"
        [ $((SECONDS - began)) -lt 20 ] || fail "rank $rank, $how: ended after $((SECONDS - began)) s only"
        finished "rank $rank, $how" 2
    done
done

# 6. a whole job that is suspended and goes on is not a hanging one
rm -rf "$work/now"
"$ERRATA" run "$job" --set run.timeout=1 >"$work/out" 2>&1 &
pid=$!
sleep 0.2; kill -STOP $pid; sleep 3; kill -CONT $pid
wait $pid || { cat "$work/out"; fail "a suspended run was ended"; }
finished "suspended" 0

# 7. a second job on the same folder is refused, and told by whom
rm -rf "$work/now" "$log"
at=$(awk '/unit arrived/ { print $1; exit }' "$work/alone")
ERRATA_FAULT=$at ERRATA_FAULT_HOW=STOP ERRATA_FAULT_LOG=$log SLURM_JOB_ID=4711 "$ERRATA" run "$job" >"$work/first" 2>&1 &
pid=$!
for ((t = 0; t < 100; t++)); do [ "$(tail -n 1 "$log" 2>/dev/null | cut -d' ' -f1)" = "$at" ] && break; sleep 0.1; done
start 2 && fail "two jobs at work in one folder"
says "held by host $(hostname), pid $pid, job 4711, since 20[0-9-]+ [0-9:]+ [+-]"
kill -CONT $pid
wait $pid || { cat "$work/first"; fail "the job that held the folder"; }
finished "two jobs" 0

echo "NOTE of $(wc -l <"$work/codes") signals at points, $(grep -c 75 "$work/codes") stopped the run, the others came when all was done"
echo "RESULT run_signals: $stops runs stopped by signals or ended as hanging; every continued run has the same bytes"
