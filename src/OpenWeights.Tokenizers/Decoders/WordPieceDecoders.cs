namespace OpenWeights.Tokenizers;

/// <summary>"WordPiece", and the tidying up that it shares with "CTC".</summary>
internal static class WordPieceDecoders
{
    /// <summary>A space before every token but the first and those that go on a word, which lose their prefix.</summary>
    public static TokenDecoder WordPiece(string prefix, bool cleanup) => new MapDecoder((token, index) =>
    {
        var text = index == 0 ? token
            : token.StartsWith(prefix, StringComparison.Ordinal) ? token[prefix.Length..]
            : " " + token;
        return cleanup ? Tidy(text) : text;
    });

    /// <summary>Takes out spaces before punctuation and English contractions.</summary>
    public static string Tidy(string text) => text
        .Replace(" .", ".", StringComparison.Ordinal)
        .Replace(" ?", "?", StringComparison.Ordinal)
        .Replace(" !", "!", StringComparison.Ordinal)
        .Replace(" ,", ",", StringComparison.Ordinal)
        .Replace(" ' ", "'", StringComparison.Ordinal)
        .Replace(" n't", "n't", StringComparison.Ordinal)
        .Replace(" 'm", "'m", StringComparison.Ordinal)
        .Replace(" do not", " don't", StringComparison.Ordinal)
        .Replace(" 's", "'s", StringComparison.Ordinal)
        .Replace(" 've", "'ve", StringComparison.Ordinal)
        .Replace(" 're", "'re", StringComparison.Ordinal);
}
