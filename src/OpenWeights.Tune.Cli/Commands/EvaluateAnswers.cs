using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Evaluation;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>Evaluates a model by the answers that it generates to rows.</summary>
internal sealed class EvaluateAnswers(ModelSession session, IReadOnlyList<AnswerMetric> metrics, bool stems, bool wantsBase, string? samples)
{
    internal int Run(DataSource source, int maxNewTokens, bool json)
    {
        var room = ContextLimit.Of(session.Model.Config).Tokens;
        var questions = EvaluationGenerations.Read(
            [source], new RowTokenizer(session.Loaded.Folder.FolderPath, "assistant", session.ChatTemplate), int.MaxValue, EndTokens.Of(session.Loaded.Folder, session.Tokenizer), room - 1);
        if (questions.Count == 0)
        {
            throw new InvalidDataException($"{source.Path}: no row has a prompt that fits the model's context of {room} tokens.");
        }

        var (own, answers) = session.BesideBase(wantsBase, () => questions.Generate(session.Model, maxNewTokens, Signals.Stop));
        var results = metrics.Select(m => new MetricResult(m.Name, m.Of(answers, stems), own is null ? null : m.Of(own, stems), own is null ? null : m.Difference(answers, own, stems))).ToList();
        if (samples is not null)
        {
            File.WriteAllLines(samples, Samples(answers, own));
        }

        if (json)
        {
            JsonLines.Write(new { answers = answers.Count, metrics = MetricResult.Json(results) });
            return ExitCode.Success;
        }

        Console.Out.WriteLine($"{Amount.Count(answers.Count)} answer{(answers.Count == 1 ? "" : "s")}");
        EstimateTable.Write(Console.Out, results);
        return ExitCode.Success;
    }

    private IEnumerable<string> Samples(IReadOnlyList<Answer> answers, IReadOnlyList<Answer>? own)
    {
        var each = metrics.Where(static m => m.IsOfEach).Select(m => (m.Name, Values: m.Each(answers, stems)!, Own: own is null ? null : m.Each(own, stems))).ToList();
        for (var i = 0; i < answers.Count; i++)
        {
            var sample = new Dictionary<string, object?>
            {
                ["prompt"] = answers[i].Prompt,
                ["expected"] = answers[i].Expected,
                ["given"] = answers[i].Given,
                ["scores"] = each.ToDictionary(static m => m.Name, m => m.Values[i]),
            };
            if (own is not null)
            {
                sample["base_given"] = own[i].Given;
                sample["base_scores"] = each.ToDictionary(static m => m.Name, m => m.Own![i]);
            }

            yield return JsonLines.Of(sample);
        }
    }
}
