using OpenWeights.Tune.Adapters;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>
/// LoRA+ (Hayou et al., 2024): B matrices and one-dimensional parameters have a higher learning rate than A, embeddings a separate one; the
/// groups are those of PEFT's create_loraplus_optimizer.
/// </summary>
/// <param name="Ratio">Ratio of B's learning rate to A's.</param>
/// <param name="EmbeddingRate">Learning rate of adapted embeddings.</param>
/// <param name="LearningRate">Learning rate of A.</param>
internal sealed record LoraPlusRates(double Ratio, double EmbeddingRate, double LearningRate)
{
    /// <summary>Factor of a parameter's learning rate.</summary>
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
