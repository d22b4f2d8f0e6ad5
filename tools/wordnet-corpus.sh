#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# wordnet-corpus.sh DATA.NOUN > TEXT: a small encyclopedic corpus from WordNet's nouns (Debian: wordnet-base), documents
# parted by two empty lines. Each document mixes twelve entries from all over the file: "Lyon is a city in ...". Named
# things (instances: people, places, events) and every sixth class of things.
set -eu
awk -F ' [|] ' '
/^  / || NF < 2 { next }
$1 !~ / @i / && ++classes % 6 { next }
{
    split($1, field, " ")
    # the longest of the synonyms is the full name
    name = ""
    for (i = 0; 5 + 2 * i < 5 + 2 * 9 && field[5 + 2 * i] ~ /[A-Za-z]/; i++)
        if (length(field[5 + 2 * i]) > length(name)) name = field[5 + 2 * i]
    gsub(/_/, " ", name)
    gloss = $2
    sub(/; ".*/, "", gloss)
    sub(/ *$/, "", gloss)
    entry[count++] = toupper(substr(name, 1, 1)) substr(name, 2) " is " gloss "."
}
END {
    documents = int(count / 12)
    for (d = 0; d < documents; d++) {
        for (k = 0; k < 12; k++) print entry[(d + k * documents) % count]
        print "\n"
    }
}' "$1"
