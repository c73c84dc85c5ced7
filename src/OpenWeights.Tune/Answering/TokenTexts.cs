using System.Text;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Decoding.Engine;

namespace OpenWeights.Tune.Answering;

/// <summary>Texts of single tokens.</summary>
/// <param name="tokenizer">The tokenizer.</param>
internal sealed class TokenTexts(Tokenizer tokenizer)
{
    private const char NoCharacter = '\uFFFD';

    internal TokenText Of(int id, float logProb)
    {
        var text = tokenizer.Decode([id], skipSpecialTokens: false);

        // What is no text by itself is told by its bytes.
        return text.Contains(NoCharacter, StringComparison.Ordinal) && tokenizer.BytesOf(id) is { Length: > 0 } bytes
            ? new TokenText(id, Encoding.UTF8.GetString(bytes), bytes, logProb)
            : new TokenText(id, text, Encoding.UTF8.GetBytes(text), logProb);
    }

    internal AnswerToken Of(GeneratedToken token) =>
        new(Of(token.Token, token.LogProb), [.. token.Alternatives.Select(a => Of(a.Token, a.LogProb))]);
}
