using System.Text.RegularExpressions;

namespace OpenWeights.Hub;

/// <summary>Names on the Hub.</summary>
public static partial class HubName
{
    /// <summary>Whether a text is spelled like a model's name on the Hub (ORG/NAME). The Hub is not asked.</summary>
    /// <param name="text">The text.</param>
    public static bool IsName(string text) => Pattern().IsMatch(text) && !text.Contains("..", StringComparison.Ordinal);

    /// <summary>Refuses a file name that would lead out of the folder that it is written to.</summary>
    /// <param name="path">The path in a repository.</param>
    /// <exception cref="InvalidDataException">It is such a name.</exception>
    internal static string RequireInside(string path)
    {
        var parts = path.Split('/');
        var outside = path.Length == 0 || path.Contains('\\', StringComparison.Ordinal) || path.Contains(':', StringComparison.Ordinal) || path.Any(char.IsControl)
            || parts.Any(static part => part is "" or "." or "..");
        return outside
            ? throw new InvalidDataException($"the repository names a file {Quote(path)}, which would be written outside the model's folder; nothing was downloaded")
            : path;
    }

    /// <summary>A name in quotes for a message. It may come from anywhere, so control characters are spelled out and a long name is cut.</summary>
    /// <param name="name">The name.</param>
    internal static string Quote(string name)
    {
        const int most = 200;
        return $"\"{string.Concat(name.Take(most).Select(static letter => char.IsControl(letter) ? $"\\u{(int)letter:x4}" : letter.ToString()))}{(name.Length > most ? "…" : "")}\"";
    }

    [GeneratedRegex(@"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}\z")]
    private static partial Regex Pattern();
}
