using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Init;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives.Labels;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Objectives.Labels;

/// <summary>Whole runs of reward models and classifiers, from a YAML file to what transformers and PEFT read.</summary>
public sealed class LabelRunTests
{
    private const string Set = "objectives";
    private static readonly int[][] s_texts = [[3, 14, 15, 92, 65, 2], [35, 89, 79], [7, 2], [41, 42, 43, 44, 45, 46, 47]];

    [TestCase("reward", "type: reward", null)]
    [TestCase("reward_margin_center", "type: reward, center_rewards_coefficient: 0.01", null)]
    [TestCase("reward_lora", "type: reward, center_rewards_coefficient: 0.02", "reward_adapter")]
    [TestCase("classification", "type: classification", null)]
    [Category(TestDevice.Parity)]
    public void One_step_from_YAML_is_the_references(string name, string objective, string? adapter)
    {
        using var golden = new Golden(name, Set);
        using var folder = new TemporaryFolder();
        var rows = golden.Json["examples"]!.AsArray().Select(static e => Line(e!)).ToList();
        _ = folder.Write("rows.jsonl", string.Join('\n', rows) + "\n");
        var model = Path.GetFullPath(Path.Combine(golden.Folder, golden.Json["model"]!.ToString()));
        var section = adapter is null ? "" : $"adapter: {{ path: '{Path.GetFullPath(Path.Combine(golden.Folder, "..", adapter))}', any_base: true }}";
        Run(folder, model, section, objective, $"max_steps: 1, micro_batch_size: {rows.Count}", "rows.jsonl");
        var line = Metrics(folder)[0];
        Assert.That(line["loss"]!.GetValue<double>(), Is.EqualTo(golden.Json["loss"]!.GetValue<double>()).Within(1e-5 * TestDevice.Slack));
        Assert.That(line["grad_norm"]!.GetValue<double>(), Is.EqualTo(golden.Json["grad_norm_total"]!.GetValue<double>()).Within(1e-3).Percent);
        foreach (var (metric, value) in golden.Json["metrics"]!.AsObject())
        {
            Assert.That(line[metric]!.GetValue<double>(), Is.EqualTo(value!.GetValue<double>()).Within(1e-5 * TestDevice.Slack), metric);
        }
    }

    [Test]
    public void A_reward_model_trained_in_full_is_a_folder_that_transformers_reads()
    {
        using var folder = new TemporaryFolder();
        var scorer = new Scored(folder, "", "type: reward", PairRows(12));
        var config = JsonNode.Parse(File.ReadAllText(folder.At("out", "model", "config.json")))!.AsObject();
        Assert.That(config["architectures"]!.ToJsonString(), Is.EqualTo("[\"LlamaForSequenceClassification\"]"));
        Assert.That(config["id2label"]!.ToJsonString(), Is.EqualTo("{\"0\":\"LABEL_0\"}"));
        Assert.That(config["label2id"]!.ToJsonString(), Is.EqualTo("{\"LABEL_0\":0}"));
        using var weights = SafetensorsFile.Open(folder.At("out", "model", "model.safetensors"));
        Assert.That(weights.GetTensor("score.weight").Shape, Is.EqualTo(new long[] { 1, 32 }));
        Assert.That(weights.TryGetTensor("lm_head.weight", out _), Is.False, "transformers' class has no such weight");
        using var loaded = ModelLoader.Load(folder.At("out", "model"), float32, CPU);
        Assert.That(Rewards(loaded), Is.EqualTo(scorer.Rewards).Within(1e-6));
        Assert.That(() => new TextGenerator(loaded.Model, new GenerationOptions { MaxNewTokens = 1 }), Throws.TypeOf<InvalidDataException>().With.Message.Contains("owt score --rewards"));
    }

