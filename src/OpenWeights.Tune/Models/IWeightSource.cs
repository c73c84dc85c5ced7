using OpenWeights.Tune.Quantization;
using TorchSharp.Modules;

namespace OpenWeights.Tune.Models;

/// <summary>Where the decoder's weights come from when it is built: a checkpoint, random numbers, or a list that only counts them.</summary>
public interface IWeightSource
{
    /// <summary>
    /// The weight of a name, in its final place: not in any dispose scope, not yet trained (requires_grad is off).
    /// </summary>
    /// <param name="name">The checkpoint's name, such as model.layers.0.mlp.up_proj.weight.</param>
    /// <param name="initial">What the weight starts as where there is no checkpoint.</param>
    /// <param name="shape">The wanted sizes.</param>
    Parameter Take(string name, InitialWeight initial, params ReadOnlySpan<Dimension> shape);

    /// <summary>The weight of a linear layer in quantised form, where the source quantises this one; else null, and <see cref="Take"/> gives it.</summary>
    /// <param name="name">The checkpoint's name, such as model.layers.0.mlp.up_proj.weight.</param>
    /// <param name="output">The output's width.</param>
    /// <param name="input">The input's width.</param>
    QuantizedWeight? TakeQuantized(string name, Dimension output, Dimension input) => null;
}
