using OpenWeights.Tune.Layers;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>The weighted sum of several adapters' updates to one module's output.</summary>
internal sealed class CombinedLayer : ILinearAdapter, IEmbeddingAdapter, IDisposable
{
    private readonly List<(AdapterPart Part, Scalar Weight)> _parts;

    internal CombinedLayer(IEnumerable<(AdapterPart Part, double Weight)> parts) => _parts = [.. parts.Select(static p => (p.Part, (Scalar)p.Weight))];

    public Tensor Apply(LinearLayer layer, Tensor input, Tensor output) => Sum(output, part => ((ILinearAdapter)part).Apply(layer, input, output));

    public Tensor Apply(TokenEmbedding layer, Tensor ids, Tensor output) => Sum(output, part => ((IEmbeddingAdapter)part).Apply(layer, ids, output));

    public void Dispose()
    {
        _parts.ForEach(static p => p.Weight.Dispose());
        _parts.Clear();
    }

    private Tensor Sum(Tensor output, Func<AdapterPart, Tensor> apply)
    {
        using var scope = NewDisposeScope();
        var sum = output;
        foreach (var (part, weight) in _parts)
        {
            sum = sum.add(apply(part).sub(output), weight);
        }

        return sum.MoveToOuterDisposeScope();
    }
}