    [Test]
    public void An_adapter_has_the_head_as_PEFT_writes_it_and_merges_into_a_whole_model()
    {
        using var folder = new TemporaryFolder();
        var scorer = new Scored(folder, "adapter: { r: 4, lora_alpha: 8 }", "type: reward", PairRows(12));
        var config = AdapterFolder.Open(folder.At("out", "adapter")).Config;
        Assert.That(config["task_type"]!.ToString(), Is.EqualTo("SEQ_CLS"));
        Assert.That(config["modules_to_save"]!.ToJsonString(), Is.EqualTo("[\"score\"]"));
        Assert.That(config["target_modules"]!.AsArray().Select(static m => m!.ToString()), Does.Not.Contain("score"));
        using var weights = SafetensorsFile.Open(folder.At("out", "adapter", "adapter_model.safetensors"));
        Assert.That(weights.GetTensor("base_model.model.score.weight").Shape, Is.EqualTo(new long[] { 1, 32 }));

        using var loaded = ModelLoader.Load(folder.At("model"), float32, CPU, labels: LabelFile.Of(folder.At("out")));
        using var adapter = PeftFolder.Load(loaded.Model, folder.At("out"));
        Assert.That(Rewards(loaded), Is.EqualTo(scorer.Rewards).Within(1e-6));
        _ = MergedExport.Write(loaded, adapter, folder.At("merged"), null, 5L << 30);
        using var merged = ModelLoader.Load(folder.At("merged"), float32, CPU);
        Assert.That(merged.Model.Config.Labels!.Names, Is.EqualTo(new[] { "LABEL_0" }));
        Assert.That(Rewards(merged), Is.EqualTo(scorer.Rewards).Within(1e-5));

        // As PEFT writes it, an adapter has no names of labels, and the merged model keeps its own.
        File.Delete(folder.At("out", "adapter", "labels.json"));
        using var unnamed = ModelLoader.Load(folder.At("model"), float32, CPU, labels: LabelFile.Of(folder.At("out")));
        using var again = PeftFolder.Load(unnamed.Model, folder.At("out"));
        Assert.That(Rewards(unnamed), Is.EqualTo(scorer.Rewards).Within(1e-6));
    }

    [Test]
    public void A_classifiers_own_names_are_kept_where_an_adapter_has_none()
    {
        using var folder = new TemporaryFolder();
        _ = new Scored(folder, "", "type: classification, labels: [low, high]", ClassRows());
        using var loaded = ModelLoader.Load(folder.At("out", "model"), float32, CPU, labels: LabelHead.OfCount(2) with { IsNew = true });
        Assert.That(loaded.Model.Config.Labels!.Names, Is.EqualTo(new[] { "low", "high" }));
        Assert.That(() => ModelLoader.Load(folder.At("out", "model"), float32, CPU, labels: LabelHead.OfCount(3)), Throws.TypeOf<InvalidDataException>().With.Message.Contains("has 2 labels (low, high), and 3"));
    }

    [TestCase("gemma2", false)]
    [TestCase("gemma3_text", true)]
    [TestCase("gpt_neox", false)]
    [TestCase("granite", true)]
    [TestCase("cohere", true)]
    [TestCase("qwen3_moe", false)]
    [TestCase("mamba2", true)]
    public void Every_family_takes_the_head_and_is_read_again(string family, bool tied)
    {
        using var folder = new TemporaryFolder();
        var shape = new ModelShape { HiddenSize = 32, IntermediateSize = 48, Layers = 2, Heads = 4, KeyValueHeads = 2, VocabularySize = TinyModel.Vocabulary, MaxPositions = 128, TiedEmbeddings = tied };
        NewModel.Write(family, shape, seed: 7, float32, folder.At("model"), addTokenizer: null);
        using var loaded = ModelLoader.Load(folder.At("model"), float32, CPU, labels: new LabelHead(["low", "high"]) { IsNew = true, Seed = 3, PadId = 2 });
        var scores = new LabelScorer(loaded.Model, new RowTokenizer(folder.At("model"), "all")).Scores(s_texts);
        ModelFolderWriter.Write(loaded, folder.At("again"));
        var config = JsonNode.Parse(File.ReadAllText(folder.At("again", "config.json")))!;
        Assert.That(config["architectures"]![0]!.ToString(), family == "gemma3_text" ? Is.EqualTo("Gemma3TextForSequenceClassification") : Does.EndWith("ForSequenceClassification"));
        Assert.That(config["pad_token_id"]!.GetValue<int>(), Is.EqualTo(2));
        using var again = ModelLoader.Load(folder.At("again"), float32, CPU);
        Assert.That(again.Model.Config.Labels!.Names, Is.EqualTo(new[] { "low", "high" }));
        var read = new LabelScorer(again.Model, new RowTokenizer(folder.At("model"), "all")).Scores(s_texts);
        Assert.That(read.SelectMany(static s => s), Is.EqualTo(scores.SelectMany(static s => s)).Within(1e-6));

        // The linear layer's own outputs: no multiplier and no soft cap of the family's logits.
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var hidden = loaded.Model.call(ModelInput.Rows(tensor(Array.ConvertAll(s_texts[1], static i => (long)i), [1, 3])));
        var expected = hidden.select(1, 2).matmul(loaded.Model.Head.Weight.t()).to(float64).contiguous();
        Assert.That(scores[1], Is.EqualTo(MemoryMarshal.Cast<byte, double>(expected.bytes).ToArray()).Within(1e-5));
    }

