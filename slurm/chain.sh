#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Statistics, then runs, then one report that compares them, as jobs that depend on each other:
#
#     slurm/chain.sh [--dry-run] JOB.yaml... [-- OPTION OF SBATCH...]
#     slurm/chain.sh memit.yaml alphaedit.yaml -- -N 2 --ntasks-per-node=8
#
# The statistics of the jobs follow each other, since jobs mostly share them: what one has stored the next finds. Runs start
# together when all are there; the report comes when every run has ended, however it ended. When statistics fail, what
# depends on them is cancelled. The options go to the jobs of statistics and runs; the report takes one rank. Variables:
# slurm/job.sbatch. --dry-run only shows the commands.
set -uo pipefail
usage='usage: slurm/chain.sh [--dry-run] JOB.yaml... [-- OPTION OF SBATCH...]'
dry="" jobs=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case $1 in
    --dry-run) dry=1 ;;
    -h | --help) echo "$usage"; exit 0 ;;
    *) [ -f "$1" ] || { echo "$1: no such file; $usage" >&2; exit 2; }
        jobs+=("$1") ;;
    esac
    shift
done
[ $# = 0 ] || shift
[ ${#jobs[@]} -gt 0 ] || { echo "$usage" >&2; exit 2; }
script=$(dirname "${BASH_SOURCE[0]}")/job.sbatch

# submit WHAT ARGUMENT...: says the command, leaves its job in $id
count=0
submit() {
    local what=$1
    shift
    set -- sbatch --parsable --kill-on-invalid-dep=yes "$@"
    if [ -n "$dry" ]; then
        count=$((count + 1))
        id="JOB$count"
    else
        id=$("$@") || exit 1
        id=${id%%;*}
    fi
    echo "$id: $what: $*"
}

before=""
for job in "${jobs[@]}"; do
    submit statistics ${before:+--dependency=afterok:$before} "$@" "$script" stats "$job"
    before=$id
done
runs=""
for job in "${jobs[@]}"; do
    submit run --dependency=afterok:"$before" "$@" "$script" run "$job"
    runs=$runs:$id
done
submit report --dependency=afterany"$runs" -N 1 -n 1 "$script" report "${jobs[@]}"
