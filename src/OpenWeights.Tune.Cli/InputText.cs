namespace OpenWeights.Tune.Cli;

/// <summary>Texts that a command line gives; - is what comes on stdin, without its last line's end.</summary>
internal static class InputText
{
    /// <summary>What stands for stdin, in the place of a text or a file.</summary>
    internal const string Stdin = "-";

    private static readonly Lazy<string> s_stdin = new(static () => Console.In.ReadToEnd());

    /// <summary>All of stdin.</summary>
    internal static string All => s_stdin.Value;

    /// <summary>The text that is meant.</summary>
    internal static string Of(string given) => given != Stdin ? given
        : All.EndsWith("\r\n", StringComparison.Ordinal) ? All[..^2]
        : All.EndsWith('\n') ? All[..^1]
        : All;
}
