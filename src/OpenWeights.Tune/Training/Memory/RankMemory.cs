namespace OpenWeights.Tune.Training.Memory;

/// <summary>Memory of one of several ranks, and what it sends, in bytes.</summary>
/// <param name="Shard">What the ranks share out: none, optimizer, gradients or parameters (parallel.shard).</param>
/// <param name="Weights">Weights of the model and its adapter; where they are shared out with those that are there at the same time: two layers, or a layer and the embedding or head.</param>
/// <param name="Gradients">Gradients; where they are shared out with those of a layer, the embedding or the head, as they are and as they are summed.</param>
/// <param name="Optimizer">State of the optimizer.</param>
/// <param name="Activations">Activations of a micro-batch.</param>
/// <param name="Other">The program, and a reference or teacher.</param>
/// <param name="Sent">What a rank sends in a step of the optimizer.</param>
internal sealed record RankMemory(string Shard, long Weights, long Gradients, long Optimizer, long Activations, long Other, long Sent)
{
    /// <summary>What ranks can share out.</summary>
    public static IReadOnlyList<string> Shards { get; } = ["none", "optimizer", "gradients", "parameters"];

    /// <summary>The peak.</summary>
    public long Total => Weights + Gradients + Optimizer + Activations + Other;

    /// <summary>Whether it fits into a device's memory, of which a run may use a part.</summary>
    /// <param name="bytes">The memory.</param>
    public bool FitsInto(long bytes) => Total <= bytes * AvailableMemory.Share;

    /// <summary>The memory of a rank.</summary>
    /// <param name="shard">What is shared out.</param>
    /// <param name="ranks">Number of ranks.</param>
    /// <param name="costs">What one process holds; its activations are with checkpointing where gradients or weights are shared out.</param>
    /// <param name="trained">Elements of the trained parameters.</param>
    /// <param name="batches">Micro-batches of a rank in a step.</param>
    /// <param name="isTied">Whether the head is the embedding, which then is gathered twice, and whose gradient lasts from the loss to the end of a backward pass.</param>
    internal static RankMemory Of(string shard, int ranks, RunCosts costs, Models.LayerBytes trained, int batches, bool isTied)
    {
        // Gradients are summed in float32. The adapter's weights are whole on every rank.
        var (weights, sums, isShared) = (costs.Weights, trained.Times(sizeof(float)), ranks > 1);
        long Part(long bytes) => (bytes + ranks - 1) / ranks;
        long Largest(Models.LayerBytes bytes) => Math.Max(bytes.Layers.Max(), Math.Max(bytes.First, bytes.Last));
        var layers = (double)weights.Layers.Sum();

        // Gradients as they are and as they are summed.
        var passing = isTied
            ? Math.Max(costs.Gradients.Last + sums.Last, costs.Gradients.Last + costs.Gradients.Layers.Max() + sums.Layers.Max())
            : Largest(sums) + Largest(costs.Gradients);

        // A micro-batch's sums arrive beside those before it.
        var arriving = batches > 1 ? Part(Largest(sums)) : 0;

        // Trained weights travel in their own type once a step, from the ranks that update them, unless they are gathered anyway.
        var updated = costs.Gradients;
        return new RankMemory(
            shard,
            costs.Adapter.Total + (shard == "parameters" && isShared ? Part(weights.Total) + weights.Layers.Max() + Largest(weights) : weights.Total),
            shard is "none" or "optimizer" || !isShared ? costs.Gradients.Total : Part(sums.Total) + passing + arriving,
            shard == "none" ? costs.Optimizer.Total : Part(costs.Optimizer.Total),
            costs.Activations.Total, 0,
            (long)((ranks - 1.0) / ranks * (shard switch
            {
                "none" => 2.0 * sums.Total,
                "optimizer" => sums.Total + updated.Total,
                "gradients" => ((double)batches * sums.Total) + updated.Total,
                _ => (batches * (sums.Total + (2 * layers) + weights.First + (weights.Last * (isTied ? 2 : 1)))) + (costs.Adapter.Total > 0 ? updated.Total : 0),
            })));
    }
}
