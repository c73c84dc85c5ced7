using OpenWeights.Tune.Kernels;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.FeedForward;

/// <summary>
/// xIELU (Huang and Schlag, 2024): p x² + b x for x above 0, and n (eˣ - 1 - x) + b x below, with p = softplus(alpha_p) and
/// n = b + softplus(alpha_n), which are learned.
/// </summary>
internal sealed class Xielu : nn.Module<Tensor, Tensor>
{
    private static readonly Scalar s_minusOne = -1.0;

    // Registered under the checkpoint's names. b (beta) and the largest exponent (eps) are not trained.
    private readonly (Parameter Positive, Parameter Negative, Tensor Slope, Tensor LargestExponent) _parts;

    internal Xielu(IWeightSource weights, string name)
        : base(nameof(Xielu))
    {
        var one = new Dimension("1", 1);
        _parts = (
            weights.Take($"{name}.alpha_p", InitialWeight.XieluPositive, one), weights.Take($"{name}.alpha_n", InitialWeight.XieluNegative, one),
            weights.Take($"{name}.beta", InitialWeight.XieluSlope), weights.Take($"{name}.eps", InitialWeight.XieluExponent));
        register_parameter("alpha_p", _parts.Positive);
        register_parameter("alpha_n", _parts.Negative);
        register_buffer("beta", _parts.Slope);
        register_buffer("eps", _parts.LargestExponent);
    }

    /// <summary>alpha_p, [1].</summary>
    internal Tensor Positive => _parts.Positive;

    /// <summary>alpha_n, [1].</summary>
    internal Tensor Negative => _parts.Negative;

    /// <inheritdoc/>
    public override Tensor forward(Tensor input)
    {
        using var scope = NewDisposeScope();
        return Of(input, Positive, Negative).MoveToOuterDisposeScope();
    }

    /// <summary>The activation of each element.</summary>
    /// <param name="x">The elements.</param>
    /// <param name="positive">alpha_p, [1].</param>
    /// <param name="negative">alpha_n, [1].</param>
    internal Tensor Of(Tensor x, Tensor positive, Tensor negative)
    {
        var above = x.mul(x).mul(nn.functional.softplus(positive));
        var below = x.minimum(_parts.LargestExponent).expm1().add(x, s_minusOne).mul(nn.functional.softplus(negative).Plus(_parts.Slope));
        return where(x.gt(Scalars.Zero), above, below).Plus(x.mul(_parts.Slope));
    }
}
