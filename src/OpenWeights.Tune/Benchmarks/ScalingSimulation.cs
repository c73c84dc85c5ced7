namespace OpenWeights.Tune.Benchmarks;

/// <summary>A decoder layer, the embedding or the head in the simulation of several ranks.</summary>
/// <param name="WeightBytes">Bytes of its weights.</param>
/// <param name="GradientBytes">Bytes of its gradients as they are summed.</param>
/// <param name="ForwardSeconds">Time of its forward pass with a rank's micro-batch.</param>
/// <param name="BackwardSeconds">Time of its backward pass, with the layer computed again.</param>
internal readonly record struct SimulatedLayer(double WeightBytes, double GradientBytes, double ForwardSeconds, double BackwardSeconds)
{
    /// <summary>Whether its weights are gathered in the forward pass alone: those of the embedding, which backward does not need, and of the head, where backward begins.</summary>
    public bool IsGatheredOnce { get; init; }
}

/// <summary>The link between ranks.</summary>
/// <param name="BytesPerSecond">What a rank sends and receives at once.</param>
/// <param name="Seconds">Time that a collective takes whatever its size.</param>
internal readonly record struct SimulatedLink(double BytesPerSecond, double Seconds);

/// <summary>A simulated step.</summary>
/// <param name="Seconds">Its time.</param>
/// <param name="ComputedSeconds">Time in which a rank computes.</param>
/// <param name="SentBytes">What a rank sends.</param>
internal readonly record struct SimulatedStep(double Seconds, double ComputedSeconds, double SentBytes)
{
    /// <summary>Fraction of the step in which a rank computes: the speed of each of the ranks, compared with one alone.</summary>
    public double Efficiency => ComputedSeconds / Seconds;
}

/// <summary>
/// The time of a step of several ranks, by simulation: a rank computes one layer after the other, and sends in the order of asking while it computes. Collectives on a ring
/// send (ranks - 1) / ranks of a buffer, sums to all ranks twice as much.
/// </summary>
internal static class ScalingSimulation
{
    /// <summary>Simulates a step.</summary>
    /// <param name="layers">The embedding, the layers and the head.</param>
    /// <param name="ranks">Number of ranks.</param>
    /// <param name="shard">What is shared out: none, optimizer, gradients or parameters (parallel.shard).</param>
    /// <param name="batches">Micro-batches of a rank in a step.</param>
    /// <param name="link">The link between ranks.</param>
    public static SimulatedStep Of(IReadOnlyList<SimulatedLayer> layers, int ranks, string shard, int batches, SimulatedLink link)
    {
        ArgumentNullException.ThrowIfNull(layers);
        ArgumentOutOfRangeException.ThrowIfLessThan(ranks, 1);
        var run = new Simulated(ranks, link);
        for (var batch = 0; batch < batches; batch++)
        {
            run.Pass(layers, shard, isLast: batch == batches - 1);
        }

        if (shard is "optimizer" or "gradients")
        {
            // The updated weights, whose bytes are taken to be those of the gradients in half the width.
            _ = run.Send(layers.Sum(static l => l.GradientBytes) / 2, run.Ready);
        }

        return run.Step;
    }

    private sealed class Simulated(int ranks, SimulatedLink link)
    {
        private double _computed;
        private double _sent;

        // When the rank has computed all so far, and when the link has sent all so far.
        private double _free;
        private double _linkFree;

        internal double Ready => Math.Max(_free, _linkFree);

        internal SimulatedStep Step => new(Ready, _computed, _sent);

        internal void Pass(IReadOnlyList<SimulatedLayer> layers, string shard, bool isLast)
        {
            var shares = shard == "parameters";
            var next = shares ? Send(layers[0].WeightBytes, _free) : 0;
            for (var i = 0; i < layers.Count; i++)
            {
                // The next layer's weights are asked for before this layer computes.
                var ready = next;
                next = shares && i + 1 < layers.Count ? Send(layers[i + 1].WeightBytes, _free) : next;
                Compute(layers[i].ForwardSeconds, ready);
            }

            next = shares ? _linkFree : 0;
            for (var i = layers.Count - 1; i >= 0; i--)
            {
                var ready = next;
                next = shares && i > 0 && !layers[i - 1].IsGatheredOnce ? Send(layers[i - 1].WeightBytes, _free) : next;
                Compute(layers[i].BackwardSeconds, ready);
                if (isLast || shard is "gradients" or "parameters")
                {
                    _ = Send((shard == "none" ? 2 : 1) * layers[i].GradientBytes, _free);
                }
            }
        }

        // The time at which a collective is done that is asked for at some time.
        internal double Send(double bytes, double asked)
        {
            if (ranks == 1)
            {
                return asked;
            }

            var sent = bytes * (ranks - 1) / ranks;
            _sent += sent;
            return _linkFree = Math.Max(_linkFree, asked) + link.Seconds + (sent / link.BytesPerSecond);
        }

        private void Compute(double seconds, double ready)
        {
            _free = Math.Max(_free, ready) + seconds;
            _computed += seconds;
        }
    }
}
