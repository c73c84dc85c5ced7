using System.Diagnostics;
using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>scripts/bench, on a model so small that it takes a second.</summary>
[Platform(Exclude = "Win")]
public sealed class BenchScriptTests
{
    [Test]
    public void Its_JSON_has_our_figures_beside_the_peers()
    {
        using var folder = new TemporaryFolder();
        var owt = Program(folder, "owt", $"exec dotnet '{Path.Combine(AppContext.BaseDirectory, "owt.dll")}' \"$@\"");
        // Stands for a Python with the peer in it: -c asks what it can import, anything else is a run.
        var peer = Program(folder, "python", """[ "$1" = -c ] || echo '{"tokens_per_second": 0.5, "peak_memory_bytes": 1000000000000, "loss": 1.5, "step_seconds": 32.0}'""");
        var (code, output, error) = Bench(
            owt, "--json", "--steps", "1", "--device", "cpu", "--rows", "lora-float32", "--peer", peer, "--",
            "--hidden-size", "32", "--layers", "1", "--heads", "2", "--kv-heads", "1", "--intermediate-size", "64", "--vocab-size", "100", "--seq-len", "16", "--batch-size", "1");
        Assert.That(code, Is.Zero, error);
        var row = JsonNode.Parse(output)!.AsArray().Single()!;
        var speed = row["owt"]!["tokens_per_second"]!.GetValue<double>();
        Assert.That(row["run"]!.ToString(), Is.EqualTo("lora-float32"));
        Assert.That(speed, Is.GreaterThan(0.5));
        Assert.That(row["speed_ratio"]!.GetValue<double>(), Is.EqualTo(speed / 0.5).Within(0.01));
        Assert.That(row["memory_ratio"]!.GetValue<double>(), Is.LessThan(0.01));
    }

    [Test]
    public void Runtimes_stand_side_by_side_and_are_told_relative_to_the_last()
    {
        using var folder = new TemporaryFolder();
        var owt = Program(folder, "owt", """case $OWT_TORCH in cpu) speed=300 memory=2000000 ;; *) speed=200 memory=1000000 ;; esac; echo "{\"tokens_per_second\": $speed, \"peak_memory_bytes\": $memory, \"estimated_memory_bytes\": $memory, \"step_seconds\": 1, \"utilization\": 0.5}" """);
        var (code, output, error) = Bench(owt, "--quick", "--rows", "full-bfloat16", "--runtimes", "cpu,system");
        Assert.That(code, Is.Zero, error);
        var lines = output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(static l => l.Split(' ', StringSplitOptions.RemoveEmptyEntries)).ToList();
        Assert.That(lines[1], Is.EqualTo(new[] { "512x8", "full-bfloat16", "cpu", "300", "1.000", "2", "2", "0.50", "1.50", "2.00" }));
        Assert.That(lines[2][^2..], Is.EqualTo(new[] { "1.00", "1.00" }));
        Assert.That(lines[3][1], Is.EqualTo("libraries"));
        (code, output, error) = Bench(owt, "--quick", "--rows", "full-bfloat16", "--runtimes", "cpu,system", "--json");
        Assert.That(JsonNode.Parse(output)![0]!["system"]!["tokens_per_second"]!.GetValue<double>(), Is.EqualTo(200), error);
        Assert.That(Bench(owt, "--runtimes", "gpu").Error, Does.Contain("'gpu' is no torch runtime"));
    }

    [Test]
    public void A_run_that_fails_ends_it_with_1_and_leaves_no_figure()
    {
        using var folder = new TemporaryFolder();
        var (code, output, error) = Bench(Program(folder, "owt", "echo 'error: no memory' >&2; exit 1"), "--rows", "full-float32", "--quick", "--json");
        Assert.That(code, Is.EqualTo(1));
        Assert.That(error, Does.Contain("no memory"));
        Assert.That(JsonNode.Parse(output)!.AsArray().Single()!["owt"], Is.Null);
    }

    [Test]
    public void Its_start_is_the_time_until_the_first_step_of_a_real_run()
    {
        using var folder = new TemporaryFolder();
        var owt = Program(folder, "owt", $"exec dotnet '{Path.Combine(AppContext.BaseDirectory, "owt.dll")}' \"$@\"");
        var watch = Stopwatch.StartNew();
        var (code, output, error) = Bench(owt, "--start", "--rounds", "1", "--json", "--device", "cpu");
        Assert.That(code, Is.Zero, error);
        var figures = JsonNode.Parse(output)!;
        Assert.That(figures["first_step_seconds"]!.GetValue<double>(), Is.GreaterThan(0.1).And.LessThan(watch.Elapsed.TotalSeconds));
        Assert.That(figures["processor_seconds"]!.GetValue<double>(), Is.GreaterThan(0.1));
    }

    [Test]
    public void A_start_that_never_comes_to_a_step_is_an_error()
    {
        using var folder = new TemporaryFolder();
        var (code, output, error) = Bench(Program(folder, "owt", "[ \"$1\" != train ] || echo 'error: no such model' >&2"), "--start", "--rounds", "1");
        Assert.That(code, Is.EqualTo(2));
        Assert.That(error, Does.Contain("error: no such model").And.Contain("did not come to its first step"));
        Assert.That(output, Is.Empty);
    }

    [Test]
    public void Optimizers_stand_beside_AdamW_with_the_bytes_of_their_state()
    {
        using var folder = new TemporaryFolder();
        var owt = Program(folder, "owt", """case "$*" in *" adamw "*) update=0.2 bytes=800 ;; *) update=0.1 bytes=400 ;; esac; echo "{\"update_seconds\": $update, \"step_seconds\": 1, \"optimizer_bytes\": $bytes, \"trained_parameters\": 100, \"peak_memory_bytes\": 5000000}" """);
        var (code, output, error) = Bench(owt, "optimizers", "--rows", "lion");
        Assert.That(code, Is.Zero, error);
        var lines = output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(static l => string.Join(' ', l.Split(' ', StringSplitOptions.RemoveEmptyEntries))).ToList();
        Assert.That(lines.Skip(1), Is.EqualTo(new[] { "full adamw 200.0 ms 1.00 1000 ms 8.00 5 MB", "full lion 100.0 ms 0.50 1000 ms 4.00 5 MB" }));
        Assert.That(Bench(owt, "optimizers", "--rows", "leon").Error, Does.Contain("there is no optimizer 'leon'"));
    }

    private static string Program(TemporaryFolder folder, string name, string body)
    {
        var path = folder.Write(name, $"#!/bin/sh\n{body}\n");
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }

        return path;
    }

    private static (int Code, string Output, string Error) Bench(string owt, params string[] arguments)
    {
        var start = new ProcessStartInfo("sh", [Path.Combine(SharedFiles.Root, "scripts", "bench"), .. arguments]) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["OWT"] = owt;
        using var process = Process.Start(start)!;
        var error = process.StandardError.ReadToEndAsync();
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, output, error.Result);
    }
}
