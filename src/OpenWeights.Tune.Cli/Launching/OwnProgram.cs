namespace OpenWeights.Tune.Cli.Launching;

/// <summary>How this program is started once more.</summary>
internal static class OwnProgram
{
    /// <summary>The program and its first arguments: dotnet and owt.dll, or a file of its own.</summary>
    internal static IReadOnlyList<string> Command { get; } = Find();

    private static string[] Find()
    {
        var process = Environment.ProcessPath ?? throw new NotSupportedException("this system does not say which program runs; start the ranks by mpirun or torchrun's variables instead.");
        return Path.GetFileNameWithoutExtension(process).Equals("dotnet", StringComparison.OrdinalIgnoreCase)
            ? [process, Path.GetFullPath(Environment.GetCommandLineArgs()[0])]
            : [process];
    }
}
