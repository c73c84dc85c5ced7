namespace OpenWeights.Tune.Cli;

/// <summary>What the program's exit codes mean.</summary>
internal static class ExitCode
{
    internal const int Success = 0;

    /// <summary>A wrong command line or config.</summary>
    internal const int Usage = 1;

    /// <summary>Bad data or model files.</summary>
    internal const int BadFiles = 2;

    /// <summary>A failure while running.</summary>
    internal const int Failed = 3;

    /// <summary>Stopped by Ctrl-C or SIGTERM, after saving.</summary>
    internal const int Stopped = 130;
}
