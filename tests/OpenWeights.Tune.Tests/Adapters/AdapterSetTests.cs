using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Adapters;

/// <summary>Several adapters over one base: by name, combined, or none.</summary>
public sealed class AdapterSetTests
{
    [Test]
    public void One_base_serves_several_adapters_by_name_and_is_itself_again_without_them()
    {
        using var golden = new Golden("lora_qv");
        using var loaded = Base(golden);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var plain = Logits(golden, loaded);
        using var adapters = new AdapterSet(loaded.Model);
        foreach (var name in new[] { "lora_qv", "lora_dora", "lora_embedding", "lora_modules_to_save" })
        {
            _ = adapters.Load(name, SharedFiles.Require("goldens", "reference", name));
        }

        Assert.That(Logits(golden, loaded).eq(plain).all().item<bool>(), "nothing is on until it is used");
        foreach (var name in adapters.Names.Concat(adapters.Names.Reverse()))
        {
            adapters.Use((name, 1));
            using var alone = new Golden(name);
            Assert.That(Golden.LargestDifference(Logits(alone, loaded), alone.Tensor("full.logits")), Is.LessThan(3e-5), name);
            adapters.Use();
            Assert.That(Logits(golden, loaded).eq(plain).all().item<bool>(), name);
        }

        Assert.That(() => adapters.Use(("lora_xyz", 1)), Throws.InstanceOf<KeyNotFoundException>().With.Message.Contains("lora_dora"));
    }

    [Test]
    public void A_combination_computes_what_its_merged_model_computes()
    {
        using var golden = new Golden("lora_qv");
        using var loaded = Base(golden);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        using var adapters = new AdapterSet(loaded.Model);
        string[] names = ["lora_qv", "lora_dora", "lora_embedding", "lora_modules_to_save"];
        foreach (var name in names)
        {
            _ = adapters.Load(name, SharedFiles.Require("goldens", "reference", name));
        }

        adapters.Use((names[0], 0.7), (names[1], 0.3), (names[2], -0.5), (names[3], 0.25));
        using var work = new TemporaryFolder();
        _ = MergedExport.Write(loaded, adapters.Active!, work.At("merged"), null, long.MaxValue);
        Assert.That(MergedExport.Verify(loaded, work.At("merged")).Difference, Is.LessThan(3e-5));
    }

    [Test]
    public void Updates_add_up_by_their_weights()
    {
        using var golden = new Golden("lora_qv");
        using var loaded = Base(golden);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        using var a = PeftFolder.Load(loaded.Model, golden.Folder);
        using var b = PeftFolder.Load(loaded.Model, SharedFiles.Require("goldens", "reference", "lora_all_linear"));
        using var mix = new CombinedAdapter([(a, 0.7), (b, 0.3)]);
        foreach (var layer in b.Layers)
        {
            var weight = layer.Target.Weight.to(float64);
            using Scalar first = 0.7;
            using Scalar second = 0.3;
            var expected = weight.add(Product(layer), second);
            if (a.Layers.FirstOrDefault(l => l.Module == layer.Module) is { } other)
            {
                expected = expected.add(Product(other), first);
            }

            Assert.That(Golden.LargestDifference(mix.Merged($"{layer.Module}.weight", layer.Target.Weight), expected), Is.LessThan(1e-6), layer.Module);
        }
    }

    [Test]
    public void An_adapter_over_an_embedding_that_is_also_the_head_merges_into_two_weights()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, TestDevice.Current);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var config = new LoraConfig { Rank = 2, Targets = TargetModules.Of(["embed_tokens", "q_proj"]) };
        using var adapter = PeftAdapter.Create(loaded.Model, config, seed: 1);
        foreach (var (_, parameter) in adapter.Parameters)
        {
            _ = parameter.normal_(0, 0.3);
        }

        PeftFolder.Save(adapter, folder.At("adapter"), null);
        using var mix = new CombinedAdapter([(adapter, 1)]);
        Assert.That(MergedExport.Write(loaded, mix, folder.At("merged"), null, long.MaxValue), "unties");
        Assert.That(File.ReadAllText(folder.At("merged", "config.json")), Does.Contain("\"tie_word_embeddings\": false"));
        Assert.That(MergedExport.Verify(loaded, folder.At("merged")).Difference, Is.LessThan(1e-5));
        using var merged = ModelLoader.Load(folder.At("merged"), float32, TestDevice.Current);
        Assert.That(merged.Model.Head.Weight.eq(loaded.Model.Head.Weight).all().item<bool>(), "the head is the base's");
        Assert.That(merged.Model.Stack.Embedding.Weight.eq(merged.Model.Head.Weight).all().item<bool>(), Is.False);
    }

    [Test]
    public void A_half_precision_base_is_merged_into_with_one_rounding()
    {
        using var golden = new Golden("lora_all_linear");
        using var work = new TemporaryFolder();
        using var loaded = Base(golden);
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        using var mix = new CombinedAdapter([(adapter, 1)]);
        _ = MergedExport.Write(loaded, mix, work.At("merged"), bfloat16, long.MaxValue);
        using var merged = ModelLoader.Load(work.At("merged"), null, TestDevice.Current);
        using var scope = NewDisposeScope();
        Assert.That(merged.Model.DType, Is.EqualTo(bfloat16));
        foreach (var layer in adapter.Layers)
        {
            var exact = layer.Target.Weight.to(float64).add(Product(layer), Scalars.One);
            var weight = merged.Model.LinearLayers.Single(l => l.Name == layer.Module).Layer.Weight.to(float64);
            Assert.That(weight.sub(exact).abs().sub(exact.abs().mul((Scalar)0.00390626)).max().ToDouble(), Is.LessThan(1e-7), layer.Module);
        }
    }

    // s B A in float64.
    private static Tensor Product(LoraLayer layer)
    {
        using Scalar scale = layer.Scale;
        return layer.B.detach().to(float64).mm(layer.A.detach().to(float64)).mul(scale);
    }

    private static LoadedModel Base(Golden golden) => ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, TestDevice.Current);

    private static Tensor Logits(Golden golden, LoadedModel loaded) => loaded.Model.Logits(loaded.Model.call(ModelInput.Rows(Golden.Ids(golden.Json["runs"]!["full"]!["input_ids"]!))));
}
