using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Export.Gguf;
using OpenWeights.Tune.Init;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Quantization;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Export;

/// <summary>An adapter with layer_replication, merged: a model of the stacked layers, as folder and as GGUF.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class ReplicatedLayersTests
{
    private static readonly IReadOnlyList<(int First, int End)> s_stacked = [(0, 2), (1, 3), (0, 1)];

    [TestCase("llama")]
    [TestCase("qwen3")]
    [TestCase("mixtral")]
    public void The_merged_model_has_the_stacked_layers_and_their_logits(string family)
    {
        using var work = new TemporaryFolder();
        using var loaded = ModelLoader.Load(Base(work, family), float32, CPU);
        using var adapter = Adapter(loaded.Model);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var logits = Logits(loaded.Model);
        _ = MergedExport.Write(loaded, adapter, work.At("merged"), null, long.MaxValue);
        using var merged = ModelLoader.Load(work.At("merged"), float32, CPU);
        Assert.That(merged.Model.Config.LayerCount, Is.EqualTo(5));
        Assert.That(ModelFolder.Open(work.At("merged")).Config["num_hidden_layers"]!.GetValue<int>(), Is.EqualTo(5));
        Assert.That(Golden.LargestDifference(Logits(merged.Model), logits), Is.LessThan(3e-5));

        // Written from shapes of the base alone, the same bytes.
        PeftFolder.Save(adapter, work.At("adapter"), null);
        using var outline = ModelLoader.LoadMeta(work.At("model"));
        using var again = PeftFolder.Load(outline.Model, work.At("adapter"));
        _ = MergedExport.Write(outline, again, work.At("outline"), null, long.MaxValue);
        Assert.That(File.ReadAllBytes(work.At("outline", "model.safetensors")), Is.EqualTo(File.ReadAllBytes(work.At("merged", "model.safetensors"))));
        adapter.Enabled = false;
        Assert.That(Golden.LargestDifference(Logits(loaded.Model), logits), Is.GreaterThan(1e-2), "the base is another model");
    }

    [Test]
    public void As_GGUF_it_has_them_too()
    {
        using var work = new TemporaryFolder();
        using var loaded = ModelLoader.Load(Base(work, "llama"), float32, CPU);
        using var adapter = Adapter(loaded.Model);
        using var one = new CombinedAdapter([(adapter, 1)]);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        _ = GgufExport.Write(loaded.Folder, one, work.At("merged.gguf"), GgufPreset.Of("f32"), loaded.Model);
        GgufFolder.Unpack(work.At("merged.gguf"), work.Folder("unpacked"));
        using var merged = ModelLoader.Load(work.At("unpacked"), float32, CPU);
        Assert.That(Golden.LargestDifference(Logits(merged.Model), Logits(loaded.Model)), Is.LessThan(3e-5));
    }

    [Test]
    public void Of_a_quantised_base_the_values_are_those_that_it_computes_with()
    {
        using var work = new TemporaryFolder();
        using var loaded = ModelLoader.Load(Base(work, "llama"), float32, CPU, QuantizationSettings.Of("nf4"));
        using var adapter = Adapter(loaded.Model);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        _ = MergedExport.Write(loaded, adapter, work.At("merged"), null, long.MaxValue);
        using var merged = ModelLoader.Load(work.At("merged"), float32, CPU);
        Assert.That(Golden.LargestDifference(Logits(merged.Model), Logits(loaded.Model)), Is.LessThan(3e-5));
    }

    [Test]
    public void Lists_with_an_entry_for_each_layer_are_stacked_with_them()
    {
        using var work = new TemporaryFolder();
        var folder = Base(work, "qwen3");
        Change(folder, static config =>
        {
            config["layer_types"] = new JsonArray("full_attention", "sliding_attention", "full_attention");
            (config["sliding_window"], config["use_sliding_window"]) = (2, true);
        });
        using var loaded = ModelLoader.Load(folder, float32, CPU);
        using var adapter = Adapter(loaded.Model);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        _ = MergedExport.Write(loaded, adapter, work.At("merged"), null, long.MaxValue);
        Assert.That(
            ModelFolder.Open(work.At("merged")).Config["layer_types"]!.ToJsonString(),
            Is.EqualTo("""["full_attention","sliding_attention","sliding_attention","full_attention","full_attention"]"""));
        using var merged = ModelLoader.Load(work.At("merged"), float32, CPU);
        Assert.That(Golden.LargestDifference(Logits(merged.Model), Logits(loaded.Model)), Is.LessThan(3e-5));
    }

    [Test]
    public void A_family_in_which_the_number_of_a_layer_decides_what_it_is_is_refused()
    {
        using var work = new TemporaryFolder();
        using var loaded = ModelLoader.Load(Base(work, "gemma2"), float32, CPU);
        using var adapter = Adapter(loaded.Model);
        Assert.That(() => MergedExport.Write(loaded, adapter, work.At("merged"), null, long.MaxValue), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("layer_replication").And.Message.Contains("gemma2"));
        Assert.That(Directory.Exists(work.At("merged")), Is.False);
    }

    [Test]
    public void Such_an_adapter_is_not_weighted()
    {
        using var work = new TemporaryFolder();
        using var loaded = ModelLoader.Load(Base(work, "llama"), float32, CPU);
        using var adapter = Adapter(loaded.Model);
        Assert.That(() => new CombinedAdapter([(adapter, 0.5)]), Throws.ArgumentException.With.Message.Contains("layer_replication"));
    }

    private static string Base(TemporaryFolder work, string family)
    {
        var shape = new ModelShape { HiddenSize = 32, IntermediateSize = 48, Layers = 3, Heads = 4, KeyValueHeads = 2, VocabularySize = 96, MaxPositions = 128, TiedEmbeddings = true };
        NewModel.Write(family, shape, seed: 7, float32, work.At("model"), addTokenizer: null);
        return work.At("model");
    }

    private static PeftAdapter Adapter(CausalLanguageModel model)
    {
        var adapter = PeftAdapter.Create(model, new LoraConfig { Rank = 4, Alpha = 16, LayerReplication = s_stacked, Targets = TargetModules.Of(["q_proj", "v_proj", "o_proj"]) }, seed: 3);
        using var nothing = no_grad();
        using var random = new Generator(5);
        foreach (var layer in adapter.Layers)
        {
            _ = layer.B.normal_(0, 0.2, random);
        }

        return adapter;
    }

    private static void Change(string folder, Action<JsonObject> change)
    {
        var path = Path.Combine(folder, "config.json");
        var config = JsonNode.Parse(File.ReadAllText(path))!.AsObject();
        change(config);
        File.WriteAllText(path, config.ToJsonString());
    }

    private static Tensor Logits(CausalLanguageModel model) => model.Logits(model.call(ModelInput.Rows(arange(9, int64).mul(7).add(3).unsqueeze(0))));
}
