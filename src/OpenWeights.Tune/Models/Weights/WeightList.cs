using OpenWeights.Tune.Layers;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models.Weights;

/// <summary>Lists the weights that a config requires, without creating them.</summary>
internal sealed class WeightList : IWeightSource
{
    private readonly Dictionary<string, Dimension[]> _wanted = [];

    private WeightList()
    {
    }

    /// <summary>All weights of a config's model by name.</summary>
    internal static IReadOnlyDictionary<string, Dimension[]> Of(DecoderConfig config)
    {
        var list = new WeightList();
        using var model = new CausalLanguageModel(config, list);
        return list._wanted;
    }

    public Parameter Take(string name, InitialWeight initial, params ReadOnlySpan<Dimension> shape)
    {
        _wanted.Add(name, shape.ToArray());
        var placeholder = new Parameter(empty([1, 1], float32), requires_grad: false);
        _ = placeholder.DetachFromDisposeScope();
        return placeholder;
    }
}
