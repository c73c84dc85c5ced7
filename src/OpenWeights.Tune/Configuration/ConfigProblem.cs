using System.Globalization;

namespace OpenWeights.Tune.Configuration;

/// <summary>Something that is wrong in a config.</summary>
/// <param name="Place">The file with line and column, or the command line.</param>
/// <param name="Key">The setting, with dots.</param>
/// <param name="Message">What is wrong and what to do.</param>
public sealed record ConfigProblem(string Place, string Key, string Message)
{
    /// <inheritdoc/>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Place}: {(Key.Length == 0 ? "" : Key + ": ")}{Message}");
}
