namespace OpenWeights.Tokenizers;

/// <summary>The added tokens of a tokenizer.</summary>
internal sealed class AddedVocabulary
{
    private readonly Dictionary<string, AddedToken> _byContent = new(StringComparer.Ordinal);
    private readonly Dictionary<int, Entry> _byId = [];
    private readonly HashSet<string> _specialContents = new(StringComparer.Ordinal);

    public AddedVocabulary(IEnumerable<AddedToken> tokens, NormalizerChain normalizers)
    {
        foreach (var token in tokens)
        {
            var form = token.Normalized ? normalizers.Apply(token.Content) : token.Content;
            _byContent[token.Content] = token;
            _byId[token.Id] = new Entry(token, form);
            if (token.Special)
            {
                _ = _specialContents.Add(token.Content);
            }

            Size = Math.Max(Size, token.Id + 1);
        }

        InText = new AddedTokenMatcher(Matchable(normalized: false));
        InNormalized = new AddedTokenMatcher(Matchable(normalized: true));
    }

    private readonly record struct Entry(AddedToken Token, string Form);

    /// <summary>Finds the tokens that are matched in the unnormalized text.</summary>
    public AddedTokenMatcher InText { get; }

    /// <summary>Finds the tokens that the normalized text is searched for.</summary>
    public AddedTokenMatcher InNormalized { get; }

    /// <summary>The largest id plus one.</summary>
    public int Size { get; }

    /// <summary>The token with a text, or null.</summary>
    public AddedToken? Find(string content) => _byContent.GetValueOrDefault(content);

    /// <summary>The token with an id, or null.</summary>
    public AddedToken? Find(int id) => _byId.TryGetValue(id, out var entry) ? entry.Token : null;

    /// <summary>The text that the decoder receives for an id: the normalized form if the token is matched in normalized text; null if the id is not an added token's.</summary>
    public string? DecodedForm(int id) => _byId.TryGetValue(id, out var entry) ? entry.Form : null;

    /// <summary>Whether decoding that skips special tokens skips this text.</summary>
    public bool IsLeftOut(string decodedForm) => _specialContents.Contains(decodedForm);

    private IEnumerable<(string Pattern, AddedToken Token)> Matchable(bool normalized) =>
        _byId.OrderBy(e => e.Key).Where(e => e.Value.Token.Normalized == normalized).Select(e => (e.Value.Form, e.Value.Token));
}

/// <summary>An added token, matched in the text before the model runs (huggingface/tokenizers, <c>AddedToken</c>).</summary>
/// <param name="Content">Its text.</param>
/// <param name="Id">Its id.</param>
internal sealed record AddedToken(string Content, int Id)
{
    /// <summary>Found only where no word character touches it.</summary>
    public bool SingleWord { get; init; }

    /// <summary>Takes the white space before it along.</summary>
    public bool StripLeft { get; init; }

    /// <summary>Takes the white space after it along.</summary>
    public bool StripRight { get; init; }

    /// <summary>Looked for in the normalized text, in its own normalized form.</summary>
    public bool Normalized { get; init; }

    /// <summary>Left out when decoding without special tokens.</summary>
    public bool Special { get; init; }
}
