using System.Runtime.InteropServices;
using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;

namespace OpenWeights.Formats.Tests.Safetensors;

/// <summary>Mixtures whose experts lie in one tensor, as transformers 5's modules have them.</summary>
public sealed class FusedExpertsTests
{
    private const int Experts = 3;
    private const int Inner = 2;
    private const int Hidden = 5;

    [TestCase("mixtral", "block_sparse_moe", "w1", "w3", "w2")]
    [TestCase("qwen3_moe", "mlp", "gate_proj", "up_proj", "down_proj")]
    [TestCase("qwen2_moe", "mlp", "gate_proj", "up_proj", "down_proj")]
    public void Experts_in_one_tensor_are_given_one_by_one(string family, string module, string gate, string up, string down)
    {
        using var folder = new TemporaryFolder();
        Write(folder, family);
        using var weights = ModelFolder.Open(folder.Root).OpenWeights();
        Assert.That(weights.Tensors.Select(static t => t.Name), Has.Member($"model.layers.0.{module}.gate.weight").And.Exactly(1 + (3 * Experts)).Items);
        for (var expert = 0; expert < Experts; expert++)
        {
            var name = $"model.layers.0.{module}.experts.{expert}";
            Assert.That(weights.GetTensor($"{name}.{gate}.weight").Shape, Is.EqualTo(new long[] { Inner, Hidden }));
            Assert.That(weights.GetTensor($"{name}.{down}.weight").Shape, Is.EqualTo(new long[] { Hidden, Inner }));
            Assert.That(Read(weights, $"{name}.{gate}.weight"), Is.EqualTo(Numbers(100 + (expert * 2 * Inner * Hidden), Inner * Hidden)), "gate lies above up");
            Assert.That(Read(weights, $"{name}.{up}.weight"), Is.EqualTo(Numbers(100 + (((expert * 2) + 1) * Inner * Hidden), Inner * Hidden)));
            Assert.That(Read(weights, $"{name}.{down}.weight"), Is.EqualTo(Numbers(1000 + (expert * Inner * Hidden), Inner * Hidden)));
        }
    }

    [Test]
    public void Another_familys_tensors_stay_as_they_are()
    {
        using var folder = new TemporaryFolder();
        Write(folder, "gpt_oss");
        using var weights = ModelFolder.Open(folder.Root).OpenWeights();
        Assert.That(weights.Tensors.Select(static t => t.Name), Is.EquivalentTo(new[] { "model.layers.0.mlp.gate.weight", "model.layers.0.mlp.experts.gate_up_proj", "model.layers.0.mlp.experts.down_proj" }));
    }

    private static void Write(TemporaryFolder folder, string family)
    {
        folder.Write("config.json", $$"""{"model_type": "{{family}}"}""");
        SafetensorsWriter.Write(folder.At("model.safetensors"),
        [
            Tensor("model.layers.0.mlp.gate.weight", 0, Experts, Hidden),
            Tensor("model.layers.0.mlp.experts.gate_up_proj", 100, Experts, 2 * Inner, Hidden),
            Tensor("model.layers.0.mlp.experts.down_proj", 1000, Experts, Hidden, Inner),
        ]);
    }

    private static TensorToWrite Tensor(string name, int first, params long[] shape) =>
        new(name, DType.F32, shape, stream => stream.Write(MemoryMarshal.AsBytes<float>(Numbers(first, (int)shape.Aggregate(1L, static (p, s) => p * s)))));

    private static float[] Numbers(int first, int count) => [.. Enumerable.Range(first, count).Select(static i => (float)i)];

    private static float[] Read(CheckpointWeights weights, string name) => MemoryMarshal.Cast<byte, float>(weights.ReadBytes(name)).ToArray();
}
