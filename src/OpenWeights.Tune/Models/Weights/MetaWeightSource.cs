using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Quantization;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models.Weights;

/// <summary>
/// Weights with a shape but no memory: a single zero, expanded to the shape. For work on the structure of a model, such as resolving the
/// targets of an adapter, or estimating a run's memory.
/// </summary>
/// <param name="dtype">Data type to report.</param>
/// <param name="device">Device to report; null for the CPU.</param>
/// <param name="quantization">Quantization of the linear layers to report; null for none.</param>
/// <param name="head">Name of the head's weight, which is never quantized.</param>
/// <param name="packed">Bytes of a linear layer's weight, by its name and number of elements, that a checkpoint holds quantized; null for one that is stored in full.</param>
internal sealed class MetaWeightSource(ScalarType dtype = ScalarType.Float32, Device? device = null, QuantizationSettings? quantization = null, string? head = null, Func<string, long, long?>? packed = null) : IWeightSource
{
    public Parameter Take(string name, InitialWeight initial, params ReadOnlySpan<Dimension> shape)
    {
        var sizes = new long[shape.Length];
        for (var i = 0; i < sizes.Length; i++)
        {
            sizes[i] = shape[i].Size;
        }

        using var scope = NewDisposeScope();
        var parameter = new Parameter(Zeros(dtype, device, sizes), requires_grad: false);
        _ = parameter.DetachFromDisposeScope();
        return parameter;
    }

    public QuantizedWeight? TakeQuantized(string name, Dimension output, Dimension input) =>
        name == head ? null : Meta(output.Size, input.Size, packed?.Invoke(name, output.Size * input.Size));

    public IReadOnlyList<QuantizedWeight>? TakeQuantizedStack(string name, Dimension count, Dimension output, Dimension input, bool isTransposed) =>
        Meta(output.Size, input.Size, packed?.Invoke(name, count.Size * output.Size * input.Size) / count.Size) is { } one ? [.. Enumerable.Repeat(one, (int)count.Size)] : null;

    private QuantizedMetaWeight? Meta(long output, long input, long? bytes) =>
        bytes is { } held ? new QuantizedMetaWeight(output, input, held) : quantization is null ? null : new QuantizedMetaWeight(output, input, quantization);

    /// <summary>A tensor with a shape but no memory, in the current dispose scope.</summary>
    internal static Tensor Zeros(ScalarType dtype, Device? device, params long[] shape)
    {
        using var scope = NewDisposeScope();
        return (shape.Length == 0 ? zeros(shape, dtype, device) : zeros([1], dtype, device).expand(shape)).MoveToOuterDisposeScope();
    }
}
