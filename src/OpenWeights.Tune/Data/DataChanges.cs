using System.Globalization;

namespace OpenWeights.Tune.Data;

/// <summary>Describes which rows were dropped or changed; used by the plan, the log and the report.</summary>
internal static class DataChanges
{
    /// <summary>One line per kind of change; none if all rows are unchanged.</summary>
    /// <param name="report">The data report.</param>
    /// <param name="maxLength">data.max_length, for a report that does not contain the limit of its rows.</param>
    public static IEnumerable<string> Changes(this DataReport report, int maxLength)
    {
        ArgumentNullException.ThrowIfNull(report);
        maxLength = report.RowLimit > 0 ? report.RowLimit : maxLength;
        if (report.BadRows > 0)
        {
            yield return $"{Rows(report.BadRows)} skipped because {They(report.BadRows)} could not be read, for example {report.BadExamples[0]}";
        }

        if (report.Dropped > 0)
        {
            yield return $"{Rows(report.Dropped)} dropped because {They(report.Dropped)} {(report.Dropped == 1 ? "was" : "were")} longer than {maxLength} tokens";
        }

        if (report.Truncated > 0)
        {
            yield return $"{Rows(report.Truncated)} cut to {maxLength} tokens or to a whole turn, {Count(report.TruncatedTokens, "token")} lost";
        }

        if (report.Split > 0)
        {
            yield return $"{Rows(report.Split)} longer than {maxLength} tokens split into several";
        }

        if (report.Untrained > 0)
        {
            yield return $"{Rows(report.Untrained)} dropped because nothing in {(report.Untrained == 1 ? "it" : "them")} is trained";
        }

        if (report.Duplicates > 0)
        {
            yield return $"{Rows(report.Duplicates)} the same as one before";
        }

        if (report.Leaked > 0)
        {
            yield return $"{Rows(report.Leaked)} also among the rows to train on";
        }

        if (report.Used != report.Rows)
        {
            yield return $"{Rows(report.Used)} in an epoch";
        }
    }

    private static string Rows(long count) => Count(count, "row");

    private static string Count(long count, string what) => string.Create(CultureInfo.InvariantCulture, $"{count:N0} {what}{(count == 1 ? "" : "s")}");

    private static string They(long count) => count == 1 ? "it" : "they";
}
