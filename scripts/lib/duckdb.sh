# Fetches DuckDB's library into artifacts/duckdb, where owt looks for it. Sourced by scripts/duckdb; needs $root, say and fail.

# shellcheck shell=sh
duckdb_version=1.5.6

# What the packages call this machine, and the library's file.
name_platform() {
    case $(uname -s)-$(uname -m) in
    Linux-x86_64) rid=linux-x64 npm_name=linux-x64 file=libduckdb.so ;;
    Linux-aarch64) rid=linux-arm64 npm_name=linux-arm64 file=libduckdb.so ;;
    Darwin-arm64) rid=osx npm_name=darwin-arm64 file=libduckdb.dylib ;;
    Darwin-x86_64) rid=osx npm_name=darwin-x64 file=libduckdb.dylib ;;
    *) fail "there is no package of DuckDB's library for this machine; unpack libduckdb of duckdb.org and name its file in OWT_DUCKDB" ;;
    esac
}

# NuGet's package, by a restore into a folder of its own.
fetch_with_nuget() {
    mkdir -p "$work"
    cat >"$work/duckdb.csproj" <<PROJECT
<Project Sdk="Microsoft.NET.Sdk">
  <PropertyGroup><TargetFramework>net10.0</TargetFramework></PropertyGroup>
  <ItemGroup><PackageReference Include="DuckDB.NET.Bindings.Full" Version="[$duckdb_version,2)" /></ItemGroup>
</Project>
PROJECT
    dotnet restore "$work/duckdb.csproj" --packages "$work/packages" >"$work/restore.log" 2>&1 || return 1
    found=$(find "$work/packages" -path "*/runtimes/$rid/native/*" -name '*duckdb.*' | head -n 1)
    [ -n "$found" ]
}

# npm's package, whose library is the same one beside Node's own part.
fetch_with_npm() {
    command -v npm >/dev/null 2>&1 || return 1
    mkdir -p "$work"
    (cd "$work" && npm pack --silent "@duckdb/node-bindings-$npm_name@$duckdb_version-r.1" >npm.log 2>&1) || return 1
    tar -xzf "$work"/duckdb-node-bindings-*.tgz -C "$work" "package/$file" || return 1
    found=$work/package/$file
}

install_duckdb() {
    name_platform
    target=$root/artifacts/duckdb/$file
    if [ ! -f "$target" ]; then
        mkdir -p "$root/artifacts/duckdb"
        work=$(mktemp -d "$root/artifacts/duckdb/fetching.XXXXXX")
        say "fetching DuckDB $duckdb_version (about 24 MB) ..."
        if fetch_with_nuget || fetch_with_npm; then
            mv -f "$found" "$target"
            rm -rf "$work"
        else
            rm -rf "$work"
            fail "no package registry gave DuckDB's library; unpack libduckdb of duckdb.org and name its file in OWT_DUCKDB"
        fi
    fi
    echo "$target"
}
