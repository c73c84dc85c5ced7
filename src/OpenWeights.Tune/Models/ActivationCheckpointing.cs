namespace OpenWeights.Tune.Models;

/// <summary>What of a layer is kept for backward, and what is computed again there (Chen et al., 2016).</summary>
public enum ActivationCheckpointing
{
    /// <summary>Everything is kept.</summary>
    None,

    /// <summary>A layer's input is kept; the layer is computed again.</summary>
    Block,

    /// <summary>
    /// A layer's input is kept and what its attention gave, which takes longest to compute for its size, the more so the longer rows are. On
    /// a GPU, whose fused attention is torch's own, every second layer is kept whole instead (as torchtune's selective checkpointing).
    /// </summary>
    Selective,
}
