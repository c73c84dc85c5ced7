using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Quantization;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models.Weights;

/// <summary>The weights of a model whose parts are shared out as soon as they are read, so that one of them is whole at a time.</summary>
/// <param name="source">The model's weights.</param>
/// <param name="weights">Takes the parts.</param>
internal sealed class SharingWeightSource(IWeightSource source, ILayerWeights weights) : IWeightSource
{
    public ScalarType DType => source.DType;

    public Parameter Take(string name, InitialWeight initial, params ReadOnlySpan<Dimension> shape) => source.Take(name, initial, shape);

    public Parameter TakeExact(string name, InitialWeight initial, params ReadOnlySpan<Dimension> shape) => source.TakeExact(name, initial, shape);

    public QuantizedWeight? TakeQuantized(string name, Dimension output, Dimension input) => source.TakeQuantized(name, output, input);

    public QuantizedWeight? TakeQuantizedEmbedding(string name, Dimension vocabulary, Dimension hidden) => source.TakeQuantizedEmbedding(name, vocabulary, hidden);

    public IReadOnlyList<QuantizedWeight>? TakeQuantizedStack(string name, Dimension count, Dimension output, Dimension input, bool isTransposed) => source.TakeQuantizedStack(name, count, output, input, isTransposed);

    public void Made(nn.Module part) => weights.Made(part);
}
