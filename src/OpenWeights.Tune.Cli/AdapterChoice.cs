using System.Globalization;

namespace OpenWeights.Tune.Cli;

/// <summary>An adapter on the command line, with its weight: DIR, or DIR=0.7.</summary>
/// <param name="Folder">The adapter's folder.</param>
/// <param name="Weight">Weight of the adapter.</param>
internal sealed record AdapterChoice(string Folder, double Weight)
{
    /// <summary>Parses DIR or DIR=NUMBER; an existing folder whose name contains = is a folder.</summary>
    internal static AdapterChoice Parse(string text)
    {
        var equals = text.LastIndexOf('=');
        return equals > 0 && !Directory.Exists(text)
            && double.TryParse(text.AsSpan(equals + 1), NumberStyles.Float, CultureInfo.InvariantCulture, out var weight) && double.IsFinite(weight)
            ? new AdapterChoice(text[..equals], weight)
            : new AdapterChoice(text, 1);
    }
}
