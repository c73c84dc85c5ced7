using System.Text.RegularExpressions;

namespace OpenWeights.Tune.Evaluation.Tasks;

/// <summary>Judges generated answers of tasks, as EleutherAI's harness does.</summary>
internal static partial class AnswerJudge
{
    private const string NoNumber = "[invalid]";

    /// <summary>Whether the number after "#### " of a text is the reference's (the harness's strict-match of gsm8k).</summary>
    internal static bool IsMarkedNumber(string given, string expected) => Plain(Marked().Match(given) is { Success: true } match ? match.Groups[1].Value : NoNumber) == Plain(expected);

    /// <summary>Whether the last number of a text is the reference's (the harness's flexible-extract of gsm8k).</summary>
    internal static bool IsLastNumber(string given, string expected) => Plain(Any().Matches(given) is { Count: > 0 } matches ? matches[^1].Value : NoNumber) == Plain(expected);

    /// <summary>Whether a text is the reference, ignoring white space around it.</summary>
    internal static bool IsSame(string given, string expected, TaskSection task) => Comparable(given, task) == Comparable(expected, task);

    /// <summary>Whether a reference is one of GSM8K's, whose number follows "#### ".</summary>
    internal static bool IsMarked(string expected) => Marked().IsMatch(expected);

    // The harness leaves commas, dollars, all up to "#### " and a point at the end out of both sides, and compares without regard to case.
    private static string Plain(string text)
    {
        text = text[(text.LastIndexOf("#### ", StringComparison.Ordinal) is >= 0 and var mark ? mark + 5 : 0)..].Replace(",", "", StringComparison.Ordinal).Replace("$", "", StringComparison.Ordinal);
        return (text.EndsWith('.') ? text[..^1] : text).Trim().ToLowerInvariant();
    }

    private static string Comparable(string text, TaskSection task)
    {
        text = task.IgnorePunctuation ? string.Concat(text.Where(static c => !(char.IsAscii(c) && (char.IsPunctuation(c) || char.IsSymbol(c))))) : text;
        return (task.IgnoreCase ? text.ToLowerInvariant() : text).Trim();
    }

    [GeneratedRegex(@"#### (\-?[0-9\.\,]+)")]
    private static partial Regex Marked();

    [GeneratedRegex(@"(-?[$0-9.,]{2,})|(-?[0-9]+)")]
    private static partial Regex Any();
}
