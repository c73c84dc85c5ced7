using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models.Weights;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Adapters;

/// <summary>Which modules an adapter's settings name.</summary>
public sealed class LoraTargetTests
{
    [Test]
    public void Layers_are_numbered_by_the_first_number_and_not_by_an_experts()
    {
        var config = new LoraConfig { Targets = TargetModules.Of(["w1", "model.layers.5.mlp.up_proj"]), LayersToTransform = [1] };
        Assert.That(config.Adapts("model.layers.1.block_sparse_moe.experts.0.w1"));
        Assert.That(config.Adapts("model.layers.0.block_sparse_moe.experts.1.w1"), Is.False);
        Assert.That((config with { LayersPattern = ["experts"] }).Adapts("model.layers.0.block_sparse_moe.experts.1.w1"));
        Assert.That(config.Adapts("model.layers.5.mlp.up_proj"), "a whole name needs no number");
    }

    [Test]
    public void What_is_trained_whole_or_excluded_is_not_adapted()
    {
        var config = new LoraConfig { ModulesToSave = ["self_attn", "lm_head"], Excluded = TargetModules.Of(["down_proj"]) };
        Assert.That(config.Adapts("model.layers.0.mlp.up_proj"));
        Assert.That(config.Adapts("model.layers.0.mlp.down_proj"), Is.False);
        Assert.That(config.Adapts("model.layers.0.self_attn.q_proj"), Is.False);
        Assert.That(config.SavesWhole("model.layers.0.self_attn.q_proj"));
        Assert.That(config.SavesWhole("model.layers.0.self_attn_layer_norm"), Is.False);
    }

    [Test]
    public void A_target_that_is_not_there_is_refused_with_what_is()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, TestDevice.Current);
        void Refused(LoraConfig config, string told) =>
            Assert.That(() => PeftAdapter.Create(loaded.Model, config, 1), Throws.InstanceOf<InvalidDataException>().With.Message.Contains(told).And.Message.Contains("down_proj, gate_proj, k_proj"));
        Refused(new LoraConfig { Targets = TargetModules.Of("no_such_.*") }, "no_such_.*");
        Refused(new LoraConfig { Targets = TargetModules.Of(["q_proj", "v_porj"]) }, "target_modules: the model has no module named v_porj; did you mean v_proj?");
        Refused(new LoraConfig { ModulesToSave = ["lm_haed"] }, "modules_to_save: the model has no module named lm_haed; did you mean lm_head?");
        Assert.That(
            () => PeftAdapter.Create(loaded.Model, new LoraConfig { Targets = TargetModules.Of(["q_proj"]), LayersToTransform = [7] }, 1),
            Throws.InstanceOf<InvalidDataException>().With.Message.EqualTo("layers_to_transform: the model has no layer 7; its 2 layers are numbered from 0."));
        Refused(new LoraConfig { Targets = TargetModules.Of(["q_proj"]), Excluded = TargetModules.Of(".*") }, "without exclude_modules");
        Assert.That(loaded.Model.LinearLayers.All(static l => l.Layer.Adapter is null));
    }

    [Test]
    public void An_adapter_over_half_precision_is_float32_and_what_is_trained_whole_is_the_bases()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder, tied: false), bfloat16, TestDevice.Current);
        var config = new LoraConfig { Rank = 2, UseDora = true, ModulesToSave = ["lm_head"] };
        using var adapter = PeftAdapter.Create(loaded.Model, config, 1);
        Assert.That(adapter.Parameters.Where(static p => p.Name != "lm_head.weight").All(static p => p.Parameter.dtype == float32));
        Assert.That(adapter.Parameters.Single(static p => p.Name == "lm_head.weight").Parameter.dtype, Is.EqualTo(bfloat16));
        PeftFolder.Save(adapter, folder.At("adapter"), null);
        adapter.Dispose();
        using var again = PeftFolder.Load(loaded.Model, folder.At("adapter"));
        PeftFolder.Save(again, folder.At("again"), null);
        foreach (var file in new[] { "adapter_model.safetensors", "adapter_config.json" })
        {
            Assert.That(File.ReadAllBytes(folder.At("again", file)), Is.EqualTo(File.ReadAllBytes(folder.At("adapter", file))), file);
        }
    }

    [Test]
    public void A_tied_head_can_be_adapted_and_trained_whole_by_its_name()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, TestDevice.Current);
        using (var adapted = PeftAdapter.Create(loaded.Model, new LoraConfig { Rank = 2, Targets = TargetModules.Of(["lm_head"]) }, 1))
        {
            Assert.That(adapted.Layers.Single().Target, Is.SameAs(loaded.Model.Head));
        }

        using var whole = PeftAdapter.Create(loaded.Model, new LoraConfig { Rank = 2, ModulesToSave = ["lm_head"] }, 1);
        Assert.That(loaded.Model.Head.Weight, Is.Not.SameAs(loaded.Model.Stack.Embedding.Weight));
        whole.Enabled = false;
        Assert.That(loaded.Model.Head.Weight, Is.SameAs(loaded.Model.Stack.Embedding.Weight));
    }
}
