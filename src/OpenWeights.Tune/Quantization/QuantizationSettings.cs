using static TorchSharp.torch;

namespace OpenWeights.Tune.Quantization;

/// <summary>How the frozen weights of a base model are quantized.</summary>
/// <param name="Kind">Quantization type.</param>
/// <param name="BlockSize">NF4: number of weights per scale.</param>
/// <param name="DoubleQuantization">NF4: whether the scales are quantized as well.</param>
internal sealed record QuantizationSettings(QuantizationKind Kind, int BlockSize = 64, bool DoubleQuantization = true)
{
    /// <summary>The settings for a name, with bitsandbytes' defaults.</summary>
    /// <param name="name">nf4 or int8; none or null for no quantization.</param>
    /// <exception cref="ArgumentException">The name is unknown.</exception>
    public static QuantizationSettings? Of(string? name) => name switch
    {
        null or "none" => null,
        "nf4" => new QuantizationSettings(QuantizationKind.Nf4),
        "int8" => new QuantizationSettings(QuantizationKind.Int8),
        _ => throw new ArgumentException($"'{name}' is not a quantization type; valid are nf4 and int8.", nameof(name)),
    };

    /// <summary>Quantizes a weight, a part at a time.</summary>
    /// <param name="weight">The weight, [out, in], of any floating-point dtype.</param>
    public QuantizedWeight Quantize(Tensor weight) =>
        Kind == QuantizationKind.Int8 ? Int8Weight.Of(weight) : Nf4Weight.Of(weight, BlockSize, DoubleQuantization);
}

/// <summary>Quantization types.</summary>
internal enum QuantizationKind
{
    /// <summary>4 bits per weight, with levels from the quantiles of a normal distribution (Dettmers et al., 2023).</summary>
    Nf4,

    /// <summary>8 bits per weight, evenly spaced, with one scale per output.</summary>
    Int8,
}
