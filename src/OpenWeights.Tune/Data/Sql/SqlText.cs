namespace OpenWeights.Tune.Data.Sql;

/// <summary>What is said to DuckDB, and what it says.</summary>
internal static class SqlText
{
    private static readonly string[] s_advice = ["\n\n", "\nLINE ", "\nThe search space", "\nPossible ", "\nPossible fixes"];

    /// <summary>A text as SQL writes it.</summary>
    internal static string Quote(string text) => $"'{text.Replace("'", "''", StringComparison.Ordinal)}'";

    /// <summary>A file's path as SQL writes it, none of its characters standing for others.</summary>
    internal static string QuotePath(string path) => Quote(path.Replace("[", "[[]", StringComparison.Ordinal).Replace("*", "[*]", StringComparison.Ordinal).Replace("?", "[?]", StringComparison.Ordinal));

    /// <summary>What is wrong, without the statement, which is in part of our making, and without advice on settings that are not the reader's.</summary>
    internal static string Reason(string message)
    {
        var reason = message[(message.LastIndexOf("\nError: ", StringComparison.Ordinal) is var cause && cause < 0 ? 0 : cause + 8)..];
        foreach (var advice in s_advice)
        {
            reason = reason.Split(advice)[0];
        }

        return reason.ReplaceLineEndings(" ").Trim().TrimEnd('.', '!');
    }
}
