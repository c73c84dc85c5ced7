using OpenWeights.Tokenizers;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>Creates a prompt from a row without one: the first part of its text, to be continued.</summary>
internal static class TokenQuestion
{
    private const int LongestPrompt = 64;
    private const int LongestAnswer = 64;
    private const int MinTokens = 4;

    /// <summary>Splits tokens into a prompt and its answer.</summary>
    /// <param name="ids">The row.</param>
    /// <param name="answerFrom">Index of the answer's first token; 0 for a plain text, which is split in the middle, or earlier if it is
    /// long.</param>
    /// <param name="tokenizer">The model's tokenizer.</param>
    /// <returns>Null if the row is too short.</returns>
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
