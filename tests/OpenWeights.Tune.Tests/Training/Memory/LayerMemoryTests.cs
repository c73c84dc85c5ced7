using NUnit.Framework;
using OpenWeights.Tune.Benchmarks;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch.Memory;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Training.Memory;

/// <summary>What layers are said to store for backward, beside what a forward pass of them leaves in memory.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class LayerMemoryTests
{
    private const int Tokens = 2048;

    private static readonly string[] s_families = ["llama", "qwen3_moe", "gpt_oss", "qwen3_5_text", "kimi_linear", "lfm2", "mamba2", "jamba", "deepseek_v3"];

    [Test]
    public void A_forward_pass_stores_what_is_told([ValueSource(nameof(s_families))] string family, [Values(ScalarType.Float32, ScalarType.BFloat16)] ScalarType dtype) => Compare(family, dtype, rows: 1);

    // Mamba's spans are the shorter the more rows there are, and its states are kept before each.
    [TestCase("mamba2")]
    [TestCase("falcon_h1")]
    [TestCase("jamba")]
    [TestCase("qwen3_5_text")]
    public void So_it_does_of_several_rows(string family) => Compare(family, ScalarType.Float32, rows: 4);

    private static void Compare(string family, ScalarType dtype, int rows)
    {
        Assume.That(CpuMemory.Statistics, Is.Not.Null, "memory is counted where tensors come from the program's own pool");
        using var model = GenerationBenchmark.RandomModel(Shape(family), dtype, CPU, family);
        using var trained = new BenchmarkModel(model, rank: 16);
        using var scope = NewDisposeScope();
        var told = Enumerable.Range(0, model.Config.LayerCount).Sum(i => new LayerMemory(model, i, Tokens, rows).Bytes);
        var ids = tensor([.. Enumerable.Range(0, Tokens).Select(static i => (long)(i * 7 % 256))], [rows, Tokens / rows]);
        var before = CpuMemory.Statistics!.Value.Live;
        var states = model.Stack.call(ModelInput.Rows(ids));
        var stored = CpuMemory.Statistics!.Value.Live - before;
        Assert.That(states.requires_grad, Is.True);

        // Its output, and the input of the final norm.
        stored -= 2 * states.numel() * states.element_size();
        Assert.That((double)told / stored, Is.InRange(0.9, 1.1), $"{told:N0} of {stored:N0} bytes");
    }

    // A mixture of one expert is a plain feed-forward.
    private static ModelShape Shape(string family) => new()
    {
        HiddenSize = 256,
        IntermediateSize = 512,
        Layers = 4,
        Heads = 4,
        KeyValueHeads = 2,
        VocabularySize = 256,
        MaxPositions = Tokens,
        Experts = family == "jamba" ? 1 : 4,
        ExpertsPerToken = family == "jamba" ? 1 : 2,
    };
}
