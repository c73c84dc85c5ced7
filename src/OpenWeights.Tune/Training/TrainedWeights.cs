using System.Globalization;
using System.Text.RegularExpressions;

namespace OpenWeights.Tune.Training;

/// <summary>Selects the trained weights of a model.</summary>
/// <param name="FirstLayer">Index of the first trained decoder layer, from 0; later layers, the final norm and an untied head are trained
/// as well.</param>
/// <param name="NormsAndBiasesOnly">Whether only one-dimensional weights are trained: norms and biases (BitFit; Ben Zaken et al.,
/// 2022).</param>
public sealed partial record TrainedWeights(int FirstLayer, bool NormsAndBiasesOnly)
{
    /// <summary>Whether a weight is trained.</summary>
    /// <param name="name">Its name, such as model.layers.3.mlp.up_proj.weight.</param>
    /// <param name="dimensions">Number of its dimensions.</param>
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
