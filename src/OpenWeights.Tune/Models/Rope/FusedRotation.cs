using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Models.Rope;

/// <summary>The rotation of heads in one pass, which keeps nothing of its own: gradients are turned back.</summary>
internal sealed class FusedRotation : SingleTensorFunction<FusedRotation>
{
    public override string Name => nameof(FusedRotation);

    /// <summary>The turned states, [batch, heads, tokens, head_dim], in one piece.</summary>
    internal static Tensor Of(Tensor states, Tensor cos, Tensor sin) =>
        is_grad_enabled() && states.requires_grad ? apply(states, cos, sin) : RotaryKernel.Turn(states, cos, sin, back: false, byToken: false);

    public override Tensor forward(AutogradContext ctx, params object[] vars)
    {
        var (states, cos, sin) = ((Tensor)vars[0], (Tensor)vars[1], (Tensor)vars[2]);
        ctx.save_for_backward([cos, sin]);
        return RotaryKernel.Turn(states, cos, sin, back: false, byToken: false);
    }

    public override List<Tensor> backward(AutogradContext ctx, Tensor grad_output)
    {
        var saved = ctx.get_saved_variables();
        return BackwardResults.Keep(ctx, StatesGradient(grad_output, saved[0], saved[1]), null, null);
    }

    private static Tensor StatesGradient(Tensor gradient, Tensor cos, Tensor sin)
    {
        using var scope = NewDisposeScope();
        var given = RotaryKernel.Serves(gradient, cos, sin) ? gradient : gradient.contiguous();

        // A token's heads side by side, as the projection that they came from gave them.
        return scope.Detach(RotaryKernel.Turn(given, cos, sin, back: true, byToken: true));
    }
}
