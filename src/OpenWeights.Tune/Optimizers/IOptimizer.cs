using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>Changes parameters by their gradients. It holds state for what is trained alone.</summary>
public interface IOptimizer : IDisposable
{
    /// <summary>The number of steps taken.</summary>
    long StepCount { get; set; }

    /// <summary>The state by name, for checkpoints; the tensors stay the optimizer's.</summary>
    IReadOnlyList<(string Name, Tensor State)> State { get; }

    /// <summary>Takes over a state that was saved; the parameters are restored before.</summary>
    /// <param name="has">Whether there is a tensor of a name.</param>
    /// <param name="read">The tensor of a name, in the caller's dispose scope.</param>
    void Restore(Func<string, bool> has, Func<string, Tensor> read);

    /// <summary>One step with the gradients that the parameters have; they may be changed.</summary>
    /// <param name="learningRate">The rate of this step.</param>
    /// <param name="gradientScale">What gradients are multiplied by before, for clipping.</param>
    void Step(double learningRate, double gradientScale = 1);
}

/// <summary>How parameters of lower precision than float32 take updates that are smaller than their last bit.</summary>
public enum LowPrecision
{
    /// <summary>A float32 copy takes them, 4 bytes more for each parameter; on the CPU its lower half, 2 bytes more.</summary>
    MasterWeights,

    /// <summary>They are rounded up or down at random, so that they count on average; no copy.</summary>
    StochasticRounding,
}

/// <summary>What an optimizer holds, and where.</summary>
/// <param name="LowPrecision">How parameters of lower precision than float32 are kept.</param>
/// <param name="OnCpu">Whether state and master copies stay in the CPU's memory, and steps are taken there (ZeRO-Offload; Ren et al., 2021).</param>
public readonly record struct OptimizerMemory(LowPrecision LowPrecision, bool OnCpu);

/// <summary>A parameter that is trained.</summary>
/// <param name="Name">Its name in checkpoints.</param>
/// <param name="Parameter">The parameter.</param>
/// <param name="Decays">Whether weight decay applies to it.</param>
/// <param name="RateFactor">What its learning rate is multiplied by (LoRA+).</param>
public sealed record TrainedParameter(string Name, Parameter Parameter, bool Decays, double RateFactor = 1);
