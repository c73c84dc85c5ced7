using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Torch;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models.Weights;

/// <summary>
/// Reads weights from a checkpoint, each once, directly into its final dtype and device; optionally quantizes linear layers other than the
/// head, or keeps those that the checkpoint holds quantized as they are.
/// </summary>
internal sealed class CheckpointWeightSource(CheckpointWeights checkpoint, ScalarType dtype, Device device, QuantizationSettings? quantization, bool keepsPacked, string head) : IWeightSource
{
    /// <summary>The standard deviation and the seed of a head of labels that the checkpoint does not have.</summary>
    internal (double Range, long Seed) NewHead { get; init; }

    /// <summary>Whether the matrices of a GGUF file, embedding and head included, are held as they are.</summary>
    internal bool KeepsBlocks { get; init; }

    public Parameter Take(string name, InitialWeight initial, params ReadOnlySpan<Dimension> shape) =>
        name == $"{LabelHead.Module}.weight" && !checkpoint.TryGetTensor(name, out _) ? Drawn(shape) : Read(name, dtype);

    public ScalarType DType => dtype;

    public Parameter TakeExact(string name, InitialWeight initial, params ReadOnlySpan<Dimension> shape) => Read(name, WideNumbers.Of(dtype));

    public QuantizedWeight? TakeQuantized(string name, Dimension output, Dimension input)
    {
        if (KeepsBlocks && quantization is null && PackedReading.Blocks(checkpoint, name) is { } blocks)
        {
            return blocks;
        }

        if (name == head)
        {
            return null;
        }

        if (quantization is null)
        {
            return keepsPacked ? PackedReading.Matrix(checkpoint, name, device) : null;
        }

        // In the checkpoint's dtype; only one layer at a time is in memory in full.
        using var weight = TensorFiles.Read(checkpoint, name, device: device);
        return quantization.Quantize(weight);
    }

    public QuantizedWeight? TakeQuantizedEmbedding(string name, Dimension vocabulary, Dimension hidden) =>
        KeepsBlocks && quantization is null ? PackedReading.Blocks(checkpoint, name) : null;

    public IReadOnlyList<QuantizedWeight>? TakeQuantizedStack(string name, Dimension count, Dimension output, Dimension input, bool isTransposed)
    {
        if (quantization is null)
        {
            return KeepsBlocks && !isTransposed && PackedReading.BlockStack(checkpoint, name, count.Size) is { } blocks ? blocks
                : keepsPacked ? PackedReading.Stack(checkpoint, name, count.Size, isTransposed, device) : null;
        }

        var found = new QuantizedWeight[count.Size];
        for (var i = 0; i < found.Length; i++)
        {
            using var scope = NewDisposeScope();
            var weight = TensorFiles.ReadPart(checkpoint, name, i, device);
            found[i] = quantization.Quantize(isTransposed ? weight.t().contiguous() : weight);
        }

        return found;
    }

    private Parameter Drawn(ReadOnlySpan<Dimension> shape)
    {
        using var source = new RandomWeightSource(NewHead.Seed, NewHead.Range, dtype, device);
        return source.Take("", InitialWeight.Normal, shape);
    }

    private Parameter Read(string name, ScalarType type)
    {
        var parameter = new Parameter(TensorFiles.Read(checkpoint, name, type, device), requires_grad: false);
        _ = parameter.DetachFromDisposeScope();
        return parameter;
    }
}
