using OpenWeights.Tune.Quantization;
using TorchSharp.Modules;

namespace OpenWeights.Tune.Layers;

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

/// <summary>What a weight starts as in a model trained from scratch.</summary>
public enum InitialWeight
{
    /// <summary>Normal with the config's initializer_range.</summary>
    Normal,

    /// <summary>Ones: the scale of a norm.</summary>
    Ones,

    /// <summary>Zeros: a bias.</summary>
    Zeros,
}

/// <summary>A size of a weight and the setting of config.json that it comes from.</summary>
/// <param name="Setting">The setting's name, or a product of settings, for messages.</param>
/// <param name="Size">The size.</param>
public readonly record struct Dimension(string Setting, long Size);
