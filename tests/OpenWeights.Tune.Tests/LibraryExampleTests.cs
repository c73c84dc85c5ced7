using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using NUnit.Framework;
using OpenWeights.Formats.Gguf;
using OpenWeights.Testing;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Export.Gguf;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Tests;

/// <summary>The program in docs/library.md is this one, and does what the page says.</summary>
public sealed partial class LibraryExampleTests
{
    private const string ThisFile = "tests/OpenWeights.Tune.Tests/LibraryExampleTests.cs";

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void The_example_trains_answers_and_exports()
    {
        using var folder = new TemporaryFolder();
        var listener = new SilentListener();
        var (model, rows) = (Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base"), Path.Combine(SharedFiles.Root, "datasets", "quickstart", "train.jsonl"));
        var answer = Example(model, rows, folder.At("run"), steps: 12, "Give the ISO date of April third, nineteen oh six.", listener);
        Assert.That(listener.Steps, Has.Count.EqualTo(12));
        Assert.That(answer, Is.Not.Empty);
        Assert.That(File.Exists(folder.At("run-merged", "model.safetensors")));
        using var gguf = GgufFile.Open(folder.At("run.gguf"));
        Assert.That(gguf.Tensors, Is.Not.Empty);
    }

    [Test]
    public void The_page_shows_this_program()
    {
        var page = File.ReadAllText(Path.Combine(SharedFiles.Root, "docs", "library.md")).ReplaceLineEndings("\n");
        var shown = CSharp().Match(page).Groups[1].Value;
        var source = File.ReadAllText(Path.Combine([SharedFiles.Root, .. ThisFile.Split('/')])).ReplaceLineEndings("\n");
        var here = Body().Match(source).Groups[1].Value;
        Assert.That(string.Join('\n', here.Split('\n').Select(static l => l.Length > 0 ? l[8..] : l)), Is.EqualTo(shown));
    }

    private static string Example(string model, string rows, string output, int steps, string question, IRunListener listener)
    {
        // From here
        var config = new RunConfig
        {
            OutputDir = output,
            Model = new ModelSection { Path = model },
            Adapter = new AdapterSection { Rank = 8, LoraAlpha = 16 },
            Data = new DataSection { Train = [new DataSource { Path = rows }] },
            Training = new TrainingSection { MaxSteps = steps, LearningRate = 2e-3 },
        };
        using (var run = TrainingRun.Prepare(config, listener))
        {
            _ = run.Run(overwrite: false, command: "my program", CancellationToken.None);
        }

        using var loaded = ModelLoader.Load(ModelPath.Resolve(model), dtype: null, Devices.Find("auto"));
        using var adapters = new AdapterSet(loaded.Model);
        _ = adapters.Load("mine", Path.Combine(output, "adapter"));
        adapters.Use(("mine", 1));

        var tokenizer = Tokenizer.Load(loaded.Folder.FolderPath);
        var messages = new JsonArray(new JsonObject { ["role"] = "user", ["content"] = question });
        var prompt = tokenizer.Encode(new ChatRenderer(tokenizer).Render(messages, tools: null, addGenerationPrompt: true), addSpecialTokens: false);
        var generator = new TextGenerator(loaded.Model, new GenerationOptions { MaxNewTokens = 16, EndTokens = EndTokens.Of(loaded.Folder, tokenizer) });
        var answer = tokenizer.Decode(generator.Continue([prompt])[0].OutputIds, skipSpecialTokens: true);

        _ = MergedExport.Write(loaded, adapters.Active!, output + "-merged", dtype: null, maxShardBytes: 5L << 30);
        _ = GgufExport.Write(loaded.Folder, adapters.Active, output + ".gguf", GgufPreset.Of("q8_0"), loaded.Model);
        // to here
        return answer;
    }

    [GeneratedRegex(@"```csharp\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex CSharp();

    [GeneratedRegex(@"        // From here\n(.*?)        // to here", RegexOptions.Singleline)]
    private static partial Regex Body();
}
