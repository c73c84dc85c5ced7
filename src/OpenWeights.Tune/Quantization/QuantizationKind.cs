namespace OpenWeights.Tune.Quantization;

/// <summary>Kinds of quantised weights.</summary>
public enum QuantizationKind
{
    /// <summary>Four bits a weight, with the levels of a normal distribution (Dettmers et al., 2023).</summary>
    Nf4,

    /// <summary>Eight bits a weight, evenly spaced, with a scale for each output.</summary>
    Int8,
}
