using OpenWeights.Tune.Layers;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Starts;

/// <summary>A linear layer whose update is initialized.</summary>
/// <param name="Module">Name of the layer.</param>
/// <param name="Layer">The layer.</param>
/// <param name="Rank">Rank of its update.</param>
/// <param name="Scale">Scaling factor s.</param>
/// <param name="Config">Settings of the adapter.</param>
internal sealed record StartContext(string Module, LinearLayer Layer, int Rank, double Scale, LoraConfig Config)
{
    /// <summary>Source of random numbers, on the CPU; null where none may be drawn.</summary>
    internal Generator? Generator { get; init; }

    /// <summary>What was measured on training data; null for nothing.</summary>
    internal StartFindings? Findings { get; init; }

    /// <summary>Reads a tensor of the base as it was before quantization; null if it cannot be read.</summary>
    internal Func<string, Tensor?>? Original { get; init; }

    /// <summary>The device of the adapter.</summary>
    internal required Device Device { get; init; }

    /// <summary>The base model's weight, [out, in], float32.</summary>
    internal Tensor Weight => Layer.DenseRows(0, Layer.OutFeatures);

    /// <summary>Number of singular values of the weight.</summary>
    internal long SingularValues => Math.Min(Layer.InFeatures, Layer.OutFeatures);
}
