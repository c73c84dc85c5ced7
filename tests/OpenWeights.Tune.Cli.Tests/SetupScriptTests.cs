using System.Diagnostics;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>scripts/owt in a fresh checkout, with a dotnet that only takes its time.</summary>
[Platform("Linux")]
public sealed class SetupScriptTests
{
    private const string Dotnet = """
        #!/bin/sh
        case $1 in
        restore) ;;
        build)
            echo build >>"$CHECKOUT/builds"
            sleep 1
            mkdir -p "$CHECKOUT/src/OpenWeights.Tune.Cli/bin/cpu/Release/net10.0"
            touch "$CHECKOUT/src/OpenWeights.Tune.Cli/bin/cpu/Release/net10.0/owt.dll"
            mkdir -p "$CHECKOUT/artifacts/native"
            [ -f "$CHECKOUT/artifacts/native/library" ] || echo whole >"$CHECKOUT/artifacts/native/library"
            ;;
        *) case ${2:-} in
            doctor) grep -q whole "$CHECKOUT/artifacts/native/library" && echo "$1" >"$4" || { echo "error: the library is cut off" >&2; exit 3; } ;;
            *) echo started ;;
            esac ;;
        esac
        """;

    [Test]
    public async Task Two_first_starts_at_once_build_one_after_the_other()
    {
        using var folder = new TemporaryFolder();
        Prepare(folder);
        var starts = new[] { Start(folder), Start(folder) };
        foreach (var start in starts)
        {
            var (output, error) = (start.StandardOutput.ReadToEndAsync(), start.StandardError.ReadToEndAsync());
            await start.WaitForExitAsync();
            Assert.That((start.ExitCode, (await output).Trim()), Is.EqualTo((0, "started")), await error);
            start.Dispose();
        }

        Assert.That(await File.ReadAllLinesAsync(Path.Combine(folder.Root, "builds")), Has.Length.EqualTo(1));
        Assert.That(Path.Exists(Path.Combine(folder.Root, "artifacts", "setup.lock")), Is.False);
    }

    [Test]
    public async Task The_lock_of_a_start_that_was_killed_is_taken_over()
    {
        using var folder = new TemporaryFolder();
        Prepare(folder);
        folder.Write("artifacts/setup.lock/pid", "999999999\n");
        await Started(folder);
    }

    [Test]
    public async Task The_lock_of_a_start_that_was_killed_before_it_wrote_who_it_is_is_taken_over()
    {
        using var folder = new TemporaryFolder();
        Prepare(folder);
        folder.Folder("artifacts/setup.lock");
        await Started(folder);
        Assert.That(Path.Exists(folder.At("artifacts", "setup.lock")), Is.False);
    }

    [Test]
    public async Task A_damaged_copy_of_a_library_is_made_anew_before_another_runtime_is_taken()
    {
        using var folder = new TemporaryFolder();
        Prepare(folder);
        folder.Write("artifacts/native/library", "who");
        await Started(folder);
        Assert.That(await File.ReadAllTextAsync(folder.At("TorchRuntime.props")), Does.Contain(">cpu<"));
        Assert.That((await File.ReadAllTextAsync(folder.At("artifacts", "native", "library"))).Trim(), Is.EqualTo("whole"));
    }

    private static async Task Started(TemporaryFolder folder)
    {
        using var start = Start(folder);
        var (output, error) = (start.StandardOutput.ReadToEndAsync(), start.StandardError.ReadToEndAsync());
        using var limit = new CancellationTokenSource(TimeSpan.FromMinutes(1));
        try
        {
            await start.WaitForExitAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            start.Kill(entireProcessTree: true);
            Assert.Fail("it waits for ever");
        }

        Assert.That((start.ExitCode, (await output).Trim()), Is.EqualTo((0, "started")), await error);
    }

    private static void Prepare(TemporaryFolder folder)
    {
        foreach (var name in new[] { "owt", "lib/setup.sh" })
        {
            folder.Write($"scripts/{name}", File.ReadAllText(Path.Combine(SharedFiles.Root, "scripts", name)));
        }

        var dotnet = folder.Write("bin/dotnet", Dotnet.ReplaceLineEndings("\n"));
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(dotnet, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }
    }

    private static Process Start(TemporaryFolder folder) => Process.Start(new ProcessStartInfo("sh", [folder.At("scripts", "owt"), "--version"])
    {
        RedirectStandardOutput = true,
        RedirectStandardError = true,
        Environment =
        {
            ["PATH"] = $"{folder.At("bin")}:{Environment.GetEnvironmentVariable("PATH")}",
            ["CHECKOUT"] = folder.Root,
            ["OWT_TORCH"] = "",
        },
    })!;
}
