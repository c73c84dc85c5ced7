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

    [TestCase("linear", 0.4, 0.8)]
    [TestCase("cat", 0.4, 0.8)]
    [TestCase("svd", -0.5, 1.5)]
    public void Adapters_that_stack_the_same_layers_are_combined_layer_by_layer(string type, double one, double two)
    {
        using var golden = new Golden("lora_layer_replication", "adapters2026");
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var loaded = ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, TestDevice.Current);
        using var adapters = new AdapterSet(loaded.Model);
        _ = adapters.Load("a", golden.Folder);

        // The same with its ranks in another order and A of all of them doubled.
        WriteChanged(golden.Folder, folder.At("b"));
        _ = adapters.Load("b", folder.At("b"));
        var expected = adapters["a"].Layers.Select(l => (l.Module, Delta: type == "linear" ? Linear(l, one, two) : l.Delta() * (one + (2 * two)))).ToList();
        using (var combined = WeightedAdapter.Create([(adapters["a"], one), (adapters["b"], two)], new AdapterCombination(type)))
        {
            Assert.That(combined.Layers.Select(static l => l.Module), Is.EqualTo(expected.Select(static e => e.Module)).And.Some.Contains(".2."));
            foreach (var (layer, (_, delta)) in combined.Layers.Zip(expected))
            {
                Assert.That(Golden.LargestDifference(layer.Delta(), delta), Is.LessThan(2e-6 * TestDevice.Slack), layer.Module);
            }

            PeftFolder.Save(combined, folder.At("combined"), "base");
        }

        using var again = PeftFolder.Load(loaded.Model, folder.At("combined"));
        Assert.That(again.LayerOrder, Is.EqualTo(new[] { 0, 1, 1 }));
        foreach (var (layer, (_, delta)) in again.Layers.Zip(expected))
        {
            Assert.That(Golden.LargestDifference(layer.Delta(), delta), Is.LessThan(2e-6 * TestDevice.Slack), layer.Module);
        }
    }

    // linear weighs the matrices by roots: (√w A + √v 2 A') (√w B + √v B'), with the ranks of A' and B' turned round.
    private static Tensor Linear(LoraLayer layer, double one, double two)
    {
        var (a, b) = (layer.A.detach(), layer.B.detach());
        return (b * Math.Sqrt(one * layer.Scale) + b.flip(1) * Math.Sqrt(two * layer.Scale)).mm(a * Math.Sqrt(one * layer.Scale) + a.flip(0) * (2 * Math.Sqrt(two * layer.Scale)));
    }

    private static void WriteChanged(string from, string to)
    {
        var folder = AdapterFolder.Open(from);
        using var file = folder.OpenWeights();
        AdapterFolder.Write(to, folder.Config, [.. file.Tensors.Select(t => TensorFiles.ToWrite(t.Name, t.Name.Contains("lora_A", StringComparison.Ordinal)
            ? (TensorFiles.Read(file, t.Name).flip(0) * 2).contiguous() : TensorFiles.Read(file, t.Name).flip(1).contiguous()))]);
    }

    [Test]
    public void Adapters_that_stack_other_layers_are_not_combined()
    {
        using var golden = new Golden("lora_layer_replication", "adapters2026");
        using var loaded = ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, TestDevice.Current);
        using var adapters = new AdapterSet(loaded.Model);
        _ = adapters.Load("stacked", golden.Folder);
        _ = adapters.Load("own", Path.Combine(golden.Folder, "../weighted/a"));
        Assert.That(() => WeightedAdapter.Create([(adapters["stacked"], 1), (adapters["own"], 1)], new AdapterCombination("cat")), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("same layer_replication"));
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