    [Test]
    public void Training_goes_on_from_an_adapter_with_a_head_and_from_a_merged_model()
    {
        using var folder = new TemporaryFolder();
        _ = new Scored(folder, "adapter: { r: 4, lora_alpha: 8 }", "type: classification", ClassRows());
        var last = Metrics(folder)[^1]["loss"]!.GetValue<double>();
        Directory.Move(folder.At("out"), folder.At("first"));
        Run(folder, folder.At("model"), $"adapter: {{ path: '{folder.At("first")}' }}", "type: classification", "max_steps: 4, micro_batch_size: 4", "rows.jsonl");
        Assert.That(Metrics(folder)[0]["loss"]!.GetValue<double>(), Is.LessThan(last));
        var written = LabelFile.Of(folder.At("out"))!;
        Assert.That(written.Names, Is.EqualTo(new[] { "high", "low" }), "sorted");
    }

    [TestCase("", "type: reward", false)]
    [TestCase("adapter: { r: 4, lora_alpha: 8, lora_dropout: 0.1 }", "type: classification", true)]
    public void Going_on_gives_the_bytes_of_a_run_that_was_not_stopped(string adapter, string objective, bool classes)
    {
        using var folder = new TemporaryFolder();
        _ = TinyModel.Write(folder);
        _ = folder.Write("rows.jsonl", classes ? ClassRows() : PairRows(12));
        RunConfig Config(string name) => Read(folder, folder.At("model"), adapter, objective, "max_steps: 8, micro_batch_size: 2, gradient_accumulation_steps: 2", "rows.jsonl", name);
        using (var straight = TrainingRun.Prepare(Config("straight"), new SilentListener(), new RunOptions { IgnoreMemory = true }))
        {
            _ = straight.Run(overwrite: true, "test", CancellationToken.None);
        }

        using var stop = new CancellationTokenSource();
        var listener = new SilentListener
        {
            OnStep = s =>
            {
                if (s.Step == 3)
                {
                    stop.Cancel();
                }
            },
        };
        using (var stopped = TrainingRun.Prepare(Config("stopped"), listener, new RunOptions { IgnoreMemory = true }))
        {
            Assert.That(stopped.Run(overwrite: true, "test", stop.Token), Is.Null);
        }

        using (var resumed = TrainingRun.Prepare(Config("stopped"), new SilentListener(), new RunOptions { IgnoreMemory = true, Resume = true }))
        {
            Assert.That(resumed.Run(overwrite: false, "test", CancellationToken.None), Is.Not.Null);
        }

        var file = adapter.Length == 0 ? Path.Combine("model", "model.safetensors") : Path.Combine("adapter", "adapter_model.safetensors");
        Assert.That(File.ReadAllBytes(folder.At("stopped", file)), Is.EqualTo(File.ReadAllBytes(folder.At("straight", file))));
    }

    [TestCase("type: classification, labels: [a, b]", "the data has the class 'low'")]
    [TestCase("type: reward", "one answer")]
    [TestCase("type: classification, labels: [a]", "at least two")]
    [TestCase("type: sft, center_rewards_coefficient: 0.1", "belongs to reward")]
    public void What_does_not_fit_is_refused(string objective, string message)
    {
        using var folder = new TemporaryFolder();
        _ = TinyModel.Write(folder);
        _ = folder.Write("rows.jsonl", objective.Contains("reward", StringComparison.Ordinal) ? File.ReadAllText(TinyModel.WriteRows(folder, 4)) : ClassRows());
        Assert.That(() => Run(folder, folder.At("model"), "", objective, "max_steps: 1", "rows.jsonl"), Throws.Exception.With.Message.Contains(message));
    }

    [Test]
    public void A_reward_model_refuses_objectives_of_tokens_and_of_classes()
    {
        using var folder = new TemporaryFolder();
        _ = new Scored(folder, "", "type: reward", PairRows(8));
        var model = folder.At("out", "model");
        _ = folder.Write("rows.jsonl", ClassRows());
        Assert.That(() => Run(folder, model, "", "type: classification", "max_steps: 1", "rows.jsonl", "second"), Throws.Exception.With.Message.Contains("reward model with one output"));
        _ = TinyModel.WriteRows(folder, 4);
        Assert.That(() => Run(folder, model, "", "type: sft", "max_steps: 1", "rows.jsonl", "second"), Throws.Exception.With.Message.Contains("none of tokens"));
    }

