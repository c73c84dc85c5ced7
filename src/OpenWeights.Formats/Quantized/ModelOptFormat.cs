using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Formats.Quantized;

/// <summary>
/// NVIDIA's ModelOpt: NVFP4, 4-bit floats with a scale in E4M3 for 16 weights and one for all, which multiply; and 8-bit floats with one
/// scale, or one for each output or block.
/// </summary>
internal sealed class ModelOptFormat : IQuantizedFormat
{
    private const int Block = 16;
    private const string ScaleEnd = ".weight_scale";
    private const string WholeEnd = ".weight_scale_2";

    public ModelOptFormat(QuantizationConfig config)
    {
        var kind = (config.Text("quant_algo") ?? (config.Settings["quantization"] as System.Text.Json.Nodes.JsonObject)?["quant_algo"]?.ToString() ?? "").ToUpperInvariant();
        if (kind is not ("NVFP4" or "FP8" or "FP8_PER_CHANNEL_PER_TOKEN" or "FP8_PB_WO" or "MIXED_PRECISION"))
        {
            throw config.Unsupported($"ModelOpt's quant_algo '{kind}'");
        }

        Description = $"modelopt: {kind}";
        BitsPerWeight = kind == "NVFP4" ? 4.5 : 8.01;
    }

    public string Description { get; }

    public double BitsPerWeight { get; }

    public IEnumerable<PackedTensor> Find(StoredParts files)
    {
        var found = new List<PackedTensor>();
        foreach (var codes in files.Tensors.Where(static entry => entry.DType is DType.U8 or DType.F8_E4M3 && entry.Name.EndsWith(".weight", StringComparison.Ordinal)).ToList())
        {
            var module = codes.Name[..^".weight".Length];
            _ = files.Take(codes.Name, codes.Name);
            var scales = files.Take(module + ScaleEnd, codes.Name);
            found.Add(codes.DType == DType.U8 ? Fp4(files, codes, scales, files.Take(module + WholeEnd, codes.Name)) : Fp8(files, codes, scales));
            files.Ignore(module, ".input_scale");
        }

        foreach (var entry in files.Tensors.Where(static entry => entry.Name.EndsWith(".k_scale", StringComparison.Ordinal) || entry.Name.EndsWith(".v_scale", StringComparison.Ordinal)))
        {
            _ = files.TakeIfThere(entry.Name);
        }

        files.RefuseOrphans(WholeEnd, ".weight");
        files.RefuseOrphans(ScaleEnd, ".weight");
        return found;
    }

    private static PackedTensor Fp4(StoredParts files, TensorEntry codes, TensorEntry scales, TensorEntry whole)
    {
        StoredParts.RequireType(scales, DType.F8_E4M3);
        StoredParts.RequireType(whole, DType.F32);
        StoredParts.RequireDimensions(codes, 2);
        var (outputs, inputs) = (codes.Shape[0], codes.Shape[1] * 2);
        StoredParts.RequireShape(scales, $"{codes.Name} {Wording.Shape(codes.Shape)} in blocks of {Block}", [outputs, inputs / Block]);
        if (whole.ElementCount != 1)
        {
            StoredParts.RequireShape(whole, codes.Name, []);
        }

        return new PackedTensor(codes.Name, [outputs, inputs], [codes, scales, whole])
        {
            Read = _ => Scaled.Fp4Matrix(outputs, inputs, files.Bytes(codes), Block, files.Bytes(scales), Multiplied(SmallFloats.E4M3, files.Floats(whole)[0])),
        };
    }

    // The blocks of FP8_PB_WO are squares; their grid tells how large.
    private static PackedTensor Fp8(StoredParts files, TensorEntry codes, TensorEntry scales) =>
        Scaled.Tensor(files, codes, scales, scales.Shape is [> 1, > 1] && scales.Shape[0] != codes.Shape[0] ? (128, 128) : null);

    private static float[] Multiplied(float[] values, float by) => Array.ConvertAll(values, value => value * by);
}
