using TorchSharp.Modules;

namespace OpenWeights.Tune.Optimizers;

/// <summary>A trained parameter.</summary>
/// <param name="Name">Its name in checkpoints.</param>
/// <param name="Parameter">The parameter.</param>
/// <param name="Decays">Whether weight decay applies to it.</param>
/// <param name="RateFactor">Factor of its learning rate (LoRA+, training.rates).</param>
internal sealed record TrainedParameter(string Name, Parameter Parameter, bool Decays, double RateFactor = 1)
{
    /// <summary>
    /// Whether it is a matrix of a hidden layer, or a stack of such matrices [experts, rows, columns], rather than a vector, an embedding or an
    /// output head. Muon, GaLore and APOLLO update such matrices, and the others with AdamW.
    /// </summary>
    public bool IsHiddenMatrix { get; init; } = Parameter.ndim == 2;

    /// <summary>Number of elements of the whole parameter, of which this may be a piece: it decides whether state is 8-bit.</summary>
    internal long Elements { get; init; } = Parameter.numel();

    /// <summary>The other matrix of its low-rank update; null if it is not a matrix of one.</summary>
    public LowRankPair? Pair { get; init; }
}

/// <summary>Relation of a matrix to the other matrix of a low-rank update s B A.</summary>
/// <param name="Other">The other matrix: A of B, B of A.</param>
/// <param name="IsUp">Whether the matrix is B, [out, rank]; otherwise A, [rank, in].</param>
/// <param name="Scale">Scaling factor s.</param>
/// <param name="IsEmbedding">Whether the update is of an embedding.</param>
internal sealed record LowRankPair(Parameter Other, bool IsUp, double Scale, bool IsEmbedding = false);
