# Sets this checkout up on first use, builds it when something changed, and runs owt with the arguments given.
#
#   scripts\owt.ps1 train configs\quickstart.yaml
#
# $env:OWT_TORCH = 'cpu' or 'cuda' chooses the torch runtime, and is remembered.
$ErrorActionPreference = 'Stop'
$root = Split-Path -Parent $PSScriptRoot
$choice = Join-Path $root 'TorchRuntime.props'

if (-not (Get-Command dotnet -ErrorAction SilentlyContinue)) {
    throw 'the .NET SDK 10 is not installed; see https://dotnet.microsoft.com/download'
}

$runtime = $null
if (Test-Path $choice) {
    $runtime = ([xml](Get-Content -Raw $choice)).Project.PropertyGroup.TorchRuntime.'#text'
}

$wish = $env:OWT_TORCH
if ($wish -and $wish -notin 'cpu', 'cuda') {
    throw "OWT_TORCH is '$wish'; on Windows it must be cpu or cuda"
}

if (-not $runtime -or ($wish -and $wish -ne $runtime)) {
    if ($wish) { $runtime = $wish } else { $runtime = 'cpu' }
    [Console]::Error.WriteLine("torch runtime: $runtime (for an NVIDIA GPU start once with `$env:OWT_TORCH = 'cuda')")
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
$stamp = Join-Path $artifacts "owt.$runtime.stamp"
$inputs = @('src', 'Directory.Build.props', 'Directory.Build.targets', 'Directory.Packages.props', 'global.json', 'TorchRuntime.props') |
    ForEach-Object { Join-Path $root $_ } |
    Get-ChildItem -Recurse -File |
    Where-Object { $_.FullName -notmatch '[\\/](obj|bin)[\\/]' }
$newest = ($inputs | Measure-Object -Property LastWriteTimeUtc -Maximum).Maximum
if (-not (Test-Path $stamp) -or (Get-Item $stamp).LastWriteTimeUtc -lt $newest) {
    [Console]::Error.WriteLine('building ...')
    New-Item -ItemType Directory -Force -Path $artifacts | Out-Null
    $started = [DateTime]::UtcNow
    $output = dotnet build (Join-Path $root 'src/OpenWeights.Tune.Cli/OpenWeights.Tune.Cli.csproj') -c Release -nologo -clp:NoSummary -v:q "-p:TorchRuntime=$runtime"
    if ($LASTEXITCODE -ne 0) {
        $output | ForEach-Object { [Console]::Error.WriteLine($_) }
        throw 'the build failed (see above)'
    }

    Set-Content -Path $stamp -Value $runtime
    (Get-Item $stamp).LastWriteTimeUtc = $started
}

dotnet (Join-Path $root "src/OpenWeights.Tune.Cli/bin/$runtime/Release/net10.0/owt.dll") @args
exit $LASTEXITCODE
