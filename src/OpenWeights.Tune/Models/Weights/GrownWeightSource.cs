using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Quantization;
using TorchSharp.Modules;

namespace OpenWeights.Tune.Models.Weights;

/// <summary>The weights of a model whose embedding and head get rows for new tokens.</summary>
/// <param name="source">The model's weights.</param>
/// <param name="config">The model's config, without the new tokens.</param>
/// <param name="rows">The new rows.</param>
internal sealed class GrownWeightSource(IWeightSource source, DecoderConfig config, NewRows rows) : IWeightSource
{
    /// <inheritdoc/>
    public Parameter Take(string name, InitialWeight initial, params ReadOnlySpan<Dimension> shape)
    {
        if (name != config.Names.EmbeddingWeight && name != config.Names.HeadWeight)
        {
            return source.Take(name, initial, shape);
        }

        using var own = source.Take(name, initial, new Dimension("vocab_size", config.VocabularySize), shape[1]);
        return new Parameter(rows.On(own), requires_grad: false);
    }

    /// <inheritdoc/>
    public Parameter TakeExact(string name, InitialWeight initial, params ReadOnlySpan<Dimension> shape) => source.TakeExact(name, initial, shape);

    /// <inheritdoc/>
    public QuantizedWeight? TakeQuantized(string name, Dimension output, Dimension input) => source.TakeQuantized(name, output, input);

    /// <inheritdoc/>
    public IReadOnlyList<QuantizedWeight>? TakeQuantizedStack(string name, Dimension count, Dimension output, Dimension input, bool isTransposed) => source.TakeQuantizedStack(name, count, output, input, isTransposed);

    /// <inheritdoc/>
    public void Made(TorchSharp.torch.nn.Module part) => source.Made(part);
}
