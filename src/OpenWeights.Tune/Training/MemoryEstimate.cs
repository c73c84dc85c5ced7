using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives;

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
    /// <param name="checkpointing">Which activations inside layers are computed again.</param>
    public static MemoryEstimate Of(ITrainedModel trained, int rows, int tokens, long optimizerBytes, bool accumulates, ActivationCheckpointing checkpointing)
    {
        ArgumentNullException.ThrowIfNull(trained);
        var model = trained.Model;
        var weights = model.ParameterBytes;
        var adapter = trained.ResultName == "adapter";
        var gradients = trained.Parameters.Sum(static p => p.Parameter.numel() * p.Parameter.element_size());
        var activations = ActivationBytes(model, adapter, rows, tokens, checkpointing);

        // The head's gradient is there before the first layer lets go of its activations; the others come afterwards.
        var first = adapter ? 0 : model.Head.Weight.numel() * 4;
        var overlap = checkpointing != ActivationCheckpointing.None || accumulates ? 0 : Math.Min(Math.Max(0, gradients - first), activations);
        return new MemoryEstimate(weights, adapter ? gradients : 0, gradients, optimizerBytes, activations, ProgramBytes, overlap);
    }

    // What the operators of a layer save for backward, counted per token: ten times the residual's width where the layer's own weights are
    // frozen, fourteen where norms keep their inputs for their gradients too, and the gated feed-forward's three; attention keeps no
    // scores. With checkpointing one layer's worth is alive at a time, with the gradients of its largest parts.
    private static long ActivationBytes(CausalLanguageModel model, bool adapter, int rows, int tokens, ActivationCheckpointing checkpointing)
    {
        var config = model.Config;
        var size = model.Stack.Embedding.Weight.element_size();
        var width = Math.Max(config.HiddenSize, (long)config.HeadCount * config.HeadDimension);
        var count = rows * (long)tokens;
        long Layer(int i)
        {
            var inner = config.ActiveIntermediateSize(i);
            var norms = config.NormPlacement == NormPlacement.BeforeAndAfter ? 4L * config.HiddenSize : 0;
            var routed = config.Layer(i).Mixture is { } mixture ? 3L * mixture.ExpertsPerToken * config.HiddenSize : 0;
            var lowRank = adapter && size < 4 ? 4L * ((4 * width) + inner) : 0;
            return count * (((((adapter ? 10 : 14) * width) + norms + (3L * inner) + routed) * size) + lowRank);
        }

        var layers = Enumerable.Range(0, config.LayerCount).Select(Layer).ToList();
        var passing = count * 4L * config.IntermediateSize * size;
        var head = 2 * 4 * Math.Min(count, HeadCrossEntropy.RowsOfChunk(config.VocabularySize, trainsHead: !adapter)) * config.VocabularySize;
        var kept = config.HiddenSize + (checkpointing == ActivationCheckpointing.Selective ? (long)config.HeadCount * config.HeadDimension : 0);
        return checkpointing != ActivationCheckpointing.None
            ? (config.LayerCount * count * kept * size) + Math.Max(layers.Max() + passing, head)
            : layers.Sum() + Math.Max(passing, head);
    }
}
