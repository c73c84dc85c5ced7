using OpenWeights.Tune.Torch;
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
        ctx.save_data("random", RandomState.Note(states.device));
        return layer.forward(states, context);
    }

    public override List<Tensor> backward(AutogradContext ctx, Tensor grad_output)
    {
        var (layer, context) = ((DecoderLayer)ctx.get_data("layer"), (AttentionContext)ctx.get_data("context"));
        var after = RandomState.Note(grad_output.device);
        ((RandomState)ctx.get_data("random")).Restore();
        try
        {
            return BackwardResults.Keep(ctx, InputGradient(ctx, layer, context, grad_output), null, null);
        }
        finally
        {
            after.Restore();
        }
    }

    private static Tensor InputGradient(AutogradContext ctx, DecoderLayer layer, AttentionContext context, Tensor gradient)
    {
        using var scope = NewDisposeScope();
        using var recorded = enable_grad();
        var states = ctx.get_saved_variables()[0].detach().requires_grad_();
        autograd.backward([layer.forward(states, context)], [gradient]);
        return scope.Detach(states.grad!);
    }
}
