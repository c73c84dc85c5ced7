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

    /// <summary>The layer's output; what the layers share is saved with the graph, since it must outlive the forward pass.</summary>
    internal static Tensor Run(Tensor states, DecoderLayer layer, AttentionContext context) => apply(states, layer, context.Cos, context.Sin, context.Mask!);

    public override Tensor forward(AutogradContext ctx, params object[] vars)
    {
        var (states, layer) = ((Tensor)vars[0], (DecoderLayer)vars[1]);
        var (cos, sin, mask) = ((Tensor)vars[2], (Tensor)vars[3], (Tensor?)vars[4]);
        ctx.save_for_backward([states, cos, sin, mask!]);
        ctx.save_data("layer", layer);
        ctx.save_data("random", RandomState.Note(states.device));
        return layer.forward(states, new AttentionContext { Cos = cos, Sin = sin, Mask = mask });
    }

    public override List<Tensor> backward(AutogradContext ctx, Tensor grad_output)
    {
        var after = RandomState.Note(grad_output.device);
        ((RandomState)ctx.get_data("random")).Restore();
        try
        {
            return BackwardResults.Keep(ctx, InputGradient(ctx, grad_output), null, null, null, null);
        }
        finally
        {
            after.Restore();
        }
    }

    private static Tensor InputGradient(AutogradContext ctx, Tensor gradient)
    {
        using var scope = NewDisposeScope();
        using var recorded = enable_grad();
        var saved = ctx.get_saved_variables();
        var states = saved[0].detach().requires_grad_();
        var context = new AttentionContext { Cos = saved[1], Sin = saved[2], Mask = saved[3] };
        autograd.backward([((DecoderLayer)ctx.get_data("layer")).forward(states, context)], [gradient]);
        return scope.Detach(states.grad!);
    }
}
