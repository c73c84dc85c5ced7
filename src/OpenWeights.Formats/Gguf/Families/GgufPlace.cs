using System.Globalization;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>The place of a checkpoint's tensor in a GGUF file.</summary>
/// <param name="Name">The tensor in GGUF.</param>
/// <param name="Expert">Index of the expert whose matrix it is within the stacked tensor; null for the whole tensor.</param>
public readonly record struct GgufPlace(string Name, int? Expert)
{
    private const string Marker = ".experts.";

    /// <summary>Replaces an expert number in a name by *, and returns the number; the unchanged name if there is none.</summary>
    /// <param name="name">Hugging Face's name.</param>
    internal static (string Pattern, int? Expert) Split(string name)
    {
        var at = name.IndexOf(Marker, StringComparison.Ordinal) + Marker.Length;
        var dot = at < Marker.Length ? -1 : name.IndexOf('.', at);
        return dot > at && int.TryParse(name.AsSpan(at, dot - at), NumberStyles.None, CultureInfo.InvariantCulture, out var expert)
            ? ($"{name[..at]}*{name[dot..]}", expert)
            : (name, null);
    }

    /// <summary>The name of one expert's matrix.</summary>
    /// <param name="pattern">A name with a *.</param>
    /// <param name="expert">The expert.</param>
    internal static string OfExpert(string pattern, int expert) => pattern.Replace("*", expert.ToString(CultureInfo.InvariantCulture), StringComparison.Ordinal);
}
