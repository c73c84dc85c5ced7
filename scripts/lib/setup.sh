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

# apt_install "PACKAGE...": installs packages; where they are not found, after reading the lists of packages anew. What apt-get says is in artifacts/apt.log.
apt_install() {
    as_root=$(root_prefix "$1") || exit 1
    install="$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $1"
    # shellcheck disable=SC2086 # lists of words
    $install >"$root/artifacts/apt.log" 2>&1 && return 0
    $as_root apt-get update -qq >>"$root/artifacts/apt.log" 2>&1 || say "apt-get update failed; see artifacts/apt.log"
    # shellcheck disable=SC2086 # lists of words
    $install >>"$root/artifacts/apt.log" 2>&1
}

# Whether there is a browser for the tests of the server's page (they look in the same places).
has_browser() {
    [ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 ||
        command -v google-chrome >/dev/null 2>&1 || command -v google-chrome-stable >/dev/null 2>&1
}

# Installs Chromium where that needs no one: else these tests are skipped, and say what they lack.
install_browser() {
    has_browser && return 0
    command -v apt-get >/dev/null 2>&1 && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; } || return 0
    say "installing with apt-get: chromium (some hundred MB with what it needs), for the tests of the server's page"
    mkdir -p "$root/artifacts"
    apt_install "chromium fonts-dejavu-core" || say "apt-get could not install chromium: the tests of the server's page are skipped (see artifacts/apt.log)"
}

# Installs two MPIs where that needs no one: else the tests of ranks that are processes are skipped, and say what they lack.
install_mpi() {
    wanted=
    command -v mpirun.openmpi >/dev/null 2>&1 || wanted="openmpi-bin"
    command -v mpirun.mpich >/dev/null 2>&1 || wanted="$wanted mpich"
    [ -n "$wanted" ] || return 0
    command -v apt-get >/dev/null 2>&1 && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; } || return 0
    say "installing with apt-get:$(printf ' %s' $wanted), for the tests of several ranks"
    mkdir -p "$root/artifacts"
    apt_install "$wanted" || say "apt-get could not install$(printf ' %s' $wanted): the tests of ranks under MPI are skipped (see artifacts/apt.log)"
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
        apt_install "$wanted" ||
            fail "apt-get could not install$(printf ' %s' $wanted); the last lines of artifacts/apt.log: $(tail -n 3 "$root/artifacts/apt.log")"
    elif [ -n "$wanted" ]; then
        fail "torch runtime 'system' needs$(printf ' %s' $wanted). Install them (or unpack libtorch and set LIBTORCH to its folder), then start again."
    fi
}

# --- The choice of a runtime: it is taken because it ran.

owt_project=src/OpenWeights.Tune.Cli/OpenWeights.Tune.Cli.csproj

owt_program() {
    echo "$root/src/OpenWeights.Tune.Cli/bin/$1/Release/net10.0/owt.dll"
}

# What a proof holds for: what the loader looks at, and size and time of each library that was loaded (of those in the list $1).
libraries_now() {
    echo "LIBTORCH=${LIBTORCH:-} LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-} LD_PRELOAD=${LD_PRELOAD:-}"
    while IFS= read -r file; do set -- "$@" "$file"; done <"$1"
    shift
    LC_ALL=C TZ=UTC ls -lLn -- "$@" 2>&1 | sed "s/^\([^ ]*\) *[0-9]* /\1 /" # without the number of links, which other builds change
}

# Whether the runtime $1 was loaded here and multiplied, and nothing that it was loaded from has changed since; takes some milliseconds.
still_proven() {
    proof=$root/artifacts/proof.$1
    runtime=$1
    [ -f "$(owt_program "$1")" ] && [ -f "$proof" ] && [ -f "$proof.libraries" ] && [ "$(cat "$proof")" = "$(libraries_now "$proof.libraries")" ]
}

# The first error of a log of dotnet, in one line.
first_error() {
    sed -n 's/^.*build\.sh *: error *: *//p; s/.*: error \([A-Z]*[0-9]*: .*\)/\1/p' "$1" | sed 's/ \[[^]]*\]$//; s/\.$//' | head -n 1
}

# Says how much comes from the package registry, where it is not there yet.
tell_download() {
    packages=${NUGET_PACKAGES:-$HOME/.nuget/packages}
    case $1 in
    cpu)
        ls -d "$packages"/libtorch-cpu-*/ >/dev/null 2>&1 || say "downloading TorchSharp and libtorch for this platform (300 MB with all that owt needs)"
        ;;
    cuda)
        ls -d "$packages"/torchsharp-cuda-*/ >/dev/null 2>&1 || say "downloading TorchSharp and libtorch with CUDA (several GB)"
        ;;
    esac
}

