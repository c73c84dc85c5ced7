using System.Globalization;
using System.Text.RegularExpressions;

namespace OpenWeights.Tune.Training;

/// <summary>Which weights of a model are trained where not all are.</summary>
/// <param name="FirstLayer">Only decoder layers from this number on, counted from 0, and what comes after the last: the final norm and a head of its own.</param>
/// <param name="NormsAndBiasesOnly">Only weights of one dimension: norms and biases (BitFit; Ben Zaken et al., 2022).</param>
public sealed partial record TrainedWeights(int FirstLayer, bool NormsAndBiasesOnly)
{
    /// <summary>Whether a weight is trained.</summary>
    /// <param name="name">Its name, such as model.layers.3.mlp.up_proj.weight.</param>
    /// <param name="dimensions">The number of its dimensions.</param>
    public bool Includes(string name, long dimensions)
    {
        ArgumentNullException.ThrowIfNull(name);
        if (NormsAndBiasesOnly && dimensions > 1)
        {
            return false;
        }

        if (FirstLayer == 0)
        {
            return true;
        }

        return Layer().Match(name) is { Success: true } layer
            ? int.Parse(layer.Groups[1].ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture) >= FirstLayer
            : !name.Contains("embed_tokens", StringComparison.Ordinal);
    }

    [GeneratedRegex(@"\.layers\.(\d+)\.")]
    private static partial Regex Layer();
}
