using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Models;

/// <summary>act(gate) · up, which keeps gate and up for backward and makes act(gate) again there: it is cheap, and as large as either.</summary>
internal sealed class GatedActivation : SingleTensorFunction<GatedActivation>
{
    public override string Name => nameof(GatedActivation);

    /// <summary>act(gate) · up, elementwise.</summary>
    internal static Tensor Of(Tensor gate, Tensor up, Activation activation) =>
        is_grad_enabled() && (gate.requires_grad || up.requires_grad) ? apply(gate, up, activation) : Product(gate, up, activation);

    public override Tensor forward(AutogradContext ctx, params object[] vars)
    {
        var (gate, up, activation) = ((Tensor)vars[0], (Tensor)vars[1], (Activation)vars[2]);
        ctx.save_for_backward([gate, up]);
        ctx.save_data("activation", activation);
        return Product(gate, up, activation);
    }

    public override List<Tensor> backward(AutogradContext ctx, Tensor grad_output)
    {
        var saved = ctx.get_saved_variables();
        var (gate, up) = InputGradients(saved[0], saved[1], (Activation)ctx.get_data("activation"), grad_output);
        return BackwardResults.Keep(ctx, gate, up, null);
    }

    /// <summary>The product, without a graph.</summary>
    internal static Tensor Product(Tensor gate, Tensor up, Activation activation)
    {
        using var scope = NewDisposeScope();
        return (GateKernel.Serves(gate, up, activation) ? GateKernel.Forward(gate, up, activation) : activation.Apply(gate).mul(up)).MoveToOuterDisposeScope();
    }

    /// <summary>The gradients of gate and up, in no dispose scope.</summary>
    /// <param name="gate">Gate.</param>
    /// <param name="up">Up.</param>
    /// <param name="activation">The activation.</param>
    /// <param name="gradient">The product's gradient.</param>
    /// <param name="overwrites">Whether the product's gradient is nobody else's and may be written over.</param>
    internal static (Tensor Gate, Tensor Up) InputGradients(Tensor gate, Tensor up, Activation activation, Tensor gradient, bool overwrites = false)
    {
        using var scope = NewDisposeScope();
        var (gradGate, gradUp) = GateKernel.Serves(gate, up, activation)
            ? GateKernel.Backward(gate, up, gradient.contiguous(), activation, overwrites && gradient.is_contiguous() && gradient.dtype == gate.dtype)
            : Composed(gate, up, activation, gradient);
        return (scope.Detach(gradGate), scope.Detach(gradUp));
    }

    private static (Tensor Gate, Tensor Up) Composed(Tensor gate, Tensor up, Activation activation, Tensor gradient)
    {
        using var recorded = enable_grad();
        var leaf = gate.detach().requires_grad_();
        var active = activation.Apply(leaf);
        Tensor gradUp, gradActive;
        using (no_grad())
        {
            (gradUp, gradActive) = (gradient.mul(active), gradient.mul(up));
        }

        autograd.backward([active], [gradActive]);
        return (leaf.grad!, gradUp);
    }
}
