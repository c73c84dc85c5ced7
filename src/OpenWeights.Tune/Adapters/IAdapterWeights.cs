using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Source of a LoRA adapter's weights: random initialization or a file. The tensors are in no dispose scope.</summary>
internal interface IAdapterWeights : IWholeWeights
{
    /// <summary>The update of a linear layer.</summary>
    LoraWeights Linear(string module, LinearLayer layer, int rank);

    /// <summary>The update of an embedding: A [rank, vocabulary] and B [hidden, rank], and the DoRA magnitude, [hidden], or null.</summary>
    (Tensor A, Tensor B, Tensor? Magnitude) Embedding(string module, TokenEmbedding layer, int rank);

    /// <summary>Trained rows of tokens, [tokens, hidden], float32.</summary>
    /// <param name="fileName">Their name in PEFT's file.</param>
    /// <param name="module">The module.</param>
    /// <param name="tokens">The tokens.</param>
    Tensor Rows(string fileName, nn.Module module, IReadOnlyList<int> tokens);

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

    /// <summary>Initial A and B whose product is subtracted from the weight.</summary>
    internal (Tensor A, Tensor B)? Start { get; init; }

    /// <summary>Values that replace the base's weight, [out, in], in its dtype.</summary>
    internal Tensor? Base { get; init; }

    /// <summary>Whether B is trained.</summary>
    internal bool TrainsB { get; init; } = true;

    /// <summary>KaSA's singular values between A and B, [rank].</summary>
    internal Tensor? Diagonal { get; init; }

    /// <summary>The blocks that A or B consists of; null for a whole matrix.</summary>
    internal BlockDiagonal? Blocks { get; init; }
}
