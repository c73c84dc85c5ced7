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
}
