using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Quantization;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models.Weights;

/// <summary>Weights that have a shape and no memory: one zero, seen as often as the shape asks. For work on a model's outline, such as
/// finding the layers of an adapter, or counting what a run will hold.</summary>
/// <param name="dtype">The dtype that they are said to have.</param>
/// <param name="device">Where they are said to lie; null for the CPU.</param>
/// <param name="quantization">How linear layers below the head are said to be held; null for not quantised.</param>
internal sealed class MetaWeightSource(ScalarType dtype = ScalarType.Float32, Device? device = null, QuantizationSettings? quantization = null) : IWeightSource
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
        quantization is null || name == "lm_head.weight" ? null : new QuantizedMetaWeight(output.Size, input.Size, quantization);

    /// <summary>A tensor of a shape and no memory, in the dispose scope that is open.</summary>
    internal static Tensor Zeros(ScalarType dtype, Device? device, params long[] shape)
    {
        using var scope = NewDisposeScope();
        return zeros([1], dtype, device).expand(shape).MoveToOuterDisposeScope();
    }
}
