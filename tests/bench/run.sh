#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [--quick | --long] [--model PATH] [--keep]: every phase of editing against what this machine sustains, as a table;
# README.md says how to read it. --keep writes the same as CSV to results/MACHINE/DATE-COMMIT.csv. BUILD=FOLDER: where
# errata is built (build-bench); OMP_NUM_THREADS: threads (all cores). Other arguments go to bench_phases.
set -eu
cd "$(dirname "$(readlink -f "$0")")/../.."
. tools/setup.sh
build=${BUILD:-build-bench}
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
[ -d "$build" ] || cmake -S . -B "$build" -G Ninja >/dev/null
cmake --build "$build" --target bench_phases >/dev/null
# threads wait as those of errata do (runner/main.c)
export OMP_WAIT_POLICY=passive GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-2000}" OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(nproc)}"
version="$(sed -n 's/^#define ER_VERSION "\(.*\)"/\1/p' runner/version.h) ($(git rev-parse --short HEAD 2>/dev/null || echo unknown))"
if corpus_is=$(make_corpus 2>&1); then args+=(--corpus "$cache/wordnet.txt"); else printf '%s\n' "$corpus_is" >&2; fi
cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
echo "${cpu:-unknown CPU}, $(nproc) cores, $(date -u +%F)"
if [ $keep = yes ]; then
    folder=tests/bench/results/$(printf '%s' "${cpu:-cpu}-$(nproc)-cores" | tr -cs 'A-Za-z0-9\n' '-' | sed 's/^-//; s/-$//')
    mkdir -p "$folder"
    csv=$folder/$(date -u +%F)-$(git rev-parse --short HEAD 2>/dev/null || echo unknown).csv
    args+=(--csv "$csv")
fi
"$build/tests/bench_phases" --model "$model" --version "$version" "${args[@]}"
[ $keep = no ] || echo "kept in $csv"
