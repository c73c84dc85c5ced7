using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>How several LoRA adapters become one, with the names of PEFT's add_weighted_adapter.</summary>
/// <param name="Type">combination_type; one of <see cref="Types"/>.</param>
internal sealed record AdapterCombination(string Type)
{
    /// <summary>The valid types.</summary>
    public static IReadOnlyList<string> Types { get; } =
        ["linear", "cat", "svd", "ties", "ties_svd", "dare_linear", "dare_ties", "dare_linear_svd", "dare_ties_svd", "magnitude_prune", "magnitude_prune_svd"];

    /// <summary>Fraction of values that is kept; for all types but linear, cat and svd.</summary>
    public double Density { get; init; } = 1;

    /// <summary>Whether the majority sign of ties is that of most adapters (frequency) instead of that of the sum (total).</summary>
    public bool ByFrequency { get; init; }

    /// <summary>Rank of the result of svd types; null for the largest rank of the adapters.</summary>
    public int? SvdRank { get; init; }

    /// <summary>svd types: quantile to which the values of the result are limited; null for none.</summary>
    public double? SvdClamp { get; init; }

    /// <summary>Seed of the random masks of dare types.</summary>
    public long Seed { get; init; }

    /// <summary>
    /// Masks of dare types instead of random ones: of the number of the tensor, counted over modules in model order, in each over A and then B (svd types:
    /// over the updates), in each over the adapters, and of its shape. 1 keeps a value, 0 drops it.
    /// </summary>
    public Func<int, long[], Tensor>? KeepMask { get; init; }

    /// <summary>Whether the adapters' updates are combined and then decomposed, rather than their matrices.</summary>
    internal bool Decomposes => Type.EndsWith("svd", StringComparison.Ordinal);

    /// <summary>Whether all adapters must have one rank.</summary>
    internal bool NeedsOneRank => !Decomposes && Type != "cat";

    /// <summary>Whether values are dropped.</summary>
    internal bool Prunes => Type is not ("linear" or "cat" or "svd");
}
