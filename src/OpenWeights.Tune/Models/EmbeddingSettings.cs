namespace OpenWeights.Tune.Models;

/// <summary>How a model turns a text into a vector.</summary>
internal sealed record EmbeddingSettings
{
    /// <summary>Which hidden states become the vector.</summary>
    public EmbeddingPooling Pooling { get; init; } = EmbeddingPooling.Last;

    /// <summary>Whether tokens attend to later ones too.</summary>
    public bool IsBidirectional { get; init; }

    /// <summary>Text ahead of each query.</summary>
    public string QueryPrompt { get; init; } = "";

    /// <summary>Text ahead of each document.</summary>
    public string DocumentPrompt { get; init; } = "";

    /// <summary>Number of tokens that a text is cut to; null for the model's context.</summary>
    public int? MaxLength { get; init; }
}

/// <summary>Which hidden states become a text's vector.</summary>
internal enum EmbeddingPooling
{
    /// <summary>That of the last token.</summary>
    Last,

    /// <summary>The mean over all tokens.</summary>
    Mean,
}
