using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Quantization;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models.Weights;

/// <summary>The weights of a model on several devices: each from the source of its own device.</summary>
/// <param name="sources">A source for each of the placement's devices.</param>
/// <param name="placement">The devices.</param>
internal sealed class PlacedWeightSource(IReadOnlyList<IWeightSource> sources, LayerPlacement placement) : IWeightSource
{
    public ScalarType DType => sources[0].DType;

    public Parameter Take(string name, InitialWeight initial, params ReadOnlySpan<Dimension> shape) => Of(name).Take(name, initial, shape);

    public Parameter TakeExact(string name, InitialWeight initial, params ReadOnlySpan<Dimension> shape) => Of(name).TakeExact(name, initial, shape);

    public QuantizedWeight? TakeQuantized(string name, Dimension output, Dimension input) => Of(name).TakeQuantized(name, output, input);

    public QuantizedWeight? TakeQuantizedEmbedding(string name, Dimension vocabulary, Dimension hidden) => Of(name).TakeQuantizedEmbedding(name, vocabulary, hidden);

    public IReadOnlyList<QuantizedWeight>? TakeQuantizedStack(string name, Dimension count, Dimension output, Dimension input, bool isTransposed) =>
        Of(name).TakeQuantizedStack(name, count, output, input, isTransposed);

    private IWeightSource Of(string name)
    {
        var device = placement.Of(name);
        return sources[placement.Devices.TakeWhile(d => d.ToString() != device.ToString()).Count()];
    }
}
