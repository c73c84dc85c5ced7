namespace OpenWeights.Tune.Distributed;

/// <summary>SLURM's lists of nodes: node[01-04,07],other3.</summary>
internal static class SlurmNodes
{
    /// <summary>The first node of a list, or null for an empty one.</summary>
    /// <param name="list">SLURM_STEP_NODELIST.</param>
    internal static string? First(string? list)
    {
        var first = (list ?? "").Trim();
        if (first.IndexOfAny([',', '[']) is >= 0 and var at)
        {
            // The first of the ranges in brackets: its digits before a dash.
            first = first[at] == ','
                ? first[..at]
                : first[..at] + new string([.. first[(at + 1)..].TakeWhile(static c => c is not ('-' or ',' or ']'))]) + Rest(first[at..]);
        }

        return first.Length == 0 ? null : first;
    }

    // What follows the brackets, up to the next name: rack[1-2]n3; the first of further ranges.
    private static string Rest(string brackets)
    {
        var after = brackets.IndexOf(']', StringComparison.Ordinal) is >= 0 and var end ? brackets[(end + 1)..] : "";
        return after.Length == 0 || after[0] == ',' ? "" : First(after) ?? "";
    }
}
