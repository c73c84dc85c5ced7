using System.Diagnostics;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Docs.Tests;

/// <summary>
/// Somebody who follows the pages on adding a family and an objective has both: the pages are applied, word for word, to a copy of the sources, which is built,
/// and their commands are run with it.
/// </summary>
[Platform(Exclude = "Win", Reason = "the commands are run by a POSIX shell")]
internal sealed partial class ExtensionTests
{
    private static readonly Page s_family = Page.Of("docs/add-a-family.md");
    private static readonly Page s_objective = Page.Of("docs/add-an-objective.md");
    private TemporaryFolder? _copy;
    private PageFolder? _folder;

    [OneTimeSetUp]
    public void Follow_the_pages()
    {
        _copy = new TemporaryFolder();
        Copy(SharedFiles.Root, _copy.Root);
        foreach (var page in (Page[])[s_family, s_objective])
        {
            Apply(page, _copy.Root);
        }

        // The runtime that these tests were built for is a part of their folder's path: bin/cpu/Release/net10.0.
        var parts = AppContext.BaseDirectory.Split(Path.DirectorySeparatorChar);
        var runtime = parts[Array.LastIndexOf(parts, "bin") + 1];
        Run(_copy.At("src", "OpenWeights.Tune.Cli"), "dotnet", "build", "-c", "Debug", "-nologo", "-v:q", $"-p:TorchRuntime={runtime}", "-p:LlamaCpp=false", "-p:RunAnalyzers=false",
            "-p:EnforceCodeStyleInBuild=false", "-p:GenerateDocumentationFile=false", $"-p:NativeStore={Path.Combine(SharedFiles.Root, "artifacts", "native")}/");
        _folder = new PageFolder(port: 0, Path.Combine(_copy.At("src", "OpenWeights.Tune.Cli", "bin", runtime, "Debug", "net10.0"), "owt.dll"));
    }

    [OneTimeTearDown]
    public void Forget()
    {
        _folder?.Dispose();
        _copy?.Dispose();
    }

    [Test]
    public void The_family_of_the_page_trains_answers_and_is_exported()
    {
        RunPage(s_family);
        Assert.That(File.Exists(_folder!.At("toy-merged", "model.safetensors")));
    }

    [Test]
    public void The_family_of_the_page_is_llama_with_scaled_embeddings()
    {
        // Without a scale, and with its embeddings multiplied in the file instead, Llama computes the same.
        _folder!.Run("owt init --family toy --untied --vocab-size 300 --output scaled", "here");
        var config = JsonNode.Parse(File.ReadAllText(_folder.At("scaled", "config.json")))!.AsObject();
        Assert.That(config["embedding_scale"]!.GetValue<double>(), Is.EqualTo(2));
        var scaled = Score("scaled");
        config["embedding_scale"] = 1.0;
        File.WriteAllText(_folder.At("scaled", "config.json"), config.ToJsonString());
        var plain = Score("scaled");
        _ = config.Remove("embedding_scale");
        config["model_type"] = "llama";
        config["architectures"] = new JsonArray("LlamaForCausalLM");
        File.WriteAllText(_folder.At("scaled", "config.json"), config.ToJsonString());
        Assert.That(Score("scaled"), Is.EqualTo(plain));
        Assert.That(scaled, Is.Not.EqualTo(plain));
    }

    [Test]
    public void The_objective_of_the_page_is_cross_entropy_without_gamma_and_less_with_it()
    {
        RunPage(s_objective);
        double[] Losses(string run) => [.. File.ReadLines(_folder!.At("runs", run, "metrics.jsonl")).Select(static l => JsonNode.Parse(l)!).Where(static n => n["loss"] is not null && n["step"] is not null).Select(static n => n["loss"]!.GetValue<double>())];
        var (sft, plain, focal) = (Losses("sft"), Losses("plain"), Losses("focal"));
        Assert.That(sft, Has.Length.EqualTo(3));
        Assert.That(plain, Is.EqualTo(sft).Within(1e-4));
        Assert.That(focal[0], Is.LessThan(sft[0]));
    }

    private string Score(string model)
    {
        _folder!.Write("ids.jsonl", "{\"input_ids\": [5, 9, 200, 17, 40, 3]}\n");
        _folder.Run($"owt score --model {model} --input ids.jsonl > score.txt", "here");
        return File.ReadAllText(_folder.At("score.txt"));
    }

