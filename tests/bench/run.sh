#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [--quick | --long] [--model PATH] [--keep]: every phase of editing against what this machine sustains, as a table;
# README.md says how to read it. --keep writes the same as CSV to results/MACHINE/DATE-COMMIT.csv. BUILD=FOLDER: where
# errata is built (build-bench); OMP_NUM_THREADS: threads (all cores). Other arguments go to bench_phases.
set -eu
cd "$(dirname "$(readlink -f "$0")")/../.."
. tools/setup.sh
. tests/bench/lib.sh
keep=no model=$cache/$model_name args=()
while [ $# -gt 0 ]; do
    case $1 in
    --keep) keep=yes ;;
    --model) model=${2:?--model wants a path} && shift ;;
    *) args+=("$1") ;;
    esac
    shift
done
[ -e "$model" ] || { [ "$model" = "$cache/$model_name" ] && fetch_model; } || die "there is no $model"
bench_build bench_phases
# threads wait as those of errata do (runner/main.c)
export OMP_WAIT_POLICY=passive GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-2000}" OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(nproc)}"
version="$(sed -n 's/^#define ER_VERSION "\(.*\)"/\1/p' runner/version.h) ($(commit_name))"
if corpus_is=$(make_corpus 2>&1); then args+=(--corpus "$cache/wordnet.txt"); else printf '%s\n' "$corpus_is" >&2; fi
machine_line
if [ $keep = yes ]; then
    csv=$(results_file "")
    args+=(--csv "$csv")
fi
"$build/tests/bench_phases" --model "$model" --version "$version" "${args[@]}"
[ $keep = no ] || echo "kept in $csv"
