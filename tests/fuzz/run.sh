#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh FOLDER SECONDS: every fuzzer of a build for its share of the time, two at once, on a copy of its corpus.
set -u
cd "$(dirname "$(readlink -f "$0")")/../.."
folder=$1 seconds=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mapfile -t fuzzers < <(find "$folder" -type f -name 'fuzz_*' -perm -u+x | sort)
[ ${#fuzzers[@]} -gt 0 ] || { echo "no fuzzers in $folder"; exit 1; }
share=$((seconds * 2 / ${#fuzzers[@]}))
[ "$share" -ge 4 ] || share=4
one() {
    local fuzzer=$1 name
    name=$(basename "$fuzzer")
    mkdir -p "$work/$name"
    cp -r "tests/fuzz/corpus/${name#fuzz_}/." "$work/$name/" 2>/dev/null
    if [ "$name" = fuzz_config ]; then # every family
        for f in tests/fixtures/families/*/config.json; do cp "$f" "$work/$name/$(basename "$(dirname "$f")")"; done
    fi
    "$fuzzer" -max_total_time="$share" -timeout=20 -rss_limit_mb=3000 -max_len=65536 -print_final_stats=1 \
        -artifact_prefix="$work/" "$work/$name" >"$work/$name.log" 2>&1
    echo $? >"$work/$name.code"
}
export -f one
export work share
printf '%s\n' "${fuzzers[@]}" | xargs -P 2 -I{} bash -c 'one {}'
bad=0
for f in "${fuzzers[@]}"; do
    name=$(basename "$f")
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$name.log")
    edges=$(grep -oE 'cov: [0-9]+' "$work/$name.log" | tail -n 1 | cut -d' ' -f2)
    echo "RESULT $name: ${runs:-0} executions, ${edges:-0} edges, $share s"
    if [ "$(cat "$work/$name.code")" != 0 ]; then
        bad=1
        tail -n 40 "$work/$name.log"
    fi
done
exit $bad
