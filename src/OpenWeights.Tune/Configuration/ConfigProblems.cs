using System.Globalization;

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

/// <summary>Something that is wrong in a config.</summary>
/// <param name="Place">The file with line and column, or the command line; nothing for settings that a program put together.</param>
/// <param name="Key">The setting, with dots.</param>
/// <param name="Message">What is wrong and what to do.</param>
public sealed record ConfigProblem(string Place, string Key, string Message)
{
    /// <summary>Whether files that the config names are wrong, and not the config itself.</summary>
    public bool IsFile { get; init; }

    /// <summary>Whether it is of a setting, or of the section that the setting stands in.</summary>
    /// <param name="key">The setting, with dots.</param>
    internal bool Covers(string key) => Key.Length > 0 && (key == Key || key.StartsWith(Key + ".", StringComparison.Ordinal));

    /// <inheritdoc/>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{(Place.Length == 0 ? "" : Place + ": ")}{(Key.Length == 0 ? "" : Key + ": ")}{Message}");
}
