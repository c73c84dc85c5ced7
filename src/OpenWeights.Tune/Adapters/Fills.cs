using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Initial values, with the rules of torch.nn.init.</summary>
internal static class Fills
{
    /// <summary>Zeros.</summary>
    internal static Fill Zeros { get; } = static (shape, _) => zeros(shape, float32);

    /// <summary>Ones.</summary>
    internal static Fill Ones { get; } = static (shape, _) => ones(shape, float32);

    /// <summary>Uniform within 1 / sqrt(columns): kaiming_uniform_ with a = sqrt 5 for a matrix.</summary>
    internal static Fill Kaiming { get; } = static (shape, random) => Within(shape, 1 / Math.Sqrt(shape[1..].Aggregate(1L, static (a, b) => a * b)), random);

    /// <summary>One value everywhere.</summary>
    internal static Fill Constant(double value) => (shape, _) => full(shape, value, float32);

    /// <summary>Normal with a standard deviation.</summary>
    internal static Fill Normal(double deviation) => (shape, random) => empty(shape, float32).normal_(0, deviation, random);

    /// <summary>Normal around one.</summary>
    internal static Fill AroundOne(double deviation) => (shape, random) => empty(shape, float32).normal_(1, deviation, random);

    /// <summary>Uniform within ± a bound.</summary>
    internal static Fill Uniform(double bound) => (shape, random) => Within(shape, bound, random);

    private static Tensor Within(long[] shape, double bound, Generator random) => empty(shape, float32).uniform_(-bound, bound, random);
}
