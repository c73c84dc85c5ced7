using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Export;

/// <summary>What a run's folder says for a model card: its settings, its data sets of the Hub, and its figures.</summary>
/// <param name="Folder">The run's folder.</param>
/// <param name="Config">Its config.yaml.</param>
internal sealed record RunFigures(string Folder, string Config)
{
    private static readonly (string Key, string Name)[] s_scores = [("eval_exact_match", "exact match"), ("eval_chrf", "chrF"), ("eval_bleu", "BLEU")];

    /// <summary>The run whose result a folder is; null for another folder.</summary>
    /// <param name="result">The folder of an adapter or a model.</param>
    internal static RunFigures? Of(string result)
    {
        var run = Path.GetDirectoryName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(result)))!;
        return File.Exists(Path.Combine(run, "manifest.json")) && Path.Combine(run, "config.yaml") is var config && File.Exists(config) ? new RunFigures(run, File.ReadAllText(config)) : null;
    }

    /// <summary>The base model's name or path, as the run's config has it.</summary>
    internal string Base => Read().Model.Path;

    /// <summary>Names of the training data on the Hub.</summary>
    internal IReadOnlyList<string> DataSets => [.. Read().Data.Train.Where(static s => HubDataPath.Is(s.Path)).Select(static s => HubDataPath.Split(s.Path).Name).Distinct()];

    /// <summary>The figures as a table of Markdown; empty if the run has none.</summary>
    internal string Table()
    {
        var lines = Lines();
        var table = new StringBuilder();
        void Row(string what, string value) => _ = table.Append(CultureInfo.InvariantCulture, $"| {what} | {value} |\n");
        if (lines.LastOrDefault(static l => l["loss"] is JsonValue) is { } last)
        {
            Row("steps", last["step"]!.ToJsonString());
            Row("training loss of the last step", Number(last["loss"]!));
        }

        if (lines.Where(static l => l["eval_loss"] is JsonValue).ToList() is { Count: > 0 } evaluations)
        {
            var best = evaluations.MinBy(static l => l["eval_loss"]!.GetValue<double>())!;
            Row("eval loss, lowest", $"{Number(best["eval_loss"]!)} (step {best["step"]})");
            Row("eval loss, last", Number(evaluations[^1]["eval_loss"]!));
        }

        var (before, after) = (lines.Find(static l => l["when"]?.ToString() == "before training"), lines.FindLast(static l => l["when"]?.ToString() == "after training"));
        foreach (var (key, name) in s_scores)
        {
            if (after?[key] is { } score)
            {
                Row($"{name} of {after["eval_answers"]} answers", $"{(before?[key] is { } first ? $"{Number(first)} before, " : "")}{Number(score)} after");
            }
        }

        return table.Length == 0 ? "" : $"| | |\n| --- | --- |\n{table}";
    }

    private RunConfig Read() => RunConfigFile.Parse(Path.Combine(Folder, "config.yaml"), Config, []).Written;

    private List<JsonObject> Lines()
    {
        var path = Path.Combine(Folder, "metrics.jsonl");
        try
        {
            return File.Exists(path) ? [.. File.ReadLines(path).Select(static l => JsonNode.Parse(l)).OfType<JsonObject>()] : [];
        }
        catch (JsonException)
        {
            return [];
        }
    }

    private static string Number(JsonNode value) => value.GetValue<double>().ToString("0.####", CultureInfo.InvariantCulture);
}
