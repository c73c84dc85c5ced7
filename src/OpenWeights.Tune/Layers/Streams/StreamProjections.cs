using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Streams;

/// <summary>Makes the residual streams of AltUp from the embeddings, and one hidden state from them after the last layer.</summary>
internal sealed class StreamProjections
{
    private readonly ModuleList<LinearLayer> _before;
    private readonly ModuleList<LinearLayer> _after;

    /// <summary>Creates the projections, and registers them.</summary>
    /// <param name="owner">The decoder.</param>
    /// <param name="settings">Settings of the streams.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Name of the decoder in the checkpoint.</param>
    public StreamProjections(nn.Module owner, AltUpSettings settings, IWeightSource weights, string name)
    {
        ArgumentNullException.ThrowIfNull(owner);
        ArgumentNullException.ThrowIfNull(settings);
        var hidden = new Dimension("hidden_size", settings.HiddenSize);
        ModuleList<LinearLayer> Add(string list) => owner.Register(
            list, new ModuleList<LinearLayer>([.. Enumerable.Range(0, settings.Count - 1).Select(i => LinearLayer.Take(weights, FormattableString.Invariant($"{name}.{list}.{i}"), hidden, hidden, hasBias: false))]));
        _before = Add("altup_projections");
        _after = Add("altup_unembed_projections");
    }

    /// <summary>The streams, [streams, batch, tokens, hidden], in the caller's dispose scope.</summary>
    /// <param name="embeddings">The embeddings, [batch, tokens, hidden].</param>
    internal Tensor Open(Tensor embeddings)
    {
        using var scope = NewDisposeScope();
        var size = Size(embeddings);
        return stack([embeddings, .. _before.Select(layer => Sized(layer.call(embeddings), size))], 0).MoveToOuterDisposeScope();
    }

    /// <summary>Their mean, [batch, tokens, hidden], in the caller's dispose scope.</summary>
    /// <param name="streams">The streams, [streams, batch, tokens, hidden].</param>
    internal Tensor Close(Tensor streams)
    {
        using var scope = NewDisposeScope();
        var first = streams.select(0, 0);
        var size = Size(first);
        return stack([first, .. _after.Select((layer, i) => Sized(layer.call(streams.select(0, i + 1)), size))], 0).mean([0]).MoveToOuterDisposeScope();
    }

    // Root mean square.
    private static Tensor Size(Tensor states) => states.mul(states).mean([-1], keepdim: true).sqrt();

    // All streams get the size of the first.
    private static Tensor Sized(Tensor states, Tensor size)
    {
        using Scalar least = 1e-5;
        return states.mul(size).div(states.mul(states).mean([-1], keepdim: true).clamp_min(least).sqrt());
    }
}
