using System.Text;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Decoding.Engine;

namespace OpenWeights.Tune.Answering;

/// <summary>Texts of single tokens.</summary>
/// <param name="tokenizer">The tokenizer.</param>
internal sealed class TokenTexts(Tokenizer tokenizer)
{
    internal TokenText Of(int id, float logProb)
    {
        // As it is between others: by itself, many tokenizers leave out the space before a word.
        var bytes = tokenizer.BytesOf(id) ?? [];
        return new TokenText(id, Encoding.UTF8.GetString(bytes), bytes, logProb);
    }

    internal AnswerToken Of(GeneratedToken token) =>
        new(Of(token.Token, token.LogProb), [.. token.Alternatives.Select(a => Of(a.Token, a.LogProb))]);
}
