using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Tests.Adapters;
using OpenWeights.Tune.Training.Memory;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Models;

/// <summary>Models and adapters in float64: the references' numbers, without any step that rounds to float32 in between.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class Float64Tests
{
    // A change of the embeddings that float32 would partly lose.
    private const double Change = 1e-8;

    private static IEnumerable<string> Families => Families2026Tests.Cases;

    private static IEnumerable<string> Adapters => KindGoldenTests.Modules.Concat(KindGoldenTests.Prompts)
        .Concat(Peft2026Tests.Present(static n => n.StartsWith("lora_", StringComparison.Ordinal) || n.StartsWith("tokens_", StringComparison.Ordinal)))
        .Where(static n => SharedFiles.Find("goldens", "adapters2026", n, "golden.safetensors") is not null);

    [TestCaseSource(nameof(Families))]
    public void A_family_has_the_references_logits_and_never_rounds(string name)
    {
        using var golden = new Golden(name, Families2026Tests.Set);
        using var loaded = ModelLoader.Load(golden.Folder, float64, CPU);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        foreach (var (run, node) in golden.Runs)
        {
            var logits = loaded.Model.Logits(loaded.Model.call(Golden.Input(node)));
            Assert.That(logits.dtype, Is.EqualTo(float64));

            // What the reference rounds to float32, the small models with linear attention enlarge most.
            var slack = Math.Max(1e-4, 6 * golden.Json["float64_max_diff"]!.GetValue<double>());
            Assert.That(Golden.LargestDifference(logits, golden.Tensor($"{run}.logits"), Golden.Ids(node["attention_mask"]!)), Is.LessThan(slack), run);
        }

        RequireNoRounding(loaded.Model, golden.Runs.First().Run);
    }

    [TestCaseSource(nameof(Adapters))]
    public void An_adapter_has_PEFTs_logits_and_never_rounds(string name)
    {
        using var golden = new Golden(name, "adapters2026");
        using var loaded = ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float64, CPU);
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var single = golden.Json["runs"] is null;
        var runs = single ? [("full", JsonNode.Parse($$"""{ "input_ids": {{golden.Json["input_ids"]}}, "attention_mask": [[1]] }""")!)] : golden.Runs.ToList();
        foreach (var (run, node) in runs.Where(r => golden.Tensors.TryGetTensor($"{r.Item1}.logits", out _)))
        {
            var logits = loaded.Model.Logits(loaded.Model.call(Golden.Input(node)));
            var expected = golden.Tensor($"{run}.logits");
            expected = expected.narrow(1, expected.size(1) - logits.size(1), logits.size(1));
            Assert.That(Golden.LargestDifference(logits, expected, single ? null : Golden.Ids(node["attention_mask"]!)), Is.LessThan(5e-5), run);
        }

        RequireNoRounding(loaded.Model, runs[0].Item2);
    }

    [TestCase("nf4")]
    [TestCase("int8")]
    public void A_quantised_base_is_computed_from_the_same_values(string quantization)
    {
        using var golden = new Golden("llama", "adapters2026");
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        Tensor Logits(ScalarType dtype, int tokens)
        {
            using var loaded = ModelLoader.Load(golden.Folder, dtype, CPU, QuantizationSettings.Of(quantization));
            return loaded.Model.Logits(loaded.Model.call(ModelInput.Rows(arange(tokens, int64).add(5).unsqueeze(0))));
        }

        // One token and several: there is a kernel for few.
        Assert.That(Golden.LargestDifference(Logits(float64, 1), Logits(float32, 1)), Is.LessThan(3e-5).And.Positive);
        Assert.That(Golden.LargestDifference(Logits(float64, 12), Logits(float32, 12)), Is.LessThan(3e-5).And.Positive);
    }

    [TestCase("llama")]
    [TestCase("qwen3_moe")]
    public void Text_is_generated_in_float64_as_in_float32(string name)
    {
        var folder = SharedFiles.Require("goldens", "adapters2026", name);
        IReadOnlyList<int> Tokens(ScalarType dtype)
        {
            using var loaded = ModelLoader.Load(folder, dtype, CPU);
            return new TextGenerator(loaded.Model, new GenerationOptions { MaxNewTokens = 8 }).Continue([[5, 6], [7, 8, 9]])[0].OutputIds;
        }

        Assert.That(Tokens(float64), Is.EqualTo(Tokens(float32)));
    }

    [Test]
    public void Exact_results_are_computed_in_float64_where_the_weights_fit_and_otherwise_it_is_said()
    {
        var folder = SharedFiles.Require("goldens", "adapters2026", "llama");
        Assert.That(ExactDType.Of(folder, CPU, null, null), Is.EqualTo(((ScalarType?)float64, (string?)null)));
        long bytes;
        using (var loaded = ModelLoader.Load(folder, float64, CPU))
        {
            bytes = loaded.Model.ParameterBytes;
        }

        Assert.That(ExactDType.Of(folder, CPU, null, new AvailableMemory(bytes * 13 / 10, "this machine")).DType, Is.EqualTo((ScalarType?)float64));
        var (dtype, warning) = ExactDType.Of(folder, CPU, null, new AvailableMemory(bytes * 12 / 10, "this machine"));
        Assert.That(dtype, Is.Null);
        Assert.That(warning, Does.Contain("float64").And.Contain("this machine").And.Contain("float32"));
    }

    // Twice a small change of the input changes the output twice as much; a step in float32 on the way loses or enlarges such changes.
    private static void RequireNoRounding(CausalLanguageModel model, JsonNode run)
    {
        var embedding = model.Stack.Embedding.Weight;
        using var random = new Generator(3);
        var (before, direction) = (embedding.clone(), empty(embedding.shape, float64).uniform_(-1, 1, random).mul(embedding.abs().mean()));
        Tensor At(double distance)
        {
            _ = embedding.copy_(before.add(direction.mul(distance)));
            return model.Logits(model.call(Golden.Input(run)));
        }

        var (start, one, two) = (At(0), At(Change), At(2 * Change));
        var change = two.sub(start);
        Assert.That(change.abs().max().ToDouble(), Is.Positive);
        Assert.That(Golden.LargestDifference(change, one.sub(start).mul(2)), Is.LessThan(1e-4 * change.abs().max().ToDouble()));
        _ = embedding.copy_(before);
    }
}
