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
    /// <param name="checkpoint">What is stored of it.</param>
    internal static Tensor Run(Tensor states, DecoderLayer layer, LayerContext context, LayerCheckpoint checkpoint)
    {
        var settings = new Settings(layer, context.With().WithInputs() with { Lent = null }, context.Lent is not null, checkpoint);
        var outputs = Record([states, settings, .. context.Tensors, .. context.Inputs]);
        context.Lent?.Note(outputs[1], outputs[2]);
        foreach (var scores in outputs.Skip(settings.Lends ? 3 : 1))
        {
            context.Routers!.Add(scores);
        }

        return outputs[0];
    }

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        var (states, settings) = ((Tensor)inputs[0], (Settings)inputs[1]);
        var shared = inputs[2..].Cast<Tensor?>().ToArray();
        context.save_data("wanted", shared.Select(static t => t?.requires_grad == true).ToArray());
        var kept = settings.Checkpoint.KeepsAttention ? new SavedAttention(null) : null;
        context.save_data("settings", settings);
        context.save_data("random", RandomState.Note(states.device));
        settings.Checkpoint.Weights?.Enter(settings.Checkpoint.Index, isBackward: false);
        var outputs = settings.Outputs(states, shared, kept, again: false);
        settings.Checkpoint.Weights?.Leave(settings.Checkpoint.Index, isBackward: false, returns: true);
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
            var (input, shared) = InputGradients(context, gradients);
            return [input, null, .. shared];
        }
        finally
        {
            after?.Restore();
        }
    }

    // Of the states, and of the inputs that the layer has besides them; what all layers share has no gradient.
    private static (Tensor States, IReadOnlyList<Tensor?> Shared) InputGradients(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        using var scope = NewDisposeScope();
        using var recorded = enable_grad();
        var (saved, wanted, device) = (context.get_saved_variables(), (bool[])context.get_data("wanted"), gradients[0].device);
        var states = saved[0].to(device, non_blocking: true).detach().requires_grad_();
        var kept = saved[1] is { } mixed ? new SavedAttention(mixed.to(device, non_blocking: true)) : null;
        var shared = saved.Skip(2).Select((t, i) => wanted[i] ? t.detach().requires_grad_() : t).ToList();
        var settings = (Settings)context.get_data("settings");
        settings.Checkpoint.Weights?.Enter(settings.Checkpoint.Index, isBackward: true);
        BackwardPass.Run(settings.Outputs(states, shared, kept, again: true), gradients);
        settings.Checkpoint.Weights?.Leave(settings.Checkpoint.Index, isBackward: true, returns: false);
        return (states.grad!.MoveToOuterDisposeScope(), [.. shared.Select((t, i) => wanted[i] ? t.grad?.MoveToOuterDisposeScope() : null)]);
    }

    // A GPU copies asynchronously: operations are executed in the order in which they are queued.
    private static Tensor Waiting(Tensor states, Settings settings) => settings.Checkpoint.Offloads ? states.to(CPU, non_blocking: true) : states;

    private sealed record Settings(DecoderLayer Layer, LayerContext Context, bool Lends, LayerCheckpoint Checkpoint)
    {
        /// <summary>
        /// Runs the layer; returns its output, the keys and values that it lends, and its router logits if they are requested and it has a router.
        /// </summary>
        internal List<Tensor> Outputs(Tensor states, IReadOnlyList<Tensor?> shared, SavedAttention? kept, bool again)
        {
            var (own, lent, common) = (Context.Routers?.Another(), Lends ? new LentKeyValues() : null, Context.Tensors.Count);
            var context = Context.With([.. shared.Take(common)]).WithInputs([.. shared.Skip(common)]) with { Saved = kept, OnlyForGradients = again, Routers = own, Lent = lent };
            var output = Layer.forward(states, context);
            return [output, .. lent is null ? Array.Empty<Tensor>() : [lent.Keys!, lent.Values!], .. own?.Scores ?? []];
        }
    }
}

/// <summary>What is stored of a layer with activation checkpointing.</summary>
/// <param name="KeepsAttention">Whether the output of its attention is stored besides its input.</param>
/// <param name="Offloads">Whether stored tensors are offloaded to CPU memory.</param>
internal readonly record struct LayerCheckpoint(bool KeepsAttention, bool Offloads)
{
    /// <summary>Index of the layer.</summary>
    internal int Index { get; init; }

    /// <summary>What becomes of its weights; null where this process has all of them.</summary>
    internal ILayerWeights? Weights { get; init; }
}
