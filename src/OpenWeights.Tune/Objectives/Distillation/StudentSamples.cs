using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Objectives.Distillation;

/// <summary>
/// Answers that the student samples to the prompts of a step's rows, for on-policy distillation. All randomness is derived from the run's seed and
/// the step, so that resuming needs no random state; answers do not depend on the micro-batches.
/// </summary>
/// <param name="context">The run.</param>
internal sealed class StudentSamples(ObjectiveContext context)
{
    /// <summary>Texts generated at once.</summary>
    internal const int TextsAtOnce = 256;

    // 2 to the power of -53, to convert 53 random bits to a number below 1.
    private const double Unit = 1.0 / (1L << 53);

    private List<JsonObject> _made = [];

    /// <summary>Whether a step trains on samples.</summary>
    /// <param name="step">The step, from 0.</param>
    internal bool Has(long step) => (RowHash.Mix((ulong)step, context.Config.Seed) >> 11) * Unit < context.Settings.Lmbda;

    /// <summary>The micro-batches of a step with the student's answers in the place of the rows' last ones. Rows without a prompt stay as they are.</summary>
    /// <param name="model">The student.</param>
    /// <param name="batches">The micro-batches.</param>
    /// <param name="step">The step, from 0.</param>
    internal IReadOnlyList<IReadOnlyList<TokenRow>> Of(CausalLanguageModel model, IReadOnlyList<IReadOnlyList<TokenRow>> batches, long step)
    {
        var asked = batches.SelectMany(static b => b).SelectMany(static r => r.EachDocument()).Where(static d => AnsweredRows.AnswerStart(d) > 0).ToList();

        // In an order of their own, since the micro-batches decide on that of the rows.
        int[] order = [.. Enumerable.Range(0, asked.Count).OrderBy(i => RowHash.Of(asked[i].Ids, asked[i].Labels))];
        var made = Generate(model, [.. order.Select(i => asked[i])], step);
        var answers = new Queue<IReadOnlyList<int>>(order.Zip(made).OrderBy(static o => o.First).Select(static o => o.Second));
        return [.. batches.Select(b => (IReadOnlyList<TokenRow>)[.. b.Select(r => AnsweredRows.With(r, _ => answers.Dequeue()))])];
    }

    /// <summary>The samples since the last call, as lines of samples.jsonl.</summary>
    internal IReadOnlyList<JsonObject> Take()
    {
        var taken = _made;
        _made = [];
        return taken;
    }

    /// <summary>How answers are sampled, without the random numbers.</summary>
    /// <param name="context">The run.</param>
    internal static GenerationOptions Options(ObjectiveContext context) => new()
    {
        MaxNewTokens = context.Settings.MaxCompletionLength,
        MaxPositions = context.Config.Model.MaxPositions,
        Temperature = context.Settings.SamplingTemperature,
        EndTokens = context.EndTokens,
    };

    private List<IReadOnlyList<int>> Generate(CausalLanguageModel model, List<TokenRow> rows, long step)
    {
        var made = new List<IReadOnlyList<int>>();
        foreach (var chunk in rows.Chunk(TextsAtOnce))
        {
            // Each text has random numbers of its own.
            var options = Options(context) with { Seed = (long)RowHash.Mix((ulong)step + 1, context.Config.Seed + 1 + made.Count) };
            int[][] prompts = [.. chunk.Select(AnsweredRows.Prompt)];
            made.AddRange(context.Ranks.Divided(prompts, model, (part, first) => [.. new TextGenerator(model, options with { FirstText = first }).Continue(part).Select(static g => g.OutputIds)]));
        }

        _made.AddRange(rows.Zip(made, Line));
        return made;
    }

    private JsonObject Line(TokenRow row, IReadOnlyList<int> answer)
    {
        var prompt = AnsweredRows.Prompt(row);
        var line = new JsonObject { ["prompt_ids"] = Ids(prompt), ["completion_ids"] = Ids(answer) };
        if (context.Tokenizer is { HasTokenizer: true } rows)
        {
            line["prompt"] = rows.Tokenizer.Decode(prompt, skipSpecialTokens: true);
            line["completion"] = rows.Tokenizer.Decode(answer, skipSpecialTokens: true);
        }

        return line;
    }

    private static JsonArray Ids(IEnumerable<int> ids) => [.. ids.Select(static i => JsonValue.Create(i))];
}
