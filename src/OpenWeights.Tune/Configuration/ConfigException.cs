namespace OpenWeights.Tune.Configuration;

/// <summary>A config that cannot be run, with everything that is wrong with it.</summary>
public sealed class ConfigException : Exception
{
    /// <summary>An exception of problems.</summary>
    /// <param name="problems">What is wrong.</param>
    public ConfigException(IReadOnlyList<ConfigProblem> problems)
        : base(string.Join('\n', problems)) => Problems = problems;

    /// <summary>What is wrong, in the file's order.</summary>
    public IReadOnlyList<ConfigProblem> Problems { get; }
}
