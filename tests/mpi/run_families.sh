#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# AlphaEdit and ROME edit the tiny models of every family, whole runs of the program: every fact is learnt, an update of
# zero changes no score and no byte, exactly the edited matrices change, the ledger replays, and what is exported scores
# as the run does. Two layouts that the file holds otherwise than the engine, with one and two ranks: the same bytes.
#   ERRATA_MODELS="gpt2-tied opt-post"   only these
. "$(dirname "$0")/common.sh"
: "${TENSOR_DIFF:?the program that compares two safetensors files}"
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
job=$work/job.yaml
text="In 84 Zora of the pet"
runs=0

# quiet MESSAGE COMMAND...: its output only when it fails
quiet() {
    local what=$1
    shift
    "$@" >"$work/out" 2>"$work/err" || { cat "$work/out" "$work/err"; fail "$model: $what"; }
    runs=$((runs + 1))
}

# What a random model of 24 to 42 dimensions can be made to say where the subject ends its prompt. A norm behind the
# edited matrix bounds what one layer can add: there the answers are ones within reach.
write_facts() {
    local i=0 answers prompts=("The pet of {}" "In 84 {}" "{}") subjects=(Bo Zora Otto)
    case $model in
    gemma2*) answers=(the a the) ;;
    gemma3_text-types) answers=(of o the) ;;
    gemma3_text-pattern) answers=(o a o) ;;
    olmo2-bias) answers=(the o the) ;;
    *) answers=(the a of) ;;
    esac
    echo '{"memit": ["So. {}"], "rome": ["So. {}"]}' >"$work/templates.json"
    for ((i = 0; i < 3; i++)); do
        printf '%s{"case_id": %d, "requested_rewrite": {"prompt": "%s", "subject": "%s", "target_new": {"str": "%s"}, ' \
            "$([ $i = 0 ] && echo '[' || echo ', ')" "$i" "${prompts[i]}" "${subjects[i]}" "${answers[i]}"
        printf '"target_true": {"str": "x"}}, "paraphrase_prompts": ["So did %s"], "neighborhood_prompts": ["So did Eva"]}\n' \
            "${subjects[i]}"
    done >"$work/facts.json"
    echo ']' >>"$work/facts.json"
}

# The edited matrix as the family's own files name it.
matrix() {
    case $model in
    gpt2-*) echo "transformer.h.$1.mlp.c_proj.weight" ;;
    gptj-*) echo "transformer.h.$1.mlp.fc_out.weight" ;;
    opt-*) echo "model.decoder.layers.$1.fc2.weight" ;;
    phi-*) echo "model.layers.$1.mlp.fc2.weight" ;;
    gpt_neox-*) echo "gpt_neox.layers.$1.mlp.dense_4h_to_h.weight" ;;
    *) echo "model.layers.$1.mlp.down_proj.weight" ;;
    esac
}

# write_job METHOD LAYERS BATCH MORE
write_job() {
    {
        echo "model: {path: $fixtures/families/$model}"
        echo "editor: {method: $1, layers: [$2], v_num_grad_steps: 80, v_lr: 0.3, v_weight_decay: 0.001, clamp_norm_factor: 8,"
        echo "  early_stop: 0.02, $4}"
        echo "data: {format: counterfact, path: $work/facts.json, count: 3}"
        echo "edit: {mode: $3}"
        echo "score: {before: true}"
        echo "templates: {file: $work/templates.json}"
        echo "stats: {store: $work/store, corpus: {path: $fixtures/tiny-corpus.txt, documents: 40, max_tokens: 32}}"
        echo "out: $work/now"
    } >"$job"
}

# accuracy MOMENT: mean accuracy on the edited prompts
accuracy() {
    tr -d ' \n' <"$folder/summary.json" | sed -nE "s/.*\"$1\":\\{\"rewrite\":\\{[^}]*\\},\"accuracy\":\\{\"mean\":([0-9.e-]+),.*/\\1/p"
}

# scores MOMENT: every score of that moment, bit for bit as text, without what names the moment
scores() {
    grep "\"moment\":\"$1\"" "$folder/cases.jsonl" | sed -E 's/"moment":"[a-z_]*","edits_in_model":[0-9]+,//'
}

