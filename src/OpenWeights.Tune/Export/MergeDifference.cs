using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export;

/// <summary>How far the logits of a written model are from those of what it was made from, base and adapters.</summary>
/// <param name="Difference">The largest absolute difference of a logit.</param>
/// <param name="Largest">The largest absolute logit, to compare it with.</param>
/// <param name="Divergence">The mean divergence of the written model's next-token distribution from the other, KL(base and adapters || written), in nats a token.</param>
/// <param name="Agreeing">The positions at which both have the same likeliest token.</param>
/// <param name="Positions">The positions that were compared.</param>
public sealed record MergeDifference(double Difference, double Largest, double Divergence, long Agreeing, long Positions)
{
    /// <summary>Compares logits.</summary>
    /// <param name="expected">[..., vocabulary].</param>
    /// <param name="actual">[..., vocabulary].</param>
    internal static MergeDifference Of(Tensor expected, Tensor actual)
    {
        using var scope = NewDisposeScope();
        var (wanted, given) = (expected.to(float64).log_softmax(-1), actual.to(float64).log_softmax(-1));
        var divergence = wanted.exp().mul(wanted.sub(given)).sum(-1).mean();
        var same = actual.argmax(-1).eq(expected.argmax(-1));
        return new MergeDifference(
            actual.sub(expected).abs().max().ToDouble(), expected.abs().max().ToDouble(), Math.Max(0, divergence.ToDouble()), same.sum().item<long>(), same.numel());
    }
}
