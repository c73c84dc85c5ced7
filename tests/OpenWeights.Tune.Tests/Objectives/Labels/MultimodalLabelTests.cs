using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives.Labels;
using OpenWeights.Tune.Tests.Models;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Objectives.Labels;

/// <summary>Reward models and classifiers made of multimodal checkpoints, as transformers' classes have them.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class MultimodalLabelTests
{
    private static readonly int[][] s_texts = [[3, 14, 15, 42, 35, 2], [35, 29, 39], [7, 2], [41, 42, 43, 44, 45, 46, 47]];

    [TestCase("gemma3_whole", "Gemma3ForSequenceClassification")]
    [TestCase("qwen3_5_whole", "Qwen3_5ForSequenceClassification")]
    public void A_reward_model_trained_in_full_has_the_names_of_transformers_class_and_all_other_parts(string name, string architecture)
    {
        using var golden = new Golden(name, Families2026Tests.Set);
        using var folder = new TemporaryFolder();
        _ = folder.Write("rows.jsonl", Pairs());
        Run(folder, golden.Folder, "", "type: reward");
        var config = JsonNode.Parse(File.ReadAllText(folder.At("out", "model", "config.json")))!;
        Assert.That(config["architectures"]!.ToJsonString(), Is.EqualTo($"[\"{architecture}\"]"));
        Assert.That(config["id2label"]!.ToJsonString(), Is.EqualTo("{\"0\":\"LABEL_0\"}"));
        Assert.That(config["text_config"]!["pad_token_id"]?.ToJsonString(), Is.EqualTo(config["pad_token_id"]?.ToJsonString()));
        Assert.That(config["vision_config"]!.ToJsonString(), Is.EqualTo(JsonNode.Parse(File.ReadAllText(Path.Combine(golden.Folder, "config.json")))!["vision_config"]!.ToJsonString()));

        // The names are those of the multimodal class: its other parts, the text model inside, and the head beside them.
        using var before = SafetensorsFile.Open(Path.Combine(golden.Folder, "model.safetensors"));
        using var after = SafetensorsFile.Open(folder.At("out", "model", "model.safetensors"));
        var names = before.Tensors.Select(static t => t.Name).Where(static n => n != "lm_head.weight").Append("score.weight");
        Assert.That(after.Tensors.Select(static t => t.Name), Is.EquivalentTo(names));
        var other = before.Tensors.First(static t => t.Name.Contains("vis", StringComparison.Ordinal)).Name;
        using var wholeBefore = CheckpointWeights.Open(golden.Folder);
        using var wholeAfter = CheckpointWeights.Open(folder.At("out", "model"));
        Assert.That(wholeAfter.ReadBytes(other), Is.EqualTo(wholeBefore.ReadBytes(other)));

        // What is read again is the head's own product with the last token's hidden state.
        using var loaded = ModelLoader.Load(folder.At("out", "model"), float32, CPU);
        Assert.That(loaded.Model.Config.Labels!.Names, Is.EqualTo(new[] { "LABEL_0" }));
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var hidden = loaded.Model.call(ModelInput.Rows(tensor(Array.ConvertAll(s_texts[1], static i => (long)i), [1, 3])));
        var expected = hidden.select(1, 2).matmul(loaded.Model.Head.Weight.t()).to(float64).contiguous();
        Assert.That(Rewards(loaded)[1], Is.EqualTo(MemoryMarshal.Cast<byte, double>(expected.bytes)[0]).Within(1e-5));
    }

    [TestCase("gemma3_whole")]
    [TestCase("qwen3_5_whole")]
    public void A_classifiers_adapter_is_found_again_and_merges(string name)
    {
        using var golden = new Golden(name, Families2026Tests.Set);
        using var folder = new TemporaryFolder();
        _ = folder.Write("rows.jsonl", string.Concat(Enumerable.Range(0, 8).Select(static i => $$"""{"input_ids":[{{(i % 2 == 0 ? "5, 6, 7" : "40, 41, 42")}}, {{8 + i}}],"label":"{{(i % 2 == 0 ? "low" : "high")}}"}""" + "\n")));
        Run(folder, golden.Folder, "adapter: { r: 4, lora_alpha: 8 }", "type: classification");
        using var tensors = SafetensorsFile.Open(folder.At("out", "adapter", "adapter_model.safetensors"));
        Assert.That(tensors.Tensors.Select(static t => t.Name), Has.Some.EqualTo("base_model.model.score.weight").And.Some.StartsWith("base_model.model.model.language_model.layers."));
        using var loaded = ModelLoader.Load(golden.Folder, float32, CPU, labels: LabelFile.Of(folder.At("out")));
        using var adapter = PeftFolder.Load(loaded.Model, folder.At("out"));
        var scores = Scores(loaded);
        _ = MergedExport.Write(loaded, adapter, folder.At("merged"), null, 5L << 30);
        using var merged = ModelLoader.Load(folder.At("merged"), float32, CPU);
        Assert.That(merged.Model.Config.Labels!.Names, Is.EqualTo(new[] { "high", "low" }));

        // The checkpoint's weights are bfloat16, and so are the merged ones.
        Assert.That(Scores(merged).SelectMany(static s => s), Is.EqualTo(scores.SelectMany(static s => s)).Within(0.05));
        Assert.That(scores.SelectMany(static s => s).Distinct().Count(), Is.GreaterThan(4));
    }

    [TestCase("gemma4_whole")]
    [TestCase("llama4_whole")]
    [TestCase("mistral3_whole")]
    [TestCase("qwen2_5_vl_whole")]
    [TestCase("qwen3_vl_whole")]
    public void A_model_without_such_a_class_is_refused(string name)
    {
        using var golden = new Golden(name, Families2026Tests.Set);
        using var folder = new TemporaryFolder();
        _ = folder.Write("rows.jsonl", Pairs());
        Assert.That(() => Run(folder, golden.Folder, "", "type: reward"), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("AutoModelForSequenceClassification has no class for it"));
    }

    private static string Pairs() => string.Concat(Enumerable.Range(0, 8).Select(static i => $$"""{"prompt_ids":[5, {{6 + i}}],"chosen_ids":[30, 31, {{32 + i}}],"rejected_ids":[20, {{11 + i}}]}""" + "\n"));

    private static void Run(TemporaryFolder folder, string model, string adapter, string objective)
    {
        var path = folder.Write("train.yaml", $$"""
            output_dir: '{{folder.At("out")}}'
            model: { path: '{{model}}', dtype: float32, device: cpu }
            {{adapter}}
            data: { train: rows.jsonl, packing: false, max_length: 64 }
            objective: { {{objective}} }
            training: { max_steps: 2, micro_batch_size: 4, learning_rate: 1.0e-2, warmup_steps: 0 }
            """);
        using var run = TrainingRun.Prepare(RunConfigFile.Read(path, []), new SilentListener(), new RunOptions { IgnoreMemory = true });
        _ = run.Run(overwrite: true, "test", CancellationToken.None);
    }

    private static IReadOnlyList<double> Rewards(LoadedModel loaded) => new LabelScorer(loaded.Model, new RowTokenizer(loaded.Folder.FolderPath, "all")).Rewards(s_texts);

    private static IReadOnlyList<double[]> Scores(LoadedModel loaded) => [.. new LabelScorer(loaded.Model, new RowTokenizer(loaded.Folder.FolderPath, "all")).Scores(s_texts).Select(static s => s.ToArray())];
}
