using OpenWeights.Tokenizers;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Evaluation;

/// <summary>Generates answers to prompts in batches, up to stop sequences.</summary>
/// <param name="model">The model, with its adapter.</param>
/// <param name="tokenizer">Decodes the answers.</param>
/// <param name="reasoning">How the chat template writes reasoning; null for prompts without a template.</param>
/// <param name="options">Settings of the generation.</param>
/// <param name="stops">Texts that end an answer.</param>
internal sealed class TextAnswers(CausalLanguageModel model, ITokenizer tokenizer, ReasoningFormat? reasoning, GenerationOptions options, IReadOnlyList<string> stops)
{
    /// <summary>Generates answers, prompts of similar length in one batch to reduce padding.</summary>
    /// <param name="prompts">Token ids of the prompts.</param>
    /// <param name="batchSize">Batch size, in prompts.</param>
    /// <param name="stop">Cancels between tokens.</param>
    internal TextAnswer[] ByLength(IReadOnlyList<int[]> prompts, int batchSize, CancellationToken stop)
    {
        var answers = new TextAnswer[prompts.Count];
        foreach (var chunk in Enumerable.Range(0, prompts.Count).OrderBy(i => prompts[i].Length).Chunk(batchSize))
        {
            foreach (var (i, answer) in chunk.Zip(Batch([.. chunk.Select(i => prompts[i])], 0, stop)))
            {
                answers[i] = answer;
            }
        }

        return answers;
    }

    /// <summary>Generates the answers of a batch.</summary>
    /// <param name="prompts">Token ids of the prompts.</param>
    /// <param name="first">Number of the first prompt, on which random numbers depend.</param>
    /// <param name="stop">Cancels between tokens.</param>
    internal IReadOnlyList<TextAnswer> Batch(IReadOnlyList<int[]> prompts, int first, CancellationToken stop)
    {
        var texts = prompts.Select(static _ => new List<int>()).ToArray();
        var generator = new TextGenerator(model, options with { FirstText = first });
        var generated = generator.Continue(prompts, (i, token) => GoesOn(texts[i], token), stop: stop);
        return [.. generated.Select((g, i) => Answer(prompts[i], g))];
    }

    private bool GoesOn(List<int> text, int token)
    {
        text.Add(token);
        return reasoning is not null || stops.Count == 0 || !stops.Any(tokenizer.Decode(text, skipSpecialTokens: true).Contains);
    }

    private TextAnswer Answer(int[] prompt, GenerationResult generated)
    {
        var (thoughts, text) = reasoning is null
            ? ("", tokenizer.Decode(generated.OutputIds, skipSpecialTokens: true))
            : new AnswerReader(reasoning, tokenizer.Decode(prompt, skipSpecialTokens: false)).Read(tokenizer, generated.OutputIds);
        var at = stops.Select(s => text.IndexOf(s, StringComparison.Ordinal)).Where(static i => i >= 0).DefaultIfEmpty(-1).Min();
        return new TextAnswer(at < 0 ? text : text[..at], thoughts.Trim() is { Length: > 0 } found ? found : null, at < 0 ? generated.FinishReason : "stop", generated.OutputIds.Count);
    }
}

/// <summary>A generated answer.</summary>
/// <param name="Text">The answer.</param>
/// <param name="Reasoning">What was reasoned before it; null if nothing.</param>
/// <param name="FinishReason">stop or length.</param>
/// <param name="Tokens">Number of generated tokens.</param>
internal sealed record TextAnswer(string Text, string? Reasoning, string FinishReason, int Tokens);
