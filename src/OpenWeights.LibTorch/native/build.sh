#!/bin/sh
# Builds the native part of OpenWeights.LibTorch against an installed libtorch.
#
#   build.sh OUTPUT [LIBTORCH]     builds
#   build.sh --find [LIBTORCH]     only prints where the libtorch is, or says that there is none
#
# OUTPUT is the library to write. LIBTORCH is the root of a libtorch (an unpacked archive, or the folder
# `torch` of a PyTorch installation); without it, the environment's LIBTORCH and then the usual places are
# looked at. The folder that the library was built against is written beside it, as OUTPUT.libtorch, and on Linux
# the folder OUTPUT.unused has an empty library in the place of each that libtorch names and takes nothing from.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
output=${1:?usage: build.sh OUTPUT [LIBTORCH]}
wanted=${2:-${LIBTORCH:-}}

fail() {
    echo "build.sh: error: $*" >&2
    exit 1
}

# Prints "root include library-folder" of a libtorch below the folder given, if there is one.
look() {
    for include in "$1/include" "$1/usr/include"; do
        [ -f "$include/torch/version.h" ] || [ -f "$include/torch/csrc/api/include/torch/version.h" ] || continue
        for libraries in "$1/lib" "$1/lib64" "$1/lib/$(uname -m)-linux-gnu" "$1/usr/lib/$(uname -m)-linux-gnu"; do
            if [ -e "$libraries/libtorch_cpu.so" ] || [ -e "$libraries/libtorch_cpu.dylib" ]; then
                printf '%s\n%s\n%s\n' "$1" "$include" "$libraries"
                return 0
            fi
        done
    done
    return 1
}

usual_places() {
    printf '%s\n' /usr/local/libtorch /opt/libtorch "$HOME/libtorch"
    for root in ${VIRTUAL_ENV:+"$VIRTUAL_ENV"} ${CONDA_PREFIX:+"$CONDA_PREFIX"} /usr/local "$HOME/.local"; do
        printf '%s\n' "$root"/lib/python3*/site-packages/torch "$root"/lib/python3*/dist-packages/torch
    done
    printf '%s\n' /usr /usr/local
}

found=
if [ -n "$wanted" ]; then
    found=$(look "$wanted") || fail "there is no libtorch (include/torch and lib/libtorch_cpu) in $wanted, which LIBTORCH names."
else
    while IFS= read -r place; do
        found=$(look "$place") && break
    done <<PLACES
$(usual_places)
PLACES
    [ -n "$found" ] || fail "no libtorch was found. On Debian and Ubuntu: sudo apt-get install libtorch-dev. Elsewhere unpack libtorch or install PyTorch, and set LIBTORCH to its folder."
fi
root=$(printf '%s\n' "$found" | sed -n 1p)
include=$(printf '%s\n' "$found" | sed -n 2p)
libraries=$(printf '%s\n' "$found" | sed -n 3p)
if [ "$output" = --find ]; then
    echo "$root"
    exit 0
fi

compiler=${CXX:-}
for candidate in g++ clang++ c++; do
    [ -n "$compiler" ] || ! command -v "$candidate" >/dev/null 2>&1 || compiler=$candidate
done
[ -n "$compiler" ] || fail "no C++ compiler was found. On Debian and Ubuntu: sudo apt-get install g++. Elsewhere install one, or set CXX to it."

# PyTorch's own packages of some ages keep the older ABI of the C++ library; their names tell.
abi=
if [ -e "$libraries/libc10.so" ] && command -v nm >/dev/null 2>&1 && ! nm -D --defined-only "$libraries/libc10.so" 2>/dev/null | grep -q '__cxx11'; then
    abi=-D_GLIBCXX_USE_CXX11_ABI=0
fi

cuda=
if [ -e "$libraries/libtorch_cuda.so" ]; then
    cuda='-Wl,--no-as-needed -ltorch_cuda -lc10_cuda'
fi

mkdir -p "$(dirname -- "$output")"
temporary=$output.$$.tmp
log=$output.$$.log
work=$output.$$.work
trap 'rm -rf "$temporary" "$log" "$work"' EXIT

needed() {
    readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\].*/\1/p'
}

symbols() {
    nm -D "$1" "$2" | awk '{ sub(/@.*/, "", $NF); print $NF }' | sort -u
}

