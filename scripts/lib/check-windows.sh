#!/bin/sh
# Proves on Linux what can be of Windows: the quickstart through scripts/owt.ps1 under PowerShell, and a program published for win-x64
# whose native libraries are there once and have what they import of each other. Ends with "N passed, N failed, N skipped".
set -u
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P)
powershell=7.6.9
work=$root/artifacts/windows
passed=0 failed=0

# check SENTENCE COMMAND...: counts it, and says which did not hold.
check() {
    sentence=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $sentence"
    fi
}

pwsh=$root/artifacts/powershell-$powershell/pwsh
get_powershell() {
    [ -x "$pwsh" ] || dotnet tool install PowerShell --version "$powershell" --tool-path "$(dirname "$pwsh")" >"$work/powershell.log" 2>&1 || {
        cat "$work/powershell.log"
        return 1
    }
}

run_quickstart() {
    OWT_TORCH='' "$pwsh" -NoProfile -NonInteractive -File "$root/scripts/owt.ps1" train "$root/configs/quickstart.yaml" "output_dir=$work/quickstart" --overwrite >"$work/quickstart.log" 2>&1 || {
        cat "$work/quickstart.log"
        return 1
    }
    grep 'exactly right after training:' "$work/quickstart.log"
}

learned() {
    awk '/exactly right after training:/ { gsub(/[^0-9.]/, " "); split($0, n, " "); found = 1; if (n[3] < 90) exit 1 } END { exit !found }' "$work/quickstart.log"
}

refuses() {
    if OWT_TORCH=rocm "$pwsh" -NoProfile -NonInteractive -File "$root/scripts/owt.ps1" --version >"$work/refused.log" 2>&1; then
        return 1
    fi
    [ "$(wc -l <"$work/refused.log")" = 1 ] && grep -q "^error: OWT_TORCH is 'rocm'; here it must be " "$work/refused.log"
}

publish() {
    rm -rf "$work/app"
    dotnet publish "$root/src/OpenWeights.Tune.Cli/OpenWeights.Tune.Cli.csproj" -c Release -r win-x64 --self-contained false -nologo -v:q -o "$work/app" \
        -p:TorchRuntime=cpu -p:BuildFlavor=-windows -p:RunAnalyzers=false >"$work/publish.log" 2>&1 || {
        cat "$work/publish.log"
        return 1
    }
}

natives_once() {
    for file in LibTorchSharp.dll torch_cpu.dll c10.dll; do
        [ "$(find "$work/app" -name "$file" | wc -l)" = 1 ] || return 1
    done
    [ -f "$work/app/owt.exe" ] && [ -z "$(find "$work/app" \( -name '*.so*' -o -name '*.dylib' -o -name libSkiaSharp.dll \))" ]
}

mkdir -p "$work"
# The checkout's own choice of a runtime stays; the script chooses as on a fresh one.
choice=$root/TorchRuntime.props
[ ! -f "$choice" ] || mv "$choice" "$work/TorchRuntime.props"
trap 'rm -f "$choice"; [ ! -f "$work/TorchRuntime.props" ] || mv "$work/TorchRuntime.props" "$choice"' EXIT

check "PowerShell $powershell can be installed" get_powershell
if [ "$failed" = 0 ]; then
    check 'scripts/owt.ps1 runs the quickstart under PowerShell' run_quickstart
    check 'and 90 % of its answers are exactly right' learned
    check 'and chooses a runtime that it remembers' grep -q '>cpu</TorchRuntime>' "$choice"
    check 'and refuses a runtime that does not exist in one sentence' refuses
fi
check 'owt is published for win-x64' publish
check 'with its native libraries once, and none of another system' natives_once
check 'which have what they import of each other' dotnet msbuild "$root/build/CheckWindowsFolder.proj" -nologo "-p:Folder=$work/app"

echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
