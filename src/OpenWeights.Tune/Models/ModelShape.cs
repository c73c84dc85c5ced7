namespace OpenWeights.Tune.Models;

/// <summary>Sizes of a model to create from scratch.</summary>
internal sealed record ModelShape
{
    /// <summary>Hidden size: width of the residual stream.</summary>
    public int HiddenSize { get; init; } = 64;

    /// <summary>Hidden size of the feed-forward blocks.</summary>
    public int IntermediateSize { get; init; } = 172;

    /// <summary>Number of decoder layers.</summary>
    public int Layers { get; init; } = 2;

    /// <summary>Number of query heads.</summary>
    public int Heads { get; init; } = 4;

    /// <summary>Number of key/value heads.</summary>
    public int KeyValueHeads { get; init; } = 2;

    /// <summary>Number of experts, for mixture-of-experts families.</summary>
    public int Experts { get; init; } = 4;

    /// <summary>Number of experts per token.</summary>
    public int ExpertsPerToken { get; init; } = 2;

    /// <summary>Vocabulary size.</summary>
    public int VocabularySize { get; init; } = 512;

    /// <summary>Maximum context length, in tokens.</summary>
    public int MaxPositions { get; init; } = 512;

    /// <summary>Base of the rotary frequencies.</summary>
    public double RopeTheta { get; init; } = 10000;

    /// <summary>Whether the output head is tied to the embedding.</summary>
    public bool TiedEmbeddings { get; init; } = true;

    /// <summary>Id of the BOS token, or null.</summary>
    public int? BosToken { get; init; }

    /// <summary>Id of the EOS token, or null.</summary>
    public int? EosToken { get; init; }
}