# The names of the libraries that libtorch ($1) names, takes no symbol from, and that nothing which stays names: Debian's libtorch_cpu
# names OpenCV, FFmpeg and more, and with them come 250 libraries. All are in the list of ldd ($work/libraries: name and path).
find_unused() {
    symbols --undefined-only "$1" >"$work/wanted"
    : >"$work/unused"
    : >"$work/kept"
    for name in $(needed "$1"); do
        path=$(awk -v name="$name" '$1 == name { print $2; exit }' "$work/libraries")
        if [ -z "$path" ] || symbols --defined-only "$path" | comm -12 - "$work/wanted" | grep -q .; then
            echo "$name" >>"$work/kept"
        else
            echo "$name" >>"$work/unused"
        fi
    done
    : >"$work/seen"
    while [ -s "$work/kept" ]; do
        sort -u "$work/kept" | comm -23 - "$work/seen" >"$work/next"
        sort -u "$work/seen" "$work/next" -o "$work/seen"
        : >"$work/kept"
        while IFS= read -r name; do
            path=$(awk -v name="$name" '$1 == name { print $2; exit }' "$work/libraries")
            [ -z "$path" ] || needed "$path" >>"$work/kept"
        done <"$work/next"
        sort -u "$work/kept" | comm -23 - "$work/seen" >"$work/next"
        cp "$work/next" "$work/kept"
    done
    sort -u "$work/unused" | comm -23 - "$work/seen"
}

# Makes the empty libraries, and keeps them only where everything still finds all its symbols.
stand_in() {
    rm -rf "$output.unused"
    [ "$(uname -s)" = Linux ] || return 0
    for tool in ldd readelf nm awk comm; do
        command -v $tool || return 0
    done
    mkdir -p "$work/made"
    ldd "$output" | awk '$2 == "=>" && $3 ~ /^\// { print $1, $3 }' >"$work/libraries"
    torch=$(awk '$1 ~ /^libtorch_cpu\.so/ { print $2; exit }' "$work/libraries")
    [ -n "$torch" ] || return 0
    for name in $(find_unused "$torch"); do
        # Pictures and films are what the many others come with; small libraries, such as that of zstd, another part of a program may want.
        case $name in libopencv_* | libav* | libsw*) ;; *) continue ;; esac
        echo '' | "$compiler" -x c - -shared -nostdlib -Wl,-soname,"$name" -Wl,-z,max-page-size=4096 -o "$work/made/$name" || return 0
    done
    [ -n "$(ls "$work/made")" ] || return 0
    # Named from within their folder: LD_PRELOAD knows no way to write a space.
    built=$(CDPATH='' cd -- "$(dirname -- "$output")" && pwd)/$(basename -- "$output")
    if (cd "$work/made" && LD_PRELOAD=$(printf './%s ' *) ldd -r "$built") 2>&1 | grep -q -e 'undefined symbol' -e 'not found' -e 'cannot be preloaded'; then
        return 0
    fi
    mv "$work/made" "$output.unused"
}

# Compiles every part at once, then links them; $1 is the standard. What the compiler says is in the log.
compile() {
    rm -rf "$work/parts"
    mkdir -p "$work/parts"
    running=
    for part in "$here"/*.cpp; do
        name=$(basename -- "$part" .cpp)
        # shellcheck disable=SC2086 # the options are lists of words
        "$compiler" -std="$1" -O2 -fPIC -fvisibility=hidden $abi -I"$include" -I"$include/torch/csrc/api/include" \
            -c "$part" -o "$work/parts/$name.o" >"$work/parts/$name.log" 2>&1 &
        running="$running $!"
    done
    failed=
    for process in $running; do
        wait "$process" || failed=yes
    done
    cat "$work"/parts/*.log >"$log"
    [ -z "$failed" ] || return 1
    # shellcheck disable=SC2086 # the options are lists of words
    "$compiler" -shared "$work"/parts/*.o -o "$temporary" -L"$libraries" -Wl,-rpath,"$libraries" $cuda -ltorch -ltorch_cpu -lc10 >>"$log" 2>&1
}

for standard in c++17 c++20; do
    if compile $standard; then
        printf '%s\n' "$libraries" >"$output.libtorch"
        mv -f "$temporary" "$output"
        # They only make loading faster: where they cannot be made, libtorch is loaded with all that it names.
        stand_in >"$log" 2>&1 || rm -rf "$output.unused"
        echo "built $(basename -- "$output") with $compiler against the libtorch in $root"
        exit 0
    fi
done
cat "$log" >&2
fail "$compiler could not build the native part against the libtorch in $root (see above)."
