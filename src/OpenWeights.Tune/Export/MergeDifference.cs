using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export;

/// <summary>How far the logits of a written model differ from those of its source, the base model with adapters.</summary>
/// <param name="Difference">Largest absolute difference of a logit.</param>
/// <param name="Largest">Largest absolute logit, for comparison.</param>
/// <param name="Divergence">Mean KL divergence KL(base and adapters || written) of the next-token distributions, in nats per token.</param>
/// <param name="Agreeing">Number of positions with the same most likely token.</param>
/// <param name="Positions">Number of positions compared.</param>
internal sealed record MergeDifference(double Difference, double Largest, double Divergence, long Agreeing, long Positions)
{
    /// <summary>Compares logits.</summary>
    /// <param name="expected">Logits of the source, [..., vocabulary].</param>
    /// <param name="actual">Logits of the written model, [..., vocabulary].</param>
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
