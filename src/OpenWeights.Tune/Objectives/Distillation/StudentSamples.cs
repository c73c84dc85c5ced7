using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Batches;
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
    // Texts generated at once.
    private const int TextsAtOnce = 256;

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
        var asked = batches.SelectMany(static b => b).SelectMany(static r => r.EachDocument()).Where(static d => AnswerStart(d) > 0).ToList();

        // In an order of their own, since the micro-batches decide on that of the rows.
        int[] order = [.. Enumerable.Range(0, asked.Count).OrderBy(i => RowHash.Of(asked[i].Ids, asked[i].Labels))];
        var made = Generate(model, [.. order.Select(i => asked[i])], step);
        var answers = new Queue<IReadOnlyList<int>>(order.Zip(made).OrderBy(static o => o.First).Select(static o => o.Second));
        return [.. batches.Select(b => (IReadOnlyList<TokenRow>)[.. b.Select(r => Answered(r, answers))])];
    }

    /// <summary>The samples since the last call, as lines of samples.jsonl.</summary>
    internal IReadOnlyList<JsonObject> Take()
    {
        var taken = _made;
        _made = [];
        return taken;
    }

    // The first token of the last trained part; 0 if there is none, or nothing before it.
    private static int AnswerStart(TokenRow row)
    {
        var start = Array.FindLastIndex(row.Labels, static l => l != TokenRow.Ignored);
        while (start > 0 && row.Labels[start - 1] != TokenRow.Ignored)
        {
            start--;
        }

        return Math.Max(0, start);
    }

    // A packed row stays one.
    private static TokenRow Answered(TokenRow row, Queue<IReadOnlyList<int>> answers)
    {
        List<TokenRow> documents = [.. row.EachDocument().Select(d => AnswerStart(d) is > 0 and var start ? WithAnswer(d, start, answers.Dequeue()) : d)];
        return documents.Count == 1 ? documents[0] : Packer.Join(documents);
    }

    private static TokenRow WithAnswer(TokenRow row, int start, IReadOnlyList<int> answer) =>
        new([.. row.Ids[..start], .. answer], [.. Enumerable.Repeat(TokenRow.Ignored, start), .. answer], row.Source);

    private List<IReadOnlyList<int>> Generate(CausalLanguageModel model, List<TokenRow> rows, long step)
    {
        var (made, settings) = (new List<IReadOnlyList<int>>(), context.Settings);
        foreach (var chunk in rows.Chunk(TextsAtOnce))
        {
            var options = new GenerationOptions
            {
                MaxNewTokens = settings.MaxCompletionLength,
                MaxPositions = context.Config.Model.MaxPositions,
                Temperature = settings.SamplingTemperature,
                EndTokens = context.EndTokens,

                // Each text has random numbers of its own.
                Seed = (long)RowHash.Mix((ulong)step + 1, context.Config.Seed + 1 + made.Count),
            };
            int[][] prompts = [.. chunk.Select(static r => r.Ids[..AnswerStart(r)])];
            made.AddRange(context.Ranks.Divided(prompts, model.Device, (part, first) => [.. new TextGenerator(model, options with { FirstText = first }).Continue(part).Select(static g => g.OutputIds)]));
        }

        _made.AddRange(rows.Zip(made, Line));
        return made;
    }

    private JsonObject Line(TokenRow row, IReadOnlyList<int> answer)
    {
        var prompt = row.Ids[..AnswerStart(row)];
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
