using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Quantized;
using OpenWeights.Formats.Safetensors;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export.Packed;

/// <summary>8-bit floats as DeepSeek stores them: E4M3, and a scale for each block of 128 rows and columns, those at the edges cut.</summary>
internal sealed class Fp8Packer : IWeightPacker
{
    private const int Block = 128;
    private const float Largest = 448;

    public bool Takes(WeightRole role, IReadOnlyList<long> shape) => role is WeightRole.Linear or WeightRole.Expert && shape.Count == 2;

    public JsonObject Config(IReadOnlyList<string> inFull) => new()
    {
        ["activation_scheme"] = "dynamic",
        ["fmt"] = "e4m3",
        ["modules_to_not_convert"] = new JsonArray([.. inFull.Select(static name => (JsonNode)name)]),
        ["quant_method"] = "fp8",
        ["weight_block_size"] = new JsonArray(Block, Block),
    };

    public IEnumerable<TensorToWrite> Pack(string name, IReadOnlyList<long> shape, ScalarType dtype, Func<Tensor> values)
    {
        var (rows, columns) = ((int)shape[0], (int)shape[1]);
        yield return new TensorToWrite(name, DType.F8_E4M3, shape, stream => stream.Write(Codes(Floats(values), rows, columns)));
        yield return new TensorToWrite($"{name}_scale_inv", DType.F32, [(rows + Block - 1) / Block, (columns + Block - 1) / Block], stream => stream.Write(MemoryMarshal.AsBytes(Scales(Floats(values), rows, columns).AsSpan())));
    }

    /// <summary>The values of a weight, row by row.</summary>
    internal static float[] Floats(Func<Tensor> values)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        return MemoryMarshal.Cast<byte, float>(values().to(float32).cpu().contiguous().bytes).ToArray();
    }

    // What a block's largest magnitude divided by the largest of E4M3 is; 1 for a block of zeros.
    private static float[] Scales(float[] values, int rows, int columns)
    {
        var across = (columns + Block - 1) / Block;
        var scales = new float[(rows + Block - 1) / Block * across];
        for (var row = 0; row < rows; row++)
        {
            for (var column = 0; column < columns; column++)
            {
                ref var scale = ref scales[(row / Block * across) + (column / Block)];
                scale = Math.Max(scale, Math.Abs(values[(row * columns) + column]));
            }
        }

        return Array.ConvertAll(scales, static largest => largest == 0 ? 1 : largest / Largest);
    }

    private static byte[] Codes(float[] values, int rows, int columns)
    {
        var (scales, across) = (Scales(values, rows, columns), (columns + Block - 1) / Block);
        var codes = new byte[values.Length];
        _ = Parallel.For(0, rows, row =>
        {
            for (var column = 0; column < columns; column++)
            {
                codes[(row * columns) + column] = SmallFloats.ToE4M3(values[(row * columns) + column] / scales[(row / Block * across) + (column / Block)]);
            }
        });
        return codes;
    }
}