# Lets the owt that was built load torch and multiply two matrices; where that fails, $reason is why.
run_proof() {
    reason= ran=0
    dotnet "$(owt_program "$runtime")" doctor --proof "$proof.libraries.new" >"$root/artifacts/proof.log" 2>&1 || ran=$?
    [ "$ran" != 0 ] || return 0
    reason=$(sed -n 's/^error: //p' "$root/artifacts/proof.log" | head -n 1)
    [ -n "$reason" ] || reason="the program ended with code $ran before it had multiplied two matrices (see artifacts/proof.log)"
    return 1
}

# Builds owt with the runtime $1, lets it load torch and multiply two matrices, and writes down what was loaded. Where that fails, $reason
# is why, in one line. With $2 = install, what the system runtime needs is installed.
prove() {
    runtime=$1 reason=
    proof=$root/artifacts/proof.$1
    mkdir -p "$root/artifacts"
    rm -f "$proof" "$proof.libraries"
    case $1-$(uname -s)-$(uname -m) in
    system-*)
        if [ "${2:-}" = install ]; then
            install_libtorch
        elif ! has_libtorch; then
            reason="there is no libtorch any more"
            return 1
        fi
        # The native part may be of another libtorch than is there now.
        rm -f "$root/artifacts/owt.$1.stamp"
        ;;
    cpu-Linux-x86_64 | cpu-Darwin-arm64 | cuda-Linux-x86_64) ;;
    *)
        reason="TorchSharp's packages have no libtorch for $(uname -s) on $(uname -m)"
        return 1
        ;;
    esac
    [ "$1" = system ] || tell_download "$1"
    if ! dotnet restore "$root/$owt_project" -nologo -v:q "-p:TorchRuntime=$1" >"$root/artifacts/restore.log" 2>&1; then
        reason="its packages cannot be restored: $(first_error "$root/artifacts/restore.log")"
        return 1
    fi
    [ -f "$(owt_program "$1")" ] || rm -f "$root/artifacts/owt.$1.stamp"
    if ! try_build "$owt_project" owt; then
        # What does not compile does so under no runtime; a native part that cannot be built is the runtime's.
        grep -q 'build\.sh *: error' "$root/artifacts/build.log" || build_failed
        reason=$(first_error "$root/artifacts/build.log")
        return 1
    fi
    if ! run_proof; then
        # A file may have gone or been cut off since it was built; what is still there is neither built nor copied from its package again.
        rm -f "$root/artifacts/owt.$1.stamp"
        rm -rf "$root/artifacts/native" "$(dirname "$(owt_program "$1")")/runtimes"
        { try_build "$owt_project" owt && run_proof; } || return 1
    fi
    mv -f "$proof.libraries.new" "$proof.libraries"
    libraries_now "$proof.libraries" >"$proof"
}

# remember RUNTIME wished|found
remember() {
    cat >"$choice.new" <<PROPS
<Project>
  <!-- Written by scripts/lib/setup.sh; delete this file to choose again, or set OWT_TORCH to cpu, cuda or system. -->
  <PropertyGroup>
    <TorchRuntime Condition="'\$(TorchRuntime)' == ''">$1</TorchRuntime>
    <TorchRuntimeIs>$2</TorchRuntimeIs>
  </PropertyGroup>
</Project>
PROPS
    mv -f "$choice.new" "$choice"
}

remembered() {
    [ ! -f "$choice" ] || sed -n "s|.*<$1\( [^>]*\)\{0,1\}>\(.*\)</$1>.*|\2|p" "$choice"
}

