namespace OpenWeights.Tokenizers;

/// <summary>What a tokenizer is made of, whatever file it came from.</summary>
internal sealed record TokenizerParts
{
    public required TokenModel Model { get; init; }

    public NormalizerChain Normalizers { get; init; } = new([]);

    public IReadOnlyList<PreTokenizer> PreTokenizers { get; init; } = [];

    public PostProcessor PostProcessor { get; init; } = PostProcessor.None;

    /// <summary>The decoders in order; null where the tokens are joined with spaces.</summary>
    public IReadOnlyList<TokenDecoder>? Decoders { get; init; }

    public IReadOnlyList<AddedToken> AddedTokens { get; init; } = [];
}
