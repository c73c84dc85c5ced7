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
        is_grad_enabled() && (gate.requires_grad || up.requires_grad) ? apply(gate, up, activation) : Forward(gate, up, activation);

    public override Tensor forward(AutogradContext ctx, params object[] vars)
    {
        var (gate, up, activation) = ((Tensor)vars[0], (Tensor)vars[1], (Activation)vars[2]);
        ctx.save_for_backward([gate, up]);
        ctx.save_data("activation", activation);
        return Forward(gate, up, activation);
    }

    public override List<Tensor> backward(AutogradContext ctx, Tensor grad_output)
    {
        var (gate, up) = InputGradients(ctx.get_saved_variables(), (Activation)ctx.get_data("activation"), grad_output);
        return BackwardResults.Keep(ctx, gate, up, null);
    }

    private static Tensor Forward(Tensor gate, Tensor up, Activation activation)
    {
        using var scope = NewDisposeScope();
        return activation.Apply(gate).mul(up).MoveToOuterDisposeScope();
    }

    private static (Tensor Gate, Tensor Up) InputGradients(List<Tensor> saved, Activation activation, Tensor gradient)
    {
        using var scope = NewDisposeScope();
        using var recorded = enable_grad();
        var gate = saved[0].detach().requires_grad_();
        var active = activation.Apply(gate);
        Tensor gradUp, gradActive;
        using (no_grad())
        {
            (gradUp, gradActive) = (gradient.mul(active), gradient.mul(saved[1]));
        }

        autograd.backward([active], [gradActive]);
        return (scope.Detach(gate.grad!), scope.Detach(gradUp));
    }
}
