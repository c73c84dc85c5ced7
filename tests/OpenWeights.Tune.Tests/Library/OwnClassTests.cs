using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Extensions;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Library;

/// <summary>A class of the user's stands in the place of a built-in name: handed over by a program, or named in YAML by file and class.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class OwnClassTests
{
    private static readonly string s_base = Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base");
    private static readonly string s_here = typeof(OwnClassTests).Assembly.Location;

    private static IEnumerable<string> Lines => File.ReadLines(Path.Combine(SharedFiles.Root, "datasets", "quickstart", "train.jsonl")).Take(12);

    [Test]
    public void An_own_schedule_objective_format_and_metric_train_what_the_built_in_ones_of_the_same_maths_do()
    {
        using var folder = new TemporaryFolder();
        var rows = folder.Write("rows.jsonl", string.Join('\n', Lines));
        var odd = folder.Write("odd.jsonl", string.Join('\n', Lines.Select(static l => new JsonObject { ["wrapped"] = l }.ToJsonString())));
        var builtIn = Run(folder, "built-in", $"sft, linear, auto, rougeL, {rows}".Split(", "));
        var named = Run(folder, "named", [$"{s_here}:{typeof(CrossEntropy).FullName}", $"{s_here}:{nameof(Falling)}", $"{s_here}:Unwrapped", $"{s_here}:SameLetters", odd]);
        Assert.That(named.Losses, Is.EqualTo(builtIn.Losses).Within(1e-5));
        Assert.That(named.Rates, Is.EqualTo(builtIn.Rates).Within(1e-12));
        Assert.That(named.Line.ContainsKey("target_sum"), "the objective's own metric");
        Assert.That(named.Line["target_sum"]!.GetValue<double>(), Is.GreaterThan(0));
        Assert.That(named.Answers!["eval_SameLetters"]!.GetValue<double>(), Is.InRange(0, 1));
        Assert.That(builtIn.Answers!["eval_rougeL"]!.GetValue<double>(), Is.InRange(0, 1));

        // Handed over, they are named in the run's config.yaml, from which it can be run again.
        var config = RunConfigFile.Read(folder.At("named.yaml"), [$"output_dir={folder.At("given")}"]);
        var given = config with
        {
            Objective = new ObjectiveSection { Custom = new CrossEntropy() },
            Training = config.Training with { LrScheduler = null, CustomSchedule = new Falling() },
            Data = config.Data with { Train = [new DataSource { Path = odd, CustomFormat = new Unwrapped() }] },
            Evaluation = config.Evaluation with { Metrics = [], CustomMetrics = [new SameLetters()] },
        };
        Assert.That(Told(given).Losses, Is.EqualTo(named.Losses));
        var written = RunConfigFile.Read(folder.At("given", "config.yaml"), []);
        Assert.That(written.Objective.Type, Is.EqualTo($"{s_here}:{typeof(CrossEntropy).FullName}"));
        Assert.That(written.Training.LrScheduler, Is.EqualTo($"{s_here}:{typeof(Falling).FullName}"));
        Assert.That(written.Evaluation.Metrics, Is.EqualTo(new[] { $"{s_here}:{typeof(SameLetters).FullName}" }));
    }

    [Test]
    public void An_objective_of_pairs_is_told_them_chosen_before_rejected()
    {
        var pairs = Enumerable.Range(0, 6).Select(static i => TrainingRow.Preference($"Question {i}?", "yes, it is so", "no")).ToList();
        var objective = new Margin();
        using var model = LanguageModel.Load(s_base).AddAdapter(new AdapterSection { Rank = 2 });
        _ = model.Train(pairs, new RunConfig
        {
            Objective = new ObjectiveSection { Custom = objective },
            Training = new TrainingSection { MaxSteps = 12, LearningRate = 1e-2, MicroBatchSize = 2 },
            Evaluation = new EvaluationSection { GenerateRows = 0 },
        });
        Assert.That(objective.Rows, Is.All.EqualTo(4));
        Assert.That(objective.Margins[^1], Is.GreaterThan(objective.Margins[0] + 1), "training widens what the loss asks for");
    }

    [Test]
    public void A_wrong_class_is_told_before_the_data_is_read()
    {
        static string Message(RunConfig config) => Assert.Catch(() => TrainingRun.Prepare(config, new SilentListener()))!.Message;
        var config = new RunConfig { OutputDir = "x", Model = new ModelSection { Path = s_base }, Data = new DataSection { Train = [new DataSource { Path = "no-such-file.jsonl" }] } };
        Assert.That(Message(config with { Objective = new ObjectiveSection { Type = "none.dll:Loss" } }), Does.EndWith("none.dll: there is no such file, in which the class Loss is looked for that derives from TrainingObjective."));
        Assert.That(Message(config with { Training = new TrainingSection { LrScheduler = $"{s_here}:Unwrapped" } }), Does.Contain("no single public class Unwrapped implements IRateSchedule; there is").And.Contain(typeof(Falling).FullName));
        Assert.That(Message(config with { Training = new TrainingSection { LrScheduler = "cosin" } }), Does.Contain("'cosin' is not a valid value").And.Contain("inverse_sqrt, or FILE.dll:CLASS for a class of your own. Did you mean cosine?"));
        Assert.That(Message(config with { Evaluation = new EvaluationSection { Metrics = ["rougeX"] } }), Does.Contain("evaluation.metrics.0: 'rougeX' is not a valid value"));
    }

    [Test]
    public void A_loss_that_nothing_is_learned_from_is_refused()
    {
        using var model = LanguageModel.Load(s_base).AddAdapter(new AdapterSection { Rank = 2 });
        Assert.That(
            () => model.Train([TrainingRow.Completion("a ", "b")], new RunConfig { Objective = new ObjectiveSection { Custom = new Detached() } }),
            Throws.InstanceOf<InvalidDataException>().With.Message.Contains("Detached returned a loss without a graph"));
    }

    [Test]
    public void An_own_objective_takes_settings_of_the_section_that_built_in_ones_have_for_themselves()
    {
        var config = new RunConfig { OutputDir = "x", Model = new ModelSection { Path = s_base }, Data = new DataSection { Train = [new DataSource { Path = "rows.jsonl" }] }, Objective = new ObjectiveSection { Type = "sft", Beta = 3 } };
        Assert.That(SettingCheck.Problems(config).Select(static p => p.ToString()), Has.One.Contains("objective.beta: the objective sft has no such setting"));
        Assert.That(SettingCheck.Problems(config with { Objective = new ObjectiveSection { Type = $"{s_here}:{nameof(CrossEntropy)}", Beta = 3 } }), Is.Empty);
    }

    [Test]
    public void A_format_that_makes_nothing_or_something_unknown_is_told_as_such()
    {
        using var model = LanguageModel.Load(s_base).AddAdapter(new AdapterSection { Rank = 2 });
        string Message(IDataFormat format) => Assert.Catch(() => model.Train(new RunConfig { Data = new DataSection { Train = [DataSource.Of([TrainingRow.Text("a"), TrainingRow.Text("b")]) with { CustomFormat = format }] } }))!.Message;
        Assert.That(Message(new Nothing()), Does.Contain("Nothing made no row of the 2 that are in"));
        Assert.That(Message(new Oddity()), Does.Contain("row 1: Oddity made a row of no known format, with the keys odd; it must have messages"));
    }

    [Test]
    public void What_an_own_format_throws_names_the_row()
    {
        using var model = LanguageModel.Load(s_base).AddAdapter(new AdapterSection { Rank = 2 });
        var rows = DataSource.Of([TrainingRow.Of(new JsonObject { ["other"] = 1 })]) with { CustomFormat = new Unwrapped() };
        Assert.That(() => model.Train(new RunConfig { Data = new DataSection { Train = [rows] } }), Throws.InstanceOf<InvalidDataException>().With.Message.StartsWith("program:rows, row 1: Unwrapped: "));
    }

    [Test]
    public void The_assembly_of_a_YAML_file_is_looked_for_beside_it()
    {
        using var folder = new TemporaryFolder();
        File.Copy(s_here, folder.At("mine.dll"));
        var yaml = folder.Write("train.yaml", $"output_dir: x\nmodel: {{ path: {s_base} }}\ndata: {{ train: rows.jsonl }}\ntraining: {{ lr_scheduler: mine.dll:Falling }}\nobjective: {{ type: yours.dll }}\n");
        folder.Write("rows.jsonl", "{\"text\": \"a\"}");
        var file = RunConfigFile.Open(yaml, []);
        Assert.That(file.Config.Training.LrScheduler, Is.EqualTo(folder.At("mine.dll") + ":Falling"));
        Assert.That(RunCheck.Problems(file).Select(static p => p.ToString()), Has.One.Contains($"objective.type: neither {folder.At("yours.dll")} (next to this file) nor"));
        var other = RunConfigFile.Open(yaml, ["objective.type=mine.dll:Falling"]);
        Assert.That(RunCheck.Problems(other).Select(static p => p.ToString()), Has.One.Contains("objective.type: ").And.One.Contains("no single public class Falling derives from TrainingObjective"));
    }

    private static Outcome Run(TemporaryFolder folder, string name, string[] chosen)
    {
        var yaml = folder.Write($"{name}.yaml", $$"""
            output_dir: {{folder.At(name)}}
            model: { path: {{s_base}}, dtype: float32 }
            adapter: { r: 4 }
            objective: { type: {{chosen[0]}} }
            data: { train: [ { path: {{chosen[4]}}, format: {{chosen[2]}} } ], eval: [ { path: {{chosen[4]}}, format: {{chosen[2]}} } ], packing: false }
            training: { max_steps: 5, learning_rate: 1e-3, lr_scheduler: {{chosen[1]}}, micro_batch_size: 3, warmup_steps: 1 }
            evaluation: { generate_rows: 2, samples: 0, max_new_tokens: 4, metrics: [ {{chosen[3]}} ] }
            """);
        return Told(RunConfigFile.Read(yaml, []));
    }

    private static Outcome Told(RunConfig config)
    {
        var listener = new SilentListener();
        using (var run = TrainingRun.Prepare(config, listener))
        {
            _ = run.Run(overwrite: false, command: "test", CancellationToken.None);
        }

        var lines = File.ReadLines(Path.Combine(config.OutputDir, "metrics.jsonl")).Select(static l => JsonNode.Parse(l)!.AsObject()).ToList();
        return new Outcome(
            [.. listener.Steps.Select(static s => s.Loss)], [.. listener.Steps.Select(static s => s.LearningRate)], lines.First(static l => l.ContainsKey("grad_norm")), lines.FirstOrDefault(static l => l["when"]?.ToString() == "after training"));
    }

    private sealed record Outcome(double[] Losses, double[] Rates, JsonObject Line, JsonObject? Answers);
}

