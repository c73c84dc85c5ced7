using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Benchmarks;

/// <summary>What a training benchmark runs.</summary>
public sealed record TrainingBenchmarkOptions
{
    /// <summary>The sizes of the model, a Llama with random weights.</summary>
    public required ModelShape Shape { get; init; }

    /// <summary>Tokens of a row.</summary>
    public required int RowLength { get; init; }

    /// <summary>Rows of a step.</summary>
    public required int BatchSize { get; init; }

    /// <summary>The rank of a LoRA adapter on all linear layers; null trains all weights.</summary>
    public int? Rank { get; init; }

    /// <summary>The dtype of the model's weights.</summary>
    public ScalarType DType { get; init; } = float32;

    /// <summary>Where to train.</summary>
    public Device Device { get; init; } = CPU;

    /// <summary>What of layers is computed again in backward, by its name in a config.</summary>
    public string ActivationCheckpointing { get; init; } = "none";

    /// <summary>The steps that are measured.</summary>
    public int Steps { get; init; } = 8;

    /// <summary>The steps before those.</summary>
    public int WarmupSteps { get; init; } = 2;
}
