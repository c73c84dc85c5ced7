using OpenWeights.Tune.Data.Files;

namespace OpenWeights.Tune.Cli;

/// <summary>Texts from the command line; - stands for stdin, without its final line break.</summary>
internal static class InputText
{
    /// <summary>Stands for stdin instead of a text or file.</summary>
    internal const string Stdin = "-";

    private static readonly Lazy<string> s_stdin = new(static () => Console.In.ReadToEnd());

    /// <summary>All of stdin.</summary>
    internal static string All => s_stdin.Value;

    /// <summary>Resolves a text.</summary>
    internal static string Of(string given) => given != Stdin ? given
        : All.EndsWith("\r\n", StringComparison.Ordinal) ? All[..^2]
        : All.EndsWith('\n') ? All[..^1]
        : All;

    /// <summary>The text of a row of a data file.</summary>
    /// <exception cref="InvalidDataException">It has none; the message names its fields.</exception>
    internal static string Of(DataRow row) => row.Has("text") ? row.Text("text") : throw row.Error(
        $"\"text\" is missing; the row has {string.Join(", ", row.Json.Select(static p => p.Key).Take(20))}. "
        + (row.Has("messages") || row.Has("conversations") ? "Write the messages as a text first (`owt render`)." : $"Name the field with the text, such as --field text={row.Json.FirstOrDefault().Key ?? "NAME"}."));
}
