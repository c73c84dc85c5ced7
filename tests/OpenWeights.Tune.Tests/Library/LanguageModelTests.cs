using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Gguf;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Evaluation;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Tests.Library;

/// <summary>A model in a program is trained, asked and saved as the commands do it with a YAML file.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class LanguageModelTests
{
    private static readonly string s_base = Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base");
    private static readonly string s_rows = Path.Combine(SharedFiles.Root, "datasets", "quickstart", "train.jsonl");

    private static readonly AdapterSection s_adapter = new() { Rank = 4, LoraAlpha = 8 };
    private static readonly RunConfig s_run = new()
    {
        Training = new TrainingSection { MaxSteps = 4, LearningRate = 2e-3, MicroBatchSize = 2 },
        Data = new DataSection { Packing = false },
        Evaluation = new EvaluationSection { GenerateRows = 0 },
    };

    private static List<TrainingRow> Rows => [.. File.ReadLines(s_rows).Take(24).Select(static l => TrainingRow.Of(JsonNode.Parse(l)!.AsObject()))];

    [Test]
    public void Rows_of_a_program_train_the_adapter_that_a_YAML_file_and_their_file_train()
    {
        using var folder = new TemporaryFolder();
        var ofFile = OfFile(folder, "adapter: { r: 4, lora_alpha: 8 }");
        var steps = new List<StepMetrics>();
        using var model = LanguageModel.Load(s_base);
        var result = model.AddAdapter(s_adapter).Train(Rows, s_run, new Told<StepMetrics>(steps.Add));
        model.SaveAdapter(folder.At("mine"));
        Assert.That(steps.Select(static s => s.Step), Is.EqualTo(new[] { 1, 2, 3, 4 }));
        Assert.That(result, Is.EqualTo(new RunResult("", 4, 4) { Warnings = result!.Warnings }), "nothing is kept on disk without an output_dir");
        RequireSameFiles(Path.Combine(ofFile, "adapter"), folder.At("mine"));
    }

    [Test]
    public async Task Rows_that_come_one_by_one_train_the_same()
    {
        using var folder = new TemporaryFolder();
        static async IAsyncEnumerable<TrainingRow> Coming()
        {
            foreach (var row in Rows)
            {
                await Task.Yield();
                yield return row;
            }
        }

        using var one = LanguageModel.Load(s_base).AddAdapter(s_adapter);
        using var other = LanguageModel.Load(s_base).AddAdapter(s_adapter);
        _ = one.Train(Rows, s_run);
        _ = await other.TrainAsync(Coming(), s_run with { Evaluation = new EvaluationSection { GenerateRows = 2 } });
        one.SaveAdapter(folder.At("one"));
        other.SaveAdapter(folder.At("other"));
        RequireSameFiles(folder.At("one"), folder.At("other"));
    }

    [Test]
    public void Without_an_adapter_the_weights_are_trained_and_saved_as_by_a_YAML_file()
    {
        using var folder = new TemporaryFolder();
        var ofFile = OfFile(folder, "");
        using var model = LanguageModel.Load(s_base);
        _ = model.Train(Rows, s_run);
        model.SaveMerged(folder.At("mine"));
        RequireSameFiles(Path.Combine(ofFile, "model"), folder.At("mine"));
        Assert.That(() => model.SaveAdapter(folder.At("none")), Throws.InvalidOperationException.With.Message.StartsWith("the model has no adapter"));
    }

    [Test]
    public void A_second_training_goes_on_from_the_first_as_adapter_path_does()
    {
        using var folder = new TemporaryFolder();
        var first = OfFile(folder, "adapter: { r: 4, lora_alpha: 8 }");
        var second = OfFile(folder, $"adapter: {{ path: {Path.Combine(first, "adapter")} }}", "second");
        using var model = LanguageModel.Load(s_base).AddAdapter(s_adapter);
        _ = model.Train(Rows, s_run);
        _ = model.Train(Rows, s_run);
        model.SaveAdapter(folder.At("mine"));
        RequireSameFiles(Path.Combine(second, "adapter"), folder.At("mine"), "adapter_model.safetensors");
    }

    [Test]
    public async Task Answers_are_those_of_what_is_saved()
    {
        using var folder = new TemporaryFolder();
        const string question = "Give the ISO date of April third, nineteen oh six.";
        var options = new GenerationOptions { MaxNewTokens = 12 };
        using var model = LanguageModel.Load(s_base, new ModelSection { Dtype = "float32" });
        var untrained = model.Generate(question, options);
        _ = model.AddAdapter(s_adapter).Train(Rows, s_run with { Training = s_run.Training with { MaxSteps = 20, LearningRate = 1e-2 } });
        var answer = model.Generate(question, options);
        Assert.That(answer, Is.Not.EqualTo(untrained));
        Assert.That(string.Concat(await Collected(model.GenerateAsync([ChatTurn.User(question)], options))), Is.EqualTo(answer));

        model.SaveAdapter(folder.At("adapter"));
        model.SaveMerged(folder.At("merged"), "float32");
        model.SaveGguf(folder.At("model.gguf"), "f32");
        using (var gguf = GgufFile.Open(folder.At("model.gguf")))
        {
            Assert.That(gguf.Tensors, Is.Not.Empty);
        }

        foreach (var saved in new[] { folder.At("adapter"), folder.At("merged"), folder.At("model.gguf") })
        {
            using var loaded = LanguageModel.Load(saved == folder.At("adapter") ? s_base : saved);
            _ = saved == folder.At("adapter") ? loaded.AddAdapter(new AdapterSection { Path = saved }) : loaded;
            Assert.That(loaded.Generate(question, options), Is.EqualTo(answer), saved);
        }

        model.RemoveAdapter();
        Assert.That(model.Generate(question, options), Is.EqualTo(untrained));
    }

    [Test]
    public void Training_lowers_the_loss_that_evaluation_computes()
    {
        using var model = LanguageModel.Load(s_base).AddAdapter(s_adapter);
        var before = model.Evaluate(Rows);
        var seen = new Listening();
        _ = model.Train(s_run with { Data = s_run.Data with { Train = [DataSource.Of(Rows)], Eval = [DataSource.Of(Rows, "same")] }, Training = s_run.Training with { MaxSteps = 12 } }, seen);
        var after = model.Evaluate(Rows);
        Assert.That(after.Loss, Is.LessThan(before.Loss - 0.1));
        Assert.That(seen.Evaluations.Single().Loss, Is.EqualTo(after.Loss).Within(1e-5), "the run's own evaluation");
        Assert.That(after.TargetTokens, Is.EqualTo(before.TargetTokens));
    }

    [Test]
    public void A_stopped_training_has_no_result_and_the_model_can_be_asked()
    {
        using var stop = new CancellationTokenSource();
        using var model = LanguageModel.Load(s_base).AddAdapter(s_adapter);
        var result = model.Train(Rows, s_run, new Told<StepMetrics>(s => { if (s.Step == 2) { stop.Cancel(); } }), stop.Token);
        Assert.That(result, Is.Null);
        Assert.That(model.Continue("Once", new GenerationOptions { MaxNewTokens = 2 }), Is.Not.Null);
    }

    [Test]
    public void Wrong_settings_are_told_in_the_words_of_the_YAML_file()
    {
        using var model = LanguageModel.Load(s_base);
        Assert.That(() => LanguageModel.Load(s_base, new ModelSection { Dtype = "bf17" }), Throws.InstanceOf<ConfigException>().With.Message.StartsWith("model.dtype: 'bf17' is not a valid value; valid values are auto"));
        Assert.That(() => model.AddAdapter(new AdapterSection { Rank = 0 }), Throws.InstanceOf<ConfigException>().With.Message.EqualTo("adapter.r: 0 is out of range; it must be at least 1."));
        Assert.That(() => model.Train(Rows, new RunConfig { Training = new TrainingSection { Optimizer = "adam" } }), Throws.InstanceOf<ConfigException>().With.Message.EqualTo("training.optimizer: 'adam' is not a valid value; write adamw."));
        Assert.That(() => model.Train(Rows, new RunConfig { Adapter = s_adapter, Model = new ModelSection { Path = "x" } }), Throws.InstanceOf<ConfigException>().With.Message.Contains("model: the model is loaded already").And.Message.Contains("adapter: the model has its adapter already"));
        Assert.That(() => model.Train(Rows, new RunConfig { Objective = new ObjectiveSection { Type = "embedding" } }), Throws.InstanceOf<ConfigException>().With.Message.Contains("objective.type: embedding trains a model with another output"));
    }

    [Test]
    public void A_wrong_row_is_told_with_its_number()
    {
        using var model = LanguageModel.Load(s_base).AddAdapter(s_adapter);
        List<TrainingRow> rows = [.. Rows.Take(2), TrainingRow.Of(new JsonObject { ["messages"] = new JsonArray() })];
        Assert.That(() => model.Train(rows, s_run), Throws.InstanceOf<InvalidDataException>().With.Message.StartsWith("program:rows, row 3: "));
    }

    [Test]
    public void A_run_whose_rows_a_program_gave_goes_on_with_them_and_not_without()
    {
        using var folder = new TemporaryFolder();
        using var stop = new CancellationTokenSource();
        var run = s_run with { OutputDir = folder.At("run") };
        using (var model = LanguageModel.Load(s_base).AddAdapter(s_adapter))
        {
            _ = model.Train(Rows, run, new Told<StepMetrics>(s => { if (s.Step == 2) { stop.Cancel(); } }), stop.Token);
        }

        using var again = LanguageModel.Load(s_base).AddAdapter(s_adapter);
        var result = again.Train(run with { Data = run.Data with { Train = [DataSource.Of(Rows)] } }, new Listening(), new RunOptions(Resume: true));
        RequireSameFiles(Path.Combine(OfFile(folder, "adapter: { r: 4, lora_alpha: 8 }", "whole"), "adapter"), result!.Folder, "adapter_model.safetensors");

        var alone = RunConfigFile.Read(folder.At("run", "config.yaml"), [$"output_dir={folder.At("other")}"]);
        Assert.That(() => TrainingRun.Prepare(alone, new Listening()), Throws.InstanceOf<InvalidDataException>().With.Message.StartsWith("program:rows: a program gave these rows"));
    }

    // The YAML road: the same rows in a file.
    private static string OfFile(TemporaryFolder folder, string more, string name = "yaml")
    {
        File.WriteAllLines(folder.At("rows.jsonl"), File.ReadLines(s_rows).Take(24));
        var yaml = folder.Write($"{name}.yaml", $$"""
            output_dir: {{folder.At(name)}}
            model: { path: {{s_base}} }
            {{more}}
            data: { train: {{folder.At("rows.jsonl")}}, packing: false }
            training: { max_steps: 4, learning_rate: 2e-3, micro_batch_size: 2 }
            evaluation: { generate_rows: 0 }
            """);
        using var run = TrainingRun.Prepare(RunConfigFile.Read(yaml, []), new SilentListener());
        _ = run.Run(overwrite: false, command: "test", CancellationToken.None);
        return folder.At(name);
    }

    private static void RequireSameFiles(string expected, string actual, string? only = null)
    {
        IEnumerable<string?> names = only is null ? Directory.GetFiles(expected).Select(Path.GetFileName).Order() : [only];
        if (only is null)
        {
            Assert.That(Directory.GetFiles(actual).Select(Path.GetFileName).Order(), Is.EqualTo(names));
        }

        foreach (var name in names)
        {
            Assert.That(File.ReadAllBytes(Path.Combine(actual, name!)), Is.EqualTo(File.ReadAllBytes(Path.Combine(expected, name!))), name);
        }
    }

    private static async Task<List<T>> Collected<T>(IAsyncEnumerable<T> all)
    {
        var list = new List<T>();
        await foreach (var one in all)
        {
            list.Add(one);
        }

        return list;
    }

    private sealed class Told<T>(Action<T> told) : IProgress<T>
    {
        public void Report(T value) => told(value);
    }

    // A listener of which a program writes only what it wants to hear.
    private sealed class Listening : IRunListener
    {
        internal List<EvaluationMetrics> Evaluations { get; } = [];

        public void Evaluated(EvaluationMetrics metrics) => Evaluations.Add(metrics);
    }
}
