namespace OpenWeights.Tune.Configuration;

/// <summary>The parallel section: what several ranks of a run share out among themselves. It changes no number that a run computes.</summary>
public sealed record ParallelSection
{
    /// <summary>What is shared out besides the rows.</summary>
    [Setting(
        "Several ranks (owt launch): what they share out besides the rows. none: each has all weights, gradients and optimizer state; optimizer: each has the optimizer state of a part of the weights (ZeRO-1); gradients: and their gradients (ZeRO-2); parameters: and the weights themselves (ZeRO-3).",
        OneOf = ["none", "optimizer", "gradients", "parameters"])]
    public string Shard { get; init; } = "none";

    /// <summary>Size of the buckets of gradients, in MiB.</summary>
    [Setting("Several ranks: size in MiB of the buckets in which gradients are summed while the backward pass goes on.", Min = 0.0001)]
    public double BucketMib { get; init; } = 25;
}
