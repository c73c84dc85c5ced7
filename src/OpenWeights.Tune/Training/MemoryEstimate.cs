using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Training;

/// <summary>What a run will hold in memory, in bytes, counted from shapes.</summary>
/// <param name="Weights">The model's weights.</param>
/// <param name="Adapter">The adapter's.</param>
/// <param name="Gradients">Gradients of what is trained.</param>
/// <param name="Optimizer">The optimizer's state.</param>
/// <param name="Activations">What one micro-batch keeps for its backward: an estimate.</param>
/// <param name="Program">The program itself with torch, before anything is loaded.</param>
/// <param name="Overlap">Gradients that come only as activations go, so that they add nothing to the most that is held.</param>
public sealed record MemoryEstimate(long Weights, long Adapter, long Gradients, long Optimizer, long Activations, long Program, long Overlap)
{
    // .NET, libtorch and BLAS with their buffers, as measured on a process that has run one small step.
    private const long ProgramBytes = 230L << 20;

    /// <summary>The most that is held at once.</summary>
    public long Total => Weights + Adapter + Gradients + Optimizer + Activations + Program - Overlap;

    /// <summary>Counts a run's memory.</summary>
    /// <param name="trained">The model and what of it is trained.</param>
    /// <param name="rows">Rows of a micro-batch.</param>
    /// <param name="tokens">Tokens of a row.</param>
    /// <param name="optimizerBytes">What the optimizer's state takes.</param>
    /// <param name="accumulates">Whether several micro-batches make a step.</param>
    /// <param name="checkpointing">Whether activations inside layers are computed again.</param>
    public static MemoryEstimate Of(ITrainedModel trained, int rows, int tokens, long optimizerBytes, bool accumulates, bool checkpointing)
    {
        ArgumentNullException.ThrowIfNull(trained);
        var model = trained.Model;
        var weights = model.ParameterBytes;
        var adapter = trained.ResultName == "adapter";
        var gradients = trained.Parameters.Sum(static p => p.Parameter.numel() * p.Parameter.element_size());
        var activations = ActivationBytes(model, adapter, rows, tokens, checkpointing);

        // The head's gradient is there before the first layer lets go of its activations; the others come afterwards.
        var first = adapter ? 0 : model.Head.Weight.numel() * 4;
        var overlap = checkpointing || accumulates ? 0 : Math.Min(Math.Max(0, gradients - first), activations);
        return new MemoryEstimate(weights, adapter ? gradients : 0, gradients, optimizerBytes, activations, ProgramBytes, overlap);
    }

    // What the operators of a layer save for backward, counted per token: twelve times the residual's width where the layer's own weights are
    // frozen, sixteen where norms keep their inputs for their gradients too, the gated feed-forward's four, and attention's weights for each
    // pair of tokens. With checkpointing one layer's worth is alive at a time, with the gradients of its largest parts.
    private static long ActivationBytes(CausalLanguageModel model, bool adapter, int rows, int tokens, bool checkpointing)
    {
        var config = model.Config;
        var size = model.Stack.Embedding.Weight.element_size();
        var width = Math.Max(config.HiddenSize, (long)config.HeadCount * config.HeadDimension);
        var linear = ((adapter ? 12 : 16) * width) + (4L * config.IntermediateSize);
        var lowRank = adapter && size < 4 ? 4L * ((4 * width) + config.IntermediateSize) : 0;
        var scores = size * (long)config.HeadCount * tokens;
        var count = rows * (long)tokens;
        var layer = count * ((linear * size) + lowRank + scores);
        var passing = count * ((2 * scores) + (2L * config.IntermediateSize * size));
        var head = 2 * 4 * Math.Min(count * config.VocabularySize, 1L << 24);
        return checkpointing
            ? (config.LayerCount * count * config.HiddenSize * size) + Math.Max(layer + passing, head)
            : (config.LayerCount * layer) + Math.Max(passing, head);
    }
}
