namespace OpenWeights.Tokenizers;

/// <summary>
/// The Unigram language model (Kudo, 2018, arXiv:1804.10959): the cut of a text into tokens whose scores have the largest sum, found
/// by Viterbi over the lattice of tokens (reference: huggingface/tokenizers, <c>encode_optimized</c>, after SentencePiece's).
/// </summary>
internal sealed class UnigramModel : TokenModel
{
    /// <summary>How much worse than the worst token an unknown character is.</summary>
    private const double UnknownPenalty = 10;

    private readonly double[] _scores;
    private readonly ByteTrie _trie;
    private readonly int _unknownId;
    private readonly double _unknownScore;
    private readonly int[]? _byteIds;

    /// <param name="vocabulary">The tokens.</param>
    /// <param name="scores">Their scores, log-probabilities.</param>
    /// <param name="unknownId">The id for characters that no token has, or null.</param>
    /// <param name="byteFallback">Whether unknown text becomes the tokens of its bytes.</param>
    /// <param name="usable">Which tokens may be chosen; null for all.</param>
    public UnigramModel(Vocabulary vocabulary, double[] scores, int? unknownId, bool byteFallback, Func<int, bool>? usable = null)
    {
        Vocabulary = vocabulary;
        _scores = scores;
        _unknownId = unknownId ?? -1;
        _unknownScore = (scores.Length == 0 ? 0 : scores.Min()) - UnknownPenalty;
        _trie = new ByteTrie(Enumerable.Range(0, scores.Length)
            .Where(id => vocabulary.Find(vocabulary[id]) == id && (usable is null || usable(id)))
            .Select(id => ((ReadOnlyMemory<byte>)vocabulary[id].ToArray(), id)));
        if (byteFallback)
        {
            _byteIds = [.. Enumerable.Range(0, 256).Select(i => vocabulary.Find($"<0x{i:X2}>"))];
        }
    }

    public override Vocabulary Vocabulary { get; }

    public override void Tokenize(ReadOnlySpan<char> piece, EncodeState state)
    {
        if (piece.Length > WordCache.LongestWord)
        {
            FindBest(piece, state);
            state.EmitMerged(piece, null, state.Words);
            return;
        }

        var hash = WordCache.Hash(piece);
        if (!state.Words.TryEmit(piece, hash, state.Output))
        {
            FindBest(piece, state);
            state.EmitMerged(piece, hash, state.Words);
        }
    }

    /// <summary>The best way to reach a place of the text.</summary>
    private struct Step
    {
        public double Score;
        public int Start;
        public int Id;
    }

    private void FindBest(ReadOnlySpan<char> piece, EncodeState state)
    {
        var bytes = state.Utf8(piece);
        var steps = new Step[bytes.Length + 1];
        steps.AsSpan(1).Fill(new Step { Start = -1 });
        for (var start = 0; start < bytes.Length;)
        {
            var length = CharacterLength(bytes[start]);
            if (!AddTokens(bytes, start, length, steps))
            {
                if (_unknownId < 0)
                {
                    throw new InvalidDataException("The text has a character that no token of the model has, and the tokenizer's unk_id is null.");
                }

                Offer(ref steps[start + length], _unknownScore + steps[start].Score, start, _unknownId);
            }

            start += length;
        }

        Collect(bytes, steps, state);
    }

    private bool AddTokens(ReadOnlySpan<byte> bytes, int start, int characterLength, Step[] steps)
    {
        var score = steps[start].Score;
        var hasCharacter = false;
        var node = ByteTrie.Root;
        for (var end = start; end < bytes.Length;)
        {
            node = _trie.Next(node, bytes[end++]);
            if (node < 0)
            {
                break;
            }

            var id = _trie.ValueAt(node);
            if (id >= 0)
            {
                Offer(ref steps[end], _scores[id] + score, start, id);
                hasCharacter |= end - start == characterLength;
            }
        }

        return hasCharacter;
    }

    private static void Offer(ref Step step, double score, int start, int id)
    {
        if (step.Start < 0 || score > step.Score)
        {
            step = new Step { Score = score, Start = start, Id = id };
        }
    }

    /// <summary>Walks the best path back; neighbouring unknowns are one.</summary>
    private void Collect(ReadOnlySpan<byte> bytes, Step[] steps, EncodeState state)
    {
        var path = new List<(int Id, int End)>();
        for (var end = bytes.Length; end > 0; end = steps[end].Start)
        {
            var id = steps[end].Id;
            if (id != _unknownId || path.Count == 0 || path[^1].Id != _unknownId)
            {
                path.Add((id, end));
            }
        }

        state.Merge.Begin(path.Count);
        var start = 0;
        foreach (var (id, end) in Enumerable.Reverse(path))
        {
            Put(id, bytes[start..end], end, state);
            start = end;
        }
    }

    private void Put(int id, ReadOnlySpan<byte> text, int end, EncodeState state)
    {
        // The reference looks the text of each part up again: unknown text that happens to be a token is that token.
        if (id == _unknownId && Vocabulary.Find(text) is >= 0 and var known)
        {
            id = known;
        }
        else if (id == _unknownId && _byteIds is not null && HasAllBytes(text))
        {
            for (var i = 0; i < text.Length; i++)
            {
                state.Merge.Add(_byteIds[text[i]], end - text.Length + i + 1);
            }

            return;
        }

        state.Merge.Add(id, end);
    }

    private bool HasAllBytes(ReadOnlySpan<byte> text)
    {
        foreach (var value in text)
        {
            if (_byteIds![value] < 0)
            {
                return false;
            }
        }

        return true;
    }

    private static int CharacterLength(byte first) => first switch { < 0x80 => 1, < 0xE0 => 2, < 0xF0 => 3, _ => 4 };
}
