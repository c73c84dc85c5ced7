using System.Globalization;
using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Files;
using OpenWeights.Tune.Data;

namespace OpenWeights.Tune.Training.Recording;

/// <summary>Writes report.html: a self-contained page about a run.</summary>
internal static class RunReport
{
    private const int MaxSamples = 8;

    private const string Style = """
        :root { color-scheme: light dark; --ink: #1d2330; --soft: #667085; --line: #dfe3ea; --card: #fff; --page: #f5f6f8; --a: #2563eb; --b: #d9480f; --c: #c01048; }
        @media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #9aa4b5; --line: #333b49; --card: #1b2029; --page: #12161d; --a: #6ea0ff; --b: #ff9a62; --c: #ff6b94; } }
        * { box-sizing: border-box } body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
        main { max-width: 1200px; margin: 0 auto; padding: 24px } h1 { font-size: 24px; margin: 0 } h2 { font-size: 17px; margin: 28px 0 10px } .soft { color: var(--soft) }
        .tiles, .charts { display: grid; gap: 12px } .tiles { grid-template-columns: repeat(auto-fit, minmax(250px, 1fr)); margin: 18px 0 } .charts { grid-template-columns: repeat(auto-fit, minmax(340px, 1fr)) }
        .tile, figure, details, .table { background: var(--card); border: 1px solid var(--line); border-radius: 8px } .tile { padding: 10px 14px } .tile b { display: block; font-size: 18px; font-weight: 600; white-space: nowrap } .tile span { color: var(--soft); font-size: 13px }
        figure { margin: 0; padding: 10px 12px } figcaption { font-weight: 600; font-size: 14px } svg { width: 100%; display: block } svg text { font-size: 11px; fill: var(--soft) } .grid { stroke: var(--line); stroke-width: 1 }
        polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round } .l0 { stroke: var(--a) } .l1 { stroke: var(--b) } .l2 { stroke: none } .d0 { fill: var(--a) } .d1 { fill: var(--b) } .d2 { fill: var(--c) }
        .legend { margin: 4px 0 0; font-size: 12px } .legend span { margin-right: 14px } .k0 { color: var(--a) } .k1 { color: var(--b) } .k2 { color: var(--c) }
        .table { overflow-x: auto } table { border-collapse: collapse; width: 100% } th, td { text-align: left; vertical-align: top; padding: 7px 12px; border-bottom: 1px solid var(--line); overflow-wrap: break-word; min-width: 130px } th { font-weight: 600; color: var(--soft); font-size: 13px } tr:last-child td { border-bottom: 0 } td { white-space: pre-wrap }
        details { padding: 10px 14px; margin: 10px 0 } summary { cursor: pointer; font-weight: 600 } pre { overflow-x: auto; font-size: 13px; margin: 10px 0 0 } .same { color: #12805c; font-weight: 600 }
        """;

    /// <summary>Writes the page.</summary>
    internal static void Write(string path, ReportContent content) => AtomicFile.WriteText(path, Page(content));

