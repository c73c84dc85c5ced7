using System.Text.Json.Nodes;
using OpenWeights.Formats.Quantized;
using OpenWeights.Formats.Safetensors;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export.Packed;

/// <summary>The experts of GPT-OSS in MXFP4: 4-bit floats in blocks of 32 inputs that share a power of two (OCP's microscaling formats).</summary>
internal sealed class Mxfp4Packer : IWeightPacker
{
    private const int Block = 32;

    // The exponent of E2M1's largest number, 6.
    private const int LargestExponent = 2;

    public bool Takes(WeightRole role, IReadOnlyList<long> shape) => role == WeightRole.Expert && shape.Count == 3 && shape[1] % Block == 0;

    public JsonObject Config(IReadOnlyList<string> inFull) => new()
    {
        ["modules_to_not_convert"] = new JsonArray("model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"),
        ["quant_method"] = "mxfp4",
    };

    // The weight is [experts, in, out]; blocks are [experts, out, in / 32, 16].
    public IEnumerable<TensorToWrite> Pack(string name, IReadOnlyList<long> shape, ScalarType dtype, Func<Tensor> values)
    {
        var (count, inputs, outputs) = (shape[0], shape[1], shape[2]);
        yield return new TensorToWrite($"{name}_blocks", DType.U8, [count, outputs, inputs / Block, Block / 2], stream => Write(values, stream, static (block, exponent) => Codes(block, exponent)));
        yield return new TensorToWrite($"{name}_scales", DType.U8, [count, outputs, inputs / Block], stream => Write(values, stream, static (_, exponent) => [(byte)(exponent + 127)]));
    }

    private static void Write(Func<Tensor> values, Stream stream, Func<ArraySegment<float>, int, byte[]> bytes)
    {
        var all = Fp8Packer.Floats(() => values().transpose(1, 2));
        for (var start = 0; start < all.Length; start += Block)
        {
            var block = new ArraySegment<float>(all, start, Block);
            var largest = block.Max(Math.Abs);
            stream.Write(bytes(block, largest == 0 ? 0 : Math.Clamp(MathF.ILogB(largest) - LargestExponent, -127, 127)));
        }
    }

    private static byte[] Codes(ArraySegment<float> block, int exponent)
    {
        var codes = new byte[Block / 2];
        for (var i = 0; i < codes.Length; i++)
        {
            codes[i] = (byte)(SmallFloats.ToE2M1(MathF.ScaleB(block[2 * i], -exponent)) | (SmallFloats.ToE2M1(MathF.ScaleB(block[(2 * i) + 1], -exponent)) << 4));
        }

        return codes;
    }
}
