using OpenWeights.Tune.Data;
using OpenWeights.Tune.Data.Batches;

namespace OpenWeights.Tune.Cli.Output;

/// <summary>Formats the data report.</summary>
internal static class DataText
{
    private const int MaxFiles = 20;
    private const int HistogramRows = 12;
    private const int HistogramWidth = 40;

    internal static IEnumerable<string> Lines(string name, DataReport report, int maxLength)
    {
        foreach (var file in report.Files.Take(MaxFiles))
        {
            yield return $"{name,-9} {ShownPath.Of(file.Path)}: {file.Format}, {Rows(file.Rows)}";
        }

        if (report.Files.Count > MaxFiles)
        {
            yield return $"          ... and {report.Files.Count - MaxFiles} more {(report.Files.Count == MaxFiles + 1 ? "file" : "files")}";
        }

        yield return $"          {Rows(report.Rows)}, {Amount.Count(report.Tokens)} tokens, {Amount.Count(report.TargetTokens)} of them trained, the longest row {report.Longest}";
        foreach (var line in report.Changes(maxLength))
        {
            yield return "          " + line;
        }

        if (report.IsPacked)
        {
            var fewest = report.PackedRows == report.FewestPackedRows ? ": fewer rows are not possible" : "";
            yield return $"          packed into {Rows(report.PackedRows)} of {maxLength}, {Amount.Percent(report.Efficiency)} full{fewest}";
        }

        foreach (var cached in report.Cached)
        {
            yield return $"          token rows {cached}";
        }
    }

    /// <summary>The distribution of row lengths as bars.</summary>
    internal static IEnumerable<string> Histogram(RowList rows)
    {
        var lengths = Enumerable.Range(0, rows.Count).Select(rows.LengthOf).ToList();
        var width = Math.Max(1, (lengths.Max() + HistogramRows) / HistogramRows);
        var counts = new int[(lengths.Max() / width) + 1];
        lengths.ForEach(l => counts[l / width]++);
        yield return $"lengths in tokens, of {Rows(lengths.Count)}:";
        for (var i = 0; i < counts.Length; i++)
        {
            var bar = new string('#', (int)Math.Ceiling(counts[i] * (double)HistogramWidth / counts.Max()));
            yield return $"  {i * width,7} to {((i + 1) * width) - 1,7}  {Amount.Count(counts[i]),9}  {bar}".TrimEnd();
        }
    }

    /// <summary>The longest and the shortest rows.</summary>
    internal static IEnumerable<string> Extremes(RowList rows, int count)
    {
        var order = Enumerable.Range(0, rows.Count).OrderByDescending(rows.LengthOf).ToList();
        string Line(int row) => $"{rows.LengthOf(row),9} tokens  {rows[row].Source}";
        return [$"longest:", .. order.Take(count).Select(Line), "shortest:", .. order.AsEnumerable().Reverse().Take(count).Select(Line)];
    }

    private static string Rows(long count) => $"{Amount.Count(count)} {(count == 1 ? "row" : "rows")}";
}
