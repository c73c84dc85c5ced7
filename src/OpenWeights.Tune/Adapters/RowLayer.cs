using OpenWeights.Tune.Layers;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>The adapters that rows can have on one module: each changes the output of its own rows, and rows without one keep the module's.</summary>
internal sealed class RowLayer : ILinearAdapter, IEmbeddingAdapter
{
    private readonly Dictionary<string, Own> _own = [];

    /// <summary>Adds a part of an adapter.</summary>
    /// <param name="name">Name of the adapter.</param>
    /// <param name="part">The part: an update of the module, or a weight that replaces its own.</param>
    internal void Add(string name, AdapterPart part)
    {
        var own = _own.TryGetValue(name, out var found) ? found : _own[name] = new Own();
        if (part is ReplacedWeight weight)
        {
            own.Weights.Add(weight);
        }
        else
        {
            own.Update = part;
        }
    }

    public Tensor Apply(LinearLayer layer, Tensor input, Tensor output) => Each(input, output, (own, states, before) =>
    {
        before = own.Weights.Count == 0 ? before : layer.Plain(states, layer.Bias);
        return own.Update is not ILinearAdapter update ? before : update.Replace(layer, states) ?? update.Apply(layer, states, before);
    });

    public Tensor Apply(TokenEmbedding layer, Tensor ids, Tensor output) => Each(ids, output, (own, tokens, before) =>
    {
        before = own.Weights.Count == 0 ? before : layer.Weight.index_select(0, tokens);
        return own.Update is IEmbeddingAdapter update ? update.Apply(layer, tokens, before) : before;
    });

    private Tensor Each(Tensor input, Tensor output, Func<Own, Tensor, Tensor, Tensor> apply)
    {
        using var scope = NewDisposeScope();
        var result = output.alias();
        if (AdapterRows.Current is { } rows)
        {
            foreach (var name in rows.Names)
            {
                result = _own.TryGetValue(name, out var own) ? rows.Replace(name, input, result, (states, before) => own.InPlace(() => apply(own, states, before))) : result;
            }
        }

        return result.MoveToOuterDisposeScope();
    }

    private sealed class Own
    {
        internal AdapterPart? Update { get; set; }

        internal List<ReplacedWeight> Weights { get; } = [];

        // With the adapter's weights in the place of the module's.
        internal Tensor InPlace(Func<Tensor> compute)
        {
            Weights.ForEach(static w => w.Enabled = true);
            try
            {
                return compute();
            }
            finally
            {
                Weights.ForEach(static w => w.Enabled = false);
            }
        }
    }
}
