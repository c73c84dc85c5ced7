using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>What a run will hold in memory, in bytes, counted from shapes.</summary>
/// <param name="Weights">The model's weights.</param>
/// <param name="Adapter">The adapter's.</param>
/// <param name="Gradients">Gradients of what is trained.</param>
/// <param name="Optimizer">The optimizer's state.</param>
/// <param name="Activations">What one micro-batch keeps for its backward: an estimate.</param>
public sealed record MemoryEstimate(long Weights, long Adapter, long Gradients, long Optimizer, long Activations)
{
    /// <summary>All of it.</summary>
    public long Total => Weights + Adapter + Gradients + Optimizer + Activations;

    /// <summary>Counts a run's memory.</summary>
    /// <param name="trained">The model and what of it is trained.</param>
    /// <param name="rows">Rows of a micro-batch.</param>
    /// <param name="tokens">Tokens of a row.</param>
    /// <param name="checkpointing">Whether activations inside layers are computed again.</param>
    public static MemoryEstimate Of(ITrainedModel trained, int rows, int tokens, bool checkpointing)
    {
        ArgumentNullException.ThrowIfNull(trained);
        var model = trained.Model;
        var weights = model.ParameterBytes;
        var trainedCount = trained.Parameters.Sum(static p => p.Parameter.numel());
        var lowPrecision = trained.Parameters.Any(static p => p.Parameter.dtype != float32);
        var own = trained.ResultName == "adapter" ? trained.Parameters.Sum(static p => p.Parameter.numel() * p.Parameter.element_size()) : 0;
        return new MemoryEstimate(
            weights,
            own,
            trained.Parameters.Sum(static p => p.Parameter.numel() * p.Parameter.element_size()),
            trainedCount * (lowPrecision ? 12 : 8),
            ActivationBytes(model, trained.ResultName == "adapter", rows, tokens, checkpointing));
    }

    // What the operators of a layer save for backward, counted per token in elements of the model's dtype, and attention's weights per
    // pair of tokens; norms save float32.
    private static long ActivationBytes(CausalLanguageModel model, bool adapter, int rows, int tokens, bool checkpointing)
    {
        var config = model.Config;
        var size = model.Stack.Embedding.Weight.element_size();
        long heads = (long)config.HeadCount * config.HeadDimension;
        long keys = (long)config.KeyValueHeadCount * config.HeadDimension;
        var scores = (config.ScoreSoftCap is null ? 2L : 5L) * size * config.HeadCount * tokens;
        var places = rows * (long)tokens;
        long Layer(int i)
        {
            var inner = config.ActiveIntermediateSize(i);
            var norms = (config.NormPlacement == NormPlacement.BeforeAndAfter ? 4L : 2L) * 4 * 2 * config.HiddenSize;
            var linear = (6L * config.HiddenSize) + (6 * heads) + (4 * keys) + (4 * inner);
            var routed = config.Layer(i).Mixture is { } mixture ? 3L * mixture.ExpertsPerToken * config.HiddenSize : 0;
            var lowRank = adapter ? 4L * ((3 * config.HiddenSize) + inner + heads) * (size == 4 ? 0 : 1) : 0;
            return places * (norms + ((linear + routed) * size) + lowRank + scores);
        }

        var each = Enumerable.Range(0, config.LayerCount).Select(Layer).ToList();
        var boundary = places * config.HiddenSize * size;
        var layers = checkpointing ? each.Max() + (config.LayerCount * boundary) : each.Sum();
        var head = 2 * 4 * Math.Min(rows * (long)tokens * config.VocabularySize, 1L << 24);
        return layers + head;
    }
}
