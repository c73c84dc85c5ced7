using System.Text.RegularExpressions;

namespace OpenWeights.Tune.Configuration;

/// <summary>
/// Patterns of parameter names: a plain text is a piece of the name, in which a number is not cut (layers.1 is not in layers.10); anything else
/// is a regular expression that is found in the name.
/// </summary>
internal static class NamePattern
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(1);

    /// <summary>Whether a name has the pattern.</summary>
    internal static bool Matches(string pattern, string name) => IsPlain(pattern) ? HasPiece(name, pattern) : Regex.IsMatch(name, pattern, RegexOptions.CultureInvariant, s_limit);

    /// <summary>What is wrong with a pattern; null if nothing is.</summary>
    internal static string? Problem(string pattern)
    {
        if (pattern.Length == 0)
        {
            return "a pattern is empty, which every name would have; write a piece of the parameters' names.";
        }

        try
        {
            _ = IsPlain(pattern) ? null : new Regex(pattern, RegexOptions.CultureInvariant, s_limit);
            return null;
        }
        catch (ArgumentException e)
        {
            return $"'{pattern}' is neither a piece of a name nor a regular expression: {e.Message.TrimEnd('.')}.";
        }
    }

    private static bool IsPlain(string pattern) => pattern.All(static c => char.IsAsciiLetterOrDigit(c) || c is '_' or '.' or '-');

    private static bool HasPiece(string name, string piece)
    {
        for (var at = name.IndexOf(piece, StringComparison.Ordinal); at >= 0; at = name.IndexOf(piece, at + 1, StringComparison.Ordinal))
        {
            if (!Cuts(name, at) && !Cuts(name, at + piece.Length))
            {
                return true;
            }
        }

        return false;
    }

    // Whether a number is on both sides of a place.
    private static bool Cuts(string name, int at) => at > 0 && at < name.Length && char.IsAsciiDigit(name[at - 1]) && char.IsAsciiDigit(name[at]);
}
