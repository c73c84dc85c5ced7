using static TorchSharp.torch;

namespace OpenWeights.Tune.Quantization;

/// <summary>How the frozen weights of a base are held.</summary>
/// <param name="Kind">The kind.</param>
/// <param name="BlockSize">NF4: how many weights share a scale.</param>
/// <param name="DoubleQuantization">NF4: whether the scales are quantised too.</param>
public sealed record QuantizationSettings(QuantizationKind Kind, int BlockSize = 64, bool DoubleQuantization = true)
{
    /// <summary>The settings of a name, as bitsandbytes has them by default.</summary>
    /// <param name="name">nf4 or int8; none or null for none.</param>
    /// <exception cref="ArgumentException">There is no such kind.</exception>
    public static QuantizationSettings? Of(string? name) => name switch
    {
        null or "none" => null,
        "nf4" => new QuantizationSettings(QuantizationKind.Nf4),
        "int8" => new QuantizationSettings(QuantizationKind.Int8),
        _ => throw new ArgumentException($"'{name}' is no kind of quantisation; nf4 and int8 are.", nameof(name)),
    };

    /// <summary>Quantises a weight, a part at a time.</summary>
    /// <param name="weight">[out, in], of any floating-point dtype.</param>
    public QuantizedWeight Quantize(Tensor weight) =>
        Kind == QuantizationKind.Int8 ? Int8Weight.Of(weight) : Nf4Weight.Of(weight, BlockSize, DoubleQuantization);
}

/// <summary>Kinds of quantised weights.</summary>
public enum QuantizationKind
{
    /// <summary>Four bits a weight, with the levels of a normal distribution (Dettmers et al., 2023).</summary>
    Nf4,

    /// <summary>Eight bits a weight, evenly spaced, with a scale for each output.</summary>
    Int8,
}
