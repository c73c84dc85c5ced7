using OpenWeights.Tune.Adapters;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>
/// LoRA+ (Hayou et al., 2024): B and one-dimensional parameters learn faster than A by a ratio, embeddings at a rate of their own; the groups
/// are those of PEFT's create_loraplus_optimizer.
/// </summary>
/// <param name="Ratio">B's rate over A's.</param>
/// <param name="EmbeddingRate">The rate of updates of embeddings.</param>
/// <param name="LearningRate">A's rate.</param>
public sealed record LoraPlusRates(double Ratio, double EmbeddingRate, double LearningRate)
{
    /// <summary>What a parameter's rate is multiplied by.</summary>
    /// <param name="part">The part of the adapter that it belongs to.</param>
    /// <param name="name">Its name.</param>
    /// <param name="parameter">The parameter.</param>
    public double Factor(AdapterPart part, string name, Tensor parameter)
    {
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(parameter);
        return part is EmbeddingLora ? (LearningRate > 0 ? EmbeddingRate / LearningRate : 1)
            : name.Contains("lora_B", StringComparison.Ordinal) || parameter.ndim == 1 ? Ratio
            : 1;
    }
}
