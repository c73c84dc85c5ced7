using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.FeedForward;

/// <summary>The activation of a feed-forward's gate.</summary>
public enum Activation
{
    /// <summary>x sigmoid(x) (SwiGLU; Shazeer, 2020).</summary>
    Silu,

    /// <summary>GELU, x Φ(x), with the error function (Hendrycks and Gimpel, 2016).</summary>
    Gelu,

    /// <summary>Its approximation by tanh, gelu_pytorch_tanh.</summary>
    GeluTanh,
}

/// <summary>Computes activations.</summary>
internal static class ActivationMath
{
    /// <summary>The activation of a tensor, elementwise.</summary>
    internal static Tensor Apply(this Activation activation, Tensor states) => activation switch
    {
        Activation.Silu => nn.functional.silu(states),
        Activation.Gelu => nn.functional.gelu(states),
        _ => GeluTanh.Of(states),
    };
}
