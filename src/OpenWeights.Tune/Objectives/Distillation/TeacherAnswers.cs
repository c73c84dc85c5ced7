using System.Globalization;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives.Stored;

namespace OpenWeights.Tune.Objectives.Distillation;

/// <summary>
/// Answers that the teacher sampled to the prompts of the rows before training (sequence-level distillation; Kim and Rush, 2016). Each row has one, which depends on
/// the seed and the rows alone.
/// </summary>
/// <param name="store">The answers.</param>
/// <param name="temporary">A file to delete at the end; null for none.</param>
internal sealed class TeacherAnswers(AnswerStore store, string? temporary = null) : IDisposable
{
    /// <summary>A row with the teacher's answers in the place of its last ones.</summary>
    /// <param name="row">The row, packed or not.</param>
    internal TokenRow Of(TokenRow row) => AnsweredRows.With(row, d => store.Find(RowHash.Of(d.Ids, d.Labels)) ?? throw new InvalidOperationException($"{d.Source} has no answer of the teacher's"));

    /// <summary>The settings that answers depend on, as a text.</summary>
    /// <param name="context">The run.</param>
    internal static string Settings(ObjectiveContext context)
    {
        var options = StudentSamples.Options(context);
        return string.Create(CultureInfo.InvariantCulture, $"{options.MaxNewTokens} {options.MaxPositions} {options.Temperature} {string.Join(',', options.EndTokens)} {context.Config.Seed}");
    }

    /// <summary>Samples the answers.</summary>
    /// <param name="context">The run.</param>
    /// <param name="model">The teacher.</param>
    /// <param name="rows">Rows of one document each; equal ones have one answer.</param>
    /// <param name="told">Told the number of rows that are answered.</param>
    internal static IReadOnlyList<(ulong Row, IReadOnlyList<int> Tokens)> Sample(ObjectiveContext context, CausalLanguageModel model, IReadOnlyList<TokenRow> rows, Action<int>? told = null)
    {
        // Rows of similar length are answered together.
        var asked = Hashes(rows).Select(static r => (r.Hash, Prompt: AnsweredRows.Prompt(r.Row))).OrderBy(static r => r.Prompt.Length).ThenBy(static r => r.Hash).ToList();
        var made = new List<(ulong Row, IReadOnlyList<int> Tokens)>();
        foreach (var chunk in asked.Chunk(StudentSamples.TextsAtOnce))
        {
            var options = StudentSamples.Options(context) with { Seed = context.Config.Seed, FirstText = made.Count };
            made.AddRange(chunk.Zip(new TextGenerator(model, options).Continue([.. chunk.Select(static r => r.Prompt)]), static (r, g) => (r.Hash, g.OutputIds)));
            told?.Invoke(made.Count);
        }

        return made;
    }

    /// <summary>The rows that can be answered, each once.</summary>
    /// <param name="rows">Rows of one document each.</param>
    internal static IEnumerable<(ulong Hash, TokenRow Row)> Hashes(IReadOnlyList<TokenRow> rows) =>
        rows.Where(static r => AnsweredRows.AnswerStart(r) > 0).Select(static r => (RowHash.Of(r.Ids, r.Labels), r)).DistinctBy(static r => r.Item1);

    /// <inheritdoc/>
    public void Dispose()
    {
        store.Dispose();
        if (temporary is not null)
        {
            File.Delete(temporary);
        }
    }
}
