#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Bundles: what a run made with one rank and with two gives, verified and run again elsewhere with another number of ranks;
# a flipped byte anywhere is found and named; a hostile archive is refused and writes nothing.
. "$(dirname "$0")/common.sh"
export TMPDIR=$work/tmp
mkdir "$TMPDIR"
checks=0
# expect CODE RANKS ARGUMENT...: the exit code (RANKS 0: without mpirun); no scratch folder is left
expect() {
    local want=$1 n=$2 got
    shift 2
    if [ "$n" = 0 ]; then "$ERRATA" "$@" >"$work/out" 2>"$work/err"; else TMPDIR=/tmp mpi "$n" env TMPDIR="$TMPDIR" "$ERRATA" "$@" >"$work/out" 2>"$work/err"; fi
    got=$?
    [ $got = "$want" ] || { cat "$work/out" "$work/err"; fail "errata $* on $n ranks: exit code $got, expected $want"; }
    [ -z "$(find "$TMPDIR" -name 'errata-verify-*')" ] || fail "errata $*: its scratch folder is left"
    checks=$((checks + 1))
}
says() { grep -qE -- "$1" "$work/out" "$work/err" || { cat "$work/out" "$work/err"; fail "not said: $1"; }; checks=$((checks + 1)); }
# flip FILE OFFSET: another byte there
flip() {
    local old
    old=$(od -An -tu1 -j "$2" -N 1 "$1")
    # shellcheck disable=SC2059
    printf "$(printf '\\%03o' $((old ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}
# entry FILE NAME: where the content of an entry begins, and its size (ustar: a head of 512 bytes before each)
entry() {
    local at=0 name size total
    total=$(stat -c %s "$1")
    while [ $at -lt "$total" ]; do
        name=$(dd if="$1" bs=1 skip=$at count=100 2>/dev/null | tr -d '\0')
        [ -n "$name" ] || return 1
        size=$((8#$(dd if="$1" bs=1 skip=$((at + 124)) count=11 2>/dev/null)))
        if [ "$name" = "$2" ]; then echo $((at + 512)) $size; return 0; fi
        at=$((at + 512 + (size + 511) / 512 * 512))
    done
    return 1
}

# --- two runs of one job, two bundles
job=$work/job.yaml
tiny_job "$job" 6 2 "score: {every: 2}"
bundles=()
for n in 1 2; do
    rm -rf "$work/now"
    expect 0 $n run "$job"
    run=$(ls -d "$work"/now/job-*)
    cp -r "$work/now" "$work/now$n"
    expect 0 0 bundle "$run" --to "$work/b$n.tar" --with-data --with-corpus --with-stats
    bundles+=("$(sed 's/.*content \([0-9a-f]*\),.*/\1/' "$work/out")")
    sleep 1 # times have seconds
done
[ "${bundles[0]}" = "${bundles[1]}" ] || fail "two bundles of one run have other contents: ${bundles[*]}"
read -r at size < <(entry "$work/b1.tar" env.json)
cmp -n $((at - 512)) "$work/b1.tar" "$work/b2.tar" || fail "bundles of one run differ before env.json"
expect 0 0 bundle "$run" --to "$work/again.tar" --with-data --with-corpus --with-stats
cmp "$work/b2.tar" "$work/again.tar" || fail "the same run gives other bytes the second time"
tar -tf "$work/b1.tar" >"$work/list" || fail "tar cannot read a bundle"
[ "$(head -n 1 "$work/list")" = bundle.json ] && [ "$(tail -n 1 "$work/list")" = env.hash ] || fail "order of entries"
(cd "$work" && "$ERRATA" bundle "$run" >"$work/out") || fail "bundle without --to"
small=$work/$(basename "$run").tar
[ -s "$small" ] || fail "the default name of a bundle"
grep -q 'inputs/data\|store/' <(tar -tf "$small") && fail "data or statistics in a small bundle"

# --- elsewhere: nothing of the run is left where it was made
mkdir "$work/elsewhere"
cp -r "$fixtures/tiny-llama" "$work/elsewhere/model"
cp "$fixtures/tiny-facts.json" "$work/elsewhere/facts"
cp "$fixtures/tiny-corpus.txt" "$work/elsewhere/corpus"
cp -r "$work/now/store" "$work/elsewhere/store"
rm -rf "$work/now" "$work/now1" "$work/now2"
model=$work/elsewhere/model
chmod -R a-w "$work/elsewhere"
(cd "$work/elsewhere" && find . -type f -exec cksum {} + | sort -k3 >"$work/sums")
expect 0 0 verify "$work/b1.tar" --model "$model"; says "3 records, 6 edits: every hash holds"; says "4 of 4 objects"
expect 0 0 verify "$work/b1.tar" --model "$model" --rerun; says "run again on 1 rank: bit-identical"
expect 0 3 verify "$work/b1.tar" --model "$model" --rerun; says "run again on 3 ranks: bit-identical"
expect 0 2 verify "$work/b2.tar"; says "every hash holds"
expect 0 0 verify "$small" --model "$model" --data "$work/elsewhere/facts" --store "$work/elsewhere/store"; says "4 of 4 objects"
expect 0 2 verify "$small" --model "$model" --data "$work/elsewhere/facts" --corpus "$work/elsewhere/corpus" --rerun
says "run again on 2 ranks: bit-identical" # statistics measured again, too
(cd "$work/elsewhere" && expect 0 0 verify ../b1.tar --model model --data facts --store store --rerun) || exit 1
[ -z "$(ls -A "$work/elsewhere" | grep -vxE 'model|facts|corpus|store')" ] || fail "verify wrote outside its scratch folder"
diff <(cd "$work/elsewhere" && find . -type f -exec cksum {} + | sort -k3) "$work/sums" || fail "verify changed what it was given"

# --- a flipped byte
chmod -R u+w "$work/elsewhere"
# damaged NAME OFFSET: a copy of the bundle with a byte of the entry flipped
damaged() {
    read -r at size < <(entry "$work/b1.tar" "$1") || fail "no entry $1"
    cp "$work/b1.tar" "$work/bad.tar"
    flip "$work/bad.tar" $((at + $2))
}
damaged ledger/000001.h5 9000
expect 5 0 verify "$work/bad.tar" --model "$model"; says 'ledger/000001.h5 \(record 1\) is not what'
expect 5 0 verify "$work/bad.tar" --model "$model" --rerun; says 'record 1'
tar -xOf "$work/b1.tar" cases.jsonl >"$work/cases"
line=$(sed -n 11p "$work/cases")
case_id=$(sed 's/.*"case_id":\([0-9]*\).*/\1/' <<<"$line") moment=$(sed 's/.*"moment":"\([a-z_0-9]*\)".*/\1/' <<<"$line")
before=${line%%\"new_nll\":[*}
offset=$(($(head -n 10 "$work/cases" | wc -c) + ${#before} + 14)) # a digit behind the point
damaged cases.jsonl $offset
expect 5 0 verify "$work/bad.tar" --model "$model"; says "cases.jsonl: line 11 \\(.*case $case_id, $moment\\)"
expect 5 2 verify "$work/bad.tar" --model "$model" --rerun
says "run again: cases.jsonl: line 11 \\(.*case $case_id, $moment\\): rewrite.new_nll\\[0\\]: [0-9.]+ against [0-9.]+"
for name in events.jsonl summary.json inputs.json job.resolved.yaml templates.json inputs/data "store/$(grep -o 'eigen-L02.*' "$work/list")"; do
    damaged "$name" 150
    expect 5 0 verify "$work/bad.tar" --model "$model"; says "$name"
done
damaged bundle.json 700
expect 5 0 verify "$work/bad.tar" --model "$model"
damaged env.json 40
expect 5 0 verify "$work/bad.tar" --model "$model"; says "env.json"
head -c $(($(stat -c %s "$work/b1.tar") / 2)) "$work/b1.tar" >"$work/bad.tar"
expect 1 0 verify "$work/bad.tar" --model "$model"; says "no whole archive"
flip "$model/model.safetensors" $(($(stat -c %s "$model/model.safetensors") - 3))
expect 5 0 verify "$work/b1.tar" --model "$model"; says "elsewhere/model has changed since the run was made: weights"
expect 5 2 verify "$work/b1.tar" --model "$model" --rerun; says "weights"
flip "$model/model.safetensors" $(($(stat -c %s "$model/model.safetensors") - 3))
echo >>"$work/elsewhere/facts"
expect 5 0 verify "$small" --model "$model" --data "$work/elsewhere/facts"; says "facts has changed"

# --- hostile archives
mkdir -p "$work/hostile/in/ledger"
cd "$work/hostile/in" || exit 1
# hostile NAME: bundle.json names it, the archive holds it
hostile() {
    printf '{"bundle": 1, "run": "x", "content": "%032d", "files": [{"name": "%s", "bytes": 5, "hash": "%032d"}]}\n' 0 "$1" 0 >bundle.json
    rm -f ../bad.tar
}
refused() {
    cd "$fixtures/../.." || exit 1
    expect "$1" 0 verify "$work/hostile/bad.tar" --model "$model"
    says "$2"
    [ -z "$(find "$work" /tmp -maxdepth 3 -name 'evil*' -newer "$work/hostile/mark" 2>/dev/null | grep -v "^$work/hostile/")" ] || fail "a hostile archive wrote a file"
    cd "$work/hostile/in" || exit 1
}
touch ../mark
sleep 0.1
echo evil >../evil
echo evil >ledger/evil
cp ../evil evil
for name in ../evil ledger/../../evil "$work/evil" .evil ledger/.evil a/b/evil other/evil 'ev\\u002fil' ''; do
    hostile "$name"
    tar -cPf ../bad.tar bundle.json
    refused 2 "refused: bundle.json names"
done
hostile evil # bundle.json passes its names, then its content hash is wrong: nothing behind it is looked at
tar -cPf ../bad.tar bundle.json ../evil
refused 5 "content hash"
# an honest bundle with a hostile entry in its middle
mkdir ../honest
tar -xf "$work/b1.tar" -C ../honest
mapfile -t names <"$work/list"
for kind in traversal absolute link directory extra missing swapped; do
    rm -f ../bad.tar
    list=("${names[@]}")
    case $kind in
    traversal) mkdir -p ../honest/sub; args=(--transform 's,^cases.jsonl$,../evil,'); code=2 text='refused: an entry is named "../evil"' ;;
    absolute) args=(--transform "s,^cases.jsonl\$,$work/evil,"); code=2 text='refused: an entry is named' ;;
    link) args=(); cp -r ../honest ../linked; rm ../linked/cases.jsonl; ln -s /etc/passwd ../linked/cases.jsonl; code=2 text='is no plain file' ;;
    directory) args=(); list=(bundle.json ledger "${names[@]:1}"); code=2 text='refused: an entry is named "ledger/"' ;;
    extra) args=(); cp ../evil ../honest/evil; list+=(evil); code=5 text='evil stands behind the last file' ;;
    missing) args=(); list=("${names[@]:0:3}"); code=5 text='is missing' ;;
    swapped) args=(); list=("${names[0]}" "${names[2]}" "${names[1]}"); code=5 text='stands where' ;;
    esac
    folder=../honest
    [ $kind = link ] && folder=../linked
    tar -cPf ../bad.tar --no-recursion -C "$folder" "${args[@]}" "${list[@]}" || fail "tar: $kind"
    refused $code "$text"
