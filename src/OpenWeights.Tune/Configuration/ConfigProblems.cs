using System.Globalization;

namespace OpenWeights.Tune.Configuration;

/// <summary>Thrown for an invalid config; lists all its problems.</summary>
public sealed class ConfigException : Exception
{
    /// <summary>Creates the exception from a list of problems.</summary>
    /// <param name="problems">The problems.</param>
    public ConfigException(IReadOnlyList<ConfigProblem> problems)
        : base(string.Join('\n', problems)) => Problems = problems;

    /// <summary>The problems, in the order of the file.</summary>
    public IReadOnlyList<ConfigProblem> Problems { get; }
}

/// <summary>A problem in a config.</summary>
/// <param name="Place">The file with line and column, or "command line"; empty for settings built in code.</param>
/// <param name="Key">Dotted name of the setting.</param>
/// <param name="Message">What is wrong and how to fix it.</param>
public sealed record ConfigProblem(string Place, string Key, string Message)
{
    /// <summary>Whether the problem lies in files that the config names, not in the config itself.</summary>
    public bool IsFile { get; init; }

    /// <summary>Whether the problem concerns a setting or the section that contains it.</summary>
    /// <param name="key">Dotted name of the setting.</param>
    internal bool Covers(string key) => Key.Length > 0 && (key == Key || key.StartsWith(Key + ".", StringComparison.Ordinal));

    /// <inheritdoc/>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{(Place.Length == 0 ? "" : Place + ": ")}{(Key.Length == 0 ? "" : Key + ": ")}{Message}");
}
