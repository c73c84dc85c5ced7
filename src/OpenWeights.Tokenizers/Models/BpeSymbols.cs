using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>Initial symbols of a word, before merging: characters in the vocabulary, bytes, or the unknown token.</summary>
internal sealed class BpeSymbols
{
    private const int Missing = -1;

    private readonly Vocabulary _vocabulary;
    private readonly BpeOptions _options;
    private readonly AddedTokenMatcher? _whole;
    private readonly int _unknownId;
    private readonly int[] _characterIds = new int[0x10000];
    private readonly Dictionary<int, int> _astralIds = [];
    private readonly int[] _byteIds = new int[256];
    private readonly int[] _fallbackIds = [];

    public BpeSymbols(Vocabulary vocabulary, BpeOptions options, AddedTokenMatcher? whole)
    {
        _vocabulary = vocabulary;
        _options = options;
        _whole = whole is { IsEmpty: false } ? whole : null;
        _unknownId = options.UnknownToken is null ? Missing : vocabulary.Find(options.UnknownToken);
        IndexCharacters();
        for (var i = 0; i < 256; i++)
        {
            _byteIds[i] = _characterIds[ByteLevelAlphabet.CharacterOf((byte)i)];
        }

        if (options.ByteFallback)
        {
            _fallbackIds = [.. Enumerable.Range(0, 256).Select(i => vocabulary.Find($"<0x{i:X2}>"))];
        }
    }

    /// <summary>Whether every byte has a symbol, as in byte-level models.</summary>
    public bool HasAllBytes => !_byteIds.Contains(Missing);

    /// <summary>Whether a character has a symbol of its own.</summary>
    public bool Has(int codePoint) => CharacterId(codePoint) != Missing;

    /// <summary>
    /// Whether what merges can join tells where a text can be cut. It does not where a character can vanish between two others, where
    /// bytes or unknown tokens merge, or where an option looks at a whole word.
    /// </summary>
    public bool CanCutCharacters(PairTable pairs)
    {
        var keepsAll = _options.ByteFallback ? !_fallbackIds.Contains(Missing) : _options.UnknownToken is not null;
        if (_options.HasAffixes || _whole is not null || !keepsAll)
        {
            return false;
        }

        var special = _fallbackIds.Append(_unknownId).ToHashSet();
        for (var number = 0; number < pairs.Count; number++)
        {
            var (left, right) = pairs.Pair(number);
            if (special.Contains(left) || special.Contains(right))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>The token that a whole word is, or -1.</summary>
    public int FindWhole(ReadOnlySpan<byte> word, EncodeState state, bool byteLevel)
    {
        if (!byteLevel)
        {
            return _vocabulary.Find(word);
        }

        if (state.Spelling.Length < word.Length * 2)
        {
            state.Spelling = new byte[word.Length * 2];
        }

        return _vocabulary.Find(state.Spelling.AsSpan(0, ByteLevelAlphabet.Encode(word, state.Spelling)));
    }

    /// <summary>Adds a word's bytes.</summary>
    public void AddBytes(ReadOnlySpan<byte> word, MergeScratch symbols)
    {
        var unknownEnd = 0;
        for (var i = 0; i < word.Length; i++)
        {
            var id = _byteIds[word[i]];
            if (id == Missing)
            {
                PutUnknown(symbols, ref unknownEnd, i + 1);
                continue;
            }

            FlushUnknown(symbols, ref unknownEnd);
            symbols.Add(id, i + 1);
        }

        FlushUnknown(symbols, ref unknownEnd);
    }

    /// <summary>Adds a word's characters; ends count its UTF-8 bytes.</summary>
    public void AddCharacters(ReadOnlySpan<char> word, MergeScratch symbols)
    {
        var unknownEnd = 0;
        var end = 0;
        for (var i = 0; i < word.Length;)
        {
            if (_whole?.Longest(word, i, out var to) is { } whole)
            {
                FlushUnknown(symbols, ref unknownEnd);
                end += Encoding.UTF8.GetByteCount(word[i..to]);
                symbols.Add(whole.Id, end);
                i = to;
                continue;
            }

            _ = Rune.DecodeFromUtf16(word[i..], out var rune, out var units);
            var start = end;
            end += rune.Utf8SequenceLength;
            var isFirst = i == 0;
            i += units;
            var id = _options.HasAffixes ? _vocabulary.Find(WithAffixes(rune, isFirst, i == word.Length)) : CharacterId(rune.Value);
            if (id != Missing)
            {
                FlushUnknown(symbols, ref unknownEnd);
                symbols.Add(id, end);
            }
            else if (!_options.ByteFallback || !TryAddFallback(rune, isFirst, i == word.Length, start, symbols))
            {
                PutUnknown(symbols, ref unknownEnd, end);
            }
        }

        FlushUnknown(symbols, ref unknownEnd);
    }

    private int CharacterId(int codePoint) =>
        codePoint < 0x10000 ? _characterIds[codePoint] : _astralIds.GetValueOrDefault(codePoint, Missing);

    /// <summary>Unknown text that has not become a token yet ends at <paramref name="unknownEnd"/>, or there is none and it is 0.</summary>
    private void PutUnknown(MergeScratch symbols, ref int unknownEnd, int end)
    {
        if (_unknownId == Missing)
        {
            // Without an unk_token the reference drops the character.
            if (_options.UnknownToken is null)
            {
                return;
            }

            throw new InvalidDataException(
                $"The text has a character that the vocabulary lacks, and so is the tokenizer's unk_token \"{_options.UnknownToken}\".");
        }

        if (!_options.FuseUnknown)
        {
            FlushUnknown(symbols, ref unknownEnd);
        }

        unknownEnd = end;
    }

    private void FlushUnknown(MergeScratch symbols, ref int unknownEnd)
    {
        if (unknownEnd > 0)
        {
            symbols.Add(_unknownId, unknownEnd);
            unknownEnd = 0;
        }
    }

    private string WithAffixes(Rune rune, bool isFirst, bool isLast) =>
        (isFirst ? "" : _options.ContinuingSubwordPrefix) + rune + (isLast ? _options.EndOfWordSuffix : "");

    private bool TryAddFallback(Rune rune, bool isFirst, bool isLast, int start, MergeScratch symbols)
    {
        Span<byte> bytes = stackalloc byte[4];
        var count = rune.EncodeToUtf8(bytes);
        var all = _options.HasAffixes ? Encoding.UTF8.GetBytes(WithAffixes(rune, isFirst, isLast)) : bytes[..count];
        foreach (var value in all)
        {
            if (_fallbackIds[value] == Missing)
            {
                return false;
            }
        }

        for (var i = 0; i < all.Length; i++)
        {
            // The bytes of affixes stand for no text of their own.
            symbols.Add(_fallbackIds[all[i]], start + Math.Min(i + 1, count));
        }

        return true;
    }

    private void IndexCharacters()
    {
        Array.Fill(_characterIds, Missing);
        for (var id = 0; id < _vocabulary.Size; id++)
        {
            if (!_vocabulary.Contains(id))
            {
                continue;
            }

            var token = _vocabulary[id];
            if (token.Length is > 0 and <= 4
                && Rune.DecodeFromUtf8(token, out var rune, out var length) == System.Buffers.OperationStatus.Done
                && length == token.Length)
            {
                if (rune.IsBmp)
                {
                    _characterIds[rune.Value] = id;
                }
                else
                {
                    _astralIds[rune.Value] = id;
                }
            }
        }
    }
}
