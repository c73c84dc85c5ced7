using OpenWeights.Tokenizers;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune;

/// <summary>The text of an answer as its tokens come, without the reasoning before it.</summary>
/// <param name="tokenizer">Decodes the tokens.</param>
/// <param name="reader">Parts reasoning and answer; null for a text that is no answer.</param>
internal sealed class GeneratedAnswer(Tokenizer tokenizer, AnswerReader? reader)
{
    private readonly StreamingDecoder _decoder = tokenizer.CreateStreamingDecoder(skipSpecialTokens: true);

    /// <summary>Whether the answer is complete, even without an end token.</summary>
    internal bool IsDone => reader is { IsDone: true };

    /// <summary>Takes a token.</summary>
    /// <param name="token">The token.</param>
    /// <returns>What is certain of the answer's text by now; may be empty.</returns>
    internal string Add(int token)
    {
        if (reader is null)
        {
            return _decoder.Add(token);
        }

        var text = tokenizer.IsSpecial(token) && tokenizer.Decode([token], skipSpecialTokens: false) is var special && reader.Reads(special) ? special : _decoder.Add(token);
        return Answer(reader.Add(text));
    }

    /// <summary>Ends the answer.</summary>
    /// <returns>The rest of its text.</returns>
    internal string Finish() => reader is null ? _decoder.Finish() : Answer(reader.Add(_decoder.Finish())) + Answer(reader.Finish());

    private static string Answer(IEnumerable<(bool IsReasoning, string Text)> parts) => string.Concat(parts.Where(static p => !p.IsReasoning).Select(static p => p.Text));
}
