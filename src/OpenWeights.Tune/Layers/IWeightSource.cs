using OpenWeights.Tune.Quantization;
using TorchSharp.Modules;

namespace OpenWeights.Tune.Layers;

/// <summary>Source of a decoder's weights: a checkpoint, random initialization, or a list that only counts them.</summary>
internal interface IWeightSource
{
    /// <summary>
    /// A weight by name, on its final device, in no dispose scope, with requires_grad off.
    /// </summary>
    /// <param name="name">Name in the checkpoint, such as model.layers.0.mlp.up_proj.weight.</param>
    /// <param name="initial">Initialization if there is no checkpoint.</param>
    /// <param name="shape">Expected shape.</param>
    Parameter Take(string name, InitialWeight initial, params ReadOnlySpan<Dimension> shape);

    /// <summary>Takes note that a part of the model has all of its weights.</summary>
    /// <param name="part">The part: a decoder layer, an embedding, or a head over the vocabulary.</param>
    void Made(TorchSharp.torch.nn.Module part)
    {
    }

    /// <summary>As <see cref="Take"/>, a tensor that is never trained and too sensitive to be rounded: float32 whatever the dtype of the model.</summary>
    /// <param name="name">Name in the checkpoint, such as model.layers.0.mlp.gate.e_score_correction_bias.</param>
    /// <param name="initial">Initialization if there is no checkpoint.</param>
    /// <param name="shape">Expected shape.</param>
    Parameter TakeExact(string name, InitialWeight initial, params ReadOnlySpan<Dimension> shape) => Take(name, initial, shape);

    /// <summary>A quantized linear weight, if the source quantizes this one; otherwise null, and <see cref="Take"/> provides it.</summary>
    /// <param name="name">Name in the checkpoint, such as model.layers.0.mlp.up_proj.weight.</param>
    /// <param name="output">Number of output features.</param>
    /// <param name="input">Number of input features.</param>
    QuantizedWeight? TakeQuantized(string name, Dimension output, Dimension input) => null;

    /// <summary>The quantized weight of the token embedding, if the source has one; otherwise null, and <see cref="Take"/> provides it.</summary>
    /// <param name="name">Name in the checkpoint, such as model.embed_tokens.weight.</param>
    /// <param name="vocabulary">Number of tokens.</param>
    /// <param name="hidden">Width of their states.</param>
    QuantizedWeight? TakeQuantizedEmbedding(string name, Dimension vocabulary, Dimension hidden) => null;

    /// <summary>Data type of what is computed with a quantized embedding.</summary>
    TorchSharp.torch.ScalarType DType => TorchSharp.torch.ScalarType.Float32;

    /// <summary>Quantized weights of a stack of linear layers, if the source quantizes this one; otherwise null, and <see cref="Take"/> provides it.</summary>
    /// <param name="name">Name in the checkpoint, such as model.layers.0.mlp.experts.down_proj.</param>
    /// <param name="count">Number of layers.</param>
    /// <param name="output">Number of output features of each.</param>
    /// <param name="input">Number of input features of each.</param>
    /// <param name="isTransposed">Whether the stack is [count, in, out], and not [count, out, in].</param>
    IReadOnlyList<QuantizedWeight>? TakeQuantizedStack(string name, Dimension count, Dimension output, Dimension input, bool isTransposed) => null;
}

/// <summary>Initialization of a weight in a model trained from scratch.</summary>
internal enum InitialWeight
{
    /// <summary>Normal distribution with the config's initializer_range.</summary>
    Normal,

    /// <summary>Ones, for the weight of a norm.</summary>
    Ones,

    /// <summary>Zeros, for a bias.</summary>
    Zeros,

    /// <summary>Logarithms of numbers drawn from 0 to 16, for the decay rates of linear attention (Yang et al., 2024).</summary>
    DrawnDecayRates,

    /// <summary>Logarithms of 1 to the size of the last dimension, for the decay rates of a state space model (Gu and Dao, 2023).</summary>
    DecayRates,

    /// <summary>
    /// What softplus takes to time steps drawn from 0.001 to 0.1, with evenly distributed logarithms, for their bias in a state space model (Gu and Dao,
    /// 2023).
    /// </summary>
    TimeSteps,

    /// <summary>Uniform distribution within 1 / sqrt(size of the last dimension), for the weight of a short convolution.</summary>
    Convolution,

    /// <summary>softplus⁻¹(0.8), for alpha_p of xIELU.</summary>
    XieluPositive,

    /// <summary>softplus⁻¹(0.3), for alpha_n of xIELU.</summary>
    XieluNegative,

    /// <summary>0.5, for beta of xIELU.</summary>
    XieluSlope,

    /// <summary>-0.000001, for eps of xIELU.</summary>
    XieluExponent,
}

/// <summary>A dimension of a weight, and the setting of config.json that determines it.</summary>
/// <param name="Setting">Name of the setting, or a product of settings, for messages.</param>
/// <param name="Size">The size.</param>
internal readonly record struct Dimension(string Setting, long Size);
