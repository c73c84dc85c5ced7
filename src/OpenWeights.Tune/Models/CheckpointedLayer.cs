using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Models;

/// <summary>
/// A layer whose inner activations are not kept: backward runs it again from its input, with the random state that forward had
/// (activation checkpointing; Chen et al., 2016).
/// </summary>
internal sealed class CheckpointedLayer : MultiTensorFunction<CheckpointedLayer>
{
    public override string Name => nameof(CheckpointedLayer);

    /// <summary>The layer's output; what the layers share is saved with the graph, since it must outlive the forward pass.</summary>
    internal static Tensor Run(Tensor states, DecoderLayer layer, AttentionContext context)
    {
        var outputs = apply(states, layer, context.Cos!, context.Sin!, context.Mask!, context.Routers!);
        foreach (var scores in outputs.Skip(1))
        {
            context.Routers!.Add(scores);
        }

        return outputs[0];
    }

    public override List<Tensor> forward(AutogradContext ctx, params object[] vars)
    {
        var (states, layer, routers) = ((Tensor)vars[0], (DecoderLayer)vars[1], (RouterRecord?)vars[5]);
        var (cos, sin, mask) = ((Tensor?)vars[2], (Tensor?)vars[3], (Tensor?)vars[4]);
        ctx.save_for_backward([states, cos!, sin!, mask!]);
        ctx.save_data("layer", layer);
        ctx.save_data("random", RandomState.Note(states.device));
        ctx.save_data("routers", routers!);
        return Outputs(layer, states, cos, sin, mask, routers);
    }

    public override List<Tensor> backward(AutogradContext ctx, List<Tensor> grad_outputs)
    {
        var after = RandomState.Note(grad_outputs[0].device);
        ((RandomState)ctx.get_data("random")).Restore();
        try
        {
            return BackwardResults.Keep(ctx, InputGradient(ctx, grad_outputs), null, null, null, null, null);
        }
        finally
        {
            after.Restore();
        }
    }

    private static Tensor InputGradient(AutogradContext ctx, List<Tensor> gradients)
    {
        using var scope = NewDisposeScope();
        using var recorded = enable_grad();
        var saved = ctx.get_saved_variables();
        var states = saved[0].detach().requires_grad_();
        var outputs = Outputs((DecoderLayer)ctx.get_data("layer"), states, saved[1], saved[2], saved[3], (RouterRecord?)ctx.get_data("routers"));
        autograd.backward(outputs, gradients);
        return scope.Detach(states.grad!);
    }

    // The layer's output, and its router's scores where they are wanted and it has one.
    private static List<Tensor> Outputs(DecoderLayer layer, Tensor states, Tensor? cos, Tensor? sin, Tensor? mask, RouterRecord? routers)
    {
        var own = routers?.Another();
        var output = layer.forward(states, new AttentionContext { Cos = cos, Sin = sin, Mask = mask, Routers = own });
        return [output, .. own?.Scores ?? []];
    }
}