    private static string Page(ReportContent content)
    {
        var plan = content.Plan;
        var name = Path.GetFileName(Path.TrimEndingDirectorySeparator(plan.Config.OutputDir));
        var page = new StringBuilder();
        page.Append("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        page.Append(CultureInfo.InvariantCulture, $"<title>{Html(name)}</title>\n<style>\n{Style}\n</style>\n</head>\n<body>\n<main>\n<h1>{Html(name)}</h1>\n");
        page.Append(CultureInfo.InvariantCulture, $"<div class=\"soft\">{Html(content.State)} · {Html(Path.GetFileName(Path.TrimEndingDirectorySeparator(plan.Config.Model.Path)))} ({Html(plan.ModelType)}, {plan.BaseParameters:N0} parameters) · {(plan.Config.Adapter is { } adapter ? $"{Html(adapter.Type)} of rank {adapter.Rank}, " : "all weights, ")}{plan.TrainedParameters:N0} trained · {Html(plan.DType)} on {Html(plan.Device)}</div>\n");
        page.Append("<div class=\"tiles\">").AppendJoin("", Tiles(content)).Append("</div>\n<div class=\"charts\">").AppendJoin("\n", Charts(content)).Append("</div>\n");
        page.Append(Samples([.. content.Samples.Where(static s => s["given"] is not null)]));
        page.Append(SampledTable.Of([.. content.Samples.Where(static s => s["rewards"] is not null)]));
        page.Append("<h2>Data</h2>\n").Append(Data("train", plan.Train, plan.Config.Data.MaxLength)).Append(plan.Eval is null ? "" : Data("eval", plan.Eval, plan.Config.Data.MaxLength));
        page.Append("<h2>What made the run</h2>\n").Append(Folded("Config", content.Config)).Append(Folded("Environment", content.Manifest));
        return page.Append("</main>\n</body>\n</html>\n").ToString();
    }

    private static IEnumerable<string> Tiles(ReportContent content)
    {
        static string Tile(string value, string name) => $"<div class=\"tile\"><b>{Html(value)}</b><span>{Html(name)}</span></div>";
        var (losses, evals) = (content.Series("loss"), content.Series("eval_loss"));
        if (losses.Count == 0)
        {
            yield break;
        }

        var steps = content.Series("seconds");
        yield return Tile(string.Create(CultureInfo.InvariantCulture, $"{losses[^1].Step:N0} of {content.Plan.TotalSteps:N0}"), "steps");
        yield return Tile($"{SvgChart.Label(losses[0].Value)} → {SvgChart.Label(losses[^1].Value)}", "loss");
        if (content.Series("reward") is { Count: > 0 } rewards)
        {
            yield return Tile($"{SvgChart.Label(rewards[0].Value)} → {SvgChart.Label(rewards[^1].Value)}", "reward");
        }

        if (evals.Count > 0)
        {
            yield return Tile($"{SvgChart.Label(evals[^1].Value)}", "eval loss");
        }

        var scores = content.Metrics.Where(static l => l["when"]?.GetValue<string>() is "before training" or "after training").ToList();
        foreach (var (key, name, scale, unit) in new[] { ("eval_exact_match", "answers exactly right", 100.0, " %"), ("eval_chrf", "chrF of answers", 1.0, "") })
        {
            if (scores.Count > 0)
            {
                yield return Tile(string.Join(" → ", scores.Select(s => (s[key]!.GetValue<double>() * scale).ToString("0.#", CultureInfo.InvariantCulture) + unit)), name);
            }
        }

        yield return Tile(SvgChart.Label(content.Series("tokens_per_second").Select(static p => p.Value).Order().ElementAt(steps.Count / 2)), "tokens a second (median)");
        yield return Tile(TimeSpan.FromSeconds(Math.Round(steps.Sum(static s => s.Value))).ToString("c", CultureInfo.InvariantCulture), "in steps");
        if (content.Series("communication_seconds") is { Count: > 0 } waited)
        {
            yield return Tile(content.Plan.Ranks.ToString(CultureInfo.InvariantCulture), "ranks");
            yield return Tile((100 * waited.Sum(static s => s.Value) / steps.Sum(static s => s.Value)).ToString("0.#", CultureInfo.InvariantCulture) + " %", "of the time communication that nothing hides");
        }

        yield return Tile(SvgChart.Label(content.Series("peak_memory_bytes")[^1].Value) + "B", "most memory");
        var skipped = content.Metrics.Count(static l => l["skipped"]?.GetValue<bool>() == true);
        if (skipped > 0)
        {
            yield return Tile(skipped.ToString(CultureInfo.InvariantCulture), "steps skipped (not finite)");
        }
    }

    private static IEnumerable<string> Charts(ReportContent content)
    {
        IReadOnlyList<(double, double)> spikes = [.. content.Metrics.Where(static l => l["spike"]?.GetValue<bool>() == true).Select(static l => ((double)l["step"]!.GetValue<long>(), l["loss"]!.GetValue<double>()))];
        yield return SvgChart.Of("Loss", new("training", content.Series("loss")), new("eval", content.Series("eval_loss"), Dots: true), new("spikes", spikes, Dots: true));
        foreach (var chart in ObjectiveCharts.Of(content).Concat(SampledTable.Charts(content)))
        {
            yield return chart;
        }

        yield return SvgChart.Of("Eval token accuracy", new SvgChart.Line("accuracy", content.Series("eval_token_accuracy"), Dots: true));
        yield return SvgChart.Of("Learning rate", new SvgChart.Line("rate", content.Series("learning_rate")));
        yield return SvgChart.Of("Gradient norm before clipping", new SvgChart.Line("norm", content.Series("grad_norm")));
        yield return SvgChart.Of("Tokens a second", new SvgChart.Line("tokens", content.Series("tokens_per_second")));
        if (content.Series("communication_seconds") is { Count: > 0 } waited)
        {
            var all = content.Series("seconds").ToDictionary();
            yield return SvgChart.Of("Time of a step, seconds", new("computing", [.. waited.Where(w => all.ContainsKey(w.Step)).Select(w => (w.Step, all[w.Step] - w.Value))]), new("communication", waited));
        }

        yield return SvgChart.Of("Most memory of the process, bytes", new SvgChart.Line("memory", content.Series("peak_memory_bytes")));
    }

    // A row per prompt, a column per round of answers (the first, at most two in between, the last).
    private static string Samples(IReadOnlyList<JsonObject> samples)
    {
        static string Text(JsonObject sample, string key) => sample[key]?.GetValue<string>() ?? "";
        var prompts = samples.GroupBy(static s => (Prompt: Text(s, "prompt"), Expected: Text(s, "expected"))).OrderByDescending(static g => g.Count()).Take(MaxSamples).ToList();
        if (prompts.Count == 0)
        {
            return "";
        }

        var times = samples.Select(static s => Text(s, "when")).Distinct().ToList();
        List<string> shown = times.Count <= 4 ? times : [times[0], times[times.Count / 3], times[2 * times.Count / 3], times[^1]];
        var table = new StringBuilder($"<h2>Answers to {(Text(samples[0], "rows") == "train" ? "rows that were trained on" : "eval rows")}</h2>\n<div class=\"table\"><table><tr><th>prompt</th><th>expected</th>");
        shown.ForEach(when => table.Append(CultureInfo.InvariantCulture, $"<th>{Html(when)}</th>"));
        table.Append("</tr>\n");
        foreach (var prompt in prompts)
        {
            table.Append(CultureInfo.InvariantCulture, $"<tr><td>{Html(prompt.Key.Prompt.Trim())}</td><td>{Html(prompt.Key.Expected.Trim())}</td>");
            foreach (var given in shown.Select(w => prompt.FirstOrDefault(s => Text(s, "when") == w)))
            {
                var text = given is null ? "" : Text(given, "given").Trim();
                table.Append(CultureInfo.InvariantCulture, $"<td{(given is not null && text == prompt.Key.Expected.Trim() ? " class=\"same\"" : "")}>{Html(text)}</td>");
            }

            table.Append("</tr>\n");
        }

        return table.Append("</table></div>\n").ToString();
    }

