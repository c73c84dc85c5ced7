using OpenWeights.Tune.Layers;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Where an adapter's weights come from when it is put on a model: random numbers, or a file. None is in a dispose scope.</summary>
internal interface IAdapterWeights
{
    /// <summary>The update of a linear layer.</summary>
    LoraWeights Linear(string module, LinearLayer layer, int rank);

    /// <summary>The update of an embedding: A [rank, vocabulary] and B [hidden, rank].</summary>
    (Tensor A, Tensor B) Embedding(string module, TokenEmbedding layer, int rank);

    /// <summary>A whole weight that is trained in the place of the base's.</summary>
    /// <param name="fileName">Its name in PEFT's file.</param>
    /// <param name="module">The module.</param>
    /// <param name="slot">The slot.</param>
    Parameter Whole(string fileName, nn.Module module, WeightSlot slot);

    /// <summary>A whole embedding or head that stands in the place of the base's and is not trained; null where the base's stays.</summary>
    /// <param name="fileName">Its name in PEFT's file.</param>
    /// <param name="slot">The slot.</param>
    Parameter? Frozen(string fileName, WeightSlot slot);
}

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
