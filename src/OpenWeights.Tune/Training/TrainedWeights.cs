using System.Globalization;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Training;

/// <summary>Selects the trained weights of a model.</summary>
/// <param name="Names">Names of the model's modules.</param>
/// <param name="FirstLayer">Index of the first trained decoder layer, from 0; later layers, the final norm and an untied head are trained
/// as well.</param>
/// <param name="NormsAndBiasesOnly">Whether only one-dimensional weights are trained: norms and biases (BitFit; Ben Zaken et al.,
/// 2022).</param>
internal sealed record TrainedWeights(DecoderNames Names, int FirstLayer, bool NormsAndBiasesOnly)
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

        return FirstLayer == 0 || (LayerOf(name) is { } layer ? layer >= FirstLayer : !name.StartsWith(Names.EmbeddingModule, StringComparison.Ordinal));
    }

    private int? LayerOf(string name)
    {
        var start = $"{Names.Stack}.{Names.Layers}.";
        var dot = name.StartsWith(start, StringComparison.Ordinal) ? name.IndexOf('.', start.Length) : -1;
        return dot < 0 ? null : int.Parse(name.AsSpan(start.Length, dot - start.Length), NumberStyles.None, CultureInfo.InvariantCulture);
    }
}
