namespace OpenWeights.Tune.Layers.Rope;

/// <summary>
/// Angular frequencies of rotary embeddings, computed in float64 with the formulas of transformers' modeling_rope_utils and
/// rounded once to float32.
/// </summary>
internal static class RopeFrequencies
{
    /// <summary>Frequency of each rotated pair of dimensions, and the factor of cos and sin.</summary>
    /// <param name="rope">The rotary settings.</param>
    /// <param name="dimensions">Number of rotated dimensions of a head (even).</param>
    /// <param name="sequenceLength">Largest position plus one; used only by dynamic scaling and LongRoPE.</param>
    public static (float[] Frequencies, double Scale) Compute(RopeConfig rope, int dimensions, long sequenceLength)
    {
        ArgumentNullException.ThrowIfNull(rope);
        var theta = rope.Kind == RopeKind.Dynamic ? DynamicTheta(rope, dimensions, sequenceLength) : rope.Theta;
        var frequencies = new double[dimensions / 2];
        for (var i = 0; i < frequencies.Length; i++)
        {
            frequencies[i] = 1 / Math.Pow(theta, 2.0 * i / dimensions);
        }

        switch (rope.Kind)
        {
            case RopeKind.Linear:
                frequencies = Array.ConvertAll(frequencies, f => f / rope.Factor);
                break;
            case RopeKind.Proportional:
                var turned = (int)(rope.TurnedShare * dimensions / 2);
                frequencies = [.. frequencies.Select((f, i) => i < turned ? f / rope.Factor : 0)];
                break;
            case RopeKind.Llama3:
                frequencies = Array.ConvertAll(frequencies, f => Llama3(rope, f));
                break;
            case RopeKind.Yarn:
                Yarn(rope, dimensions, frequencies);
                break;
            case RopeKind.LongRope:
                var factors = sequenceLength > rope.OriginalMaxPositions ? rope.LongFactors : rope.ShortFactors;
                frequencies = [.. frequencies.Zip(factors, static (f, factor) => f / factor)];
                break;
        }

        return (Array.ConvertAll(frequencies, f => (float)(rope.IsReversed ? -f : f)), LengthScale(rope, sequenceLength) ?? rope.AttentionFactor ?? DefaultScale(rope));
    }

    private static double? LengthScale(RopeConfig rope, long sequenceLength) =>
        rope.LengthScales is { } scales ? sequenceLength > rope.OriginalMaxPositions ? scales.Long : scales.Short : null;

    private static double DefaultScale(RopeConfig rope) => rope.Kind switch
    {
        _ when rope.Factor <= 1 => 1,
        RopeKind.Yarn => (0.1 * Math.Log(rope.Factor)) + 1,
        RopeKind.LongRope => Math.Sqrt(1 + (Math.Log(rope.Factor) / Math.Log(rope.OriginalMaxPositions))),
        _ => 1,
    };

    private static double DynamicTheta(RopeConfig rope, int dimensions, long sequenceLength)
    {
        var length = Math.Max(sequenceLength, rope.OriginalMaxPositions);
        var grown = (rope.Factor * length / rope.OriginalMaxPositions) - (rope.Factor - 1);
        return rope.Theta * Math.Pow(grown, dimensions / (dimensions - 2.0));
    }

    private static double Llama3(RopeConfig rope, double frequency)
    {
        var wavelength = 2 * Math.PI / frequency;
        if (wavelength < rope.OriginalMaxPositions / rope.HighFrequencyFactor)
        {
            return frequency;
        }

        if (wavelength > rope.OriginalMaxPositions / rope.LowFrequencyFactor)
        {
            return frequency / rope.Factor;
        }

        var smooth = ((rope.OriginalMaxPositions / wavelength) - rope.LowFrequencyFactor) / (rope.HighFrequencyFactor - rope.LowFrequencyFactor);
        return ((1 - smooth) * frequency / rope.Factor) + (smooth * frequency);
    }

    private static void Yarn(RopeConfig rope, int dimensions, double[] frequencies)
    {
        // The dimension that rotates the given number of times within the original context.
        double Dimension(double rotations) =>
            dimensions * Math.Log(rope.OriginalMaxPositions / (rotations * 2 * Math.PI)) / (2 * Math.Log(rope.Theta));

        var (low, high) = (Dimension(rope.BetaFast), Dimension(rope.BetaSlow));
        if (rope.Truncate)
        {
            (low, high) = (Math.Floor(low), Math.Ceiling(high));
        }

        (low, high) = (Math.Max(low, 0), Math.Min(high, dimensions - 1));
        if (low == high)
        {
            high += 0.001;
        }

        for (var i = 0; i < frequencies.Length; i++)
        {
            var interpolated = Math.Clamp((i - low) / (high - low), 0, 1);
            frequencies[i] = (frequencies[i] / rope.Factor * interpolated) + (frequencies[i] * (1 - interpolated));
        }
    }
}
