using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Models;

/// <summary>
/// A layer with activation checkpointing (Chen et al., 2016): its inner activations are not stored, and backward runs it again from its
/// input, with the random state of forward.
/// </summary>
internal sealed class CheckpointedLayer : CustomFunction<CheckpointedLayer>
{
    /// <summary>Runs the layer. Shared tensors are saved with the graph, because they must outlive the forward pass.</summary>
    /// <param name="states">Input of the layer.</param>
    /// <param name="layer">The layer.</param>
    /// <param name="context">The layer's other inputs.</param>
    /// <param name="keepsAttention">Whether the output of its attention is stored as well.</param>
    /// <param name="offloads">Whether stored tensors are offloaded to CPU memory.</param>
    internal static Tensor Run(Tensor states, DecoderLayer layer, LayerContext context, bool keepsAttention, bool offloads)
    {
        var outputs = Record([states, new Settings(layer, context.With(), keepsAttention, offloads), .. context.Tensors]);
        foreach (var scores in outputs.Skip(1))
        {
            context.Routers!.Add(scores);
        }

        return outputs[0];
    }

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        var (states, settings) = ((Tensor)inputs[0], (Settings)inputs[1]);
        var shared = inputs[2..].Cast<Tensor?>().ToArray();
        var kept = settings.KeepsAttention ? new SavedAttention(null) : null;
        context.save_data("settings", settings);
        context.save_data("random", RandomState.Note(states.device));
        var outputs = settings.Outputs(states, shared, kept, again: false);
        var mixed = kept?.Given;
        if (mixed is not null)
        {
            CurrentDisposeScope!.Attach(mixed);
        }

        context.save_for_backward([Waiting(states, settings), mixed is null ? null! : Waiting(mixed, settings), .. shared.Select(static t => t!)]);
        return outputs;
    }

    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        var after = RandomState.BeforeAgain(gradients[0].device);
        ((RandomState)context.get_data("random")).Restore();
        try
        {
            // None for the settings and for what layers share.
            return [InputGradient(context, gradients), null, .. ((Settings)context.get_data("settings")).Context.Tensors];
        }
        finally
        {
            after?.Restore();
        }
    }

    private static Tensor InputGradient(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        using var scope = NewDisposeScope();
        using var recorded = enable_grad();
        var (saved, device) = (context.get_saved_variables(), gradients[0].device);
        var states = saved[0].to(device, non_blocking: true).detach().requires_grad_();
        var kept = saved[1] is { } mixed ? new SavedAttention(mixed.to(device, non_blocking: true)) : null;
        BackwardPass.Run(((Settings)context.get_data("settings")).Outputs(states, saved.GetRange(2, saved.Count - 2), kept, again: true), gradients);
        return states.grad!.MoveToOuterDisposeScope();
    }

    // A GPU copies asynchronously: operations are executed in the order in which they are queued.
    private static Tensor Waiting(Tensor states, Settings settings) => settings.Offloads ? states.to(CPU, non_blocking: true) : states;

    private sealed record Settings(DecoderLayer Layer, LayerContext Context, bool KeepsAttention, bool Offloads)
    {
        /// <summary>Runs the layer; returns its output, and its router logits if they are requested and it has a router.</summary>
        internal List<Tensor> Outputs(Tensor states, IReadOnlyList<Tensor?> shared, SavedAttention? kept, bool again)
        {
            var own = Context.Routers?.Another();
            var context = Context.With(shared) with { Saved = kept, OnlyForGradients = again, Routers = own };
            return [Layer.forward(states, context), .. own?.Scores ?? []];
        }
    }
}