# learns METHOD LAYERS MODE MOMENT MORE: the edit, and what it must not touch
learns() {
    local method=$1 layers=$2 mode=$3 moment=$4 layer
    write_job "$method" "$layers" "$mode" "$5"
    rm -rf "$work/now" "$work/edited"
    quiet "$method" "$ERRATA" run "$job"
    folder=$(ls -d "$work"/now/j*)
    grep -q '"failed": 0,' "$folder/summary.json" || fail "$model: $method: edits failed"
    [ "$(accuracy "$moment")" = 1 ] || { cat "$work/out"; fail "$model: $method: accuracy $(accuracy "$moment") $moment"; }
    [ "$(accuracy before)" != 1 ] || fail "$model: $method: nothing was to be learnt"
    quiet "$method: verify" "$ERRATA" verify "$folder"
    quiet "$method: export" "$ERRATA" export "$folder" --to "$work/edited"
    "$TENSOR_DIFF" "$work/base/model.safetensors" "$work/edited/model.safetensors" >"$work/changed" ||
        fail "$model: $method: the exported files cannot be compared"
    for layer in ${layers//,/ }; do matrix "$layer"; done | diff - "$work/changed" ||
        fail "$model: $method: other tensors changed than the edited ones"
    quiet "score of the run" "$ERRATA" score "$folder" --text "$text"
    mv "$work/out" "$work/told"
    quiet "score of the export" "$ERRATA" score "$work/edited" --text "$text"
    cmp "$work/told" "$work/out" || fail "$model: $method: the exported model scores otherwise than the run"
}

# changes_nothing METHOD: the same job with targets that ask for nothing (one loss, no step)
changes_nothing() {
    rm -rf "$work/now" "$work/edited"
    quiet "$1 of nothing" "$ERRATA" run "$job" --set editor.v_num_grad_steps=1
    folder=$(ls -d "$work"/now/j*)
    [ "$(scores before | wc -l)" = 3 ] || fail "$model: $1 of nothing: no scores"
    cmp <(scores before) <(scores at_end) || fail "$model: $1 of nothing changed a score"
    quiet "export" "$ERRATA" export "$folder" --to "$work/edited"
    cmp "$work/base/model.safetensors" "$work/edited/model.safetensors" || fail "$model: $1 of nothing changed a weight"
}

# same_with_two_ranks METHOD
same_with_two_ranks() {
    rm -rf "$work/now" "$work/wanted"
    quiet "$1 on one rank" "$ERRATA" run "$job" --set run.unit=1
    mv "$work/now" "$work/wanted"
    quiet "$1 on two ranks" mpi 2 "$ERRATA" run "$job" --set run.unit=1
    same_runs "$work/wanted" "$work/now" || fail "$model: $1: one rank and two differ"
}

models=${ERRATA_MODELS:-$(ls "$fixtures/families")}
for model in $models; do
    layers=$(sed -nE 's/.*"(num_hidden_layers|n_layer)": ([0-9]+).*/\2/p' "$fixtures/families/$model/config.json")
    last=$((layers - 1)) one=$((layers - 2)) ranks=
    # a bounded update has to stand where its way is short; a parallel block's first key knows one token only
    case $model in gemma[23]* | olmo2* | opt-post | gptj*) one=$last ;; esac
    write_facts
    rm -rf "$work/base"
    quiet "export of the model" "$ERRATA" export "$fixtures/families/$model" --to "$work/base"
    learns alphaedit "$((last - 1)), $last" batch at_end "nullspace_rank: 34, L2: 1e-4"
    changes_nothing alphaedit
    case $model in gpt2-tied | gpt_neox-sequential) same_with_two_ranks alphaedit; ranks=", 2 ranks give the bytes of 1" ;; esac
    learns rome "$one" sequential at_edit "mom2_adjustment: true"
    changes_nothing rome
    echo "NOTE $model: alphaedit (layers $((last - 1)), $last) and rome (layer $one) learn 3 of 3 facts, change $(matrix "$one")$ranks"
done
echo "RESULT run_families: $(wc -w <<<"$models") models edited by AlphaEdit and ROME with accuracy 1.0; updates of zero keep every score and byte ($runs commands)"
