using System.Text.Json.Nodes;
using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Formats.Quantized;

/// <summary>8-bit floats with a scale for each block of rows and columns, as DeepSeek stores them (those at the edges are cut), or one for all.</summary>
internal sealed class Fp8Format : IQuantizedFormat
{
    private readonly string scaleEnd;
    private readonly (long Rows, long Columns)? block;

    /// <summary>Reads the settings.</summary>
    /// <param name="config">The settings.</param>
    /// <param name="scaleEnd">What follows a weight's name in that of its scales.</param>
    public Fp8Format(QuantizationConfig config, string scaleEnd)
    {
        this.scaleEnd = scaleEnd;
        if (config.Settings["weight_block_size"] is JsonArray { Count: 2 } sizes)
        {
            if (sizes[0] is not JsonValue first || sizes[1] is not JsonValue second || !first.TryGetValue<long>(out var rows) || !second.TryGetValue<long>(out var columns) || rows < 1 || columns < 1)
            {
                throw new InvalidDataException($"{config.Place}: weight_block_size is {sizes.ToJsonString()}, which is not two whole numbers from 1 on; correct it");
            }

            block = (rows, columns);
        }

        Description = $"{config.Method}: 8-bit floats{(block is { } size ? $" in blocks of {size.Rows} x {size.Columns}" : "")}";
    }

    public string Description { get; }

    public double BitsPerWeight => 8.01;

    public IEnumerable<PackedTensor> Find(StoredParts files)
    {
        var found = new List<PackedTensor>();
        foreach (var codes in files.Tensors.Where(static entry => entry.DType is DType.F8_E4M3 or DType.F8_E5M2).ToList())
        {
            var scales = files.Take(codes.Name + scaleEnd, codes.Name);
            found.Add(Scaled.Tensor(files, files.Take(codes.Name, codes.Name), scales, block));
            var module = codes.Name.EndsWith(".weight", StringComparison.Ordinal) ? codes.Name[..^".weight".Length] : codes.Name;
            files.Ignore(module, ".input_scale", ".activation_scale", ".input_scale_ub", "_activation_scale");
        }

        files.RefuseOrphans(scaleEnd, "");
        return found;
    }
}
