using System.Globalization;
using System.Net;
using System.Text;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Training.Recording;

/// <summary>What a report shows of answers that were sampled for training.</summary>
internal static class SampledTable
{
    private const int PromptsOfStep = 2;
    private const int AnswersOfPrompt = 3;

    /// <summary>Charts of the rewards, where there are any.</summary>
    internal static IEnumerable<string> Charts(ReportContent content)
    {
        if (content.Series("reward").Count == 0)
        {
            yield break;
        }

        yield return SvgChart.Of("Reward", new("training", content.Series("reward")), new("eval", content.Series("eval_reward"), Dots: true));
        yield return SvgChart.Of("Share of prompts whose answers have equal rewards", new SvgChart.Line("share", content.Series("frac_reward_zero_std")));
        yield return SvgChart.Of("Tokens of an answer", new SvgChart.Line("mean", content.Series("completions/mean_length")));
        yield return SvgChart.Of("Entropy of a token", new SvgChart.Line("entropy", content.Series("entropy")));
        if (content.Series("kl").Count > 0)
        {
            yield return SvgChart.Of("Divergence from the reference", new SvgChart.Line("kl", content.Series("kl")));
        }
    }

    /// <summary>A few answers of the first, a middle and the last step, with their rewards.</summary>
    /// <param name="samples">Lines of samples.jsonl with rewards.</param>
    internal static string Of(IReadOnlyList<JsonObject> samples)
    {
        if (samples.Count == 0)
        {
            return "";
        }

        long[] steps = [.. samples.Select(static s => s["step"]!.GetValue<long>()).Distinct()];
        var table = new StringBuilder("<h2>Sampled answers</h2>\n<div class=\"table\"><table><tr><th>step</th><th>prompt</th><th>expected</th><th>answer</th><th>rewards</th></tr>\n");
        foreach (var step in new[] { steps[0], steps[steps.Length / 2], steps[^1] }.Distinct())
        {
            var groups = samples.Where(s => s["step"]!.GetValue<long>() == step).GroupBy(static s => s["group"]!.ToString()).Take(PromptsOfStep);
            foreach (var sample in groups.SelectMany(static g => g.Take(AnswersOfPrompt)))
            {
                static string Text(JsonNode? node) => WebUtility.HtmlEncode(node?.ToString().Trim() ?? "");
                var rewards = string.Join(", ", sample["rewards"]!.AsObject().Select(static r => string.Create(CultureInfo.InvariantCulture, $"{r.Key} {(r.Value is null ? "not judged" : $"{r.Value.GetValue<double>():0.##}")}")));
                table.Append(CultureInfo.InvariantCulture, $"<tr><td>{step}</td><td>{Text(sample["prompt"])}</td><td>{Text(sample["expected"])}</td><td>{Text(sample["completion"])}</td><td>{WebUtility.HtmlEncode(rewards)}</td></tr>\n");
            }
        }

        return table.Append("</table></div>\n").ToString();
    }
}
