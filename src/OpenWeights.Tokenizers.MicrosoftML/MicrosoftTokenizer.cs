using System.Buffers;
using Microsoft.ML.Tokenizers;

namespace OpenWeights.Tokenizers.MicrosoftML;

/// <summary>
/// Lets a tokenizer of this library be used wherever a tokenizer of Microsoft.ML.Tokenizers is taken: counting a prompt's tokens,
/// cutting a text to a number of tokens, splitting documents.
/// </summary>
/// <remarks>
/// Normalization and pre-tokenization are parts of a tokenizer here, so a call that asks to leave one out is refused. Ranges are in the
/// text as it was given; there is no normalized text. A text is never cut in the middle of a character. Safe for use by several threads at once.
/// </remarks>
public sealed class MicrosoftTokenizer : Microsoft.ML.Tokenizers.Tokenizer
{
    private readonly Tokenizer _tokenizer;
    private readonly bool _addSpecialTokens;
    private readonly bool _skipSpecialTokens;

    /// <summary>Wraps a tokenizer.</summary>
    /// <param name="tokenizer">The tokenizer.</param>
    /// <param name="addSpecialTokens">Whether encoding adds what the tokenizer puts around a text, such as BOS. Text rendered from a chat template has them already.</param>
    /// <param name="skipSpecialTokens">Whether decoding leaves special tokens out.</param>
    public MicrosoftTokenizer(Tokenizer tokenizer, bool addSpecialTokens = false, bool skipSpecialTokens = false)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        _tokenizer = tokenizer;
        _addSpecialTokens = addSpecialTokens;
        _skipSpecialTokens = skipSpecialTokens;
    }

    /// <inheritdoc/>
    public override string Decode(IEnumerable<int> ids)
    {
        ArgumentNullException.ThrowIfNull(ids);
        return TryDecode(ids, out var text, out _) ? text : throw new InvalidOperationException("The tokens have an id that the tokenizer does not know.");
    }

    /// <inheritdoc/>
    /// <remarks>
    /// Nothing is written where the whole text does not fit: what a token means may depend on those beside it. An unknown id is invalid
    /// data.
    /// </remarks>
    public override OperationStatus Decode(IEnumerable<int> ids, Span<char> destination, out int idsConsumed, out int charsWritten)
    {
        ArgumentNullException.ThrowIfNull(ids);
        (idsConsumed, charsWritten) = (0, 0);
        if (!TryDecode(ids, out var text, out var count))
        {
            return OperationStatus.InvalidData;
        }

        if (!text.TryCopyTo(destination))
        {
            return OperationStatus.DestinationTooSmall;
        }

        (idsConsumed, charsWritten) = (count, text.Length);
        return OperationStatus.Done;
    }

    /// <inheritdoc/>
    protected override EncodeResults<EncodedToken> EncodeToTokens(string? text, ReadOnlySpan<char> textSpan, EncodeSettings settings)
    {
        var (spans, consumed) = Fitting(Whole(text, textSpan), settings);
        return new EncodeResults<EncodedToken>
        {
            Tokens = [.. spans.Select(span => new EncodedToken(span.Id, _tokenizer.IdToToken(span.Id) ?? "", span.Start..span.End))],
            CharsConsumed = consumed,
        };
    }

    /// <inheritdoc/>
    protected override EncodeResults<int> EncodeToIds(string? text, ReadOnlySpan<char> textSpan, EncodeSettings settings)
    {
        Check(settings);
        var whole = Whole(text, textSpan);
        var ids = _tokenizer.Encode(whole, _addSpecialTokens);
        if (ids.Length <= settings.MaxTokenCount)
        {
            return new EncodeResults<int> { Tokens = ids, CharsConsumed = whole.Length };
        }

        var (spans, consumed) = Fitting(whole, settings);
        return new EncodeResults<int> { Tokens = [.. spans.Select(static span => span.Id)], CharsConsumed = consumed };
    }

    /// <inheritdoc/>
    protected override int CountTokens(string? text, ReadOnlySpan<char> textSpan, EncodeSettings settings) => EncodeToIds(text, textSpan, settings).Tokens.Count;

    /// <inheritdoc/>
    protected override int GetIndexByTokenCount(string? text, ReadOnlySpan<char> textSpan, EncodeSettings settings, bool fromEnd, out string? normalizedText, out int tokenCount)
    {
        normalizedText = null;
        var whole = Whole(text, textSpan);
        if (!fromEnd)
        {
            var (fitting, consumed) = Fitting(whole, settings);
            tokenCount = fitting.Count;
            return consumed;
        }

        Check(settings);
        var spans = Spans(whole);
        var first = spans.Length - Math.Min(spans.Length, settings.MaxTokenCount);
        while (!IsBoundary(spans, first))
        {
            first++;
        }

        tokenCount = spans.Length - first;
        return first == 0 ? 0 : first < spans.Length ? spans[first].Start : whole.Length;
    }

    private static ReadOnlySpan<char> Whole(string? text, ReadOnlySpan<char> textSpan) => text is null ? textSpan : text;

    private static void Check(EncodeSettings settings)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(settings.MaxTokenCount, nameof(settings));
        if (!settings.ConsiderNormalization || !settings.ConsiderPreTokenization)
        {
            throw new NotSupportedException("This tokenizer cannot leave out its normalization or its pre-tokenization; pass true for both.");
        }
    }

    /// <summary>Whether no character has tokens both before and from an index.</summary>
    private static bool IsBoundary(TokenSpan[] spans, int index) =>
        index == 0 || index >= spans.Length || spans[index].Start >= spans[index - 1].End;

    /// <summary>The tokens from the text's start that may be given, and how many characters they stand for.</summary>
    private (ArraySegment<TokenSpan> Spans, int Consumed) Fitting(ReadOnlySpan<char> text, EncodeSettings settings)
    {
        Check(settings);
        var spans = Spans(text);
        if (spans.Length <= settings.MaxTokenCount)
        {
            return (spans, text.Length);
        }

        var count = settings.MaxTokenCount;
        while (!IsBoundary(spans, count))
        {
            count--;
        }

        return (new ArraySegment<TokenSpan>(spans, 0, count), count == 0 ? 0 : spans[count - 1].End);
    }

    /// <summary>The tokens of a text. Tokens added after the text have an empty range at its end.</summary>
    private TokenSpan[] Spans(ReadOnlySpan<char> text)
    {
        TokenSpan[] spans = [.. _tokenizer.EncodeWithOffsets(text, _addSpecialTokens)];
        for (var i = spans.Length - 1; i >= 0 && spans[i] is { Start: 0, End: 0 } added && i > 0; i--)
        {
            spans[i] = added with { Start = text.Length, End = text.Length };
        }

        return spans;
    }

    private bool TryDecode(IEnumerable<int> ids, out string text, out int count)
    {
        var known = ids as IReadOnlyList<int> ?? [.. ids];
        count = known.Count;
        var isKnown = known.All(id => _tokenizer.IdToToken(id) is not null);
        text = isKnown ? _tokenizer.Decode(known, _skipSpecialTokens) : "";
        return isKnown;
    }
}
