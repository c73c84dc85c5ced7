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
    /// <param name="states">The layer's input.</param>
    /// <param name="layer">The layer.</param>
    /// <param name="context">What its attention needs to know.</param>
    /// <param name="keepsAttention">Whether what its attention gives is kept too.</param>
    /// <param name="offloads">Whether what is kept waits in the CPU's memory.</param>
    internal static Tensor Run(Tensor states, DecoderLayer layer, AttentionContext context, bool keepsAttention, bool offloads)
    {
        var outputs = apply(states, context.Cos!, context.Sin!, context.Mask!, new Settings(layer, context.SlidingWindow, context.Routers, keepsAttention, offloads));
        foreach (var scores in outputs.Skip(1))
        {
            context.Routers!.Add(scores);
        }

        return outputs[0];
    }

    public override List<Tensor> forward(AutogradContext ctx, params object[] vars)
    {
        var (states, cos, sin, mask) = ((Tensor)vars[0], (Tensor?)vars[1], (Tensor?)vars[2], (Tensor?)vars[3]);
        var settings = (Settings)vars[4];
        var kept = settings.KeepsAttention ? new KeptAttention(null) : null;
        ctx.save_data("settings", settings);
        ctx.save_data("random", RandomState.Note(states.device));
        var outputs = settings.Outputs(states, cos, sin, mask, kept, again: false);

        // What is saved is taken over only after this has returned, so that it lives on in the caller's dispose scope.
        var mixed = kept?.Given;
        if (mixed is not null)
        {
            CurrentDisposeScope!.Attach(mixed);
        }

        ctx.save_for_backward([Waiting(states, settings), cos!, sin!, mask!, mixed is null ? null! : Waiting(mixed, settings)]);
        return outputs;
    }

    public override List<Tensor> backward(AutogradContext ctx, List<Tensor> grad_outputs)
    {
        var after = RandomState.BeforeAgain(grad_outputs[0].device);
        ((RandomState)ctx.get_data("random")).Restore();
        try
        {
            return BackwardResults.Keep(ctx, InputGradient(ctx, grad_outputs), null, null, null, null);
        }
        finally
        {
            after?.Restore();
        }
    }

    private static Tensor InputGradient(AutogradContext ctx, List<Tensor> gradients)
    {
        using var scope = NewDisposeScope();
        using var recorded = enable_grad();
        var (saved, device) = (ctx.get_saved_variables(), gradients[0].device);
        var states = saved[0].to(device, non_blocking: true).detach().requires_grad_();
        var kept = saved[4] is { } mixed ? new KeptAttention(mixed.to(device, non_blocking: true)) : null;
        autograd.backward(((Settings)ctx.get_data("settings")).Outputs(states, saved[1], saved[2], saved[3], kept, again: true), gradients);
        return scope.Detach(states.grad!);
    }

    // A GPU copies there and back in its own time: what it does comes in the order in which it is asked.
    private static Tensor Waiting(Tensor states, Settings settings) => settings.Offloads ? states.to(CPU, non_blocking: true) : states;

    private sealed record Settings(DecoderLayer Layer, int? SlidingWindow, RouterRecord? Routers, bool KeepsAttention, bool Offloads)
    {
        /// <summary>The layer's output, and its router's scores where they are wanted and it has one.</summary>
        internal List<Tensor> Outputs(Tensor states, Tensor? cos, Tensor? sin, Tensor? mask, KeptAttention? kept, bool again)
        {
            var own = Routers?.Another();
            var context = new AttentionContext { Cos = cos, Sin = sin, Mask = mask, SlidingWindow = SlidingWindow, Kept = kept, OnlyForGradients = again, Routers = own };
            return [Layer.forward(states, context), .. own?.Scores ?? []];
        }
    }
}
