using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Training data from which some starts are computed: eva, corda and lora_ga.</summary>
internal abstract class StartData
{
    /// <summary>Number of batches.</summary>
    public abstract int Count { get; }

    /// <summary>A batch; its tensors are in the current dispose scope.</summary>
    /// <param name="index">Its index.</param>
    public abstract StartBatch Batch(int index);
}

/// <summary>A batch of <see cref="StartData"/>. Places are positions in its flattened tokens.</summary>
internal sealed record StartBatch
{
    /// <summary>The model's input.</summary>
    public required ModelInput Input { get; init; }

    /// <summary>Places of the tokens that are not padding, [n], int64.</summary>
    public required Tensor Tokens { get; init; }

    /// <summary>Places of the tokens that have a label, [n], int64.</summary>
    public required Tensor Labelled { get; init; }

    /// <summary>First place and number of tokens of each row, without padding.</summary>
    public required IReadOnlyList<(long First, long Count)> Rows { get; init; }

    /// <summary>The mean loss of the batch, a scalar with a graph.</summary>
    public required Func<CausalLanguageModel, Tensor> Loss { get; init; }
}
