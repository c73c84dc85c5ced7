using System.Diagnostics;
using System.Text.Json.Nodes;
using NUnit.Framework;

namespace OpenWeights.Testing;

/// <summary>llama.cpp, as npm's node-llama-cpp brings it built. It is installed once into artifacts/; a test that needs it is skipped,
/// with the reason, where npm is missing or cannot install it.</summary>
internal static class LlamaCpp
{
    private const string Version = "3.22.1";
    private static readonly Lazy<string?> s_problem = new(Install);

    private static string Folder => Path.Combine(SharedFiles.Root, "artifacts", $"node-llama-cpp-{Version}");

    private static string Platform => $"{(OperatingSystem.IsMacOS() ? "mac" : "linux")}-{System.Runtime.InteropServices.RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant()}";

    /// <summary>ggml's library, whose quantisers are the reference.</summary>
    public static string GgmlLibrary
    {
        get
        {
            Require();
            return Directory.EnumerateFiles(Libraries, "libggml-base.*").First();
        }
    }

    /// <summary>llama.cpp's library, which has its quantiser of whole files.</summary>
    public static string LlamaLibrary
    {
        get
        {
            Require();
            return Directory.EnumerateFiles(Libraries, "libllama.*").First();
        }
    }

    private static string Libraries => Path.Combine(Folder, "node_modules", "@node-llama-cpp", Platform, "bins", Platform);

    /// <summary>Asks llama.cpp about files; see llama-cpp.mjs for what a request and an answer hold.</summary>
    public static IReadOnlyList<JsonObject> Ask(IEnumerable<JsonObject> requests)
    {
        Require();
        using var work = new TemporaryFolder();
        var list = new JsonArray([.. requests]);
        var script = Path.Combine(SharedFiles.Root, "tests", "Shared", "llama-cpp.mjs");
        var (exit, _, error) = Run("node", SharedFiles.Root, script, Folder, work.Write("requests.json", list.ToJsonString()), work["answers.json"]);
        Assert.That(exit, Is.Zero, error);
        var answers = File.ReadLines(work["answers.json"]).Select(static l => JsonNode.Parse(l)!.AsObject()).ToList();
        Assert.That(answers, Has.Count.EqualTo(list.Count), error);
        foreach (var answer in answers)
        {
            Assert.That(answer["error"], Is.Null, $"llama.cpp refuses a file: {answer["error"]}\n{error}");
        }

        return answers;
    }

    private static void Require()
    {
        if (s_problem.Value is { } problem)
        {
            Assert.Ignore($"llama.cpp is not here: {problem}");
        }
    }

    private static string? Install()
    {
        if (OperatingSystem.IsWindows())
        {
            return "these tests run it on Linux and macOS";
        }

        if (File.Exists(Path.Combine(Folder, "installed")))
        {
            return null;
        }

        _ = Directory.CreateDirectory(Folder);
        using var turn = Wait();
        if (File.Exists(Path.Combine(Folder, "installed")))
        {
            return null;
        }

        try
        {
            File.WriteAllText(Path.Combine(Folder, "package.json"), "{\"private\": true}");
            var (exit, _, error) = Run("npm", Folder, "install", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", $"node-llama-cpp@{Version}", $"@node-llama-cpp/{Platform}@{Version}");
            if (exit != 0)
            {
                return $"npm could not install it ({error.Trim().Split('\n')[0]})";
            }

            File.WriteAllText(Path.Combine(Folder, "installed"), "");
            return null;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return "there is no npm";
        }
    }

    // Two test projects may come to this at once.
    private static FileStream Wait()
    {
        while (true)
        {
            try
            {
                return new FileStream(Path.Combine(Folder, "lock"), FileMode.OpenOrCreate, FileAccess.Write, FileShare.None);
            }
            catch (IOException)
            {
                Thread.Sleep(200);
            }
        }
    }

    private static (int Exit, string Output, string Error) Run(string program, string folder, params string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true };
        using var process = Process.Start(start)!;
        var error = process.StandardError.ReadToEndAsync();
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, output, error.Result);
    }
}
