namespace OpenWeights.Tokenizers;

/// <summary>The options of a BPE model, named as in tokenizer.json.</summary>
internal sealed record BpeOptions
{
    /// <summary>The token for characters outside the vocabulary; without one they vanish.</summary>
    public string? UnknownToken { get; init; }

    /// <summary>Put before every character of a word but the first.</summary>
    public string ContinuingSubwordPrefix { get; init; } = "";

    /// <summary>Put after the last character of a word.</summary>
    public string EndOfWordSuffix { get; init; } = "";

    /// <summary>Whether neighbouring unknown characters become one unknown token.</summary>
    public bool FuseUnknown { get; init; }

    /// <summary>Whether a character outside the vocabulary becomes the tokens of its UTF-8 bytes, <c>&lt;0xE2&gt;</c> and so on.</summary>
    public bool ByteFallback { get; init; }

    /// <summary>Whether a word that is a token as a whole is that token, whatever the merges would make of it.</summary>
    public bool IgnoreMerges { get; init; }

    /// <summary>Whether there is a prefix or a suffix.</summary>
    public bool HasAffixes => ContinuingSubwordPrefix.Length > 0 || EndOfWordSuffix.Length > 0;
}
