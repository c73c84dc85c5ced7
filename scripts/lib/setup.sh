# Sets this checkout up: which torch it uses, and what has to be installed for it. Sourced by scripts/owt and scripts/test.
# Afterwards: $root is the checkout, $runtime the torch runtime.

# shellcheck shell=sh disable=SC2034
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
choice=$root/TorchRuntime.props

say() {
    echo "$*" >&2
}

fail() {
    echo "error: $*" >&2
    exit 1
}

require_dotnet() {
    command -v dotnet >/dev/null 2>&1 ||
        fail "the .NET SDK 10 is not installed. See https://dotnet.microsoft.com/download, or on Debian and Ubuntu: sudo apt-get install dotnet-sdk-10.0"
}

# How commands are run as root: empty for root itself, else sudo where it asks for no password; without either, says the one line to run.
root_prefix() {
    if [ "$(id -u)" = 0 ]; then
        return 0
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        echo sudo
    else
        fail "this needs root. Run this one line, then start again: sudo apt-get update && sudo apt-get install -y --no-install-recommends$(printf ' %s' $1)"
    fi
}

has_libtorch() {
    [ -n "${LIBTORCH:-}" ] || sh "$root/src/OpenWeights.LibTorch/native/build.sh" --find >/dev/null 2>&1
}

# What the system runtime needs: a libtorch, a C++ compiler, and a BLAS whose threads are OpenMP's like libtorch's own.
install_libtorch() {
    wanted=
    has_libtorch || wanted="libtorch-dev"
    if command -v "${CXX:-g++}" >/dev/null 2>&1 || command -v clang++ >/dev/null 2>&1; then :; else wanted="$wanted g++"; fi
    if command -v apt-get >/dev/null 2>&1; then
        blas=$(ls /usr/lib/*/openblas-openmp/libopenblas.so.0 2>/dev/null || echo)
        [ -n "$blas" ] || [ -n "${LIBTORCH:-}" ] || wanted="$wanted libopenblas0-openmp"
        [ -n "$wanted" ] || return 0
        say "installing with apt-get:$(printf ' %s' $wanted) (about 500 MB with what they need)"
        as_root=$(root_prefix "$wanted") || exit 1
        install="$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $wanted"
        # shellcheck disable=SC2086 # lists of words
        if ! $install >"$root/artifacts/apt.log" 2>&1; then
            $as_root apt-get update -qq >>"$root/artifacts/apt.log" 2>&1 || say "apt-get update failed; see artifacts/apt.log"
            $install >>"$root/artifacts/apt.log" 2>&1 ||
                fail "apt-get could not install$(printf ' %s' $wanted); the last lines of artifacts/apt.log: $(tail -n 3 "$root/artifacts/apt.log")"
        fi
    elif [ -n "$wanted" ]; then
        fail "torch runtime 'system' needs$(printf ' %s' $wanted). Install them (or unpack libtorch and set LIBTORCH to its folder), then start again."
    fi
}

# Whether the registry has TorchSharp's package for this machine: a restore of it, tried once.
has_package() {
    case $(uname -s)-$(uname -m) in
    Linux-x86_64 | Darwin-arm64) ;;
    *) return 1 ;;
    esac
    probe=$root/artifacts/probe
    mkdir -p "$probe"
    cat >"$probe/probe.csproj" <<PROJECT
<Project Sdk="Microsoft.NET.Sdk">
  <PropertyGroup><TargetFramework>net10.0</TargetFramework></PropertyGroup>
  <ItemGroup><PackageReference Include="$1" /></ItemGroup>
</Project>
PROJECT
    dotnet restore "$probe/probe.csproj" >"$probe/restore.log" 2>&1
}

remember() {
    cat >"$choice" <<PROPS
<Project>
  <!-- Chosen by scripts/lib/setup.sh; delete this file to choose again, or set OWT_TORCH to cpu, cuda or system. -->
  <PropertyGroup>
    <TorchRuntime Condition="'\$(TorchRuntime)' == ''">$1</TorchRuntime>
  </PropertyGroup>
</Project>
PROPS
}

choose_runtime() {
    wish=${OWT_TORCH:-}
    runtime=
    [ ! -f "$choice" ] || runtime=$(sed -n 's|.*<TorchRuntime[^>]*>\(.*\)</TorchRuntime>.*|\1|p' "$choice")
    if [ -n "$runtime" ] && { [ -z "$wish" ] || [ "$wish" = "$runtime" ]; }; then
        return 0
    fi
    mkdir -p "$root/artifacts"
    case $wish in
    "")
        say "setting up: asking the package registry for TorchSharp-cpu ..."
        if has_package TorchSharp-cpu; then
            runtime=cpu
            say "torch runtime: cpu (TorchSharp's own package; for an NVIDIA GPU start once with OWT_TORCH=cuda)"
        else
            runtime=system
            say "torch runtime: system (the registry has no TorchSharp-cpu for this machine, so an installed libtorch is used)"
        fi
        ;;
    cpu | cuda | system)
        runtime=$wish
        say "torch runtime: $runtime (OWT_TORCH)"
        ;;
    *) fail "OWT_TORCH is '$wish'; it must be cpu, cuda or system" ;;
    esac
    [ "$runtime" != system ] || install_libtorch
    remember "$runtime"
}

# Whether anything that the build reads is newer than the stamp of the last one.
changed_since() {
    [ -f "$1" ] || return 0
    [ -n "$(find "$root/src" "$root/tests" "$root/Directory.Build.props" "$root/Directory.Build.targets" "$root/Directory.Packages.props" "$root/global.json" "$root/.editorconfig" "$choice" \
        \( -name obj -o -name bin -o -name node_modules \) -prune -o -type f -newer "$1" -print 2>/dev/null | head -n 1)" ]
}

# Asks once for the compiler that makes owt start faster (ReadyToRun); where the registry has it, each build uses it from then on.
fetch_ahead_compiler() {
    probe=$root/artifacts/ahead
    [ ! -f "$probe/asked" ] || return 0
    mkdir -p "$probe"
    cat >"$probe/ahead.csproj" <<'PROJECT'
<Project Sdk="Microsoft.NET.Sdk">
  <PropertyGroup>
    <TargetFramework>net10.0</TargetFramework>
    <UseCurrentRuntimeIdentifier>true</UseCurrentRuntimeIdentifier>
    <PublishReadyToRun>true</PublishReadyToRun>
    <SelfContained>false</SelfContained>
  </PropertyGroup>
</Project>
PROJECT
    dotnet restore "$probe/ahead.csproj" >"$probe/restore.log" 2>&1 ||
        say "owt will start more slowly: the registry has no ReadyToRun compiler (see artifacts/ahead/restore.log)"
    touch "$probe/asked"
}

# Builds a project or solution in Release if anything changed; prints the build's output only where it fails.
build() {
    stamp=$root/artifacts/$2.$runtime.stamp
    changed_since "$stamp" || return 0
    mkdir -p "$root/artifacts"
    say "building ..."
    fetch_ahead_compiler
    touch "$stamp.new"
    dotnet build "$root/$1" -c Release -nologo -clp:NoSummary -v:q "-p:TorchRuntime=$runtime" >"$root/artifacts/build.log" 2>&1 || {
        cat "$root/artifacts/build.log" >&2
        fail "the build failed (see above)"
    }
    mv -f "$stamp.new" "$stamp"
}
