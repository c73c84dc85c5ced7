namespace OpenWeights.Tokenizers.MicrosoftML;

/// <summary>Lets a tokenizer of Microsoft.ML.Tokenizers be used for training here.</summary>
/// <remarks>
/// Those tokenizers do not tell which of their tokens are special, nor their BOS token, so that is given in
/// <see cref="ForeignTokenizerOptions"/>.
/// </remarks>
public sealed class ForeignTokenizer : ITokenizer
{
    private readonly Microsoft.ML.Tokenizers.Tokenizer _tokenizer;
    private readonly ForeignTokenizerOptions _options;

    /// <summary>Wraps a tokenizer.</summary>
    /// <param name="tokenizer">The tokenizer.</param>
    /// <param name="options">The settings that it does not give.</param>
    public ForeignTokenizer(Microsoft.ML.Tokenizers.Tokenizer tokenizer, ForeignTokenizerOptions options)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        ArgumentNullException.ThrowIfNull(options);
        _tokenizer = tokenizer;
        _options = options;
    }

    /// <inheritdoc/>
    public int? EosToken => _options.EosToken;

    /// <inheritdoc/>
    public string? ChatTemplateText => _options.ChatTemplateText;

    /// <inheritdoc/>
    public IReadOnlyDictionary<string, string> SpecialTokens => _options.SpecialTokens;

    /// <inheritdoc/>
    public string? ChatTemplateFor(bool withTools) => ChatTemplateText;

    /// <inheritdoc/>
    public int[] Encode(string text, bool addSpecialTokens) =>
        [.. Framed(_tokenizer.EncodeToTokens(text, out _).Select(static token => new TokenSpan(token.Id, token.Offset.Start.Value, token.Offset.End.Value)), addSpecialTokens).Select(static span => span.Id)];

    /// <inheritdoc/>
    /// <exception cref="NotSupportedException">The tokenizer normalized the text, so that its ranges are not the text's.</exception>
    public IReadOnlyList<TokenSpan> EncodeWithOffsets(string text, bool addSpecialTokens, bool trimOffsets = false)
    {
        ArgumentNullException.ThrowIfNull(text);
        var tokens = _tokenizer.EncodeToTokens(text, out var normalized);
        var shift = Shift(text, normalized);
        int At(Index index) => Math.Clamp(index.Value - shift, 0, text.Length);
        return Framed(tokens.Select(token => new TokenSpan(token.Id, At(token.Offset.Start), At(token.Offset.End))), addSpecialTokens);
    }

    /// <inheritdoc/>
    public string Decode(IEnumerable<int> ids, bool skipSpecialTokens) =>
        _tokenizer.Decode(skipSpecialTokens ? ids.Where(id => !IsSpecial(id)) : ids);

    /// <summary>By how many characters the normalized text is ahead of the text: SentencePiece writes blanks as ▁, and one before the text.</summary>
    private static int Shift(string text, string? normalized)
    {
        var spelled = normalized?.Replace('▁', ' ') ?? text;
        var given = text.Replace('▁', ' ');
        return spelled == given ? 0 : spelled.Length == given.Length + 1 && spelled[0] == ' ' && spelled.EndsWith(given, StringComparison.Ordinal) ? 1
            : throw new NotSupportedException("The tokenizer normalizes this text, so its tokens' ranges are not those of the text; load the tokenizer's files with Tokenizer.Load instead.");
    }

    private bool IsSpecial(int id) => id == _options.BosToken || id == EosToken || _options.SpecialIds.Contains(id);

    /// <summary>The tokens with BOS and EOS as asked for, each at most once, whatever the tokenizer adds by itself.</summary>
    private List<TokenSpan> Framed(IEnumerable<TokenSpan> tokens, bool addSpecialTokens)
    {
        var all = tokens.ToList();
        if (all.Count > 0 && all[0].Id == _options.BosToken && all[0].Start == all[0].End)
        {
            all.RemoveAt(0);
        }

        if (all.Count > 0 && all[^1].Id == EosToken && all[^1].Start == all[^1].End)
        {
            all.RemoveAt(all.Count - 1);
        }

        if (addSpecialTokens && _options.AddsBos && _options.BosToken is { } bos)
        {
            all.Insert(0, new TokenSpan(bos, 0, 0));
        }

        if (addSpecialTokens && _options.AddsEos && EosToken is { } eos)
        {
            all.Add(new TokenSpan(eos, 0, 0));
        }

        return all;
    }
}

/// <summary>Settings that a tokenizer of Microsoft.ML.Tokenizers does not give.</summary>
public sealed record ForeignTokenizerOptions
{
    /// <summary>The id of the token that begins a text, or null.</summary>
    public int? BosToken { get; init; }

    /// <summary>The id of the token that ends a text, or null.</summary>
    public int? EosToken { get; init; }

    /// <summary>Whether BOS is put before a text that is encoded with special tokens.</summary>
    public bool AddsBos { get; init; }

    /// <summary>Whether EOS is appended to a text that is encoded with special tokens.</summary>
    public bool AddsEos { get; init; }

    /// <summary>The ids that decoding without special tokens skips, besides BOS and EOS.</summary>
    public IReadOnlySet<int> SpecialIds { get; init; } = new HashSet<int>();

    /// <summary>The chat template (Jinja), or null.</summary>
    public string? ChatTemplateText { get; init; }

    /// <summary>Special tokens by the names that chat templates have for them (<c>bos_token</c>, <c>eos_token</c>, ...).</summary>
    public IReadOnlyDictionary<string, string> SpecialTokens { get; init; } = new Dictionary<string, string>();
}
