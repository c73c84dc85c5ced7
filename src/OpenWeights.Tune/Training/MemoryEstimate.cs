using OpenWeights.Tune.Models;
using OpenWeights.Tune.Training.Memory;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch.Memory;

namespace OpenWeights.Tune.Training;

/// <summary>Estimated memory of a run in bytes, computed from shapes.</summary>
/// <param name="Weights">Weights of the model.</param>
/// <param name="Adapter">Weights of the adapter.</param>
/// <param name="Gradients">Gradients of the trained parameters.</param>
/// <param name="Optimizer">State of the optimizer.</param>
/// <param name="Activations">Activations stored for the backward pass of one micro-batch (an approximation).</param>
/// <param name="Program">The program with torch, before anything is loaded.</param>
/// <param name="Overlap">Gradients that are allocated only while activations are freed, and so do not add to the peak.</param>
internal sealed record MemoryEstimate(long Weights, long Adapter, long Gradients, long Optimizer, long Activations, long Program, long Overlap)
{
    // .NET, libtorch and BLAS with their buffers and compiled code, measured after some steps (docs/performance.md); and what the pool of tensors may hold
    // beyond its peak.
#if TORCH_SYSTEM
    private const long ProgramBytes = (132L << 20) + BlockPool.Slack;
#else
    private const long ProgramBytes = (174L << 20) + BlockPool.Slack;
#endif

    // Additional memory of a run: tokenizer and rows, evaluation, metrics.
    private const long RunBytes = 48L << 20;

    /// <summary>Weights of the reference or teacher that is in memory while training.</summary>
    public long Compared { get; init; }

    /// <summary>What sampling answers takes, in place of gradients and activations: keys and values of the texts, and their logits; 0 for a run that samples none.</summary>
    public long Sampling { get; init; }

    /// <summary>The estimated peak.</summary>
    public long Total => Weights + Compared + Adapter + Optimizer + Program + Math.Max(Gradients + Activations - Overlap, Sampling);

    /// <summary>Estimates the memory of a run.</summary>
    /// <param name="trained">The model with its trained parameters.</param>
    /// <param name="rows">Rows per micro-batch.</param>
    /// <param name="tokens">Tokens per row.</param>
    /// <param name="optimizerBytes">Size of the optimizer's state.</param>
    /// <param name="accumulates">Whether gradients are accumulated over several micro-batches.</param>
    /// <param name="checkpointing">Activation checkpointing.</param>
    /// <param name="isRun">Whether it is a run with data, evaluation and metrics, or only training steps.</param>
    /// <param name="scores">Number of float32 values of a token and word that the loss holds at once, besides those of cross entropy.</param>
    public static MemoryEstimate Of(ITrainedModel trained, int rows, int tokens, long optimizerBytes, bool accumulates, ActivationCheckpointing checkpointing, bool isRun = true, int scores = 0)
    {
        ArgumentNullException.ThrowIfNull(trained);
        var model = trained.Model;
        var weights = model.ParameterBytes;
        var adapter = trained.ResultName == "adapter";
        var gradients = trained.Parameters.Sum(static p => p.Parameter.numel() * p.Parameter.element_size());
        var activations = ActivationsOf(model, adapter, rows, tokens, checkpointing, scores).Total;

        var overlap = accumulates ? 0 : Math.Min(LateGradients(model, adapter, gradients, checkpointing), activations);
        return new MemoryEstimate(weights, adapter ? gradients : 0, gradients, optimizerBytes, activations, ProgramBytes + ExpertKernelBytes(model) + (isRun ? RunBytes : 0), overlap);
    }

    // Experts get another number of tokens each time: oneDNN keeps code for bfloat16 products of each number, and blocks of as many sizes lie between others. Measured
    // are 30 to 65 MB beside the tensors.
    private static long ExpertKernelBytes(CausalLanguageModel model) =>
        model.ExpertMatrices.Any() && model.Device.type == TorchSharp.DeviceType.CPU && ProductPrecision.Of(model.Stack.Embedding.Weight, ProductPrecision.MinRows) == TorchSharp.torch.bfloat16 ? 32L << 20 : 0;

