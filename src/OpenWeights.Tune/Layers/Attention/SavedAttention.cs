using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Attention;

/// <summary>The attention output of a checkpointed layer, stored in forward so that recomputation can skip attention.</summary>
/// <param name="given">The stored output, [batch, heads, queries, head_dim]; null in forward, before it is stored.</param>
internal sealed class SavedAttention(Tensor? given)
{
    /// <summary>The stored output; null before it is stored.</summary>
    internal Tensor? Given { get; private set; } = given;

    /// <summary>Stores the output beyond the dispose scope of the layer.</summary>
    internal void Note(Tensor mixed) => Given ??= mixed.detach().DetachFromDisposeScope();
}
