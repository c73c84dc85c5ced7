#!/bin/sh
# Builds the pretend CUDA device for tests.
#
#   build.sh OUTPUT     OUTPUT is the library to write
#
# It knows the inside of libtorch 1.13 without CUDA. Where that is not what is installed, OUTPUT.reason says so and there is no library.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
output=${1:?usage: build.sh OUTPUT}
mkdir -p "$(dirname -- "$output")"
rm -f "$output"

skip() {
    echo "$*" >"$output.reason"
    exit 0
}

[ "$(uname -s)" = Linux ] || skip "the pretend GPU is for Linux"
root=$(sh "$here/../../../src/OpenWeights.LibTorch/native/build.sh" --find 2>/dev/null) || skip "no libtorch was found"
include=$root/include
version=$(sed -n 's/^#define TORCH_VERSION_M[AI][JN]OR \([0-9]*\).*/\1/p' "$include/torch/csrc/api/include/torch/version.h" "$include/torch/version.h" 2>/dev/null | head -n 2 | paste -sd .)
case $version in
1.13) ;;
*) skip "the pretend GPU knows libtorch 1.13, and this is ${version:-another}" ;;
esac
libraries=$root/lib
[ -e "$libraries/libtorch_cpu.so" ] || libraries=$root/lib/$(uname -m)-linux-gnu
[ ! -e "$libraries/libtorch_cuda.so" ] || skip "this libtorch has a CUDA of its own"

compiler=${CXX:-}
for candidate in g++ clang++ c++; do
    [ -n "$compiler" ] || ! command -v "$candidate" >/dev/null 2>&1 || compiler=$candidate
done
# Without optimisation of what little it does itself, it is there in a third of the time.
if "$compiler" -std=c++17 -O1 -fPIC -shared -fvisibility=hidden -I"$include" -I"$include/torch/csrc/api/include" "$here/pretend_cuda.cpp" \
    -o "$output.tmp" -L"$libraries" -Wl,-rpath,"$libraries" -ltorch -ltorch_cpu -lc10 >"$output.log" 2>&1; then
    mv -f "$output.tmp" "$output"
    rm -f "$output.log"
    echo built >"$output.reason"
else
    cat "$output.log" >&2
    exit 1
fi