/// <summary>The linear schedule, again.</summary>
public sealed class Falling : IRateSchedule
{
    /// <inheritdoc/>
    public double Factor(long step, RateSettings settings) => (double)(settings.TotalSteps - step) / (settings.TotalSteps - settings.WarmupSteps);
}

/// <summary>Cross entropy, from the logits.</summary>
/// <param name="settings">Is given by the run.</param>
public sealed class CrossEntropy(ObjectiveSection settings) : TrainingObjective
{
    private double _sum;

    /// <summary>For a program.</summary>
    public CrossEntropy()
        : this(new ObjectiveSection())
    {
    }

    /// <inheritdoc/>
    public override Tensor Loss(ObjectiveBatch batch)
    {
        ArgumentNullException.ThrowIfNull(batch);
        _sum = batch.Targets.sum().item<long>() + (settings.ZLoss * 0);
        return nn.functional.cross_entropy(batch.Logits, batch.Targets, reduction: nn.Reduction.Sum);
    }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, double> Metrics() => new Dictionary<string, double> { ["target_sum"] = _sum };
}

/// <summary>The difference between chosen and rejected answers.</summary>
public sealed class Margin : TrainingObjective
{
    /// <inheritdoc/>
    public override bool TrainsOnPairs => true;

    internal List<int> Rows { get; } = [];

