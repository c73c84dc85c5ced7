using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Layers.FeedForward;

/// <summary>
/// act(gate) · up. Backward recomputes act(gate) from the stored gate and up, because it is cheap and as large as either.
/// </summary>
internal sealed class GatedActivation : CustomFunction<GatedActivation>
{
    private const long BlockElements = 1 << 18;

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
        using var nothing = no_grad();
        return activation.Apply(gate).mul_(up).MoveToOuterDisposeScope();
    }

    /// <summary>Gradients of gate and up, in the caller's dispose scope.</summary>
    /// <param name="gate">Gate, [..., features].</param>
    /// <param name="up">Up, of the gate's shape.</param>
    /// <param name="activation">The activation function.</param>
    /// <param name="gradient">Gradient of the product.</param>
    /// <param name="overwrites">Whether nobody else uses the product's gradient, so that the gate's gradient may be written over it.</param>
    internal static (Tensor Gate, Tensor Up) InputGradients(Tensor gate, Tensor up, Activation activation, Tensor gradient, bool overwrites = false)
    {
        using var scope = NewDisposeScope();
        var gradUp = empty(gate.shape, gate.dtype, gate.device);
        var gradGate = overwrites && gradient.is_contiguous() && gradient.dtype == gate.dtype ? gradient.alias() : gradUp.empty_like();
        InputGradients(gate, up, activation, gradient, gradGate, gradUp);
        return (gradGate.MoveToOuterDisposeScope(), gradUp.MoveToOuterDisposeScope());
    }

    /// <summary>Writes gradients of gate and up.</summary>
    /// <param name="gate">Gate, [..., features].</param>
    /// <param name="up">Up, of the gate's shape.</param>
    /// <param name="activation">The activation function.</param>
    /// <param name="gradient">Gradient of the product.</param>
    /// <param name="gradGate">Receives the gradient of gate, of its shape; it may be the product's gradient.</param>
    /// <param name="gradUp">Receives the gradient of up, of its shape.</param>
    internal static void InputGradients(Tensor gate, Tensor up, Activation activation, Tensor gradient, Tensor gradGate, Tensor gradUp)
    {
        using var scope = NewDisposeScope();
        var width = gate.size(-1);
        Tensor[] flat = [.. new[] { gate, up, gradient, gradGate, gradUp }.Select(t => t.reshape(-1, width))];
        var (rows, block) = (flat[0].size(0), BlockRows(gate, width));
        for (long start = 0; start < rows; start += block)
        {
            using var inner = NewDisposeScope();
            var part = flat.Select(t => t.narrow(0, start, Math.Min(block, rows - start))).ToArray();
            Block(part, activation);
        }
    }

    // The gradients of some rows: of gate, up, and the product's gradient, to the gradients of gate and up.
    private static void Block(Tensor[] part, Activation activation)
    {
        using var recorded = enable_grad();
        var leaf = part[0].detach().requires_grad_();
        var active = activation.Apply(leaf);
        Tensor gradActive;
        using (no_grad())
        {
            _ = part[4].copy_(active).mul_(part[2]);
            gradActive = part[2].mul(part[1]);
        }

        BackwardPass.Run([active], [gradActive]);
        using var nothing = no_grad();
        _ = part[3].copy_(leaf.grad!);
    }

    // On a CPU the rows whose numbers stay in the cache between the operators; a GPU takes all at once.
    private static long BlockRows(Tensor gate, long width) =>
        gate.device.type == TorchSharp.DeviceType.CPU ? Math.Max(1, BlockElements / Math.Max(1, width)) : Math.Max(1, gate.numel());
}
