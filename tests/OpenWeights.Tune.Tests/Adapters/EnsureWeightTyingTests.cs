using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Adapters;

/// <summary>ensure_weight_tying: an embedding and a head that are one weight are changed as one.</summary>
public sealed class EnsureWeightTyingTests
{
    private static readonly IEnumerable<string> s_goldens = SharedFiles.Present(
        ["lora_embed_head_tied_ensured", "lora_embed_tied_ensured", "lora_save_both_tied_ensured", "lora_save_embed_tied_ensured", "lora_embed_head_tied", "lora_save_both_tied", "lora_save_embed_tied"],
        "goldens", "adapters2026");

    [TestCaseSource(nameof(s_goldens))]
    public void PEFTs_adapters_give_PEFTs_logits_with_the_head_tied_and_not_and_merged_too(string name)
    {
        using var work = new TemporaryFolder();
        var folder = SharedFiles.Require("goldens", "adapters2026", name);
        var golden = JsonNode.Parse(File.ReadAllText(Path.Combine(folder, "golden.json")))!;
        using var expected = SafetensorsFile.Open(Path.Combine(folder, "golden.safetensors"));
        using var loaded = ModelLoader.Load(Path.Combine(folder, golden["base"]!.ToString()), float32, TestDevice.Current);
        using var adapter = PeftFolder.Load(loaded.Model, folder);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var input = ModelInput.Rows(Golden.Ids(golden["runs"]!["full"]!["input_ids"]!));
        var logits = TensorFiles.Read(expected, "full.logits");
        Assert.That(Golden.LargestDifference(loaded.Model.Logits(loaded.Model.call(input)), logits), Is.LessThan(1e-4));
        var unties = MergedExport.Write(loaded, adapter, work.At("merged"), null, 1 << 30);
        Assert.That(unties, Is.EqualTo(!name.EndsWith("ensured", StringComparison.Ordinal)));
        using var merged = ModelLoader.Load(work.At("merged"), float32, TestDevice.Current);
        Assert.That(Golden.LargestDifference(merged.Model.Logits(merged.Model.call(input)), logits), Is.LessThan(1e-4), "merged once, not twice");
    }

    [TestCase("embed_tokens")]
    [TestCase("lm_head")]
    public void An_update_is_trained_for_both_ends_and_written_as_PEFT_does(string named)
    {
        using var work = new TemporaryFolder();
        var result = Train(work, new AdapterSection { Rank = 3, EnsureWeightTying = true, TargetModules = new TextOrList([named, "q_proj"], IsList: true) });
        using var file = AdapterFolder.Open(result).OpenWeights();
        using var scope = NewDisposeScope();
        var (a, b) = (Read(file, "model.embed_tokens.lora_embedding_A"), Read(file, "model.embed_tokens.lora_embedding_B"));
        Assert.That(a.abs().max().ToDouble(), Is.GreaterThan(0), "it was trained");
        Assert.That(Golden.LargestDifference(Read(file, "lm_head.lora_A.weight"), b.t()), Is.Zero);
        Assert.That(Golden.LargestDifference(Read(file, "lm_head.lora_B.weight"), a.t()), Is.Zero);
        Assert.That(AdapterFolder.Open(result).Config["ensure_weight_tying"]!.GetValue<bool>());
        SameAsMerged(work, result);
    }

    [TestCase("embed_tokens")]
    [TestCase("lm_head")]
    public void A_whole_weight_is_trained_for_both_ends(string named)
    {
        using var work = new TemporaryFolder();
        var result = Train(work, new AdapterSection { Rank = 3, EnsureWeightTying = true, ModulesToSave = [named] });
        using var file = AdapterFolder.Open(result).OpenWeights();
        using var @base = CheckpointWeights.Open(work.At("model"));
        using var scope = NewDisposeScope();
        var trained = Read(file, "model.embed_tokens.weight");
        Assert.That(Golden.LargestDifference(trained, TensorFiles.Read(@base, "model.embed_tokens.weight")), Is.GreaterThan(0), "it was trained");
        Assert.That(Golden.LargestDifference(Read(file, "lm_head.weight"), trained), Is.Zero);
        SameAsMerged(work, result);
    }

    [Test]
    public void A_file_whose_two_weights_differ_is_told()
    {
        using var work = new TemporaryFolder();
        var result = Train(work, new AdapterSection { Rank = 3, EnsureWeightTying = true, ModulesToSave = ["embed_tokens"] });
        using (var file = AdapterFolder.Open(result).OpenWeights())
        {
            using var scope = NewDisposeScope();
            AdapterFolder.Write(work.At("odd"), AdapterFolder.Open(result).Config,
                [.. file.Tensors.Select(t => TensorFiles.ToWrite(t.Name, t.Name.Contains("lm_head", StringComparison.Ordinal) ? TensorFiles.Read(file, t.Name).neg() : TensorFiles.Read(file, t.Name)))]);
        }

        using var loaded = ModelLoader.Load(work.At("model"), float32, TestDevice.Current);
        var told = new List<string>();
        PeftFolder.Load(loaded.Model, work.At("odd"), told.Add).Dispose();
        Assert.That(told, Has.One.Contains("two different weights"));
    }

    private static void SameAsMerged(TemporaryFolder work, string result)
    {
        using var loaded = ModelLoader.Load(work.At("model"), float32, TestDevice.Current);
        using var adapter = PeftFolder.Load(loaded.Model, result);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var input = ModelInput.Rows(tensor(new long[] { 1, 5, 9, 30 }, [1, 4]));
        var logits = loaded.Model.Logits(loaded.Model.call(input));
        Assert.That(MergedExport.Write(loaded, adapter, work.At("merged"), null, 1 << 30), Is.False, "nothing is untied");
        using var merged = ModelLoader.Load(work.At("merged"), float32, TestDevice.Current);
        Assert.That(Golden.LargestDifference(merged.Model.Logits(merged.Model.call(input)), logits), Is.LessThan(1e-4));
    }

    private static string Train(TemporaryFolder work, AdapterSection adapter)
    {
        TinyModel.Write(work);
        TinyModel.WriteRows(work, 12);
        var config = new RunConfig
        {
            OutputDir = work.At("run"),
            Model = new ModelSection { Path = work.At("model"), Device = "cpu" },
            Adapter = adapter,
            Data = new DataSection { Train = [new DataSource { Path = work.At("rows.jsonl") }], Packing = false },
            Training = new TrainingSection { MaxSteps = 4, LearningRate = 1e-2, WarmupSteps = 0, MicroBatchSize = 2 },
        };
        using var run = TrainingRun.Prepare(config, new SilentListener());
        return run.Run(overwrite: false, "test", CancellationToken.None)!;
    }

    private static Tensor Read(SafetensorsFile file, string name) => TensorFiles.Read(file, PeftFolder.Prefix + name);
}
