namespace OpenWeights.Tune.Cli;

/// <summary>The program's exit codes.</summary>
internal static class ExitCode
{
    internal const int Success = 0;

    /// <summary>Invalid command line or config.</summary>
    internal const int Usage = 1;

    /// <summary>Invalid data or model files.</summary>
    internal const int BadFiles = 2;

    /// <summary>A failure at run time.</summary>
    internal const int Failed = 3;

    /// <summary>Stopped by Ctrl-C or SIGTERM, after saving.</summary>
    internal const int Stopped = 130;
}
