namespace OpenWeights.Formats.Quantized;

/// <summary>A way of storing quantised weights.</summary>
internal interface IQuantizedFormat
{
    /// <summary>What it is, such as "gptq: 4 bits, groups of 128".</summary>
    string Description { get; }

    /// <summary>Bits of a weight with its share of the scales, for estimates before the files are there.</summary>
    double BitsPerWeight { get; }

    /// <summary>Finds the quantised weights, and takes all of their parts.</summary>
    /// <param name="files">The stored tensors.</param>
    /// <returns>Each weight, with the stored tensor that it stands in for.</returns>
    /// <exception cref="InvalidDataException">Parts are missing, or of the wrong type or shape.</exception>
    IEnumerable<PackedTensor> Find(StoredParts files);
}

/// <summary>The formats by quant_method. To add one, add its file and a line here.</summary>
internal static class QuantizedFormats
{
    private static readonly Dictionary<string, Func<QuantizationConfig, IQuantizedFormat>> ByMethod = new(StringComparer.OrdinalIgnoreCase)
    {
        ["bitsandbytes"] = static config => new BitsAndBytesFormat(config),
        ["fp8"] = static config => new Fp8Format(config, "_scale_inv"),
        ["mxfp4"] = static _ => new Mxfp4Format(),
        ["gptq"] = static config => new GptqFormat(config),
        ["awq"] = static config => new AwqFormat(config),
        ["compressed-tensors"] = static config => new CompressedTensorsFormat(config),
        ["modelopt"] = static config => new ModelOptFormat(config),
        ["fbgemm_fp8"] = static config => new Fp8Format(config, "_scale"),
    };

    /// <summary>The names of all methods, for messages.</summary>
    public static string Names => string.Join(", ", ByMethod.Keys);

    /// <summary>The format of a checkpoint; null for one that is not quantised.</summary>
    /// <param name="config">Its settings.</param>
    /// <exception cref="InvalidDataException">The method, or a variant of it, is not known.</exception>
    public static IQuantizedFormat? Of(QuantizationConfig? config) => config is null ? null
        : ByMethod.TryGetValue(config.Method, out var make) ? make(config)
        : throw config.Unsupported($"the checkpoint is quantized by {config.Method}, which");
}
