using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Adapters;

/// <summary>Several adapters made one, against PEFT's add_weighted_adapter.</summary>
[Category(TestDevice.Parity)]
public sealed class WeightedAdapterTests
{
    private const string Module = "model.layers.0.self_attn.v_proj";

    private static IEnumerable<string> Combinations =>
        SharedFiles.Find("goldens", "adapters2026", "weighted") is null ? [] : new Golden("weighted", "adapters2026").Json["combos"]!.AsObject().Select(static c => c.Key);

    [TestCaseSource(nameof(Combinations))]
    public void Updates_and_logits_are_PEFTs(string name)
    {
        using var golden = new Golden("weighted", "adapters2026");
        using var scope = NewDisposeScope();
        using var loaded = ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, TestDevice.Current);
        using var adapters = Load(golden, loaded.Model);
        using var combined = Combine(golden, adapters, name);
        var layer = combined.Layers.Single(static l => l.Module == Module);
        Assert.That(Golden.LargestDifference(layer.Delta(), golden.Tensor($"{name}.delta.{Module}")), Is.LessThan(1e-5 * TestDevice.Slack));
        Assert.That(((LoraConfig)combined.Config).Rank, Is.EqualTo(golden.Json["combos"]![name]!["result_r"]!.GetValue<int>()));
        var expected = golden.Tensor($"{name}.logits");
        var logits = Logits(loaded.Model, golden);
        var (tokens, shown) = (logits.size(1), expected.size(1));
        Assert.That(Golden.LargestDifference(logits.narrow(1, tokens - shown, shown), expected), Is.LessThan(3e-5 * TestDevice.Slack));
    }

    [TestCase("linear")]
    [TestCase("cat")]
    [TestCase("ties")]
    public void The_folder_holds_what_PEFTs_holds(string name)
    {
        using var golden = new Golden("weighted", "adapters2026");
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var loaded = ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, TestDevice.Current);
        using var adapters = Load(golden, loaded.Model);
        using (var combined = Combine(golden, adapters, name))
        {
            PeftFolder.Save(combined, folder.At("combined"), "base");
        }

        using var expected = AdapterFolder.Open(Path.Combine(golden.Folder, $"w_{name}")).OpenWeights();
        using var written = AdapterFolder.Open(folder.At("combined")).OpenWeights();
        Assert.That(written.Tensors.Select(static t => t.Name), Is.EquivalentTo(expected.Tensors.Select(static t => t.Name)));
        foreach (var tensor in expected.Tensors)
        {
            Assert.That(Golden.LargestDifference(TensorFiles.Read(written, tensor.Name), TensorFiles.Read(expected, tensor.Name)), Is.LessThan(1e-6 * TestDevice.Slack), tensor.Name);
        }
    }

    [Test]
    public void Random_masks_keep_the_density_and_are_those_of_their_seed()
    {
        using var golden = new Golden("weighted", "adapters2026");
        using var scope = NewDisposeScope();
        using var loaded = ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, TestDevice.Current);
        using var adapters = Load(golden, loaded.Model);
        Tensor A(long seed)
        {
            using var combined = WeightedAdapter.Create([(adapters["a"], 1), (adapters["b"], 0)], new AdapterCombination("dare_linear") { Density = 0.6, Seed = seed });
            return combined.Layers[0].A.detach().clone();
        }

        var (one, same, other) = (A(1), A(1), A(2));
        Assert.That(one.eq(same).all().ToBoolean());
        Assert.That(one.eq(other).all().ToBoolean(), Is.False);
        Assert.That(one.ne(zeros_like(one)).to(float64).mean().ToDouble(), Is.EqualTo(0.6).Within(0.15));
    }

    [Test]
    public void What_cannot_be_combined_is_told()
    {
        using var golden = new Golden("weighted", "adapters2026");
        using var loaded = ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, TestDevice.Current);
        using var adapters = Load(golden, loaded.Model);
        (PeftAdapter, double)[] both = [(adapters["a"], 1), (adapters["c"], 1)];
        Assert.That(() => WeightedAdapter.Create(both, new AdapterCombination("linear")), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("adapters of one rank").And.Message.Contains("use cat or svd"));
        Assert.That(() => WeightedAdapter.Create(both, new AdapterCombination("lineal")), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("Did you mean linear?"));
        Assert.That(() => WeightedAdapter.Create(both, new AdapterCombination("cat") { Density = 2 }), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("from 0 to 1"));
    }

    private static AdapterSet Load(Golden golden, CausalLanguageModel model)
    {
        var adapters = new AdapterSet(model);
        foreach (var name in new[] { "a", "b", "c" })
        {
            _ = adapters.Load(name, Path.Combine(golden.Folder, name));
        }

        adapters.Use();
        return adapters;
    }

    private static PeftAdapter Combine(Golden golden, AdapterSet adapters, string name)
    {
        var combo = golden.Json["combos"]![name]!;
        var how = new AdapterCombination(combo["combination_type"]!.ToString())
        {
            Density = combo["density"]?.GetValue<double>() ?? 1,
            ByFrequency = combo["majority_sign_method"]?.ToString() == "frequency",
            SvdRank = combo["svd_rank"]?.GetValue<int>(),
            KeepMask = (i, shape) => golden.Tensor($"{name}.keep_mask.{i}").view(shape),
        };
        var weights = combo["weights"]!.AsArray().Select(static w => w!.GetValue<double>());
        return WeightedAdapter.Create([.. combo["adapters"]!.AsArray().Select(a => adapters[a!.ToString()]).Zip(weights)], how);
    }

    private static Tensor Logits(CausalLanguageModel model, Golden golden)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        return model.Logits(model.call(ModelInput.Rows(Golden.Ids(golden.Json["input_ids"]!)))).MoveToOuterDisposeScope();
    }
}
