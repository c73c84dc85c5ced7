using OpenWeights.Tokenizers;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>A question made of a row that has none of its own: how does it go on?</summary>
internal static class TokenQuestion
{
    private const int LongestPrompt = 64;
    private const int LongestAnswer = 64;
    private const int MinTokens = 4;

    /// <summary>The tokens before a place as the prompt, and those from there on as the answer.</summary>
    /// <param name="ids">The row.</param>
    /// <param name="answerFrom">Where the answer begins; 0 for a text as a whole, which is cut in the middle, or earlier where it is long.</param>
    /// <param name="tokenizer">The model's tokenizer.</param>
    /// <returns>Null for a row that is too short.</returns>
    internal static (int[] Prompt, string PromptText, string Answer)? Of(int[] ids, int answerFrom, ITokenizer tokenizer)
    {
        var count = ids.Length > 0 && ids[^1] == tokenizer.EosToken ? ids.Length - 1 : ids.Length;
        if (answerFrom == 0)
        {
            answerFrom = count < MinTokens ? 0 : Math.Min(LongestPrompt, count / 2);
        }

        if (answerFrom == 0 || answerFrom >= count)
        {
            return null;
        }

        var prompt = ids[..answerFrom];
        var answer = ids[answerFrom..Math.Min(count, answerFrom + LongestAnswer)];
        return (prompt, tokenizer.Decode(prompt, skipSpecialTokens: true), tokenizer.Decode(answer, skipSpecialTokens: true));
    }
}
