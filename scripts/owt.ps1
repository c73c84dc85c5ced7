# Sets this checkout up on first use, builds it when something changed, and runs owt with the arguments given.
#
#   scripts\owt.ps1 train configs\quickstart.yaml
#
# $env:OWT_TORCH = 'cpu' or 'cuda' chooses the torch runtime, and is remembered. $env:TorchSharpVersion and $env:LibTorchVersion take
# other versions of the packages; each build for Windows checks that their libraries fit together.
$ErrorActionPreference = 'Stop'
$root = Split-Path -Parent $PSScriptRoot
$choice = Join-Path $root 'TorchRuntime.props'
$onWindows = $env:OS -eq 'Windows_NT'

function Say($text) { [Console]::Error.WriteLine($text) }

function Stop-With($sentence) {
    Say "error: $sentence"
    exit 1
}

if (-not (Get-Command dotnet -ErrorAction SilentlyContinue)) {
    Stop-With 'the .NET SDK 10 is not installed; see https://dotnet.microsoft.com/download'
}

if ($onWindows -and -not (Test-Path (Join-Path $env:SystemRoot 'System32\vcruntime140_1.dll'))) {
    Stop-With 'libtorch needs the Microsoft Visual C++ Redistributable, which is not installed; see https://aka.ms/vs/17/release/vc_redist.x64.exe'
}

$runtime = $null
if (Test-Path $choice) {
    $runtime = ([xml](Get-Content -Raw $choice)).Project.PropertyGroup.TorchRuntime.'#text'
}

$wish = $env:OWT_TORCH
$known = if ($onWindows) { 'cpu', 'cuda' } else { 'cpu', 'cuda', 'system' }
if ($wish -and $wish -notin $known) {
    Stop-With "OWT_TORCH is '$wish'; here it must be $($known -join ' or ')"
}

if (-not $runtime -or ($wish -and $wish -ne $runtime)) {
    if ($wish) { $runtime = $wish } else { $runtime = 'cpu' }
    Say "torch runtime: $runtime (for an NVIDIA GPU start once with `$env:OWT_TORCH = 'cuda')"
    Set-Content -Path $choice -Value @"
<Project>
  <!-- Chosen by scripts/owt.ps1; delete this file to choose again. -->
  <PropertyGroup>
    <TorchRuntime Condition="'`$(TorchRuntime)' == ''">$runtime</TorchRuntime>
  </PropertyGroup>
</Project>
"@
}

$artifacts = Join-Path $root 'artifacts'
$stamp = Join-Path $artifacts "owt.$runtime$($env:TorchSharpVersion)$($env:LibTorchVersion).stamp"
$program = Join-Path $root "src/OpenWeights.Tune.Cli/bin/$runtime/Release/net10.0/owt.dll"
$inputs = @('src', 'build', 'Directory.Build.props', 'Directory.Build.targets', 'Directory.Packages.props', 'global.json') |
    ForEach-Object { Join-Path $root $_ } |
    Get-ChildItem -Recurse -File |
    Where-Object { $_.FullName -notmatch '[\\/](obj|bin)[\\/]' }
$newest = ($inputs | Measure-Object -Property LastWriteTimeUtc -Maximum).Maximum
if (-not (Test-Path $stamp) -or -not (Test-Path $program) -or (Get-Item $stamp).LastWriteTimeUtc -lt $newest) {
    $packages = if ($env:NUGET_PACKAGES) { $env:NUGET_PACKAGES } else { Join-Path $HOME '.nuget/packages' }
    if ($runtime -eq 'cpu' -and -not (Test-Path (Join-Path $packages 'libtorch-cpu-*'))) {
        Say 'downloading what owt needs, with TorchSharp and libtorch for this platform (about 250 MB; 300 MB on Linux)'
    } elseif ($runtime -eq 'cuda' -and -not (Test-Path (Join-Path $packages 'torchsharp-cuda-*'))) {
        Say 'downloading TorchSharp and libtorch with CUDA (several GB)'
    }

    Say 'building ...'
    New-Item -ItemType Directory -Force -Path $artifacts | Out-Null
    $started = [DateTime]::UtcNow
    $output = dotnet build (Join-Path $root 'src/OpenWeights.Tune.Cli/OpenWeights.Tune.Cli.csproj') -c Release -nologo -clp:NoSummary -v:q "-p:TorchRuntime=$runtime"
    if ($LASTEXITCODE -ne 0) {
        $output | ForEach-Object { Say $_ }
        Stop-With 'the build failed (see above)'
    }

    Set-Content -Path $stamp -Value $runtime
    (Get-Item $stamp).LastWriteTimeUtc = $started
}

dotnet $program @args
exit $LASTEXITCODE
