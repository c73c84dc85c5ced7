using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Source of a LoRA adapter's weights: random initialization or a file. The tensors are in no dispose scope.</summary>
internal interface IAdapterWeights : IWholeWeights
{
    /// <summary>The update of a linear layer.</summary>
    LoraWeights Linear(string module, LinearLayer layer, int rank);

    /// <summary>The update of an embedding: A [rank, vocabulary] and B [hidden, rank].</summary>
    (Tensor A, Tensor B) Embedding(string module, TokenEmbedding layer, int rank);

    /// <summary>The update of a matrix of every expert: A [experts x rank, in] and B [out, rank x experts].</summary>
    /// <param name="file">Its name in PEFT's file, without .lora_A.weight.</param>
    /// <param name="matrix">The matrix.</param>
    /// <param name="rank">Rank of each expert's update.</param>
    (Tensor A, Tensor B) Experts(string file, ExpertMatrix matrix, int rank);
}

/// <summary>The tensors of a LoRA layer, float32 on the model's device and in no dispose scope; the layer takes ownership.</summary>
/// <param name="A">Matrix A, [rank, in].</param>
/// <param name="B">Matrix B, [out, rank].</param>
internal sealed record LoraWeights(Tensor A, Tensor B)
{
    /// <summary>Bias of B (lora_bias), [out].</summary>
    internal Tensor? OutputBias { get; init; }

    /// <summary>DoRA magnitude, [out].</summary>
    internal Tensor? Magnitude { get; init; }

    /// <summary>Initial A and B of PiSSA.</summary>
    internal (Tensor A, Tensor B)? Start { get; init; }
}
