using System.Runtime.CompilerServices;

namespace OpenWeights.Tokenizers;

/// <summary>
/// Byte-pair encoding as tokenizer.json's model "BPE" has it (reference: huggingface/tokenizers, models/bpe). A word's
/// characters become symbols, and the merges join them by rank.
/// </summary>
internal sealed class BpeModel : TokenModel
{
    /// <summary>Longer words are cut where no merge can join, so that their parts can be found in the cache.</summary>
    private const int LongestUncut = 8;

    private readonly BpeOptions _options;
    private readonly PairTable _pairs;
    private readonly BpeSymbols _symbols;
    private readonly Lazy<MergeBoundaries?> _characterBoundaries;
    private readonly Lazy<MergeBoundaries?> _byteBoundaries;
    private readonly Func<int, bool>? _fuses;

    /// <param name="vocabulary">The tokens.</param>
    /// <param name="pairs">The merges.</param>
    /// <param name="options">The options.</param>
    /// <param name="whole">Texts that are one symbol wherever they stand and never merge (SentencePiece's user-defined pieces).</param>
    public BpeModel(Vocabulary vocabulary, PairTable pairs, BpeOptions options, AddedTokenMatcher? whole = null)
    {
        Vocabulary = vocabulary;
        _pairs = pairs;
        _options = options;
        _symbols = new BpeSymbols(vocabulary, options, whole);
        _fuses = options.UnknownToken is not null && options.FuseUnknown ? c => !_symbols.Has(c) : null;
        _characterBoundaries = new Lazy<MergeBoundaries?>(
            () => _symbols.CanCutCharacters(pairs) ? new MergeBoundaries(pairs, vocabulary, byteLevel: false) : null);
        _byteBoundaries = new Lazy<MergeBoundaries?>(
            () => _symbols.HasAllBytes ? new MergeBoundaries(pairs, vocabulary, byteLevel: true) : null);
    }

    public override Vocabulary Vocabulary { get; }

    public override bool TakesByteLevelWords => !_options.HasAffixes && !_options.ByteFallback;

    public override void Tokenize(ReadOnlySpan<char> piece, EncodeState state) => Tokenize(piece, state, byteLevel: false);

    public override void TokenizeByteLevel(ReadOnlySpan<char> piece, EncodeState state) => Tokenize(piece, state, byteLevel: true);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Tokenize(ReadOnlySpan<char> piece, EncodeState state, bool byteLevel)
    {
        if (piece.Length > WordCache.LongestWord)
        {
            TokenizeUnknownWord(piece, null, state, byteLevel);
            return;
        }

        var hash = WordCache.Hash(piece);
        if (!state.Words.TryEmit(piece, hash, state.Output))
        {
            TokenizeUnknownWord(piece, hash, state, byteLevel);
        }
    }

    /// <summary>Tokenizes a word that is not in the cache.</summary>
    /// <param name="word">The word.</param>
    /// <param name="hash">Its hash; null where it is too long for the cache.</param>
    /// <param name="state">Buffers of the encoding.</param>
    /// <param name="byteLevel">Whether its bytes are its symbols.</param>
    private void TokenizeUnknownWord(ReadOnlySpan<char> word, uint? hash, EncodeState state, bool byteLevel)
    {
        if (_options.IgnoreMerges && _symbols.FindWhole(state.Utf8(word), state, byteLevel) is >= 0 and var whole)
        {
            state.Merge.Begin(1);
            state.Merge.Add(whole, state.Utf8(word).Length);
            state.EmitMerged(word, hash, state.Words);
            return;
        }

        var boundaries = word.Length <= LongestUncut ? null : byteLevel ? _byteBoundaries.Value : _characterBoundaries.Value;
        var cut = boundaries?.NextCut(word, 0, byteLevel ? null : _fuses) ?? word.Length;
        if (cut == word.Length)
        {
            Merge(word, state, byteLevel);
            state.EmitMerged(word, hash, state.Words);
        }
        else
        {
            TokenizeParts(word, cut, boundaries!, state, byteLevel);
        }
    }

    private void TokenizeParts(ReadOnlySpan<char> word, int cut, MergeBoundaries boundaries, EncodeState state, bool byteLevel)
    {
        // A part is never taken whole for being a token, so with that option its tokens may not be those of the same word standing alone.
        var cache = _options.IgnoreMerges ? state.Parts : state.Words;
        for (var start = 0; start < word.Length;)
        {
            var part = word[start..cut];
            var before = state.Output.Count;
            uint? hash = part.Length > WordCache.LongestWord ? null : WordCache.Hash(part);
            if (hash is null || !cache.TryEmit(part, hash.Value, state.Output))
            {
                Merge(part, state, byteLevel);
                state.EmitMerged(part, hash, cache);
            }

            if (state.Output.HasRanges)
            {
                state.Output.Shift(before, start);
            }

            start = cut;
            cut = start < word.Length ? boundaries.NextCut(word, start, byteLevel ? null : _fuses) : start;
        }
    }

    private void Merge(ReadOnlySpan<char> word, EncodeState state, bool byteLevel)
    {
        state.Merge.Begin(word.Length);
        if (byteLevel)
        {
            _symbols.AddBytes(state.Utf8(word), state.Merge);
        }
        else
        {
            _symbols.AddCharacters(word, state.Merge);
        }

        state.Merge.Merge(_pairs);
    }
}

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

    /// <summary>Whether a word that is itself a token is kept without merging (ignore_merges).</summary>
    public bool IgnoreMerges { get; init; }

    /// <summary>Whether there is a prefix or a suffix.</summary>
    public bool HasAffixes => ContinuingSubwordPrefix.Length > 0 || EndOfWordSuffix.Length > 0;
}
