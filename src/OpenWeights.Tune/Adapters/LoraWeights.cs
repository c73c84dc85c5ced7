using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>The tensors of a LoRA layer, float32 on the model's device and in no dispose scope; they become the layer's.</summary>
/// <param name="A">[rank, in].</param>
/// <param name="B">[out, rank].</param>
internal sealed record LoraWeights(Tensor A, Tensor B)
{
    /// <summary>lora_bias, [out].</summary>
    internal Tensor? OutputBias { get; init; }

    /// <summary>DoRA's magnitude, [out].</summary>
    internal Tensor? Magnitude { get; init; }

    /// <summary>PiSSA's A and B at the start.</summary>
    internal (Tensor A, Tensor B)? Start { get; init; }
}