# One start at a time sets this checkout up or builds it; the others wait. A lock whose holder was killed is taken over, also where it was
# killed before it had written who it is, which takes no seconds.
lock_setup() {
    mkdir -p "$root/artifacts"
    lock=$root/artifacts/setup.lock told= nameless=0
    until mkdir "$lock" 2>/dev/null; do
        [ -d "$lock" ] || fail "$root/artifacts cannot be written to"
        holder=$(cat "$lock/pid" 2>/dev/null || echo)
        [ -n "$holder" ] && nameless=0 || nameless=$((nameless + 1))
        if { [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null; } || [ "$nameless" -gt 5 ]; then
            rm -rf "$lock"
            nameless=0
            continue
        fi
        [ -n "$told" ] || say "waiting for another start, which sets this checkout up"
        told=1
        sleep 1
    done
    echo $$ >"$lock/pid"
    trap 'rm -rf "$lock"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

unlock_setup() {
    trap - EXIT INT TERM
    rm -rf "$lock"
}

# Sets $runtime to one that works here: the one that OWT_TORCH asks for or none, else the one chosen before, else the first of cpu and
# system that can be loaded and multiplies.
choose_runtime() {
    kept=$(remembered TorchRuntime) kept_is=$(remembered TorchRuntimeIs)
    case ${OWT_TORCH:-}-$kept-$kept_is in
    -?*-* | "$kept-$kept-wished") ! still_proven "$kept" || return 0 ;;
    esac
    lock_setup
    choose_anew
    unlock_setup
}

choose_anew() {
    wish=${OWT_TORCH:-}
    case $wish in
    "" | cpu | cuda | system) ;;
    *) fail "OWT_TORCH is '$wish'; it must be cpu, cuda or system" ;;
    esac
    kept=$(remembered TorchRuntime) kept_is=$(remembered TorchRuntimeIs)
    if [ -n "$wish" ]; then
        if ! still_proven "$wish"; then
            say "setting up torch runtime $wish (OWT_TORCH) ..."
            prove "$wish" install || fail "torch runtime $wish, which OWT_TORCH asks for, does not work here: $reason"
        fi
        [ "$kept-$kept_is" = "$wish-wished" ] || remember "$wish" wished
    elif [ -n "$kept" ] && still_proven "$kept"; then
        :
    elif [ -n "$kept" ] && say "looking at torch runtime $kept again: what it was loaded from has changed, or was not looked at yet" && prove "$kept"; then
        :
    elif [ "$kept_is" = wished ]; then
        fail "torch runtime $kept, which OWT_TORCH asked for, no longer works here: $reason. Choose another with OWT_TORCH, or delete TorchRuntime.props to have one chosen"
    else
        [ -z "$kept" ] || say "torch runtime $kept no longer works here: $reason"
        find_runtime "$kept"
    fi
}

# What owt is told of the choice: where its proof is, which it deletes when it cannot load torch, and why it was made (for owt doctor).
tell_choice() {
    export OWT_PROOF="$root/artifacts/proof.$runtime"
    case $(remembered TorchRuntimeIs) in
    wished) export OWT_CHOSEN="OWT_TORCH asked for it, and it was loaded and multiplied two matrices" ;;
    *) export OWT_CHOSEN="it is the first of cpu and system that was loaded and multiplied two matrices" ;;
    esac
}

# find_runtime FAILED: tries them in turn, but for one that has just failed for good.
find_runtime() {
    for candidate in cpu system; do
        [ "$candidate-$1" != cpu-cpu ] || continue
        say "setting up: trying torch runtime $candidate ..."
        if prove "$candidate" install; then
            case $candidate in
            cpu) say "torch runtime: cpu (TorchSharp's own package; for an NVIDIA GPU start once with OWT_TORCH=cuda)" ;;
            system) say "torch runtime: system (an installed libtorch)" ;;
            esac
            remember "$candidate" found
            return 0
        fi
        say "torch runtime $candidate does not work here: $reason"
    done
    fail "no torch runtime works here, for the reasons above"
}

# Whether anything that the build reads is newer than the stamp of the last one.
changed_since() {
    [ -f "$1" ] || return 0
    [ -n "$(find "$root/src" "$root/tests" "$root/samples" "$root/build" "$root/Directory.Build.props" "$root/Directory.Build.targets" "$root/Directory.Packages.props" "$root/global.json" "$root/.editorconfig" \
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

# try_build PROJECT STAMP [ARGUMENTS]: builds a project or solution in Release if anything changed; what the build says is in artifacts/build.log.
try_build() {
    stamp=$root/artifacts/$2.$runtime.stamp built=$1
    shift 2
    changed_since "$stamp" || return 0
    mkdir -p "$root/artifacts"
    say "building ..."
    fetch_ahead_compiler
    touch "$stamp.new"
    dotnet build "$root/$built" -c Release -nologo -clp:NoSummary -v:q "-p:TorchRuntime=$runtime" "$@" >"$root/artifacts/build.log" 2>&1 || return 1
    mv -f "$stamp.new" "$stamp"
}

build_failed() {
    cat "$root/artifacts/build.log" >&2
    fail "the build failed (see above)"
}

# The same, and the end of the script where it fails, with all that the build says.
build() {
    changed_since "$root/artifacts/$2.$runtime.stamp" || return 0
    lock_setup
    try_build "$@" || build_failed
    unlock_setup
}
