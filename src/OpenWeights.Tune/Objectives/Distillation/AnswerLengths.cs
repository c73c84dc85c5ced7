using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Objectives.Distillation;

/// <summary>Metrics of the lengths of answers, by TRL's names.</summary>
internal static class AnswerLengths
{
    /// <summary>The metrics.</summary>
    /// <param name="rows">Rows of one document each.</param>
    /// <param name="endTokens">Tokens that end an answer; those of answers without one at their end are not terminated. Empty for unknown.</param>
    internal static Dictionary<string, double> Of(IReadOnlyList<TokenRow> rows, IReadOnlyList<int> endTokens)
    {
        var metrics = new Dictionary<string, double>();
        Add(metrics, "", [.. rows.Select(static r => r.CountTargets())]);
        if (endTokens.Count > 0)
        {
            int[] ended = [.. rows.Where(r => endTokens.Contains(r.Labels.LastOrDefault(static l => l != TokenRow.Ignored, TokenRow.Ignored))).Select(static r => r.CountTargets())];
            metrics["completions/clipped_ratio"] = 1 - ((double)ended.Length / rows.Count);
            Add(metrics, "terminated_", ended.Length > 0 ? ended : [0]);
        }

        return metrics;
    }

    private static void Add(Dictionary<string, double> metrics, string kind, int[] lengths)
    {
        metrics[$"completions/mean_{kind}length"] = lengths.Average();
        metrics[$"completions/min_{kind}length"] = lengths.Min();
        metrics[$"completions/max_{kind}length"] = lengths.Max();
    }
}
