# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the tests of whole runs share: a quiet Open MPI on one machine, a small job on the tiny model, comparison of two
# run folders by bytes. Sourced from the root of the checkout with the program's path in ERRATA.
set -uo pipefail
: "${ERRATA:?the program under test}"
. tools/setup.sh
quiet_mpi
fixtures=$PWD/tests/fixtures
work=$(mktemp -d "${TMPDIR:-/tmp}/errata.XXXXXX")
trap 'rm -rf "$work"' EXIT

fail() { echo "FAIL: $*"; exit 1; }
mpi() { local n=$1; shift; timeout 300 mpirun -n "$n" "$@" </dev/null; }

# tiny_job FILE EDITS BATCH [LINE...]: a job whose run and store lie in $work/now; tiny_editor: another editor's keys
tiny_job() {
    local file=$1 count=$2 batch=$3
    shift 3
    {
        echo "model: {path: $fixtures/tiny-llama}"
        echo "editor: {${tiny_editor:-method: alphaedit, layers: [1, 2], v_num_grad_steps: 8, v_lr: 0.5, nullspace_threshold: 0.02, L2: 1}}"
        echo "data: {format: counterfact, path: $fixtures/tiny-facts.json, count: $count}"
        echo "edit: {mode: sequential, batch: $batch}"
        echo "templates: {file: $fixtures/tiny-templates.json}"
        echo "out: $work/now"
        echo "stats: {store: $work/now/store, corpus: {path: $fixtures/tiny-corpus.txt, documents: 40, max_tokens: 64}}"
        printf '%s\n' "$@"
    } >"$file"
}

# compared FOLDER: the files that must not differ, relative to FOLDER
compared() {
    (cd "$1" && find . -type f ! -name timings.jsonl ! -name env.json ! -name 'report.*' ! -name '*.lock' | sort)
}

# same_runs WANTED GOT: byte by byte, both ways
same_runs() {
    local f
    diff <(compared "$1") <(compared "$2") >"$work/diff" || { cat "$work/diff"; return 1; }
    local same=0
    while read -r f; do
        cmp "$1/$f" "$2/$f" || same=1
    done < <(compared "$1")
    [ $same = 0 ] && return 0
    [ -z "${ERRATA_KEEP:-}" ] || { rm -rf "$ERRATA_KEEP"; cp -r "$work" "$ERRATA_KEEP"; } # to look at
    return 1
}

no_temporaries() { [ -z "$(find "$1" -name '*.tmp' -print -quit)" ]; }

# --- one rank, no launcher; a script with other needs defines its own behind this file
checks=0
run() { "$ERRATA" "$@" >"$work/out" 2>"$work/err"; }
# expect CODE ARGUMENT...: the exit code
expect() {
    local want=$1 got
    shift
    run "$@"
    got=$?
    [ $got = "$want" ] || { cat "$work/out" "$work/err"; fail "errata $*: exit code $got, expected $want"; }
    checks=$((checks + 1))
}
# says TEXT: stands in what the last command printed
says() { grep -qF -- "$1" "$work/out" "$work/err" || { cat "$work/out" "$work/err"; fail "not said: $1"; }; checks=$((checks + 1)); }
fresh() { rm -rf "$work/now"; }
folder() { ls -d "$work"/now/job-*; }
