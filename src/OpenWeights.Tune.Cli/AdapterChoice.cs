using System.Globalization;

namespace OpenWeights.Tune.Cli;

/// <summary>An adapter that a command line names, and how much of it: DIR, or DIR=0.7.</summary>
/// <param name="Folder">The adapter's folder.</param>
/// <param name="Weight">How much of it is used.</param>
internal sealed record AdapterChoice(string Folder, double Weight)
{
    /// <summary>Reads DIR or DIR=NUMBER; a folder whose own name ends so is a folder.</summary>
    internal static AdapterChoice Parse(string text)
    {
        var equals = text.LastIndexOf('=');
        return equals > 0 && !Directory.Exists(text)
            && double.TryParse(text.AsSpan(equals + 1), NumberStyles.Float, CultureInfo.InvariantCulture, out var weight) && double.IsFinite(weight)
            ? new AdapterChoice(text[..equals], weight)
            : new AdapterChoice(text, 1);
    }
}
