namespace OpenWeights.Tune.Training.Optimizers;

/// <summary>How parameters of lower precision than float32 take updates that are smaller than their last bit.</summary>
public enum LowPrecision
{
    /// <summary>A float32 copy takes them, 4 bytes more for each parameter; on the CPU its lower half, 2 bytes more.</summary>
    MasterWeights,

    /// <summary>They are rounded up or down at random, so that they count on average; no copy.</summary>
    StochasticRounding,
}
