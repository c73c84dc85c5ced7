using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using NUnit.Framework;
using OpenWeights.Formats.Gguf;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Decoding;
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
        var data = Path.Combine(SharedFiles.Root, "datasets", "quickstart");
        static string Said(JsonNode row, int turn) => row["messages"]![turn]!["content"]!.GetValue<string>();
        var questions = File.ReadLines(Path.Combine(data, "train.jsonl")).Select(static l => JsonNode.Parse(l)!).Select(static r => (Said(r, 0), Said(r, 1))).ToList();
        var steps = new Steps();
        var answer = Example(Path.Combine(data, "base"), questions, folder.At("out"), steps: 12, "Give the ISO date of April third, nineteen oh six.", steps, CancellationToken.None);
        Assert.That(steps.Seen.Select(static s => s.Step), Is.EqualTo(Enumerable.Range(1, 12)));
        Assert.That(answer, Is.Not.Empty);
        Assert.That(File.Exists(folder.At("out", "adapter", "adapter_model.safetensors")));
        Assert.That(File.Exists(folder.At("out", "merged", "model.safetensors")));
        using var gguf = GgufFile.Open(folder.At("out", "model.gguf"));
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

    private static string Example(string name, IReadOnlyList<(string Question, string Answer)> questions, string output, int steps, string question, IProgress<StepMetrics> progress, CancellationToken stop)
    {
        // From here
        using var model = LanguageModel.Load(name).AddAdapter(new AdapterSection { Rank = 8, LoraAlpha = 16 });

        IEnumerable<TrainingRow> rows = questions.Select(q => TrainingRow.Chat(ChatTurn.User(q.Question), ChatTurn.Assistant(q.Answer)));
        var settings = new RunConfig { Training = new TrainingSection { MaxSteps = steps, LearningRate = 2e-3 } };
        var result = model.Train(rows, settings, progress, stop);

        var answer = model.Generate(question, new GenerationOptions { MaxNewTokens = 16 }, stop);

        model.SaveAdapter(Path.Combine(output, "adapter"));
        model.SaveMerged(Path.Combine(output, "merged"));
        model.SaveGguf(Path.Combine(output, "model.gguf"), "q8_0");
        // to here
        return result is null ? "" : answer;
    }

    private sealed class Steps : IProgress<StepMetrics>
    {
        internal List<StepMetrics> Seen { get; } = [];

        public void Report(StepMetrics value) => Seen.Add(value);
    }

    [GeneratedRegex(@"```csharp\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex CSharp();

    [GeneratedRegex(@"        // From here\n(.*?)        // to here", RegexOptions.Singleline)]
    private static partial Regex Body();
}
