using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Optimizers;

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
