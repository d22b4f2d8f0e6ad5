# SPDX-License-Identifier: Apache-2.0
# What the benchmark scripts share. Sourced, from the top folder, behind tools/setup.sh.

build=${BUILD:-build-bench}

# bench_build TARGET...
bench_build() {
    [ -d "$build" ] || cmake -S . -B "$build" -G Ninja >/dev/null
    cmake --build "$build" --target "$@" >/dev/null
}

cpu_name() { sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1; }
commit_name() { git rev-parse --short HEAD 2>/dev/null || echo unknown; }
machine_line() { echo "$(cpu_name), $(nproc) cores, $(date -u +%F), $(commit_name), load $(cut -d' ' -f1 /proc/loadavg)"; }

# results_file WHAT: a kept result's path, its folder made. WHAT goes before the date: "scaling-", or nothing.
results_file() {
    local cpu folder
    cpu=$(cpu_name)
    folder=tests/bench/results/$(printf '%s' "${cpu:-cpu}-$(nproc)-cores" | tr -cs 'A-Za-z0-9\n' '-' | sed 's/^-//; s/-$//')
    mkdir -p "$folder"
    echo "$folder/$1$(date -u +%F)-$(commit_name).csv"
}

# The model, or the script's end.
bench_model() { [ -e "$cache/$model_name" ] || fetch_model >&2 || die "there is no $cache/$model_name"; }

# facts FILE TIMES: jobs/facts/quickstart.json's twenty records so many times over, as one list.
facts() {
    local i
    {
        echo '['
        for ((i = 0; i < $2; i++)); do
            [ $i = 0 ] || echo ','
            sed '1d;$d' jobs/facts/quickstart.json
        done
        echo ']'
    } >"$1"
}

# equal_facts FILE COUNT: one record so many times: units of equal work.
equal_facts() {
    local i
    {
        echo '['
        for ((i = 1; i <= $2; i++)); do
            printf '{"case_id": %d, "requested_rewrite": {"prompt": "{} works in the city of", "subject": "Danielle Darrieux",
 "target_new": {"str": "Lyon"}, "target_true": {"str": "Paris"}}, "paraphrase_prompts": [], "neighborhood_prompts": []}' "$i"
            [ "$i" = "$2" ] || echo ','
        done
        echo ']'
    } >"$1"
}

# phase_seconds FOLDER PHASE: the sum over its lines of timings.jsonl.
phase_seconds() {
    awk -v want="\"phase\":\"$2\"" 'index($0, want) { split($0, a, "\"seconds\":"); sum += a[2] + 0 } END { printf "%.3f", sum }' \
        "$1"/timings.jsonl
}

# bench_job FILE FACTS METHOD LAYERS STEPS BATCH: a job without scores and early stopping, its store and runs beside the
# file. Few documents: eigenpairs of any moment cost a solve the same.
bench_job() {
    cat >"$1" <<END
model: {path: ${job_model:-$(readlink -f "$cache")/$model_name}}
editor:
  method: $3
  layers: [$4]
  v_num_grad_steps: $5
  early_stop: 0
$([ "$3" != alphaedit ] || printf '  nullspace_threshold: 0.007\n  L2: 1\n')
data: {format: counterfact, path: $2}
edit: {mode: sequential, batch: $6}
score: {before: false, at_edit: false, at_end: false}
templates: {file: $PWD/tests/fixtures/tiny-templates.json}
stats:
  store: $(dirname "$1")/store
  corpus: {path: $(readlink -f "$cache")/wordnet.txt, documents: 20, max_tokens: 400}
out: $(dirname "$1")/runs
END
}