    // The head's gradient is allocated before the first layer frees its activations; the others come afterwards. If layers store almost
    // nothing, only the embedding's gradient comes after they are freed.
    private static long LateGradients(CausalLanguageModel model, bool adapter, long gradients, ActivationCheckpointing checkpointing)
    {
        var embedding = model.Stack.Embedding.Weight;
        return checkpointing == ActivationCheckpointing.None ? Math.Max(0, gradients - (adapter ? 0 : model.Head.Weight.numel() * 4))
            : embedding.requires_grad && !model.Config.TiedEmbeddings ? embedding.numel() * embedding.element_size() : 0;
    }

    /// <summary>
    /// Activations stored by layers from the first trained one; and the larger of the temporary peaks: a part's backward, when the later parts have
    /// freed theirs, or head and loss.
    /// With checkpointing, a layer stores its input (and the output of its attention), and the activations of one layer exist at a time.
    /// </summary>
    internal static ActivationCosts ActivationsOf(CausalLanguageModel model, bool adapter, int rows, int tokens, ActivationCheckpointing checkpointing, int scores)
    {
        var config = model.Config;
        var (count, size) = (rows * (long)(tokens + (model.Stack.Virtual?.Count ?? 0)), model.Stack.Embedding.Weight.element_size());
        var layers = Enumerable.Range(0, model.LayerCount).Select(i => new LayerMemory(model, i, count, rows)).ToList();
        var ofInputs = config.PerLayerInputs is { } inputs ? 2L * count * inputs.LayerCount * inputs.Width * size : 0;
        var (ofLayer, ofHead) = (TurnedWeightBytes(model, count), HeadBytes(model, count, scores));
        if (checkpointing != ActivationCheckpointing.None)
        {
            var keepsMixed = checkpointing == ActivationCheckpointing.Selective;
            return new ActivationCosts(ofInputs, [.. layers.Select(l => new LayerActivations(keepsMixed ? l.Mixed : 0, l.Most + ofLayer, l.Input))], ofHead);
        }

        // Layers before the first trained one keep nothing.
        var all = model.Stack.Embedding.Weight.requires_grad || model.Stack.Virtual is not null;
        var first = all ? 0 : layers.TakeWhile(static l => !l.IsTrained).Count();
        return new ActivationCosts(ofInputs, [.. layers.Select((l, i) => i < first ? new LayerActivations(0, 0, 0) : new LayerActivations(0, l.Most + ofLayer, l.Bytes))], ofHead);
    }

    // A weight multiplied in another dtype exists in both during the product; the head's is converted in small parts.
    private static long TurnedWeightBytes(CausalLanguageModel model, long count)
    {
        var weight = model.Stack.Embedding.Weight;
        return ProductPrecision.Of(weight, count) == weight.dtype ? 0 : 4 * model.LinearLayers.Where(l => l.Name != model.Config.OutputModule).Max(static l => l.Layer.OutFeatures * l.Layer.InFeatures);
    }

    // The head's logits and their copies, a chunk at a time; the hidden states with their gradient.
    private static long HeadBytes(CausalLanguageModel model, long count, int scores)
    {
        var config = model.Config;
        var chunk = HeadCrossEntropy.EvenChunk(count, HeadCrossEntropy.RowsOfChunk(model.Head.Weight)) * config.OutputSize;
        var product = ProductPrecision.Of(model.Stack.Embedding.Weight, count);

        // Scores in float32, with a soft cap its derivative, and the scores or their gradient in another dtype.
        var ofScore = 4 + (4 * scores) + (config.LogitSoftCap is null ? 0 : 4) + (product == TorchSharp.torch.float32 ? 0 : 2);

        // For bfloat16 products oneDNN repacks the weight; the layers' weights are small in comparison and included in the program's bytes.
        var copy = product == TorchSharp.torch.bfloat16 && model.Head.Weight.device.type == TorchSharp.DeviceType.CPU ? 2 * model.Head.Weight.numel() : 0;
        return copy + (ofScore * chunk) + (count * 3 * config.HiddenSize * model.Stack.Embedding.Weight.element_size());
    }
}
