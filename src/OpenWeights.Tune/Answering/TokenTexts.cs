using System.Text;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Decoding.Engine;

namespace OpenWeights.Tune.Answering;

/// <summary>Texts of single tokens.</summary>
/// <param name="tokenizer">The tokenizer.</param>
/// <param name="bytesOf">The bytes of each token in UTF-8; null for those that decoding a token alone gives.</param>
internal sealed class TokenTexts(Tokenizer tokenizer, Func<int, ReadOnlyMemory<byte>>? bytesOf = null)
{
    internal TokenText Of(int id, float logProb)
    {
        if (bytesOf is { } bytes && bytes(id) is { Length: > 0 } known)
        {
            return new TokenText(id, Encoding.UTF8.GetString(known.Span), known, logProb);
        }

        var text = tokenizer.Decode([id], skipSpecialTokens: false);
        return new TokenText(id, text, Encoding.UTF8.GetBytes(text), logProb);
    }

    internal AnswerToken Of(GeneratedToken token) =>
        new(Of(token.Token, token.LogProb), [.. token.Alternatives.Select(a => Of(a.Token, a.LogProb))]);
}
