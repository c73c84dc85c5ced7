using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Optimizers;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Benchmarks.Parts;

/// <summary>A step of AdamW on a large weight.</summary>
public class OptimizerPart : KernelPart
{
    private Parameter _own = null!;
    private Parameter _composed = null!;
    private IOptimizer _ownOptimizer = null!;
    private IOptimizer _composedOptimizer = null!;

    private long Elements => Size(4L * HiddenSize * InnerSize, 1 << 10);

    // The weight and two moments, read and written, and the gradient; a weight in bfloat16 has one of float32 behind it.
    internal override double Work => Elements * (DType == float32 ? 7.0 * 4 : (6 * 4) + (2 * 2));

    /// <inheritdoc/>
    public override void Cleanup()
    {
        base.Cleanup();
        _ownOptimizer.Dispose();
        _composedOptimizer.Dispose();
        _own.Dispose();
        _composed.Dispose();
    }

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor> Own()
    {
        _ownOptimizer.Step(1e-3);
        return [_own.detach()];
    }

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor> Composition()
    {
        CpuKernel.Enabled = false;
        try
        {
            _composedOptimizer.Step(1e-3);
            return [_composed.detach()];
        }
        finally
        {
            CpuKernel.Enabled = true;
        }
    }

    private protected override void Prepare()
    {
        var (start, gradient) = (Random(Elements), Random(Elements));
        (_own, _ownOptimizer) = Make();
        (_composed, _composedOptimizer) = Make();

        (Parameter Parameter, IOptimizer Optimizer) Make()
        {
            var parameter = new Parameter(start.clone(), requires_grad: true);
            _ = parameter.DetachFromDisposeScope();
            parameter.grad = Keep(gradient.clone());
            return (parameter, OptimizerKinds.Create([new TrainedParameter("w", parameter, Decays: true)], new TrainingSection { Optimizer = "adamw" }));
        }
    }
}
