using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Layers.FeedForward;

/// <summary>
/// act(gate) · up. Backward recomputes act(gate) from the stored gate and up, because it is cheap and as large as either.
/// </summary>
internal sealed class GatedActivation : CustomFunction<GatedActivation>
{
    /// <summary>Computes act(gate) · up, elementwise.</summary>
    internal static Tensor Of(Tensor gate, Tensor up, Activation activation) =>
        is_grad_enabled() && (gate.requires_grad || up.requires_grad) ? Record(gate, up, activation)[0] : Product(gate, up, activation);

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        var (gate, up, activation) = ((Tensor)inputs[0], (Tensor)inputs[1], (Activation)inputs[2]);
        context.save_for_backward([gate, up]);
        context.save_data("activation", activation);
        return [Product(gate, up, activation)];
    }

    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        var saved = context.get_saved_variables();
        var (gate, up) = InputGradients(saved[0], saved[1], (Activation)context.get_data("activation"), gradients[0]);
        return [gate, up, null];
    }

    /// <summary>Computes the product without autograd.</summary>
    internal static Tensor Product(Tensor gate, Tensor up, Activation activation)
    {
        using var scope = NewDisposeScope();
        return (GateKernel.Serves(gate, up, activation) ? GateKernel.Forward(gate, up, activation) : activation.Apply(gate).mul(up)).MoveToOuterDisposeScope();
    }

    /// <summary>Gradients of gate and up, in the caller's dispose scope.</summary>
    /// <param name="gate">The gate.</param>
    /// <param name="up">The up projection.</param>
    /// <param name="activation">The activation function.</param>
    /// <param name="gradient">Gradient of the product.</param>
    /// <param name="overwrites">Whether the gradient of the product is used nowhere else and may be overwritten.</param>
    internal static (Tensor Gate, Tensor Up) InputGradients(Tensor gate, Tensor up, Activation activation, Tensor gradient, bool overwrites = false)
    {
        using var scope = NewDisposeScope();
        var (gradGate, gradUp) = GateKernel.Serves(gate, up, activation)
            ? GateKernel.Backward(gate, up, gradient.contiguous(), activation, overwrites && gradient.is_contiguous() && gradient.dtype == gate.dtype)
            : Composed(gate, up, activation, gradient);
        return (gradGate.MoveToOuterDisposeScope(), gradUp.MoveToOuterDisposeScope());
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

        BackwardPass.Run([active], [gradActive]);
        return (leaf.grad!, gradUp);
    }
}

/// <summary>Activation functions of tensors.</summary>
internal static class ActivationMath
{
    /// <summary>Applies an activation function elementwise.</summary>
    internal static Tensor Apply(this Activation activation, Tensor states) => activation switch
    {
        Activation.Silu => nn.functional.silu(states),
        Activation.Gelu => nn.functional.gelu(states),
        _ => GeluTanh.Of(states),
    };
}