    private void RunPage(Page page)
    {
        foreach (var block in page.Blocks.Where(static b => b.File.Length > 0))
        {
            _folder!.Write(block.File, block.Text);
        }

        foreach (var line in page.Blocks.Where(static b => b.Language == "sh").SelectMany(static b => b.Text.Split('\n', StringSplitOptions.RemoveEmptyEntries)))
        {
            _folder!.Run(line, page.Name);
        }
    }

    // What the pages say to do: "A new file, `F`:" and "In `F`, above (or below) `L`:" before a block, "in the same file" and "that file" for the last one
    // named, and "In `F`, replace `A` by `B`".
    private static void Apply(Page page, string root)
    {
        var used = 0;
        foreach (var block in page.Blocks.Where(static b => b.Language == "csharp"))
        {
            var files = SourceFile().Matches(block.Before);
            var path = Path.Combine(root, files[^1].Groups[1].Value);
            if (NewFile().IsMatch(block.Before))
            {
                Assert.That(File.Exists(path), Is.False, path);
                File.WriteAllText(path, block.Text);
            }
            else
            {
                var place = Place().Match(block.Before);
                Assert.That(place.Success, Is.True, $"{page.Name}:{block.Line} does not say where this goes");
                var (isAbove, line) = (place.Groups[1].Value == "above", place.Groups[2].Value);
                var text = File.ReadAllText(path).ReplaceLineEndings("\n");
                Assert.That(text.Split('\n').Count(l => l == line), Is.EqualTo(1), $"{path} has this line once: {line}");
                File.WriteAllText(path, text.Replace($"\n{line}\n", isAbove ? $"\n{block.Text}{line}\n" : $"\n{line}\n{block.Text}", StringComparison.Ordinal));
            }

            used++;
        }

        foreach (Match change in Replacement().Matches(page.Text))
        {
            var path = Path.Combine(root, change.Groups[1].Value);
            var text = File.ReadAllText(path);
            Assert.That(text, Does.Contain(change.Groups[2].Value));
            File.WriteAllText(path, text.Replace(change.Groups[2].Value, change.Groups[3].Value, StringComparison.Ordinal));
        }

        Assert.That(used, Is.GreaterThan(2), page.Name);
    }

    private static void Copy(string root, string copy)
    {
        foreach (var file in Directory.GetFiles(root).Where(static f => Path.GetExtension(f) is ".props" or ".targets" or ".json" || Path.GetFileName(f) == ".editorconfig"))
        {
            File.Copy(file, Path.Combine(copy, Path.GetFileName(file)));
        }

        foreach (var folder in (string[])["build", "src", "configs"])
        {
            foreach (var file in Directory.EnumerateFiles(Path.Combine(root, folder), "*", SearchOption.AllDirectories).Where(static f => !Built().IsMatch(f)))
            {
                var target = Path.Combine(copy, Path.GetRelativePath(root, file));
                _ = Directory.CreateDirectory(Path.GetDirectoryName(target)!);
                File.Copy(file, target);
            }
        }
    }

    private static void Run(string folder, string program, params string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true };
        // What `dotnet test` sets for itself would change this build.
        start.Environment.Remove("MSBuildSDKsPath");
        start.Environment["DOTNET_CLI_USE_MSBUILD_SERVER"] = "0";
        using var process = Process.Start(start)!;
        var (output, error) = (process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        Assert.That(process.WaitForExit(TimeSpan.FromMinutes(10)), Is.True, "the build came to no end");
        Assert.That(process.ExitCode, Is.Zero, () => output.Result + error.Result);
    }

    [GeneratedRegex(@"`(src/[^`]+\.cs)`")]
    private static partial Regex SourceFile();

    [GeneratedRegex(@"A new file, `[^`]+`:$")]
    private static partial Regex NewFile();

    [GeneratedRegex(@"(above|below) `([^`]+)`:$")]
    private static partial Regex Place();

    [GeneratedRegex(@"In `(src/[^`]+\.cs)`, replace `([^`]+)` by\s+`([^`]+)`")]
    private static partial Regex Replacement();

    [GeneratedRegex(@"[/\\](bin|obj)[/\\]")]
    private static partial Regex Built();
}
