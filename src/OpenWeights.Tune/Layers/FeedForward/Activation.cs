using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.FeedForward;

/// <summary>The activation of a feed-forward block.</summary>
internal enum Activation
{
    /// <summary>x sigmoid(x) (SwiGLU; Shazeer, 2020).</summary>
    Silu,

    /// <summary>GELU, x Φ(x), with the error function (Hendrycks and Gimpel, 2016).</summary>
    Gelu,

    /// <summary>Its approximation by tanh, gelu_pytorch_tanh.</summary>
    GeluTanh,

    /// <summary>Its approximation x sigmoid(1.702 x), quick_gelu.</summary>
    GeluSigmoid,

    /// <summary>max(x, 0).</summary>
    Relu,

    /// <summary>max(x, 0)², relu2 (Primer; So et al., 2021).</summary>
    ReluSquared,

    /// <summary>x tanh(ln(1 + eˣ)) (Misra, 2019).</summary>
    Mish,

    /// <summary>1 / (1 + e⁻ˣ).</summary>
    Sigmoid,

    /// <summary>tanh(x).</summary>
    Tanh,
}

/// <summary>Computes activations.</summary>
internal static class ActivationMath
{
    /// <summary>The activation of a tensor, elementwise.</summary>
    internal static Tensor Apply(this Activation activation, Tensor states) => activation switch
    {
        Activation.Silu => nn.functional.silu(states),
        Activation.Gelu => nn.functional.gelu(states),
        Activation.GeluTanh => GeluTanh.Of(states),
        Activation.Relu => nn.functional.relu(states),
        Activation.Mish => nn.functional.mish(states),
        Activation.Sigmoid => states.sigmoid(),
        Activation.Tanh => states.tanh(),
        _ => Composed(activation, states),
    };

    private static Tensor Composed(Activation activation, Tensor states)
    {
        using var scope = NewDisposeScope();
        using Scalar slope = 1.702;
        return (activation == Activation.GeluSigmoid ? states.mul(slope).sigmoid().mul(states) : nn.functional.relu(states).square()).MoveToOuterDisposeScope();
    }
}
