using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Layers.Rope;

/// <summary>The rotation of heads in one pass, which keeps nothing of its own: gradients are turned back.</summary>
internal sealed class FusedRotation : CustomFunction<FusedRotation>
{
    /// <summary>The turned states, [batch, heads, tokens, head_dim], in one piece.</summary>
    internal static Tensor Of(Tensor states, Tensor cos, Tensor sin) =>
        is_grad_enabled() && states.requires_grad ? Record(states, cos, sin)[0] : RotaryKernel.Turn(states, cos, sin, back: false, byToken: false);

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        var (states, cos, sin) = ((Tensor)inputs[0], (Tensor)inputs[1], (Tensor)inputs[2]);
        context.save_for_backward([cos, sin]);
        return [RotaryKernel.Turn(states, cos, sin, back: false, byToken: false)];
    }

    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        var saved = context.get_saved_variables();
        var given = RotaryKernel.Serves(gradients[0], saved[0], saved[1]) ? gradients[0] : gradients[0].contiguous();

        // A token's heads side by side, as the projection that they came from gave them.
        return [RotaryKernel.Turn(given, saved[0], saved[1], back: true, byToken: true), null, null];
    }
}
