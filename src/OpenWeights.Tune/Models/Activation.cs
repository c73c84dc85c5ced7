namespace OpenWeights.Tune.Models;

/// <summary>The activation of a feed-forward's gate.</summary>
public enum Activation
{
    /// <summary>x sigmoid(x) (SwiGLU; Shazeer, 2020).</summary>
    Silu,

    /// <summary>x Φ(x), by the error function (Hendrycks and Gimpel, 2016).</summary>
    Gelu,

    /// <summary>Its approximation by tanh, gelu_pytorch_tanh.</summary>
    GeluTanh,
}
