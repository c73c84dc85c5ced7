namespace OpenWeights.Tune.Models;

/// <summary>The sizes of a model that is made from scratch.</summary>
public sealed record ModelShape
{
    /// <summary>Width of the residual stream.</summary>
    public int HiddenSize { get; init; } = 64;

    /// <summary>Width of the feed-forward's inner layer.</summary>
    public int IntermediateSize { get; init; } = 172;

    /// <summary>Number of decoder layers.</summary>
    public int Layers { get; init; } = 2;

    /// <summary>Number of query heads.</summary>
    public int Heads { get; init; } = 4;

    /// <summary>Number of key/value heads.</summary>
    public int KeyValueHeads { get; init; } = 2;

    /// <summary>Number of experts of a mixture, in families that have them.</summary>
    public int Experts { get; init; } = 4;

    /// <summary>How many experts read a token.</summary>
    public int ExpertsPerToken { get; init; } = 2;

    /// <summary>Number of tokens.</summary>
    public int VocabularySize { get; init; } = 512;

    /// <summary>The longest context, in tokens.</summary>
    public int MaxPositions { get; init; } = 512;

    /// <summary>The base of the rotary frequencies.</summary>
    public double RopeTheta { get; init; } = 10000;

    /// <summary>Whether the output head is the embedding's weight.</summary>
    public bool TiedEmbeddings { get; init; } = true;

    /// <summary>The token that begins a text, or null.</summary>
    public int? BosToken { get; init; }

    /// <summary>The token that ends a text, or null.</summary>
    public int? EosToken { get; init; }
}
