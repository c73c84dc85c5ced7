using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Layers.Rope;

/// <summary>Rotates heads in one pass; backward rotates the gradient in reverse and needs no stored tensors.</summary>
internal sealed class FusedRotation : CustomFunction<FusedRotation>
{
    /// <summary>The rotated states, [batch, heads, tokens, head_dim], contiguous.</summary>
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

        // The gradient is stored token by token, as the projection's output is.
        return [RotaryKernel.Turn(given, saved[0], saved[1], back: true, byToken: true), null, null];
    }
}
