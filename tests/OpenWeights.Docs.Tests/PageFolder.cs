using System.Diagnostics;
using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Docs.Tests;

/// <summary>
/// The folder in which a reader follows a page. Small models stand where the pages name published ones (as folders, GGUF files and in the Hub's cache),
/// there is no network, and <c>owt train</c> takes two steps unless the page says how many. Otherwise a command is run as it stands.
/// </summary>
internal sealed class PageFolder : IDisposable
{
    // Names on the Hub that the pages use: each is that small model here.
    private static readonly string[] s_hubModels = ["HuggingFaceTB/SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-135M", "Qwen/Qwen3-4B"];

    private const string Wrapper =
        """
        #!/bin/sh
        # owt as the tests of the pages run it: two steps of training, and a port of this test.
        case "$1" in
        train)
            case "$*" in
            *max_steps*) ;;
            *) set -- "$@" training.max_steps=2 ;;
            esac
            case "$*" in
            *generate_rows*) ;;
            *) set -- "$@" evaluation.generate_rows=2 ;;
            esac
            ;;
        serve) set -- "$@" --port "$PAGE_PORT" ;;
        esac
        exec dotnet "$OWT_DLL" "$@"
        """;

    private const string CurlWrapper =
        """
        #!/bin/sh
        # curl with the port of this test's server.
        i=0 n=$#
        while [ $i -lt $n ]; do
            word=$(printf %s "$1" | sed "s/:8080/:$PAGE_PORT/")
            shift
            set -- "$@" "$word"
            i=$((i + 1))
        done
        exec "$REAL_CURL" -sS --fail "$@"
        """;

    private readonly TemporaryFolder _folder = new();
    private readonly Dictionary<string, string> _environment;

    internal PageFolder(int port, string? program = null)
    {
        foreach (var name in (string[])["configs", "datasets", "docs"])
        {
            Directory.CreateSymbolicLink(_folder.At(name), Path.Combine(SharedFiles.Root, name));
        }

        var model = Directory.CreateDirectory(_folder.At("SmolLM2-135M-Instruct")).FullName;
        foreach (var file in Directory.GetFiles(Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base")))
        {
            File.CreateSymbolicLink(Path.Combine(model, Path.GetFileName(file)), file);
        }

        // As long a context as those have whose places it takes.
        var config = JsonNode.Parse(File.ReadAllText(Path.Combine(model, "config.json")))!;
        config["max_position_embeddings"] = 8192;
        File.Delete(Path.Combine(model, "config.json"));
        File.WriteAllText(Path.Combine(model, "config.json"), config.ToJsonString());
        foreach (var hub in s_hubModels)
        {
            var entry = _folder.At("hub", "hub", "models--" + hub.Replace("/", "--", StringComparison.Ordinal));
            _ = Directory.CreateDirectory(Path.Combine(entry, "refs"));
            _ = Directory.CreateDirectory(Path.Combine(entry, "snapshots"));
            const string commit = "0123456789abcdef0123456789abcdef01234567";
            File.WriteAllText(Path.Combine(entry, "refs", "main"), commit);
            Directory.CreateSymbolicLink(Path.Combine(entry, "snapshots", commit), model);
        }

        Program("scripts/owt", Wrapper);
        Program("bin/owt", Wrapper);
        Program("bin/curl", CurlWrapper);
        _environment = new()
        {
            ["PATH"] = _folder.At("bin") + ":" + Environment.GetEnvironmentVariable("PATH"),
            ["OWT_DLL"] = program ?? Path.Combine(AppContext.BaseDirectory, "owt.dll"),
            ["PAGE_PORT"] = port.ToString(System.Globalization.CultureInfo.InvariantCulture),
            ["HF_HOME"] = _folder.At("hub"),
            ["HF_HUB_OFFLINE"] = "1",
            ["XDG_CACHE_HOME"] = _folder.At("cache"),
            ["REAL_CURL"] = RealCurl ?? "curl",
        };
    }

    /// <summary>The machine's curl; null where there is none.</summary>
    internal static string? RealCurl { get; } = Environment.GetEnvironmentVariable("PATH")!.Split(Path.PathSeparator).Select(static p => Path.Combine(p, "curl")).FirstOrDefault(File.Exists);

    internal string At(params string[] parts) => _folder.At(parts);

    internal void Write(string name, string text)
    {
        _ = Directory.CreateDirectory(Path.GetDirectoryName(_folder.At(name))!);
        File.WriteAllText(_folder.At(name), text);
    }

    /// <summary>Runs a line of a page in a shell and requires that it succeeds.</summary>
    internal void Run(string line, string place)
    {
        using var process = Start(line);
        var (output, error) = (process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        process.StandardInput.Close();
        if (!process.WaitForExit(TimeSpan.FromMinutes(3)))
        {
            process.Kill(entireProcessTree: true);
            Assert.Fail($"{place}: this came to no end: {line}");
        }

        Assert.That(process.ExitCode, Is.Zero, () => $"{place}: {line}\n{output.Result}\n{error.Result}");
    }

    /// <summary>Starts a line of a page that goes on until it is stopped.</summary>
    internal Process Start(string line)
    {
        var start = new ProcessStartInfo("sh", ["-c", "exec " + line]) { WorkingDirectory = _folder.Root, RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var (name, value) in _environment)
        {
            start.Environment[name] = value;
        }

        return Process.Start(start)!;
    }

    public void Dispose() => _folder.Dispose();

    private void Program(string name, string text)
    {
        Write(name, text.ReplaceLineEndings("\n"));
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(_folder.At(name), UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }
    }
}
