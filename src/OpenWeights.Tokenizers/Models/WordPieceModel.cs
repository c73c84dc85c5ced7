using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>
/// "WordPiece": from a word's start always the longest token that fits; a word that cannot be covered so is unknown (reference:
/// huggingface/tokenizers, models/wordpiece).
/// </summary>
/// <param name="vocabulary">The tokens.</param>
/// <param name="unknownId">The unknown token's id.</param>
/// <param name="prefix">Prefix of tokens within a word (##).</param>
/// <param name="longestWord">Words of more characters are unknown.</param>
internal sealed class WordPieceModel(Vocabulary vocabulary, int unknownId, string prefix, int longestWord) : TokenModel
{
    private readonly byte[] _prefix = Encoding.UTF8.GetBytes(prefix);

    public override Vocabulary Vocabulary => vocabulary;

    public override void Tokenize(ReadOnlySpan<char> piece, EncodeState state)
    {
        if (piece.Length > WordCache.LongestWord)
        {
            Cover(piece, state);
            state.EmitMerged(piece, null, state.Words);
            return;
        }

        var hash = WordCache.Hash(piece);
        if (!state.Words.TryEmit(piece, hash, state.Output))
        {
            Cover(piece, state);
            state.EmitMerged(piece, hash, state.Words);
        }
    }

    private void Cover(ReadOnlySpan<char> piece, EncodeState state)
    {
        var word = state.Utf8(piece);
        var characters = 0;
        foreach (var value in word)
        {
            characters += IsStart(value) ? 1 : 0;
        }

        state.Merge.Begin(word.Length);
        if (characters > longestWord)
        {
            state.Merge.Add(unknownId, word.Length);
            return;
        }

        var candidate = new byte[_prefix.Length + word.Length];
        _prefix.CopyTo(candidate, 0);
        for (var start = 0; start < word.Length;)
        {
            var rest = word[start..];
            rest.CopyTo(candidate.AsSpan(_prefix.Length));
            var from = start == 0 ? _prefix.Length : 0;
            var length = LongestToken(candidate.AsSpan(from, _prefix.Length - from + rest.Length), rest.Length, out var id);
            if (length == 0)
            {
                state.Merge.Begin(word.Length);
                state.Merge.Add(unknownId, word.Length);
                return;
            }

            start += length;
            state.Merge.Add(id, start);
        }
    }

    /// <summary>How many of the last <paramref name="variable"/> bytes of the candidate are in the longest token that it begins with.</summary>
    private int LongestToken(ReadOnlySpan<byte> candidate, int variable, out int id)
    {
        var affix = candidate.Length - variable;
        for (var length = variable; length > 0; length--)
        {
            var isEnd = length == variable || IsStart(candidate[affix + length]);
            if (isEnd && vocabulary.Find(candidate[..(affix + length)]) is >= 0 and var found)
            {
                id = found;
                return length;
            }
        }

        id = -1;
        return 0;
    }

    private static bool IsStart(byte value) => (value & 0xC0) != 0x80;
}
