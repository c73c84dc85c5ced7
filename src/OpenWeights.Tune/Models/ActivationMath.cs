using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

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