done
echo "no archive at all" >../bad.tar
refused 1 "no whole archive"
cd "$fixtures/../.." || exit 1

# --- what is no run, not finished, or changed
expect 2 0 bundle "$fixtures"; says "is no folder of a run"
expect 2 0 verify "$fixtures"; says "neither a run's folder nor a bundle"
expect 0 0 run "$job"
run=$(ls -d "$work"/now/job-*)
expect 0 2 verify "$run" --rerun; says "bit-identical"
expect 0 0 diff "$run" "$run"; says "no difference"
cp -r "$run" "$work/other"
sed -i '11s/"new_nll":\[\([0-9]\)/"new_nll":[9\1/' "$work/other/cases.jsonl"
expect 1 0 diff "$run" "$work/other"; says "cases.jsonl: line 11 \\(.*case $case_id, $moment\\): rewrite.new_nll"
expect 5 0 verify "$work/other" --rerun; says "run again: cases.jsonl: line 11"
touch "$work/other/scores.journal"
expect 2 0 bundle "$work/other" --to "$work/x.tar"; says "not finished"
[ ! -e "$work/x.tar" ] || fail "a refused bundle left a file"
rm -rf "$work/now" "$work/other"

# --- other kinds of runs: weights restored after each batch, one batch of all with failed edits, everything drawn by the model,
# no statistics at all; each bundled with all it needs, its own folder gone, run again on two ranks
again() {
    local want=$1
    shift
    expect "$want" 0 run "$job" "$@"
    run=$(ls -d "$work"/now/job-*)
    expect 0 0 bundle "$run" --to "$work/kind.tar" --with-data --with-corpus --with-stats
    rm -rf "$work/now"
    expect 0 2 verify "$work/kind.tar" --rerun; says "run again on 2 ranks: bit-identical"
}
again 0 --set edit.mode=single --set edit.batch=1 --set score.at_end=false --set score.every=0
again 3 --set editor.L2=1e-300
again 0 --set 'templates={generate: {seed: 2}}' --set 'stats.corpus={sample: {tokens: 2000, seed: 1}}' --set data.count=2
sed -i 's/^editor.*/editor: {method: rome, layers: [2], v_num_grad_steps: 5, v_lr: 0.5, mom2_adjustment: false}/' "$job"
again 0 --set edit.batch=1 --set data.count=2

