namespace OpenWeights.Tune.Decoding.Engine;

/// <summary>A text to generate.</summary>
/// <param name="Prompt">Token ids of the prompt; at least one.</param>
/// <param name="Options">Settings of the generation.</param>
internal sealed record TextRequest(IReadOnlyList<int> Prompt, GenerationOptions Options)
{
    /// <summary>Name of the adapter that answers; null for the base model.</summary>
    public string? Adapter { get; init; }

    /// <summary>What limits the tokens that can come next, such as a grammar; null for nothing. It belongs to this text alone.</summary>
    public ITokenConstraint? Constraint { get; init; }

    /// <summary>Told, on the engine's thread, how many tokens of the prompt are read and how many of these were held already; null for nobody.</summary>
    public Action<int, int>? Progress { get; init; }
}

/// <summary>A generated token.</summary>
/// <param name="Token">Its id.</param>
/// <param name="LogProb">Its log-probability; 0 unless the options ask for it.</param>
/// <param name="Alternatives">The most likely tokens, likeliest first, as many as the options ask for.</param>
/// <param name="FinishReason">stop or length for the last token, else null.</param>
/// <param name="CachedTokens">Number of tokens of the prompt whose keys and values were held already.</param>
internal readonly record struct GeneratedToken(int Token, float LogProb, IReadOnlyList<TokenChance> Alternatives, string? FinishReason, int CachedTokens);

/// <summary>A token and how likely it is.</summary>
/// <param name="Token">Its id.</param>
/// <param name="LogProb">Its log-probability.</param>
internal readonly record struct TokenChance(int Token, float LogProb);

/// <summary>Limits the tokens of one text.</summary>
internal interface ITokenConstraint
{
    /// <summary>Sets the logits of tokens that cannot come next to negative infinity; at least one remains.</summary>
    /// <param name="logits">The logits, [vocabulary].</param>
    void Restrict(Span<float> logits);

    /// <summary>Takes the token that was chosen.</summary>
    /// <param name="token">The token.</param>
    void Accept(int token);
}