    internal List<double> Margins { get; } = [];

    /// <inheritdoc/>
    public override Tensor Loss(ObjectiveBatch batch)
    {
        ArgumentNullException.ThrowIfNull(batch);
        var sums = batch.SumByRow(batch.LogProbs).view(-1, 2);
        var margin = sums.select(1, 0).sub(sums.select(1, 1));
        Rows.Add(batch.RowCount);
        Margins.Add(margin.mean().item<double>());
        return margin.neg().sum();
    }
}

/// <summary>A loss without a graph.</summary>
public sealed class Detached : TrainingObjective
{
    /// <inheritdoc/>
    public override Tensor Loss(ObjectiveBatch batch)
    {
        ArgumentNullException.ThrowIfNull(batch);
        return batch.LogProbs.detach().sum();
    }
}

/// <summary>Rows within a text.</summary>
public sealed class Unwrapped : IDataFormat
{
    /// <inheritdoc/>
    public IEnumerable<JsonObject> Read(JsonObject row)
    {
        ArgumentNullException.ThrowIfNull(row);
        return [JsonNode.Parse(row["wrapped"]!.GetValue<string>())!.AsObject()];
    }
}

/// <summary>Share of the expected letters that occur.</summary>
public sealed class SameLetters : IAnswerMetric
{
    /// <inheritdoc/>
    public double Score(string given, string expected)
    {
        ArgumentNullException.ThrowIfNull(given);
        ArgumentNullException.ThrowIfNull(expected);
        return expected.Length == 0 ? 1 : (double)expected.Count(given.Contains) / expected.Length;
    }
}

/// <summary>A format that leaves every row out.</summary>
public sealed class Nothing : IDataFormat
{
    /// <inheritdoc/>
    public IEnumerable<JsonObject> Read(JsonObject row) => [];
}

/// <summary>A format whose rows nobody knows.</summary>
public sealed class Oddity : IDataFormat
{
    /// <inheritdoc/>
    public IEnumerable<JsonObject> Read(JsonObject row) => [new JsonObject { ["odd"] = 1 }];
}
