using NUnit.Framework;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.Gguf.Blocks;
using OpenWeights.Testing;

namespace OpenWeights.Formats.Tests.Gguf;

/// <summary>Blocks compared with ggml's own functions, bit by bit.</summary>
public sealed unsafe class BlockTests
{
    private const int Length = 256 * 64;

    [TestCase(GgufType.Q4_0, "q4_0")]
    [TestCase(GgufType.Q4_1, "q4_1")]
    [TestCase(GgufType.Q5_0, "q5_0")]
    [TestCase(GgufType.Q5_1, "q5_1")]
    [TestCase(GgufType.Q8_0, "q8_0")]
    [TestCase(GgufType.Q2_K, "q2_K")]
    [TestCase(GgufType.Q3_K, "q3_K")]
    [TestCase(GgufType.Q4_K, "q4_K")]
    [TestCase(GgufType.Q5_K, "q5_K")]
    [TestCase(GgufType.Q6_K, "q6_K")]
    public void Quantised_blocks_are_ggmls_bit_for_bit(GgufType type, string name)
    {
        var quantise = (delegate* unmanaged<float*, byte*, long, void>)Ggml.Function($"quantize_row_{name}_ref");
        foreach (var values in Samples())
        {
            var expected = new byte[type.Bytes(values.Length)];
            fixed (float* from = values)
            fixed (byte* to = expected)
            {
                quantise(from, to, values.Length);
            }

            var actual = new byte[expected.Length];
            BlockEncoder.Encode(type, values, actual);
            Assert.That(actual.AsSpan().SequenceEqual(expected), $"the first difference is at byte {actual.AsSpan().CommonPrefixLength(expected)} of blocks of {type.BlockBytes()}");
        }
    }

    [TestCase(GgufType.Q4_0, "dequantize_row_q4_0")]
    [TestCase(GgufType.Q4_1, "dequantize_row_q4_1")]
    [TestCase(GgufType.Q5_0, "dequantize_row_q5_0")]
    [TestCase(GgufType.Q5_1, "dequantize_row_q5_1")]
    [TestCase(GgufType.Q8_0, "dequantize_row_q8_0")]
    [TestCase(GgufType.Q2_K, "dequantize_row_q2_K")]
    [TestCase(GgufType.Q3_K, "dequantize_row_q3_K")]
    [TestCase(GgufType.Q4_K, "dequantize_row_q4_K")]
    [TestCase(GgufType.Q5_K, "dequantize_row_q5_K")]
    [TestCase(GgufType.Q6_K, "dequantize_row_q6_K")]
    [TestCase(GgufType.IQ4_NL, "dequantize_row_iq4_nl")]
    [TestCase(GgufType.F16, "ggml_fp16_to_fp32_row")]
    [TestCase(GgufType.BF16, "ggml_bf16_to_fp32_row")]
    public void Any_bytes_decode_as_ggml_decodes_them(GgufType type, string name)
    {
        var dequantise = (delegate* unmanaged<byte*, float*, long, void>)Ggml.Function(name);
        var bytes = new byte[type.Bytes(Length)];
        new Random(3).NextBytes(bytes);
        var expected = new float[Length];
        fixed (byte* from = bytes)
        fixed (float* to = expected)
        {
            dequantise(from, to, Length);
        }

        var actual = new float[Length];
        BlockDecoder.Decode(type, bytes, actual);
        for (var i = 0; i < Length; i++)
        {
            Assert.That(actual[i].Equals(expected[i]) || actual[i] == expected[i], $"value {i}: {actual[i]} and ggml's {expected[i]}");
        }
    }

    [TestCase(GgufType.F16, "ggml_fp32_to_fp16_row")]
    [TestCase(GgufType.BF16, "ggml_fp32_to_bf16_row_ref")]
    public void Half_precision_is_ggmls(GgufType type, string name)
    {
        var convert = (delegate* unmanaged<float*, byte*, long, void>)Ggml.Function(name);
        foreach (var values in Samples())
        {
            var expected = new byte[type.Bytes(values.Length)];
            fixed (float* from = values)
            fixed (byte* to = expected)
            {
                convert(from, to, values.Length);
            }

            var actual = new byte[expected.Length];
            BlockEncoder.Encode(type, values, actual);
            Assert.That(actual, Is.EqualTo(expected));
        }
    }

    [TestCase(GgufType.Q4_0, 0.1)]
    [TestCase(GgufType.Q5_0, 0.05)]
    [TestCase(GgufType.Q8_0, 0.006)]
    [TestCase(GgufType.Q5_1, 0.05)]
    [TestCase(GgufType.Q2_K, 0.35)]
    [TestCase(GgufType.Q3_K, 0.2)]
    [TestCase(GgufType.Q4_K, 0.08)]
    [TestCase(GgufType.Q5_K, 0.04)]
    [TestCase(GgufType.Q6_K, 0.02)]
    public void A_quantised_row_comes_back_about_as_it_was(GgufType type, double relativeError)
    {
        var values = Normal(Length, 1);
        var bytes = new byte[type.Bytes(Length)];
        BlockEncoder.Encode(type, values, bytes);
        var back = new float[Length];
        BlockDecoder.Decode(type, bytes, back);
        var error = Math.Sqrt(values.Zip(back).Sum(static p => Math.Pow(p.First - p.Second, 2)) / values.Sum(static v => (double)v * v));
        Assert.That(error, Is.InRange(1e-4, relativeError));
    }

    [Test]
    public void Values_that_fill_no_whole_block_are_refused() =>
        Assert.That(static () => BlockEncoder.Encode(GgufType.Q8_0, new float[33], new byte[34]), Throws.ArgumentException);

    // The usual weights, tiny and large ones, whole numbers with ties, one sign only, zeros, and a lone outlier in each block.
    private static IEnumerable<float[]> Samples()
    {
        yield return Normal(Length, 0.02);
        yield return Normal(Length, 1e-6);
        yield return Normal(Length, 300);
        yield return [.. Normal(Length, 3).Select(static v => MathF.Round(v))];
        yield return [.. Normal(Length, 1).Select(static v => MathF.Abs(v))];
        yield return [.. Normal(Length, 1).Select(static v => -MathF.Abs(v))];
        yield return new float[Length];
        yield return [.. Normal(Length, 0.001).Select(static (v, i) => i % 256 == 77 ? 5 : v)];
        yield return [.. Enumerable.Repeat(0.25f, Length)];
    }

    private static float[] Normal(int count, double deviation)
    {
        var random = new Random(7);
        return [.. Enumerable.Range(0, count).Select(_ => (float)(deviation * Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble())))];
    }
}
