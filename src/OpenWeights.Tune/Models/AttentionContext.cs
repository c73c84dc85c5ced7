using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>What all layers of one forward pass share: rotary tables, who may look at whom, and the cache.</summary>
public sealed class AttentionContext
{
    /// <summary>Rotary cosines, [batch or 1, 1, tokens, rotated dimensions / 2].</summary>
    public required Tensor Cos { get; init; }

    /// <summary>Rotary sines, of the same shape.</summary>
    public required Tensor Sin { get; init; }

    /// <summary>True where a query (row) may look at a key (column), [batch or 1, 1, queries, keys]; null for plain causal attention.</summary>
    public Tensor? Mask { get; init; }

    /// <summary>Whether one query stands at the end of all keys, so that it may look at every one.</summary>
    public bool LooksAtAll { get; init; }

    /// <summary>Keys and values of earlier tokens, or null.</summary>
    public KeyValueCache? Cache { get; init; }
}