    [Test]
    public void Macro_F1_is_the_mean_over_the_classes_that_occur()
    {
        // Class 0: 2 of 3 found, one wrongly; class 1: none of one; class 2: predicted once, never there.
        (int Expected, long Predicted)[] pairs = [(0, 0), (0, 0), (0, 2), (1, 0)];
        Assert.That(ClassificationObjective.MacroF1(pairs), Is.EqualTo((2.0 * 2 / (3 + 3) + 0 + 0) / 3).Within(1e-12));
    }

    private static void Run(TemporaryFolder folder, string model, string adapter, string objective, string training, string rows, string output = "out")
    {
        using var run = TrainingRun.Prepare(Read(folder, model, adapter, objective, training, rows, output), new SilentListener(), new RunOptions { IgnoreMemory = true });
        _ = run.Run(overwrite: true, "test", CancellationToken.None);
    }

    private static RunConfig Read(TemporaryFolder folder, string model, string adapter, string objective, string training, string rows, string output) => RunConfigFile.Read(
        folder.Write("train.yaml", $$"""
            output_dir: '{{folder.At(output)}}'
            model: { path: '{{model}}', dtype: float32, device: '{{TestDevice.Name}}' }
            {{adapter}}
            data: { train: {{rows}}, shuffle: false, packing: false, max_length: 64 }
            objective: { {{objective}} }
            training: { {{training}}, learning_rate: 1.0e-2, lr_scheduler: constant, warmup_steps: 0 }
            """), []);

    private static List<JsonObject> Metrics(TemporaryFolder folder) =>
        [.. File.ReadAllLines(folder.At("out", "metrics.jsonl")).Select(static l => JsonNode.Parse(l)!.AsObject()).Where(static l => l["loss"] is not null)];

    private static IReadOnlyList<double> Rewards(LoadedModel loaded) => new LabelScorer(loaded.Model, new RowTokenizer(loaded.Folder.FolderPath, "all")).Rewards(s_texts);

    // Chosen answers have large tokens, rejected ones small ones.
    private static string PairRows(int count)
    {
        var random = new Random(5);
        string Ids(int from) => $"[{string.Join(',', Enumerable.Range(0, random.Next(2, 7)).Select(_ => from + random.Next(40)))}]";
        return string.Join('\n', Enumerable.Range(0, count).Select(_ => $$"""{"prompt_ids":{{Ids(20)}},"chosen_ids":{{Ids(50)}},"rejected_ids":{{Ids(5)}},"margin":0.1}""")) + "\n";
    }

    private static string ClassRows()
    {
        var random = new Random(6);
        string Ids(int from) => $"[{string.Join(',', Enumerable.Range(0, random.Next(1, 7)).Select(_ => from + random.Next(40)))}]";
        return string.Join('\n', Enumerable.Range(0, 16).Select(i => $$"""{"input_ids":{{Ids(i % 2 == 0 ? 50 : 5)}},"label":"{{(i % 2 == 0 ? "low" : "high")}}"}""")) + "\n";
    }

    private static string Line(JsonNode example)
    {
        if (example["input_ids"] is not null)
        {
            return example.ToJsonString();
        }

        return new JsonObject { ["prompt_ids"] = new JsonArray(), ["chosen_ids"] = example["chosen"]!.DeepClone(), ["rejected_ids"] = example["rejected"]!.DeepClone(), ["margin"] = example["margin"]?.DeepClone() }.ToJsonString();
    }

    // A run of the tiny model, and what its own model gives to some texts at the end.
    private sealed class Scored
    {
        internal Scored(TemporaryFolder folder, string adapter, string objective, string rows)
        {
            _ = TinyModel.Write(folder, tied: false);
            _ = folder.Write("rows.jsonl", rows);
            using var run = TrainingRun.Prepare(Read(folder, folder.At("model"), adapter, objective, "max_steps: 6, micro_batch_size: 4", "rows.jsonl", "out"), new SilentListener(), new RunOptions { IgnoreMemory = true });
            _ = run.Run(overwrite: true, "test", CancellationToken.None);
            var scorer = new LabelScorer(run.Model, new RowTokenizer(folder.At("model"), "all"));
            Rewards = scorer.IsReward ? scorer.Rewards(s_texts) : [];
        }

        internal IReadOnlyList<double> Rewards { get; }
    }
}
