using System.Runtime.InteropServices;
using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;

namespace OpenWeights.Formats.Tests.Quantized;

/// <summary>Quantised checkpoints as people download them, against the weights that the libraries which packed them unpack.</summary>
public sealed class QuantizedGoldenTests
{
    private const string Set = "adapters2026";

    private static IEnumerable<string> Cases =>
        SharedFiles.FindNames("dequantised.safetensors", "goldens", Set).Select(static name => Path.GetDirectoryName(name)!);

    [TestCaseSource(nameof(Cases))]
    public void Weights_are_the_references_bit_for_bit(string name)
    {
        var folder = SharedFiles.Require("goldens", Set, name);
        using var expected = SafetensorsFile.Open(Path.Combine(folder, "dequantised.safetensors"));
        using var weights = ModelFolder.Open(folder).OpenWeights();
        Assert.That(expected.Tensors, Is.Not.Empty);
        foreach (var tensor in expected.Tensors)
        {
            var found = weights.GetTensor(tensor.Name);
            Assert.That((found.DType, found.IsQuantized), Is.EqualTo((DType.F32, true)), tensor.Name);
            Assert.That(found.Shape, Is.EqualTo(tensor.Shape), tensor.Name);
            var (values, wanted) = (Floats(weights.ReadBytes(tensor.Name)), Floats(expected.ReadBytes(tensor.Name)));
            Assert.That(Enumerable.Range(0, wanted.Length).Count(i => values[i] != wanted[i]), Is.Zero, tensor.Name);
        }
    }

    [TestCaseSource(nameof(Cases))]
    public void A_part_of_a_weight_is_that_part_of_the_whole(string name)
    {
        using var weights = ModelFolder.Open(SharedFiles.Require("goldens", Set, name)).OpenWeights();
        foreach (var tensor in weights.Tensors.Where(static tensor => tensor.IsQuantized))
        {
            var whole = weights.ReadBytes(tensor.Name);
            var random = new Random(7);
            for (var i = 0; i < 5; i++)
            {
                var first = random.Next(whole.Length / 4);
                var part = new byte[4 * random.Next(1, (whole.Length / 4) - first + 1)];
                weights.CopyTo(tensor.Name, 4 * first, part);
                Assert.That(part.AsSpan().SequenceEqual(whole.AsSpan(4 * first, part.Length)), $"{tensor.Name} from {first}, {part.Length} bytes");
            }
        }
    }

    [TestCaseSource(nameof(Cases))]
    public void The_description_names_the_method_and_every_part_of_a_weight_has_its_place(string name)
    {
        var folder = ModelFolder.Open(SharedFiles.Require("goldens", Set, name));
        using var weights = folder.OpenWeights();
        var method = folder.Config["quantization_config"]!["quant_method"]!.ToString();
        Assert.That(weights.Quantization, Does.StartWith(method));
        using var file = SafetensorsFile.Open(Path.Combine(folder.FolderPath, "model.safetensors"));
        var plain = weights.Stored.Tensors.Where(static tensor => !tensor.IsQuantized).Sum(static tensor => tensor.ByteLength);

        // What is left are scales of activations.
        var ignored = file.Tensors.Where(static tensor => tensor.Name.EndsWith("input_scale", StringComparison.Ordinal) || tensor.Name.EndsWith("weight_format", StringComparison.Ordinal)).Sum(static tensor => tensor.ByteLength);
        Assert.That(plain + weights.PackedTensors.Sum(static tensor => tensor.ByteLength) + ignored, Is.EqualTo(file.Tensors.Sum(static tensor => tensor.ByteLength)));
    }

    private static float[] Floats(byte[] bytes) => MemoryMarshal.Cast<byte, float>(bytes).ToArray();
}
