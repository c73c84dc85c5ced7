using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Extensions;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Rewards;

namespace OpenWeights.Tune.Objectives.Reinforcement;

/// <summary>
/// Samples answers from the policy and has them judged; of several ranks, each samples and judges those to some of the prompts. All randomness is derived from the run's seed and the number of the batch, so that
/// resuming needs no random state.
/// </summary>
internal sealed class SampledAnswers(ObjectiveContext context) : IAnswerSource, IDisposable
{
    // Bounds of the number of texts generated at once, four times a micro-batch: what generation keeps of a token is far less than what training does.
    private const int FewestTexts = 16;
    private const int MostTexts = 256;

    private readonly RewardSet _rewards = RewardSet.Create(context.Settings.Rewards, context.RewardModel);
    private Dictionary<string, double> _metrics = [];

    /// <summary>Number of texts generated at once.</summary>
    /// <param name="microBatch">Answers per micro-batch.</param>
    internal static int TextsAtOnce(int microBatch) => Math.Clamp(4 * microBatch, FewestTexts, MostTexts);

    /// <inheritdoc/>
    public bool Records => true;

    /// <inheritdoc/>
    public int GroupSize(bool isTraining) => isTraining ? context.Sampling!.Generations : context.Settings.NumGenerationsEval ?? context.Sampling!.Generations;

    /// <inheritdoc/>
    public IReadOnlyDictionary<string, double> TakeMetrics()
    {
        var taken = _metrics;
        _metrics = [];
        return taken;
    }

    /// <inheritdoc/>
    public IReadOnlyList<string> TakeWarnings() => _rewards.TakeWarnings();

    /// <inheritdoc/>
    public IReadOnlyList<TokenRow> Answers(CausalLanguageModel model, IReadOnlyList<TokenRow> rows, long batch)
    {
        var started = Stopwatch.GetTimestamp();
        var count = GroupSize(isTraining: batch >= 0);
        var part = context.Ranks.PartOf(rows.Count);
        var first = part.Start.Value;
        IReadOnlyList<(TokenRow Row, int Group)> asked = [.. rows.Take(part).SelectMany((r, i) => Enumerable.Repeat((r, first + i), count))];
        var made = Generate(model, [.. asked.Select(static a => a.Row.Ids)], batch, first * count);
        _metrics["seconds/generation"] = Stopwatch.GetElapsedTime(started).TotalSeconds;
        started = Stopwatch.GetTimestamp();
        JudgedAnswer[] answers = [.. asked.Zip(made, (a, g) => Judged(a.Row, g))];
        var rewards = Judge(answers);
        _metrics["seconds/rewards"] = Stopwatch.GetElapsedTime(started).TotalSeconds;
        IReadOnlyList<TokenRow> own = [.. answers.Select((answer, i) => Row(answer, string.Create(CultureInfo.InvariantCulture, $"{batch}.{asked[i].Group}"), rewards[i], made[i].LogProbs))];
        return RankedAnswers.Join(context.Ranks, own, model.Device);
    }

    /// <inheritdoc/>
    public void Dispose() => _rewards.Dispose();

    // A reward may ask a program or a server.
    private IReadOnlyList<IReadOnlyDictionary<string, double?>> Judge(IReadOnlyList<JudgedAnswer> answers)
    {
        using var outside = context.Ranks.Activity?.Outside();
        return _rewards.Score(answers);
    }

    private List<GenerationResult> Generate(CausalLanguageModel model, IReadOnlyList<int[]> prompts, long batch, int first)
    {
        var settings = context.Settings;
        var (made, start) = (new List<GenerationResult>(), first);
        foreach (var chunk in prompts.Chunk(TextsAtOnce(context.Sampling!.MicroBatch)))
        {
            var options = new GenerationOptions
            {
                MaxNewTokens = settings.MaxCompletionLength,
                MaxPositions = context.Config.Model.MaxPositions,
                Temperature = settings.Temperature ?? 1,
                TopP = settings.TopP,
                TopK = settings.TopK,
                MinP = settings.MinP ?? 0,
                RepetitionPenalty = settings.RepetitionPenalty,
                EndTokens = [.. context.EndTokens, .. settings.StopTokenIds],

                LogProbs = true,

                // Each text has random numbers of its own.
                Seed = (long)RowHash.Mix((ulong)batch, context.Config.Seed),
                FirstText = start,
            };
            made.AddRange(new TextGenerator(model, options).Continue(chunk));
            start += chunk.Length;
        }

        return made;
    }

    private JudgedAnswer Judged(TokenRow row, GenerationResult made)
    {
        var fields = JsonNode.Parse(row.Fields!)!;
        var tokenizer = context.Tokenizer is { HasTokenizer: true } rows ? rows.Tokenizer : null;
        var completion = tokenizer?.Decode(made.OutputIds, skipSpecialTokens: true) ?? string.Join(' ', made.OutputIds);
        return new JudgedAnswer
        {
            Prompt = fields[RowFieldNames.Prompt]?.GetValue<string>() ?? "",
            Answer = tokenizer is not null && context.Tokenizer!.Chat?.Reasoning is { } reasoning
                ? new AnswerReader(reasoning, tokenizer.Decode(row.Ids, skipSpecialTokens: false)).Read(tokenizer, made.OutputIds).Answer : completion,
            Completion = completion,
            Expected = fields[RowFieldNames.Answer]?.GetValue<string>(),
            Row = fields[RowFieldNames.Row]!.AsObject(),
            PromptIds = row.Ids,
            AnswerIds = made.OutputIds,
            IsTruncated = made.FinishReason == "length",
            Place = row.Source,
        };
    }

    private TokenRow Row(JudgedAnswer answer, string group, IReadOnlyDictionary<string, double?> rewards, IReadOnlyList<float> logProbs) => SampledRows.Row(
        [.. answer.PromptIds, .. answer.AnswerIds], answer.AnswerIds.Count, !(answer.IsTruncated && context.Settings.MaskTruncatedCompletions), answer.Place, new AnswerSample
        {
            Group = group,
            Rewards = rewards,
            IsTruncated = answer.IsTruncated,
            Length = answer.AnswerIds.Count,
            PromptText = answer.Prompt,
            AnswerText = answer.Completion,
            Expected = answer.Expected,
            SamplingLogProbs = logProbs,
        });
}
