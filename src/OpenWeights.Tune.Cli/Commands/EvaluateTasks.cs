using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Evaluation.Tasks;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>Evaluates a model on tasks.</summary>
internal sealed class EvaluateTasks(ModelSession session, int batchSize, bool wantsBase, string? samples)
{
    internal int Run(IReadOnlyList<TaskSection> tasks, bool json)
    {
        var endTokens = EndTokens.Of(session.Loaded.Folder, session.Tokenizer);

        // All questions are read before the first is asked.
        var runners = tasks.Select(t => new TaskRunner(t, session.Tokenizer, endTokens)).ToList();
        using var writer = samples is null ? null : new StreamWriter(samples);
        var results = new List<object>();
        foreach (var runner in runners)
        {
            var (own, result) = session.BesideBase(wantsBase, () => runner.Run(session.Model, batchSize, Signals.Stop));
            var metrics = result.Metrics.Select(m => new MetricResult(m, result.Of(m), own?.Of(m), own is null ? null : result.Difference(m, own))).ToList();
            if (result.Answers.Count(static a => a.IsCut) is > 0 and var cut)
            {
                ModelSession.Warn($"{result.Name}: {cut} of {result.Answers.Count} questions are longer than the model's context, and were cut at their start.");
            }

            if (json)
            {
                results.Add(new { task = result.Name, type = result.Type, questions = result.Answers.Count, metrics = MetricResult.Json(metrics) });
            }
            else
            {
                Console.Out.WriteLine($"{result.Name} ({result.Type}, {Amount.Count(result.Answers.Count)} question{(result.Answers.Count == 1 ? "" : "s")})");
                EstimateTable.Write(Console.Out, metrics);
            }

            for (var i = 0; i < result.Answers.Count && writer is not null; i++)
            {
                writer.WriteLine(JsonLines.Of(Sample(result, own, i)));
            }
        }

        if (json)
        {
            JsonLines.Write(new { tasks = results });
        }

        return ExitCode.Success;
    }

    private static Dictionary<string, object?> Sample(TaskResult result, TaskResult? own, int i)
    {
        var answer = result.Answers[i];
        var sample = new Dictionary<string, object?> { ["task"] = result.Name, ["prompt"] = answer.Prompt, ["expected"] = answer.Expected, ["given"] = answer.Given, ["scores"] = answer.Scores };
        if (answer.LogLikelihoods is not null)
        {
            sample["loglikelihoods"] = answer.LogLikelihoods;
        }

        if (own is not null)
        {
            sample["base_given"] = own.Answers[i].Given;
            sample["base_scores"] = own.Answers[i].Scores;
        }

        return sample;
    }
}
