using OpenWeights.Tune.Answering;

namespace OpenWeights.Tune.Server.Protocols.OpenAi;

/// <summary>Usage and timings of answers in the protocol's fields.</summary>
internal static class Numbers
{
    private const double Milliseconds = 1000;

    // What OpenAI gives for tokens that cannot come; JSON has no infinity.
    private const float LeastLogProb = -9999;

    /// <summary>The usage of several answers; a prompt that several answer counts once.</summary>
    /// <param name="answers">The ends of the answers, all choices of a prompt after each other.</param>
    /// <param name="choices">Number of choices of a prompt.</param>
    internal static UsageFields Usage(IReadOnlyList<AnswerFinished> answers, int choices)
    {
        var prompts = answers.Where((_, i) => i % choices == 0).ToList();
        var (prompt, completion, reasoning) = (prompts.Sum(static a => a.Usage.Prompt), answers.Sum(static a => a.Usage.Completion), answers.Sum(static a => a.Usage.Reasoning));
        return new UsageFields(completion, prompt, prompt + completion)
        {
            PromptTokensDetails = new PromptDetails(prompts.Sum(static a => a.Usage.Cached)),
            CompletionTokensDetails = reasoning > 0 ? new CompletionDetails(reasoning) : null,
        };
    }

    /// <summary>The timings of several answers: their tokens, and the longest times, since they are generated together.</summary>
    internal static TimingFields Timings(IReadOnlyList<AnswerFinished> answers, int choices)
    {
        var prompts = answers.Where((_, i) => i % choices == 0).ToList();
        var cached = prompts.Sum(static a => a.Usage.Cached);
        var (read, made) = (prompts.Sum(static a => a.Usage.Prompt) - cached, answers.Sum(static a => a.Usage.Completion));
        return Timings(cached, read, made, new AnswerTimings(answers.Max(static a => a.Timings.PromptSeconds), answers.Max(static a => a.Timings.GenerationSeconds)));
    }

    /// <summary>The timings of an answer up to a piece of it; null where that does not tell them.</summary>
    internal static TimingFields? Timings(AnswerDelta delta) =>
        delta.SoFar is var (usage, timings) ? Timings(usage.Cached, usage.Prompt - usage.Cached, usage.Completion, timings) : null;

    private static TimingFields Timings(int cached, int read, int made, AnswerTimings timings)
    {
        var (readMs, madeMs) = (timings.PromptSeconds * Milliseconds, timings.GenerationSeconds * Milliseconds);
        return new TimingFields(cached, read, readMs, Ratio(readMs, read), Ratio(read * Milliseconds, readMs), made, madeMs, Ratio(madeMs, made), Ratio(made * Milliseconds, madeMs));
    }

    internal static PromptProgress Progress(AnswerProgress progress) => new(progress.Prompt, progress.Cached, progress.Read, progress.Seconds * Milliseconds);

    internal static TokenLogProb LogProb(AnswerToken token) => LogProb(token.Chance) with { TopLogprobs = [.. token.Alternatives.Select(LogProb)] };

    internal static float LogProb(float value) => Math.Max(value, LeastLogProb);

    internal static int[] Bytes(TokenText token) => [.. token.Bytes.ToArray().Select(static b => (int)b)];

    private static TokenLogProb LogProb(TokenText token) => new(token.Id, token.Text, Bytes(token), LogProb(token.LogProb));

    internal static string Reason(FinishReason reason) => reason switch
    {
        FinishReason.Length => "length",
        FinishReason.ToolCalls => "tool_calls",
        _ => "stop",
    };

    private static double Ratio(double over, double under) => under > 0 ? over / under : 0;
}
