namespace OpenWeights.Tokenizers.MicrosoftML;

/// <summary>What a tokenizer of Microsoft.ML.Tokenizers does not tell of itself.</summary>
public sealed record ForeignTokenizerOptions
{
    /// <summary>The id of the token that begins a text, or null.</summary>
    public int? BosToken { get; init; }

    /// <summary>The id of the token that ends a text, or null.</summary>
    public int? EosToken { get; init; }

    /// <summary>Whether BOS is put before a text that is encoded with special tokens.</summary>
    public bool AddsBos { get; init; }

    /// <summary>Whether EOS is put behind a text that is encoded with special tokens.</summary>
    public bool AddsEos { get; init; }

    /// <summary>The ids that decoding without special tokens leaves out, beside BOS and EOS.</summary>
    public IReadOnlySet<int> SpecialIds { get; init; } = new HashSet<int>();

    /// <summary>The chat template (Jinja), or null.</summary>
    public string? ChatTemplateText { get; init; }

    /// <summary>Special tokens by the names that chat templates have for them (<c>bos_token</c>, <c>eos_token</c>, ...).</summary>
    public IReadOnlyDictionary<string, string> SpecialTokens { get; init; } = new Dictionary<string, string>();
}