    private static string Data(string name, DataReport report, int maxLength)
    {
        var changes = string.Concat(report.Changes(maxLength).Select(static c => $"; {c}"));
        return string.Create(CultureInfo.InvariantCulture, $"<div>{Html(name)}: {report.Rows:N0} rows, {report.Tokens:N0} tokens, {report.TargetTokens:N0} of them trained, the longest row {report.Longest:N0}{Html(changes)}. <span class=\"soft\">{Html(string.Join("; ", report.Files.Select(static f => $"{Path.GetFileName(f.Path)}: {f.Format}")))}</span></div>\n");
    }

    private static string Folded(string name, string text) => $"<details><summary>{Html(name)}</summary><pre>{Html(text)}</pre></details>\n";

    private static string Html(string text) => WebUtility.HtmlEncode(text);
}

/// <summary>Contents of a report.</summary>
/// <param name="Plan">The plan of the run.</param>
/// <param name="State">State of the run, such as "finished".</param>
/// <param name="Metrics">The lines of metrics.jsonl.</param>
/// <param name="Samples">The lines of samples.jsonl.</param>
/// <param name="Config">The text of config.yaml.</param>
/// <param name="Manifest">The text of manifest.json.</param>
internal sealed record ReportContent(RunPlan Plan, string State, IReadOnlyList<JsonObject> Metrics, IReadOnlyList<JsonObject> Samples, string Config, string Manifest)
{
    /// <summary>The values of a key by step, for lines that have it.</summary>
    /// <param name="key">A key of metrics.jsonl.</param>
    public IReadOnlyList<(double Step, double Value)> Series(string key) =>
    [
        .. from line in Metrics
           where line[key] is JsonValue
           select ((double)line["step"]!.GetValue<long>(), line[key]!.GetValue<double>()),
    ];
}
