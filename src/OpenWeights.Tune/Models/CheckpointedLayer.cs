using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Models;

/// <summary>
/// A layer whose inner activations are not kept: backward runs it again from its input, with the random state that forward had
/// (activation checkpointing; Chen et al., 2016).
/// </summary>
internal sealed class CheckpointedLayer : SingleTensorFunction<CheckpointedLayer>
{
    public override string Name => nameof(CheckpointedLayer);

    public override Tensor forward(AutogradContext ctx, params object[] vars)
    {
        var (states, layer, context) = ((Tensor)vars[0], (DecoderLayer)vars[1], (AttentionContext)vars[2]);
        ctx.save_for_backward([states]);
        ctx.save_data("layer", layer);
        ctx.save_data("context", context);
        using var random = get_rng_state();
        ctx.save_data("random", random.bytes.ToArray());
        return layer.forward(states, context);
    }

    public override List<Tensor> backward(AutogradContext ctx, Tensor grad_output)
    {
        var (layer, context) = ((DecoderLayer)ctx.get_data("layer"), (AttentionContext)ctx.get_data("context"));
        using var scope = NewDisposeScope();
        using var before = get_rng_state();
        using var random = tensor((byte[])ctx.get_data("random"));
        set_rng_state(random);
        try
        {
            using var recorded = enable_grad();
            var states = ctx.get_saved_variables()[0].detach().requires_grad_();
            BackwardOf(layer.forward(states, context), grad_output);
            return [scope.MoveToOuter(states.grad!), null!, null!];
        }
        finally
        {
            set_rng_state(before);
        }
    }

    private static void BackwardOf(Tensor output, Tensor gradient) => autograd.backward([output], [gradient]);
}
