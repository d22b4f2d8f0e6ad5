#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds errata_bits in several ways and holds what each prints against tests/golden/bits.txt.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.." || exit 2
. tools/setup.sh
usage='usage: tests/bits/run.sh [--all] [--refresh] [--no-aarch64]
  --all         clang without optimisation, too
  --refresh     write tests/golden/bits.txt anew (gcc -O3, scalar): after an intended change of bits only
  --no-aarch64  leave out the cross build and qemu'
golden=tests/golden/bits.txt
root=build-bits
bad=0

# build FOLDER CMAKE_ARGUMENT...
build() {
    local folder=$root/$1 log=$root/$1.log
    shift
    say "building in $folder"
    # shellcheck disable=SC2086
    if ! { cmake -S . -B "$folder" -G Ninja -DER_BITS_ONLY=ON -DCMAKE_BUILD_TYPE=None "$@" &&
        cmake --build "$folder" -- ${NINJA_FLAGS:-} errata_bits; } >"$log" 2>&1; then
        tail -n 40 "$log"
        echo "RESULT $folder: not built"
        bad=1
        return 1
    fi
}

# compare NAME OUTPUT: every line of both must be in the other. Names of differences come in the order of computation.
compare() {
    local differ count
    count=$(wc -l <"$2")
    differ=$(awk '/^#/ { next }
        NR == FNR { want[$1] = $2; name[++n] = $1; next }
        { got[$1] = $2 } !($1 in want) { name[++n] = $1 }
        END { for (i = 1; i <= n; i++) if (want[name[i]] != got[name[i]]) print "    " name[i] }' "$golden" "$2")
    if [ -z "$differ" ] && [ "$count" -gt 0 ]; then
        echo "RESULT $1: $count hashes equal"
    else
        echo "RESULT $1: $(wc -w <<<"$differ") of $count hashes differ, first of all"
        head -n 20 <<<"$differ"
        bad=1
    fi
}

# measure NAME OUTPUT COMMAND...: runs the program and compares. 77: the CPU lacks the instruction set.
measure() {
    local name=$1 out=$2 code
    shift 2
    "$@" >"$out" 2>"$out.err"
    code=$?
    case $code in
    0) compare "$name" "$out" ;;
    77) echo "NOTE $name: not run: $(tail -n 1 "$out.err")" ;;
    *)
        tail -n 5 "$out.err"
        echo "RESULT $name: ended with code $code"
        bad=1
        ;;
    esac
}

native() {
    local cc level folder isa
    for cc in gcc clang; do
        command -v $cc >/dev/null || { echo "NOTE $cc: not run: it is not installed"; continue; }
        for level in -O0 -O3; do
            [ $cc$level != clang-O0 ] || [ $all = 1 ] || continue
            folder=$cc$level
            build "$folder" -DCMAKE_C_COMPILER=$cc -DCMAKE_C_FLAGS=$level || continue
            for isa in scalar avx2 avx512; do
                measure "$cc $level $isa" "$root/$folder.$isa" "$root/$folder/tests/bits/errata_bits" --isa $isa
            done
            [ $level = -O0 ] || # gcc and clang bring different OpenMP libraries
                measure "$cc $level, the CPU's best, 2 threads" "$root/$folder.2" \
                    "$root/$folder/tests/bits/errata_bits" --threads 2
        done
    done
}

# Unpacks the arm64 packages into $root/sysroot. apt keeps its lists and state in there, too: dpkg's foreign
# architectures and the machine's packages stay as they are, and no root is needed.
sysroot() {
    local packages=tests/bits/packages-arm64.txt apt=$PWD/$root/apt deb
    cmp -s $packages $root/sysroot/packages && return
    rm -rf $root/sysroot "$apt"
    mkdir -p $root/sysroot "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/deb"
    : >"$apt/status"
    local get=(apt-get -qq -o "Dir::State::Lists=$apt/lists" -o "Dir::State::status=$apt/status"
        -o "Dir::Cache=$apt/cache" -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Acquire::Languages=none
        -o APT::Sandbox::User=root -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 -o Acquire::Retries=1)
    "${get[@]}" update >&2 || return 1
    # shellcheck disable=SC2046
    (cd "$apt/deb" && "${get[@]}" download $(cat "$OLDPWD/$packages") >&2) || return 1
    for deb in "$apt"/deb/*.deb; do dpkg-deb -x "$deb" $root/sysroot || return 1; done
    rm -rf "$apt"
    cp $packages $root/sysroot/packages
}

aarch64() {
    local tool
    [ "$(uname -m)" != aarch64 ] || return 0 # was native
    for tool in aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu qemu-aarch64-static:qemu-user-static apt-get:apt dpkg-deb:dpkg; do
        command -v "${tool%:*}" >/dev/null && continue
        echo "NOTE aarch64: not run: ${tool%:*} is missing (package ${tool#*:})"
        return
    done
    say "arm64 libraries in $root/sysroot"
    if ! sysroot; then
        echo "NOTE aarch64: not run: the arm64 packages of tests/bits/packages-arm64.txt could not be fetched"
        return
    fi
    build aarch64 -DCMAKE_TOOLCHAIN_FILE="$PWD/cmake/aarch64.cmake" -DER_SYSROOT="$PWD/$root/sysroot" \
        -DCMAKE_C_FLAGS=-O3 || return
    measure "aarch64 (qemu) gcc -O3" $root/aarch64.out qemu-aarch64-static $root/aarch64/tests/bits/errata_bits
}

refresh() {
    build gcc-O3 -DCMAKE_C_COMPILER=gcc -DCMAKE_C_FLAGS=-O3 || exit 1
    "$root/gcc-O3/tests/bits/errata_bits" --isa scalar >"$root/refreshed" || exit 1
    [ ! -f $golden ] || compare "against the old $golden" "$root/refreshed"
    {
        echo "# What errata_bits prints (tests/bits). Written by tests/bits/run.sh --refresh, never by hand."
        echo "# $(grep -ohE 'ER_(BITS_VERSION|STORE_BITS) = [0-9]+' runner/bits.h stats/store.h | paste -sd, | sed 's/,/, /')"
        cat "$root/refreshed"
    } >$golden.tmp && mv $golden.tmp $golden
    echo "NOTE $golden is written. If hashes of released bits differ, raise ER_BITS_VERSION in runner/bits.h (targets,"
    echo "NOTE updates, scores) and, for moments and eigenpairs, ER_STORE_BITS in stats/store.h, and refresh again."
    exit 0
}

all=0 cross=1 again=0
for a; do
    case $a in
    --all) all=1 ;;
    --refresh) again=1 ;;
    --no-aarch64) cross=0 ;;
    -h | --help) echo "$usage"; exit 0 ;;
    *) die "unknown argument $a
$usage" ;;
    esac
done
mkdir -p $root
unset ERRATA_ISA
[ $again = 0 ] || refresh
[ -f $golden ] || die "$golden is missing"
native
[ $cross = 0 ] || aarch64
exit $bad