# --- held-out texts and reference texts come along: their files are gone when the job runs again. Once the held-out texts are
# those of the corpus behind the statistics' documents, which then lies in the bundle once
in=$work/in
mkdir "$in"
cp "$fixtures/tiny-corpus.txt" "$in/corpus"
cp "$fixtures/tiny-corpus.txt" "$in/held"
cp "$fixtures"/judge/{snippets.json,vocab.json,idf.npy} "$in"
judge="generate: 1, snippets: $in/snippets.json, tfidf_vocab: $in/vocab.json, tfidf_idf: $in/idf.npy"
for kind in held corpus- corpus; do
    tiny_job "$job" 2 2 "score: {$judge, drift: {tokens: 60, path: $in/${kind%-}}}"
    sed -i "s|path: $fixtures/tiny-corpus.txt|path: $in/corpus|" "$job"
    expect 0 0 run "$job"
    run=$(ls -d "$work"/now/job-*)
    flags=(--with-data --with-stats --with-corpus)
    [ $kind != corpus- ] || flags=(--with-data --with-stats)
    expect 0 0 bundle "$run" --to "$work/kind.tar" "${flags[@]}"
    tar -tf "$work/kind.tar" | grep '^inputs/' | tr '\n' ' ' >"$work/out"
    case $kind in
    held) says '^inputs/corpus inputs/data inputs/drift inputs/snippets inputs/templates inputs/tfidf_idf inputs/tfidf_vocab $' ;;
    corpus-) says '^inputs/data inputs/drift inputs/snippets' ;;
    corpus) says '^inputs/corpus inputs/data inputs/snippets' ;;
    esac
    mv "$in" "$work/gone"
    expect 0 0 verify "$work/kind.tar" --rerun; says "run again on 1 rank: bit-identical"
    mv "$work/gone" "$in"
done
for name in corpus vocab.json; do # here the corpus is the held-out text, too
    cp "$in/$name" "$work/kept"
    echo " " >>"$in/$name"
    expect 5 0 bundle "$run" --to "$work/x.tar" --with-data; says "in/$name has changed since the run was made"
    cp "$work/kept" "$in/$name"
done
no_temporaries "$work" || fail "temporary files are left"
echo "RESULT run_bundle: $checks checks"
