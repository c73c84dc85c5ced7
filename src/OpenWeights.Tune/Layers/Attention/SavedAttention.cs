using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Attention;

/// <summary>What a layer's attention gave in forward, so that a layer that is computed again need not compute it again.</summary>
/// <param name="given">What it gave, [batch, heads, queries, head_dim]; null while it is still to be noted.</param>
internal sealed class SavedAttention(Tensor? given)
{
    /// <summary>What attention gave; null until it is noted.</summary>
    internal Tensor? Given { get; private set; } = given;

    /// <summary>Notes what attention gave, beyond the dispose scope of the layer.</summary>
    internal void Note(Tensor mixed) => Given ??= mixed.detach().DetachFromDisposeScope();
}
