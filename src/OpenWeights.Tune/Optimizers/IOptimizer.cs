using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>Updates parameters from their gradients. State is kept only for trained parameters.</summary>
internal interface IOptimizer : IDisposable
{
    /// <summary>Number of steps taken.</summary>
    long StepCount { get; set; }

    /// <summary>The state by name, for checkpoints; the optimizer keeps ownership of the tensors.</summary>
    IReadOnlyList<(string Name, Tensor State)> State { get; }

    /// <summary>
    /// The current values of a parameter as the optimizer updates them, float32, in the caller's dispose scope or owned by the optimizer: for a
    /// lower-precision parameter with a master copy more exact than the parameter.
    /// </summary>
    /// <param name="index">Index of the parameter.</param>
    Tensor ExactWeight(int index);

    /// <summary>
    /// The learning rate that the next step is to be given, for optimizers that derive it themselves from the step; others take the
    /// schedule's.
    /// </summary>
    /// <param name="scheduled">Learning rate of the schedule.</param>
    double NextRate(double scheduled);

    /// <summary>Restores a saved state; the parameters must have been restored before.</summary>
    /// <param name="has">Whether a tensor of a given name exists.</param>
    /// <param name="read">Reads the tensor of a given name, into the caller's dispose scope.</param>
    void Restore(Func<string, bool> has, Func<string, Tensor> read);

    /// <summary>Takes one step with the current gradients, which may be modified.</summary>
    /// <param name="learningRate">Learning rate of this step.</param>
    /// <param name="gradientScale">Factor applied to the gradients first, for clipping.</param>
    void Step(double learningRate, double gradientScale = 1);
}

/// <summary>How parameters in lower precision than float32 accumulate updates smaller than their last bit.</summary>
internal enum LowPrecision
{
    /// <summary>A float32 copy accumulates them, 4 more bytes per parameter; on the CPU only its lower half, 2 more bytes.</summary>
    MasterWeights,

    /// <summary>Stochastic rounding, which preserves them in expectation; no copy.</summary>
    StochasticRounding,
}

/// <summary>How an optimizer stores its state.</summary>
/// <param name="LowPrecision">How parameters in lower precision than float32 are updated.</param>
/// <param name="OnCpu">Whether state and master copies stay in CPU memory and steps are computed there (ZeRO-Offload; Ren et al.,
/// 2021).</param>
internal readonly record struct OptimizerMemory(LowPrecision LowPrecision, bool OnCpu)
{
    /// <summary>
    /// Parameters of at least this many elements have 8-bit state: a code of the dynamic data type per element and a float32 scale per block of
    /// 256 (Dettmers et al., 2022; bitsandbytes). 0 for none.
    /// </summary>
    public long CodedFrom { get; init; }

    /// <summary>
    /// Whether the state of parameters on a GPU is in CPU memory, from which a step takes it one parameter at a time, as bitsandbytes' paged
    /// optimizers do when the GPU's memory is full. On a CPU it changes nothing.
    /// </summary>
    public bool IsPaged { get; init; }
}
