using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Kernels;

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
    // .NET, libtorch and BLAS with their buffers and code made at run time, as measured on processes that have run some steps (docs/performance.md).
#if TORCH_SYSTEM
    private const long ProgramBytes = 132L << 20;
#else
    private const long ProgramBytes = 174L << 20;
#endif

    // What a run has beside the bare steps: its tokenizer and rows, which are read when it first runs, the evaluation, the records.
    private const long RunBytes = 72L << 20;

    // Gradients that several layers add up are float32, and so are products where the processor has none of bfloat16.
    private const long PassingSize = 4;

    /// <summary>The most that is held at once.</summary>
    public long Total => Weights + Adapter + Gradients + Optimizer + Activations + Program - Overlap;

    /// <summary>Counts a run's memory.</summary>
    /// <param name="trained">The model and what of it is trained.</param>
    /// <param name="rows">Rows of a micro-batch.</param>
    /// <param name="tokens">Tokens of a row.</param>
    /// <param name="optimizerBytes">What the optimizer's state takes.</param>
    /// <param name="accumulates">Whether several micro-batches make a step.</param>
    /// <param name="checkpointing">Which activations inside layers are computed again.</param>
    /// <param name="isRun">Whether it is a run with data, evaluation and records, or bare steps.</param>
    public static MemoryEstimate Of(ITrainedModel trained, int rows, int tokens, long optimizerBytes, bool accumulates, ActivationCheckpointing checkpointing, bool isRun = true)
    {
        ArgumentNullException.ThrowIfNull(trained);
        var model = trained.Model;
        var weights = model.ParameterBytes;
        var adapter = trained.ResultName == "adapter";
        var gradients = trained.Parameters.Sum(static p => p.Parameter.numel() * p.Parameter.element_size());
        var activations = ActivationBytes(model, adapter, rows, tokens, checkpointing);

        var overlap = accumulates ? 0 : Math.Min(LateGradients(model, adapter, gradients, checkpointing), activations);
        return new MemoryEstimate(weights, adapter ? gradients : 0, gradients, optimizerBytes, activations, ProgramBytes + (isRun ? RunBytes : 0), overlap);
    }

    // The head's gradient is there before the first layer lets go of its activations; the others come afterwards. Where layers keep next to
    // nothing it is the embedding's alone that comes when they are gone.
    private static long LateGradients(CausalLanguageModel model, bool adapter, long gradients, ActivationCheckpointing checkpointing)
    {
        var embedding = model.Stack.Embedding.Weight;
        return checkpointing == ActivationCheckpointing.None ? Math.Max(0, gradients - (adapter ? 0 : model.Head.Weight.numel() * 4))
            : embedding.requires_grad && !model.Config.TiedEmbeddings ? embedding.numel() * embedding.element_size() : 0;
    }

    // What layers keep, from the first that is trained; and the most that passes by meanwhile: a layer's backward, or the head and its loss.
    // With checkpointing a layer keeps its input (and what its attention gave), and one layer's worth is alive at a time.
    private static long ActivationBytes(CausalLanguageModel model, bool adapter, int rows, int tokens, ActivationCheckpointing checkpointing)
    {
        var config = model.Config;
        var (count, size) = (rows * (long)tokens, model.Stack.Embedding.Weight.element_size());
        var layers = Enumerable.Range(0, config.LayerCount).Select(i => new LayerMemory(model, i)).ToList();
        var kept = (model.Stack.Embedding.Weight.requires_grad ? layers : layers.SkipWhile(static l => !l.IsTrained)).ToList();
        var ofLayer = (count * 3L * config.IntermediateSize * PassingSize) + TurnedWeightBytes(model, count);
        if (checkpointing == ActivationCheckpointing.None)
        {
            return (count * kept.Sum(static l => l.Bytes)) + Math.Max(ofLayer, HeadBytes(model, count));
        }

        var ends = layers.Sum(l => (config.HiddenSize * size) + (checkpointing == ActivationCheckpointing.Selective ? l.Mixed : 0));
        return (count * ends) + Math.Max((count * layers.Max(static l => l.Bytes)) + ofLayer, HeadBytes(model, count));
    }

    // A layer's weight that is multiplied in another dtype than its own is there in both meanwhile; the head's is turned in small parts.
    private static long TurnedWeightBytes(CausalLanguageModel model, long count)
    {
        var weight = model.Stack.Embedding.Weight;
        return ProductPrecision.Of(weight, count) == weight.dtype ? 0 : 4 * model.LinearLayers.Where(static l => l.Name != "lm_head").Max(static l => l.Layer.OutFeatures * l.Layer.InFeatures);
    }

    // The head's scores and their copies, a chunk at a time; the hidden states with their gradient.
    private static long HeadBytes(CausalLanguageModel model, long count)
    {
        var config = model.Config;
        var chunk = HeadCrossEntropy.EvenChunk(count, HeadCrossEntropy.RowsOfChunk(model.Head.Weight)) * config.VocabularySize;
        var product = ProductPrecision.Of(model.Stack.Embedding.Weight, count);
        var ofScore = product == TorchSharp.torch.float32 ? 4 : 8;

        // Where scores are limited, the derivative of each is kept beside it.
        chunk *= config.LogitSoftCap is null ? 1 : 2;

        // For a product of bfloat16 oneDNN lays the weight out anew; of the layers' weights, which are small beside it, that is in the program's bytes.
        var copy = product == TorchSharp.torch.bfloat16 && model.Head.Weight.device.type == TorchSharp.DeviceType.CPU ? 2 * model.Head.Weight.numel() : 0;
        return copy + (ofScore * chunk) + (count * 3 * config.HiddenSize * model.Stack.Embedding.Weight.element_size());
    }
}
