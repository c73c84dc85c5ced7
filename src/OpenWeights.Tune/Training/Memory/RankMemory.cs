namespace OpenWeights.Tune.Training.Memory;

/// <summary>Memory of one of several ranks, and what it sends, in bytes.</summary>
/// <param name="Shard">What the ranks share out: none, optimizer, gradients or parameters (parallel.shard).</param>
/// <param name="Weights">Weights of the model and its adapter; where they are shared out with the layers that are there at the same time.</param>
/// <param name="Gradients">Gradients; where they are shared out with those of a layer.</param>
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
    internal static RankMemory Of(string shard, int ranks, RunCosts costs, Models.LayerBytes trained, int batches)
    {
        // Gradients are summed in float32. Embedding, head and the adapter's weights are whole on every rank.
        var (weights, sums, isShared) = (costs.Weights, trained.Times(sizeof(float)), ranks > 1);
        long Part(long bytes) => (bytes + ranks - 1) / ranks;
        var (layers, ends) = ((double)weights.Layers.Sum(), weights.First + weights.Last);
        var (ofLayers, ofEnds) = ((double)sums.Layers.Sum(), sums.First + sums.Last);

        // Trained weights travel in their own type once a step, from the ranks that update them, unless they are gathered anyway.
        var updated = costs.Gradients;
        return new RankMemory(
            shard,
            costs.Adapter.Total + (shard == "parameters" && isShared ? Part((long)layers) + ends + (2 * weights.Layers.Max()) : weights.Total),
            shard is "none" or "optimizer" || !isShared ? costs.Gradients.Total : Part(sums.Total) + Math.Max(ofEnds, sums.Layers.Max()),
            shard == "none" ? costs.Optimizer.Total : Part(costs.Optimizer.Total),
            costs.Activations.Total, 0,
            (long)((ranks - 1.0) / ranks * (shard switch
            {
                "none" => 2.0 * sums.Total,
                "optimizer" => sums.Total + updated.Total,
                "gradients" => (batches * ofLayers) + ofEnds + updated.Total,
                _ => (batches * (ofLayers + (2 * layers))) + ofEnds + (costs.Adapter.Total > 0 ? updated.Total : updated.First + updated.Last),
            })));
    }
}
